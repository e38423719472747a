//! The compiler's messages for an author who has forgotten a declaration: our own lines of
//! them, word for word.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// Compiles a small plugin. Returns whether it is accepted, and the messages.
fn check(name: &str, new: &str, lists: &str) -> (bool, String) {
    let export = format!("export_plugin! {{ plugin: Greeter, name: \"greeter\", {lists} }}");
    check_with(name, new, &export)
}

/// As [`check`], with everything below the plugin itself.
fn check_with(name: &str, new: &str, below: &str) -> (bool, String) {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = tmp.join("declare").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let api = env!("CARGO_MANIFEST_DIR");
    std::fs::write(
        folder.join("Cargo.toml"),
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [workspace]\n[lib]\npath = \"lib.rs\"\ncrate-type = [\"cdylib\"]\n\
             [dependencies]\ninfrarust-plugin-api = {{ path = '{api}' }}\n"
        ),
    )
    .unwrap();
    std::fs::write(
        folder.join("lib.rs"),
        format!(
            "#![forbid(unsafe_code)]
use infrarust_plugin_api::prelude::*;
#[derive(Deserialize)]
#[serde(crate = \"infrarust_plugin_api::serde\")]
struct Config {{}}
struct Greeter;
impl Plugin for Greeter {{
    type Config = Config;
    fn new(_: Config, host: &Host<Self>) -> Result<Self> {{
        {new}
        Ok(Greeter)
    }}
}}
{below}
"
        ),
    )
    .unwrap();
    // The versions of the workspace, so that nothing is fetched.
    let lock = Path::new(api).with_file_name("Cargo.lock");
    std::fs::copy(lock, folder.join("Cargo.lock")).unwrap();
    let output = Command::new(env!("CARGO"))
        .current_dir(&folder)
        .args(["check", "--quiet", "--offline", "--color", "never"])
        .arg("--target-dir")
        .arg(tmp.join("declare/target"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), said)
}

/// Whether the message has these lines, without the compiler's own lines between them.
fn has_all(said: &str, lines: &[&str]) {
    let mut rest = said;
    for line in lines {
        let at = rest
            .find(line)
            .unwrap_or_else(|| panic!("no `{line}` in its place in:\n{said}"));
        rest = &rest[at + line.len()..];
    }
}

/// A service that was not declared does not compile, and the message says what to write.
/// Declared in `needs` or `wants` it compiles.
#[test]
fn an_undeclared_capability_is_named() {
    let grant = "let _ = host.grant::<capability::PacketInject>();";
    let (is_accepted, said) = check("undeclared", grant, "hooks: []");
    assert!(!is_accepted);
    has_all(
        &said,
        &[
            "error[E0277]: the plugin `Greeter` did not declare the capability \
             `infrarust_plugin_api::capability::PacketInject`",
            "lib.rs:10",
            "not declared",
            "= note: add it to `needs: [...]` in `export_plugin!` (or to `wants: [...]`, if the \
             plugin can do without it); the proxy then checks that the mode of each server offers it",
        ],
    );
    for list in ["needs", "wants"] {
        let lists = format!("hooks: [], {list}: [PacketInject]");
        let (is_accepted, said) = check("declared", grant, &lists);
        assert!(is_accepted, "{said}");
    }
}

/// A listed hook without an implementation does not compile, nor does a hook without a
/// trait.
#[test]
fn a_hook_without_its_trait_is_named() {
    let (is_accepted, said) = check("listed", "let _ = host;", "hooks: [LoginDecide]");
    assert!(!is_accepted);
    has_all(
        &said,
        &[
            "error[E0277]: the plugin `Greeter` lists the hook `LoginDecide` and does not have it",
            "lib.rs:14",
            "no `LoginDecide`",
            "= note: write `impl LoginDecide for Greeter`, or take it out of `hooks: [...]` in \
             `export_plugin!`",
        ],
    );
    for (hook, why) in [
        ("Limbo", "has no trait yet: it belongs in `needs"),
        (
            "PacketInject",
            "is a service, not a hook: it belongs in `needs",
        ),
        (
            "NetworkMember",
            "is a key of a server, not a hook of a plugin",
        ),
    ] {
        let hooks = format!("hooks: [{hook}]");
        let (is_accepted, said) = check("later", "let _ = host;", &hooks);
        assert!(!is_accepted);
        has_all(&said, &[&format!("`{hook}` {why}"), "lib.rs:14"]);
    }
    let (is_accepted, said) = check("misspelt", "let _ = host;", "hooks: [LoginDecides]");
    assert!(!is_accepted);
    has_all(&said, &["`LoginDecides`", "similar name"]);
}

/// An implemented hook that is not listed would never be called, so it does not compile.
/// Neither does one that is listed twice.
#[test]
fn a_hook_that_is_not_listed_is_named() {
    let with = |hooks: &str| {
        let below = format!(
            "#[async_trait]
impl LoginDecide for Greeter {{
    async fn login_decide(&self, _: Login<'_>) -> Result<Verdict> {{
        Ok(Verdict::allow())
    }}
}}
export_plugin! {{ plugin: Greeter, name: \"greeter\", hooks: [{hooks}] }}"
        );
        check_with("unlisted", "let _ = host;", &below)
    };
    let (is_accepted, said) = with("LoginDecide");
    assert!(is_accepted, "{said}");
    let (is_accepted, said) = with("");
    assert!(!is_accepted);
    has_all(
        &said,
        &[
            "the plugin implements `LoginDecide`, and `hooks: [...]` in `export_plugin!` does not \
             list it",
            "lib.rs:20",
        ],
    );
    let (is_accepted, said) = with("LoginDecide, LoginDecide");
    assert!(!is_accepted);
    has_all(&said, &["`hooks: [...]` names a hook twice", "lib.rs:20"]);
}

/// For wrong input the message of the macro shows the correct form.
#[test]
fn the_macro_explains_its_syntax() {
    for export in [
        "export_plugin! { name: \"greeter\", plugin: Greeter, hooks: [] }",
        "export_plugin! { plugin: Greeter, hooks: [] }",
        "export_plugin! { plugin: Greeter, name: \"greeter\", hooks: [login.decide] }",
        "export_plugin! { plugin: Greeter, name: \"greeter\", hooks: [], wants: [], needs: [] }",
    ] {
        let (is_accepted, said) = check_with("order", "let _ = host;", export);
        assert!(!is_accepted);
        has_all(
            &said,
            &[
                "error: `export_plugin!` is written in this order: `plugin: Gate, name: \"gate\", \
                 hooks: [LoginDecide]`, and after that `needs: [...]` and `wants: [...]`",
                "lib.rs:14",
            ],
        );
    }
}
