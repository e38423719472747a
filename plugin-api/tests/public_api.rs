//! Compares the public items of both crates with `public-api.txt`.
//!
//! Plugins of authors compile against these items. A change shows up in the file, and so in
//! the review: a removed or changed line is a break; a new one needs a version and a line
//! in the changelog. `UPDATE_SNAPSHOTS=1` writes the files again.
//!
//! The list comes from rustdoc's JSON, which is not stable: with a toolchain that writes
//! another format than `public-api` reads, the test only prints a note, unless
//! `INFRARUST_PUBLIC_API=required`.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;
use std::process::Command;

/// The public items of a crate, one in each line.
fn items(package: &str, features: &[&str]) -> Result<String, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("public-api");
    let status = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "rustdoc",
            "--quiet",
            "--locked",
            "--lib",
            "--package",
            package,
        ])
        .args(features)
        .arg("--target-dir")
        .arg(&target)
        .args(["--", "-Zunstable-options", "--output-format", "json"])
        // Unstable options on whatever toolchain runs the tests.
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTDOCFLAGS")
        .status();
    assert!(status.unwrap().success(), "{package} is documented");
    let json = target.join(format!("doc/{}.json", package.replace('-', "_")));
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(api.to_string())
}

fn holds(package: &str, features: &[&str], file: &str) {
    let now = match items(package, features) {
        Ok(now) => now,
        Err(error) => {
            let is_required = std::env::var("INFRARUST_PUBLIC_API").as_deref() == Ok("required");
            assert!(!is_required, "{error}");
            eprintln!("skipped: this toolchain's rustdoc cannot be read: {error}");
            return;
        }
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let then = std::fs::read_to_string(&file).unwrap();
    let lines_of = |text: &str, other: &str| {
        let other: Vec<&str> = other.lines().collect();
        let new = text.lines().filter(|line| !other.contains(line));
        new.map(str::to_owned).collect::<Vec<_>>()
    };
    let (gone, new) = (lines_of(&then, &now), lines_of(&now, &then));
    assert!(
        gone.is_empty() && new.is_empty(),
        "{} is not what `{package}` offers.\ngone: {gone:#?}\nnew: {new:#?}\nIf it is meant, run \
         the test with UPDATE_SNAPSHOTS=1, and raise the version where something is gone.",
        file.display()
    );
}

/// The items for authors equal the list.
#[test]
fn the_public_api_equals_its_list() {
    holds(
        "infrarust-plugin-api",
        &["--all-features"],
        "public-api.txt",
    );
}

/// The items for both sides of the border equal the list, with the type of every field.
#[test]
fn the_public_abi_equals_its_list() {
    holds("infrarust-plugin-abi", &[], "abi/public-api.txt");
}

/// Both crates have the same version.
#[test]
fn both_crates_have_one_version() {
    let version = infrarust_plugin_api::API_VERSION.to_string();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}
