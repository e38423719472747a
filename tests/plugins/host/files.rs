//! Files that are not plugins, and broken ones. Each is refused with the file, the plugin,
//! what is wrong, both values and the solution, and none ends the proxy.

use infrarust::manifest::{self, library};
use infrarust_test_support::library::{build_with, cargo, target};

use super::*;

/// The name of the file in the temporary folder.
const FILE: &str = "libwrong.so";

pub(super) fn write(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join(FILE);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Bytes in which each occurrence of some of them is replaced.
fn changed(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_owned();
    let places: Vec<usize> = (0..=bytes.len() - from.len())
        .filter(|at| bytes[*at..].starts_with(from))
        .collect();
    assert!(!places.is_empty(), "{}", from.escape_ascii());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

/// The whole message and its help, with `FILE` in place of the path.
fn why(path: &Path) -> String {
    why_not(spec("wrong", path, "tag = 'a'"))
}

fn why_not(spec: Spec) -> String {
    let path = spec.file.display().to_string();
    let problem = refused(spec);
    let message = format!("{problem}\n  = help: {}", problem.kind.help());
    assert!(message.contains(&path), "{message}");
    message.replace(&path, "FILE")
}

fn said(what: &str, help: &str) -> String {
    format!("plugin `wrong` (FILE): {what}\n  = help: {help}")
}

const BUILD_CDYLIB: &str = "build the plugin with `crate-type = [\"cdylib\"]` on Linux";
const COPY_AGAIN: &str = "copy the file again; the copy was perhaps not finished";
const BUILD_AGAIN: &str = "build the plugin again, and copy it as it is";
const NEWER_PROXY: &str = "use a newer proxy, or an older version of the plugin";
const LIBRARY: &str = "install the library, or build the plugin on a system as old as this one";
const CORRECT: &str = "correct `Cargo.toml` or `export_plugin!`, and build the plugin again";

/// A file that is not a library for this machine is refused before its manifest is read.
#[tokio::test]
async fn files_that_are_not_a_library() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = std::fs::read(sample()).unwrap();
    assert_eq!(
        why(&folder.join("nothing.so")),
        said(
            "it cannot be read: there is no such file",
            "build or copy the plugin there, name its file with `path`, or write `enabled = false`"
        )
    );
    for (bytes, starts_with) in [
        (&b""[..], ""),
        (b"\x7fEL", "7f 45 4c"),
        (b"hello", "68 65 6c 6c"),
        (b"#!/bin/sh\n", "23 21 2f 62"),
    ] {
        assert_eq!(
            why(&write(folder, bytes)),
            said(
                &format!("it is not a 64-bit ELF shared library (it starts with {starts_with})"),
                BUILD_CDYLIB
            )
        );
    }
    // An object file, as a compiler makes it before it links.
    let mut object = good.clone();
    object[16] = 1;
    assert_eq!(
        why(&write(folder, &object)),
        said(
            "it is an ELF file of type 1, and a plugin has type 3 (shared library)",
            BUILD_CDYLIB
        )
    );
    assert_eq!(
        why(Path::new(env!("CARGO_BIN_EXE_infrarust"))),
        said(
            "it is a program, and a plugin is a shared library",
            BUILD_CDYLIB
        )
    );
    for (number, name) in [
        (40, "arm"),
        (243, "riscv"),
        (3, "x86"),
        (99, "ELF machine 99"),
    ] {
        let mut other = good.clone();
        other[18] = number;
        let host = std::env::consts::ARCH;
        assert_eq!(
            why(&write(folder, &other)),
            said(
                &format!("it is built for {name}, and this proxy runs on {host}"),
                &format!("build the plugin for {host}")
            )
        );
    }
}

/// An incomplete copy is refused wherever it was cut, with both lengths. The loader would
/// crash when it touches memory after the end.
#[tokio::test]
async fn files_that_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(sample()).unwrap();
    let cuts = (1..24).map(|part| good.len() * part / 24);
    for bytes in cuts.chain([64, 65, 119, 120, 4096, good.len() - 1]) {
        let message = why(&write(folder.path(), &good[..bytes]));
        let end = message
            .strip_prefix("plugin `wrong` (FILE): it is truncated: its headers lead to byte ")
            .and_then(|rest| rest.split_once(", but the file has "));
        let (end, rest) = end.unwrap_or_else(|| panic!("{bytes}: {message}"));
        assert!(end.parse::<usize>().unwrap() > bytes, "{message}");
        assert_eq!(rest, format!("{bytes}\n  = help: {COPY_AGAIN}"));
    }
}

/// A missing or invalid manifest is refused.
#[tokio::test]
async fn manifests_that_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = std::fs::read(sample()).unwrap();
    let descriptor = manifest::descriptor(&good).unwrap();
    let at = descriptor.as_ptr().addr() - good.as_ptr().addr();
    let end = at + descriptor.len();
    let refused = |bytes: &[u8]| why(&write(folder, bytes));
    let patched = |offset: usize, new: &[u8]| {
        let mut bytes = good.clone();
        bytes[at + offset..][..new.len()].copy_from_slice(new);
        bytes
    };
    // In the note alone: the same words may stand in the code.
    let text = |from: &str, to: &str| {
        let mut bytes = good.clone();
        let note = changed(&good[at..end], from.as_bytes(), to.as_bytes());
        bytes[at..end].copy_from_slice(&note);
        bytes
    };
    let hidden = changed(&good, b"infrarust\0\0\0\x01", b"infrarusT\0\0\0\x01");
    let cases = [
        (
            hidden,
            "it has no plugin manifest",
            "write `export_plugin!` in the plugin's crate; a library that is not a plugin does not \
             belong here",
        ),
        (
            patched(0, &[9, 0]),
            "its manifest has format 9, and this proxy knows format 1",
            "use a newer proxy, or an older plugin",
        ),
        (
            patched(0, &[0, 0]),
            "its manifest has format 0, and this proxy knows format 1",
            "build the plugin with a newer `infrarust-plugin-api`",
        ),
        (
            patched(2, &[7, 0]),
            "it is built with plugin API 7.1, and this proxy offers HERE",
            "build the plugin with `infrarust-plugin-api = \"0.1\"`, or use the proxy that it was \
             made for",
        ),
        (
            text("requires=^0.1.0", "requires=^0.1.9"),
            "it requires plugin API ^0.1.9, and this proxy offers HERE",
            NEWER_PROXY,
        ),
        (
            patched(6, &[0, 0]),
            "it is built with `panic = \"abort\"`: a panic in it would end the proxy",
            "write `panic = \"unwind\"` in the profile of the plugin's workspace",
        ),
        (
            patched(16, &(1_u64 << 40).to_le_bytes()),
            "it lists `bit 40` in `needs`, which this proxy does not know",
            NEWER_PROXY,
        ),
        (
            text("connection.decide,", "connection.explod,"),
            "it lists `connection.explod` in `hooks`, which this proxy does not know",
            NEWER_PROXY,
        ),
        (
            patched(24, &[0; 8]),
            "its manifest lists packet.inject in `wants`, but its bits say none",
            BUILD_AGAIN,
        ),
        (
            text("version=1.2.3", "version=1.2.x"),
            "its manifest says `version = 1.2.x`: unexpected character 'x' while parsing patch \
             version number",
            CORRECT,
        ),
        (
            text("name=sample", "name=s mple"),
            "its manifest says `name = s mple`: a name is 1 to 64 of a to z, digits, `-`, `_` and \
             `.`",
            CORRECT,
        ),
        (
            text("name=", "game="),
            "its manifest has no `name`",
            CORRECT,
        ),
        (
            text("name=sample", "name=s\x1b[2Je"),
            "its manifest says `name = s\\u{1b}[2Je`: a name is 1 to 64 of a to z, digits, `-`, \
             `_` and `.`",
            CORRECT,
        ),
        (
            patched(32, &5000_u32.to_le_bytes()),
            "its manifest is broken: its text has 5000 bytes, and at most 4096 are read",
            BUILD_AGAIN,
        ),
    ];
    for (bytes, what, help) in cases {
        let what = what.replace("HERE", &infrarust_plugin_abi::API_VERSION.to_string());
        assert_eq!(refused(&bytes), said(&what, help));
    }
}

/// A valid manifest on code that differs from it is refused.
#[tokio::test]
async fn manifests_that_differ_from_the_code() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(sample()).unwrap();
    let descriptor = manifest::descriptor(&good).unwrap();
    let at = descriptor.as_ptr().addr() - good.as_ptr().addr();
    // `wants` away from bits and text.
    let mut lying = good.clone();
    lying[at + 24..at + 32].fill(0);
    let note = &good[at..at + descriptor.len()];
    let note = changed(note, b"\0wants=packet.inject\0", b"\0xants=packet.inject\0");
    lying[at + 36..at + note.len()].copy_from_slice(&note[36..]);
    assert_eq!(
        why(&write(folder.path(), &lying)),
        said(
            "its manifest and its code disagree about wants: bits 0x0 and packet.inject",
            "build the plugin again; somebody has changed the file"
        )
    );
}

/// Files that the loader refuses, and files that would end the proxy.
#[tokio::test]
async fn files_that_cannot_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = std::fs::read(sample()).unwrap();
    // The loader names the sealed copy by a number, which is not ours to know.
    let numberless = |message: String| {
        let parts: Vec<&str> = message.split("/proc/self/fd/").collect();
        let rest = |part: &str| {
            part.trim_start_matches(|c: char| c.is_ascii_digit())
                .to_owned()
        };
        let rests = parts[1..]
            .iter()
            .map(|part| format!("SEALED{}", rest(part)));
        [parts[0].to_owned()]
            .into_iter()
            .chain(rests)
            .collect::<String>()
    };
    let (here, gone) = (
        b"\0infrarust_plugin_entry_v1\0",
        b"\0infrarust_plugin_entry_v0\0",
    );
    // The SDK's plugins name their entry themselves, others need not.
    let other = std::fs::read(hostile::hostile()).unwrap();
    assert_eq!(
        numberless(why(&write(folder, &changed(&good, here, gone)))),
        said(
            "it cannot be loaded: dlopen failed: SEALED: undefined symbol: \
             infrarust_plugin_entry_v0",
            LIBRARY
        )
    );
    assert_eq!(
        why(&write(folder, &changed(&other, here, gone))),
        said(
            "its manifest and its code disagree about the entry: infrarust_plugin_entry_v1 and no \
             such symbol",
            "build the plugin again; somebody has changed the file"
        )
    );
    let library = changed(&good, b"\0libc.so.6\0", b"\0libq.so.6\0");
    assert_eq!(
        numberless(why(&write(folder, &library))),
        said(
            "it cannot be loaded: dlopen failed: libq.so.6: cannot open shared object file: No \
             such file or directory",
            LIBRARY
        )
    );
    let abort = ["-C", "panic=abort"];
    let folder = "tests/plugins/sample";
    let abort = build_with(cargo(), &target(), folder, "infrarust_test_sample", &abort);
    assert_eq!(
        why(&abort),
        said(
            "it is built with `panic = \"abort\"`: a panic in it would end the proxy",
            "write `panic = \"unwind\"` in the profile of the plugin's workspace"
        )
    );
}

/// A required newer C library is reported before the loader runs.
#[tokio::test]
#[cfg(target_env = "gnu")]
async fn files_that_need_a_newer_glibc() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(sample()).unwrap();
    let (needed, here) = (
        library::glibc_needed(&good).unwrap(),
        library::glibc_of_this_system().unwrap(),
    );
    assert!(needed <= here);
    let older = format!("\0GLIBC_{needed}\0");
    let newer = format!("\0GLIBC_{:0<1$}\0", "9.9", needed.to_string().len());
    let number = newer.trim_matches('\0').trim_start_matches("GLIBC_");
    let bytes = changed(&good, older.as_bytes(), newer.as_bytes());
    assert_eq!(
        why(&write(folder.path(), &bytes)),
        said(
            &format!("it needs glibc {number} or newer, and this system has {here}"),
            &format!(
                "build the plugin on a system with glibc {here} or older, or run the proxy on a \
                 newer one"
            )
        )
    );
}

/// The report of a file other than the pinned one has both hashes.
#[tokio::test]
async fn files_that_are_not_the_pinned_ones() {
    let pinned = Spec {
        sha256: Some([7; 32]),
        ..spec("wrong", sample(), "tag = 'a'")
    };
    let bytes = std::fs::read(sample()).unwrap();
    let digest = infrarust::config::plugin_file::sha256(&bytes);
    assert_eq!(
        why_not(pinned),
        said(
            &format!(
                "its SHA-256 is {}, and the configuration pins {}",
                infrarust::config::plugin_file::hex(&digest),
                "07".repeat(32)
            ),
            "look where the file comes from; if it is meant to be new, correct `sha256`"
        )
    );
}
