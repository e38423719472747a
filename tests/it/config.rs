//! Configurations and what is said about them.
//!
//! `tests/config/*.toml` are cases: one or several files, each after a line
//! `#! path`; without such a line the whole is `servers/lobby.toml`. Beside each
//! `plugins/*.so` are made from what the case says of their manifests. Beside each
//! stands what an operator reads (`*.stderr`). `UPDATE_SNAPSHOTS=1` writes these
//! again; review them like code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use infrarust::cli::{check, explain};
use infrarust::config::schema::{FileKind, schema};
use infrarust::config::{LoadOptions, Loaded, load, load_texts};
use infrarust::diagnostic::render::Colour;
use infrarust::diagnostic::{Code, Severity, json, page};
use nix::time::ClockId;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::elf;

/// A folder with a global file, the given files and nothing else.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("infrarust.toml"), "").unwrap();
    fs::create_dir(dir.path().join("servers")).unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let is_plugin = path.extension().is_some_and(|extension| extension == "so");
        let bytes = if is_plugin {
            elf::plugin(text)
        } else {
            text.as_bytes().to_vec()
        };
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn load_from(dir: &Path) -> Loaded {
    load(&LoadOptions {
        config: Some(dir.join("infrarust.toml")),
        ..LoadOptions::default()
    })
}

fn load_files(files: &[(&str, &str)]) -> (TempDir, Loaded) {
    let dir = folder(files);
    let loaded = load_from(dir.path());
    (dir, loaded)
}

/// The diagnostics as an operator reads them, with paths relative to the folder.
fn rendered(loaded: &Loaded, dir: &Path) -> String {
    let mut text = Vec::new();
    let outcome = if loaded.has_errors() {
        "the proxy was not started"
    } else {
        "starting"
    };
    check::show(loaded, outcome, &mut text, Colour::Never).unwrap();
    let text = String::from_utf8(text).unwrap();
    text.replace(&format!("{}/", dir.display()), "")
}

fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded.diagnostics.iter().map(|d| d.code.name()).collect()
}

/// Splits a case into its files.
fn parts(case: &str) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in case.split_inclusive('\n') {
        if let Some(path) = line.strip_prefix("#! ") {
            parts.push((path.trim().to_owned(), String::new()));
        } else {
            if parts.is_empty() {
                parts.push(("servers/lobby.toml".to_owned(), String::new()));
            }
            parts.last_mut().unwrap().1.push_str(line);
        }
    }
    parts
}

/// The diagnostics of each case equal its snapshot.
#[test]
fn the_diagnostics_of_each_case_equal_its_snapshot() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let mut paths: Vec<PathBuf> = fs::read_dir(&cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    assert!(paths.len() >= 80, "only {} cases", paths.len());
    let mut stale = Vec::new();
    for path in paths {
        let files = parts(&fs::read_to_string(&path).unwrap());
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let (dir, loaded) = load_files(&files);
        assert_eq!(
            loaded.config.is_none(),
            loaded.has_errors(),
            "{}",
            path.display()
        );
        let text = rendered(&loaded, dir.path());
        let snapshot = path.with_extension("stderr");
        if update {
            fs::write(&snapshot, &text).unwrap();
        } else if fs::read_to_string(&snapshot).unwrap_or_default() != text {
            stale.push(format!("{}\n{text}", snapshot.display()));
        }
    }
    assert!(
        stale.is_empty(),
        "other than the snapshots:\n{}",
        stale.join("\n")
    );
}

/// The first text of a help that could be written into the file: `"value"`, or
/// `key = value`.
fn proposal(help: &str) -> Option<&str> {
    let mut parts = help.split('`').skip(1).step_by(2);
    parts.find(|part| {
        let is_assignment = part.split_once(" = ").is_some_and(|(key, _)| {
            key.chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
        });
        let is_value =
            part.len() > 1 && part.starts_with(['"', '\'']) && part.ends_with(['"', '\'']);
        (is_assignment || is_value) && !part.contains('…')
    })
}

/// A value or key that a help proposes is accepted. A proposed value replaces the bad
/// value; a proposed `key = value` replaces the bad key and its value.
#[test]
fn proposals_are_accepted() {
    let of_values = [
        "toml-syntax",
        "unknown-key",
        "wrong-type",
        "bad-value",
        "bad-address",
        "bad-domain",
        "colour-code",
    ];
    let mut tried = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let files = parts(&fs::read_to_string(&path).unwrap());
        let named: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let (dir, loaded) = load_files(&named);
        for diagnostic in &loaded.diagnostics {
            let code = diagnostic.code.name();
            let Some(proposed) = diagnostic.help.as_deref().and_then(proposal) else {
                continue;
            };
            if !of_values.contains(&code) || diagnostic.place.is_whole() {
                continue;
            }
            let file = loaded.sources.path(diagnostic.place.file);
            let file = file.strip_prefix(dir.path()).unwrap().to_str().unwrap();
            let text = named.iter().find(|(name, _)| *name == file).unwrap().1;
            let mut span = diagnostic.place.span;
            if let Some((key, _)) = proposed.split_once(" = ") {
                let line = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
                let end = text[span.end..]
                    .find('\n')
                    .map_or(text.len(), |at| span.end + at);
                let written = text[line..].split(['=', '\n']).next().unwrap().trim();
                // An example for another place of the file.
                if code != "unknown-key" && written != key {
                    continue;
                }
                (span.start, span.end) = (line, end);
            }
            let mended = format!("{}{proposed}{}", &text[..span.start], &text[span.end..]);
            let end = span.start + proposed.len();
            let mended: Vec<_> = named
                .iter()
                .map(|(name, text)| (*name, if *name == file { mended.as_str() } else { text }))
                .collect();
            let (again_dir, again) = load_files(&mended);
            let of_this_file = |d: &&infrarust::diagnostic::Diagnostic| {
                let path = again.sources.path(d.place.file);
                path.strip_prefix(again_dir.path()).unwrap() == Path::new(file)
            };
            let still = again.diagnostics.iter().filter(of_this_file).find(|d| {
                let at = d.place.span;
                let touches = at.start < end && at.end > span.start && !d.place.is_whole();
                touches && of_values.contains(&d.code.name())
            });
            assert!(
                still.is_none(),
                "{}: `{proposed}` is proposed and refused: {}",
                path.display(),
                still.unwrap().message
            );
            tried += 1;
        }
    }
    assert!(tried > 60, "only {tried} proposals");
}

/// The wrong example of each code has this problem as its only error, and the right example
/// does not have it.
#[test]
fn examples_of_codes_have_their_problem() {
    // Found only where the plugin itself runs, or when an engine is asked.
    let by_running = [Code::PluginConfig, Code::PluginStart, Code::DockerEngine];
    for code in Code::ALL.iter().filter(|code| !by_running.contains(code)) {
        let page = page(*code);
        let (_dir, wrong) = load_files(page.wrong);
        assert!(
            codes(&wrong).contains(&code.name()),
            "{code}: {:?}",
            codes(&wrong)
        );
        for other in &wrong.diagnostics {
            let is_other_error = other.is_error() && other.code != *code;
            assert!(!is_other_error, "{code}: also {}", other.code);
        }
        let (_dir, right) = load_files(page.right);
        assert!(!codes(&right).contains(&code.name()), "{code}");
        assert!(!right.has_errors(), "{code}: {:?}", codes(&right));
        assert!(explain::text(*code).contains(code.name()));
    }
}

/// A file that is not text, not a regular file or not TOML is reported, and the other files
/// are still checked.
#[test]
fn unreadable_files_are_reported() {
    let dir = folder(&[(
        "servers/good.toml",
        "domains = [\"a.b\"]\naddresses = [\"x:0\"]\n",
    )]);
    let servers = dir.path().join("servers");
    fs::write(servers.join("bytes.toml"), b"domains = [\"a\xFFb\"]\n").unwrap();
    fs::write(servers.join("utf16.toml"), b"\xFF\xFEd\0o\0").unwrap();
    fs::create_dir(servers.join("folder.toml")).unwrap();
    fs::write(servers.join("large.toml"), vec![b'#'; 1024 * 1024 + 1]).unwrap();
    fs::write(servers.join("empty.toml"), "").unwrap();
    for ignored in [
        ".hidden.toml",
        "#edit.toml",
        "lobby.toml~",
        "lobby.toml.bak",
        "notes.txt",
        ".#lock.toml",
    ] {
        fs::write(servers.join(ignored), "nonsense").unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere.toml", servers.join("link.toml")).unwrap();
    let loaded = load_from(dir.path());
    let found: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|d| {
            let file = loaded
                .sources
                .path(d.place.file)
                .file_name()
                .unwrap()
                .to_string_lossy();
            (file.into_owned(), d.code.name())
        })
        .collect();
    let mut expected = vec![
        ("bytes.toml", "toml-syntax"),
        ("empty.toml", "no-address"),
        ("empty.toml", "no-domain"),
        ("folder.toml", "missing-file"),
        ("good.toml", "bad-address"),
        ("large.toml", "missing-file"),
        ("utf16.toml", "toml-syntax"),
    ];
    if cfg!(unix) {
        expected.push(("link.toml", "missing-file"));
    }
    let sorted = |list: Vec<(String, &str)>| {
        list.into_iter()
            .map(|(f, c)| format!("{f} {c}"))
            .collect::<BTreeSet<_>>()
    };
    let expected = expected
        .into_iter()
        .map(|(f, c)| (f.to_owned(), c))
        .collect();
    assert_eq!(sorted(found), sorted(expected));
}

/// A global file that is not text does not hide errors in server files, and adds no
/// errors to them for keys that only the global file could have.
#[test]
fn server_files_are_checked_without_the_global_file() {
    let server = "domains = [\"a.b\"]\naddresses = [\"x:0\"]\nplugins = [\"p\"]\nforwarding_mode = \"bungeeguard\"\n";
    let dir = folder(&[("servers/a.toml", server)]);
    for global in [&b"bind = \"\xFF\"\n"[..], b"bind = \n"] {
        fs::write(dir.path().join("infrarust.toml"), global).unwrap();
        let loaded = load_from(dir.path());
        assert_eq!(
            codes(&loaded),
            ["toml-syntax", "bad-address", "unproven-identity"]
        );
    }
}

/// A byte order mark and Windows line ends are accepted and do not shift columns.
#[test]
fn byte_order_marks_and_windows_line_ends_are_accepted() {
    let text = "\u{FEFF}domains = [\"ä.b\"]\r\naddresses = [\"ü\", \"x:0\"]\r\n";
    let (_dir, loaded) = load_files(&[("servers/a.toml", text)]);
    assert_eq!(codes(&loaded), ["bad-address"]);
    let at = loaded.sources.locate(loaded.diagnostics[0].place);
    assert_eq!(
        (at.line, at.column, at.end_line, at.end_column),
        (2, 19, 2, 24)
    );
}

/// If there is no global file, the diagnostic says once what to create first.
#[test]
fn a_missing_global_file_says_how_to_begin() {
    let dir = TempDir::new().unwrap();
    let loaded = load_from(dir.path());
    assert_eq!(codes(&loaded), ["missing-file"]);
    assert!(
        loaded.diagnostics[0]
            .help
            .as_ref()
            .unwrap()
            .contains("bind =")
    );
    assert!(loaded.config.is_none());
}

/// If a configuration file is missing, the diagnostic names what is there instead, such as
/// a file of another format or a folder, and says what to do.
#[test]
fn files_in_place_of_the_configuration_are_named() {
    let help = |dir: &Path| {
        let loaded = load_from(dir);
        loaded.diagnostics[0].help.clone().unwrap_or_default()
    };
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("config.yaml"), "bind: x\n").unwrap();
    assert!(help(dir.path()).contains("config.yaml` lies there"));
    fs::create_dir(dir.path().join("infrarust.toml")).unwrap();
    assert!(help(dir.path()).contains("mount"));
    fs::write(dir.path().join("infrarust.toml/infrarust.toml"), "").unwrap();
    let inner = "infrarust.toml/infrarust.toml`";
    assert!(help(dir.path()).ends_with(inner), "{}", help(dir.path()));

    let dir = folder(&[("proxies/hub.yml", "domains: [a.b]\n")]);
    assert!(help(dir.path()).contains("Infrarust v1"));
    fs::create_dir(dir.path().join("servers/lobby.toml")).unwrap();
    assert!(help(dir.path()).contains("mount"));
}

/// If very many files are not read, the diagnostic lists a bounded number of them.
#[test]
fn the_list_of_unread_files_is_bounded() {
    let dir = folder(&[(
        "servers/lobby.toml",
        "domains = [\"a.b\"]\naddresses = [\"x\"]\n",
    )]);
    for n in 0..500 {
        fs::write(dir.path().join(format!("servers/a{n}.yml")), "").unwrap();
        let copy = format!("servers/lobby.sync-conflict-{n}.toml");
        fs::write(dir.path().join(copy), "").unwrap();
    }
    let loaded = load_from(dir.path());
    assert!(loaded.config.is_some());
    let text = rendered(&loaded, dir.path());
    assert!(text.contains("and 492 more"), "{text}");
    assert!(text.len() < 4000, "{} bytes", text.len());
}

/// The options of the command line replace values of the file, and are checked like them.
#[test]
fn overrides_win() {
    let dir = folder(&[
        (
            "infrarust.toml",
            "servers_dir = \"nowhere\"\nbind = \"0.0.0.0:1\"\nreceive_proxy_protocol = true\n",
        ),
        ("other/a.toml", "domains = [\"a.b\"]\naddresses = [\"x\"]\n"),
    ]);
    let mut options = LoadOptions {
        config: Some(dir.path().join("infrarust.toml")),
        servers_dir: Some(dir.path().join("other")),
        plugins_dir: Some(dir.path().join("p")),
        bind: vec!["127.0.0.1:2".parse().unwrap()],
        global: None,
        plugins: None,
    };
    let loaded = load(&options);
    // Only loopback can come, so nobody else can forge a header.
    assert_eq!(codes(&loaded), [""; 0]);
    let config = loaded.config.unwrap();
    assert_eq!(config.proxy.bind, options.bind);
    assert_eq!(config.proxy.plugins_dir, dir.path().join("p"));
    assert_eq!(config.servers[0].id, "a");
    options.bind = vec!["0.0.0.0:2".parse().unwrap()];
    assert_eq!(codes(&load(&options)), ["open-proxy-protocol"]);
    options.servers_dir = Some(dir.path().join("gone"));
    assert!(codes(&load(&options)).contains(&"missing-file"));
}

/// `route` names what a plugin may change. For a host without a server it names the two
/// hooks of a ping, or none.
#[test]
fn route_says_what_plugins_may_do() {
    let explained = |unknown: &str, host: &str| {
        let global = format!("unknown_domain_behavior = \"{unknown}\"\n[plugins.hub]\n");
        let files = [
            ("infrarust.toml", global.as_str()),
            (
                "plugins/libhub.so",
                "hooks: [ConnectionDecide, HandshakeRewrite, StatusRespond, RouteSelect]",
            ),
            (
                "servers/a.toml",
                "domains = [\"a.b\"]\naddresses = [\"x\"]\n",
            ),
        ];
        let (dir, loaded) = load_files(&files);
        let text = rendered(&loaded, dir.path());
        infrarust::cli::route::explain(loaded.config.expect(&text), host).0
    };
    let claimed = explained("default_motd", "a.b");
    let may = ": it may choose another server for a login, and another host for the backend";
    assert!(claimed.contains(may), "{claimed}");
    let unclaimed = explained("default_motd", "x.y");
    let met = " at connection.decide, status.respond, for pings alone";
    assert!(unclaimed.contains(met), "{unclaimed}");
    let kicked = explained("kick", "x.y");
    assert!(kicked.contains("plugins      none"), "{kicked}");
}

/// No output has a secret, wherever the secret is configured.
#[test]
fn secrets_are_never_shown() {
    let global = "bind = 5\n[forwarding]\nmode = \"velocity\"\nsecret = \"hunter2\"\nsecret_file = \"x\"\n[web]\napi_key = \"hunter2\"\n[plugins.a.config]\ntoken = \"hunter2\"\n";
    let server = "forwarding_secret = { value = \"hunter2\" }\nproxy_mode = \"offline\"\nsecret = [\"hunter2\"]\n";
    let (dir, loaded) = load_files(&[("infrarust.toml", global), ("servers/a.toml", server)]);
    assert!(loaded.diagnostics.len() > 5);
    let text = rendered(&loaded, dir.path());
    assert!(!text.contains("hunter2"), "{text}");
    let text = json::to_json([(&loaded.diagnostics[..], &loaded.sources)]);
    assert!(!text.contains("hunter2"), "{text}");
    let sound = "domains = [\"a.b\"]\naddresses = [\"x\"]\nforwarding_mode = \"bungeeguard\"\nforwarding_secret = \"hunter2\"\n";
    let (_dir, loaded) = load_files(&[("servers/a.toml", sound)]);
    assert!(!format!("{:?}", loaded.config.unwrap()).contains("hunter2"));
}

/// `check` ends with the documented exit codes and prints one JSON array.
#[test]
fn check_has_the_documented_exit_codes_and_json() {
    let sound = "domains = [\"a.b\"]\naddresses = [\"x\"]\n";
    let warned = "domains = [\"a.b\"]\naddresses = [\"x\"]\nauth_guard = true\n";
    let wrong = "domains = [\"a.b\"]\naddresses = [\"x:0\"]\n";
    for (server, deny_warnings, expected) in [
        (sound, true, ExitCode::SUCCESS),
        (warned, false, ExitCode::SUCCESS),
        (warned, true, ExitCode::FAILURE),
        (wrong, false, ExitCode::FAILURE),
    ] {
        let dir = folder(&[("servers/a.toml", server)]);
        let mut args = check::CheckArgs {
            load: LoadOptions {
                config: Some(dir.path().join("infrarust.toml")),
                ..LoadOptions::default()
            },
            format: check::Format::Json,
            deny_warnings,
            deep: false,
            docker: false,
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check::run(&args, &mut out, &mut err, Colour::Never).unwrap();
        assert_eq!(code, expected);
        assert!(err.is_empty());
        let array: serde_json::Value = serde_json::from_slice(&out).unwrap();
        for element in array.as_array().unwrap() {
            let keys: Vec<_> = element
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            let mut expected = [
                "code",
                "severity",
                "message",
                "file",
                "line",
                "column",
                "end_line",
                "end_column",
                "labels",
                "help",
            ];
            expected.sort_unstable();
            let mut keys = keys;
            keys.sort_unstable();
            assert_eq!(keys, expected);
            assert!(element["line"].as_u64().unwrap() >= 1);
        }
        args.format = check::Format::Text;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        check::run(&args, &mut out, &mut err, Colour::Never).unwrap();
        assert!(out.is_empty());
        assert!(!err.is_empty());
    }
}

/// Whether a text contains a match of a pattern. Unicode tables are switched off: no
/// pattern needs them.
fn fits(pattern: &str, text: &str) -> bool {
    use regex_automata::dfa::{Automaton, dense};
    let syntax = regex_automata::util::syntax::Config::new()
        .unicode(false)
        .utf8(false);
    let dfa = dense::Builder::new().syntax(syntax).build(pattern).unwrap();
    dfa.try_search_fwd(&regex_automata::Input::new(text))
        .unwrap()
        .is_some()
}

/// The part of JSON Schema that the generated schemas use.
fn complies(value: &serde_json::Value, schema: &serde_json::Value) -> bool {
    let all = |key: &str| schema.get(key).and_then(|s| s.as_array());
    if let Some(any) = all("anyOf") {
        return any.iter().any(|schema| complies(value, schema));
    }
    if let Some(words) = all("enum") {
        return words.contains(value);
    }
    match schema.get("type").and_then(|t| t.as_str()) {
        None => true,
        Some("string") => value.as_str().is_some_and(|text| {
            let pattern = schema.get("pattern").and_then(|p| p.as_str());
            pattern.is_none_or(|pattern| fits(pattern, text))
        }),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.as_i64().is_some_and(|n| {
            schema["minimum"].as_i64().is_none_or(|min| n >= min)
                && schema["maximum"].as_i64().is_none_or(|max| n <= max)
        }),
        Some("array") => value.as_array().is_some_and(|items| {
            let least = schema["minItems"].as_u64().unwrap_or(0);
            u64::try_from(items.len()).unwrap() >= least
                && items.iter().all(|item| complies(item, &schema["items"]))
        }),
        Some("object") => value.as_object().is_some_and(|object| {
            let required = schema.get("required").and_then(|r| r.as_array());
            let has_all =
                required.is_none_or(|r| r.iter().all(|k| object.contains_key(k.as_str().unwrap())));
            has_all
                && object
                    .iter()
                    .all(|(key, value)| match schema["properties"].get(key) {
                        Some(schema) => complies(value, schema),
                        None => match schema.get("additionalProperties") {
                            Some(serde_json::Value::Bool(allowed)) => *allowed,
                            Some(schema) => complies(value, schema),
                            None => true,
                        },
                    })
        }),
        Some(other) => panic!("a type that no key has: {other}"),
    }
}

/// A file that loads complies with the schema, and one with an unknown key does not.
#[test]
fn the_schema_agrees_with_the_loader() {
    let schemas = [schema(FileKind::Global), schema(FileKind::Server)];
    let mut judged = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let files = parts(&fs::read_to_string(&path).unwrap());
        let named: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let (_dir, loaded) = load_files(&named);
        let is_strange = codes(&loaded)
            .iter()
            .any(|code| matches!(*code, "unknown-key" | "wrong-type"));
        if loaded.has_errors() && !is_strange {
            continue;
        }
        let complies = files
            .iter()
            // Deeper folders are not read.
            .filter(|(path, _)| path.ends_with(".toml") && path.matches('/').count() < 2)
            .all(|(path, text)| {
                let table: toml::Table = text.parse().unwrap();
                let schema = &schemas[usize::from(path != "infrarust.toml")];
                complies(&serde_json::to_value(table).unwrap(), schema)
            });
        assert_eq!(complies, !is_strange, "{}", path.display());
        judged += 1;
    }
    assert!(judged > 40);
    let text = schemas[1].to_string();
    assert!(
        text.contains("\"enum\":[\"passthrough\",\"zero_copy\"")
            && text.contains("\"default\":\"passthrough\"")
    );
}

/// Without a kind, the command lists the kinds.
#[test]
fn the_kinds_of_schemas_are_listed() {
    let mut out = Vec::new();
    infrarust::cli::schema::run(None, &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    for kind in ["schema global", "schema server"] {
        assert!(out.contains(kind), "{out}");
    }
}

/// A value that the schema refuses by a pattern, an enumeration or a range is also refused
/// by `check`.
#[test]
fn check_refuses_what_the_schema_refuses() {
    let (global, server) = (schema(FileKind::Global), schema(FileKind::Server));
    let sound = "domains = [\"a.b\"]\naddresses = [\"x\"]\n";
    for (is_global, text) in [
        (true, "bind = \"localhost:25565\"\n"),
        (true, "bind = []\n"),
        (true, "servers_dir = \" \"\n"),
        (true, "worker_threads = -1\n"),
        (true, "connect_timeout = \"5\"\n"),
        (
            true,
            "proxy_protocol_trusted = [\"lan\"]\nreceive_proxy_protocol = true\n",
        ),
        (true, "unknown_domain_behavior = \"close\"\n"),
        (true, "[auth]\nsession_url = \"example.com\"\n"),
        (true, "[docker]\nendpoint = \"engine\"\n"),
        (true, "[docker]\nendpoint = \"tcp://engine\"\n"),
        (true, "[plugins.a]\nsha256 = \"abc\"\n"),
        (false, "domains = [\"http://a.b\"]\naddresses = [\"x\"]\n"),
        (false, "domains = [\"a.b:25565\"]\naddresses = [\"x\"]\n"),
        (false, "domains = [\"a.b\"]\naddresses = []\n"),
        (false, "domains = [\"a.b\"]\naddresses = [\"::1\"]\n"),
        (false, "domains = [\"a.b\"]\naddresses = [\"tcp://x\"]\n"),
        (
            false,
            "name = \"My Lobby\"\ndomains = [\"a.b\"]\naddresses = [\"x\"]\n",
        ),
        (
            false,
            "domains = [\"a.b\"]\naddresses = [\"x\"]\nproxy_mode = \"full\"\n",
        ),
        (
            false,
            "domains = [\"a.b\"]\naddresses = [\"x\"]\nmax_players = -1\n",
        ),
    ] {
        let table: toml::Table = text.parse().unwrap();
        let schema = if is_global { &global } else { &server };
        assert!(
            !complies(&serde_json::to_value(table).unwrap(), schema),
            "{text}"
        );
        let files = if is_global {
            [("infrarust.toml", text), ("servers/a.toml", sound)]
        } else {
            [("infrarust.toml", ""), ("servers/a.toml", text)]
        };
        assert!(load_files(&files).1.has_errors(), "{text}");
    }
}

/// The processor time of this thread: the cost of its work, independent of the load of the
/// machine.
fn thread_time() -> Duration {
    let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap();
    time.into()
}

/// Ten thousand server files load in a reasonable time.
#[test]
fn many_servers_load() {
    let dir = folder(&[]);
    for n in 0..10_000 {
        let text = format!("domains = [\"s{n}.example.com\"]\naddresses = [\"10.0.0.5\"]\n");
        fs::write(dir.path().join(format!("servers/s{n}.toml")), text).unwrap();
    }
    let start = thread_time();
    let loaded = load_from(dir.path());
    assert_eq!(loaded.config.unwrap().servers.len(), 10_000);
    // Far above what it takes, far below what a quadratic rule would.
    let took = thread_time() - start;
    assert!(took.as_secs() < 30, "{took:?}");
}

/// Random text that resembles TOML, with the names of our keys in it.
fn toml_like() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("domains"),
        Just("addresses"),
        Just("proxy_mode"),
        Just("network"),
        Just("motd"),
        Just("online"),
        Just("text"),
        Just("favicon"),
        Just("timeouts"),
        Just("relay"),
        Just("plugins"),
        Just("forwarding_mode"),
        Just("forwarding_secret"),
        Just("domain_rewrite"),
        Just("="),
        Just("["),
        Just("]"),
        Just("[["),
        Just("{"),
        Just("}"),
        Just("\n"),
        Just("\r\n"),
        Just(","),
        Just("."),
        Just("\""),
        Just("'"),
        Just("\"\"\""),
        Just("\"zero_copy\""),
        Just("\"a:0\""),
        Just("5"),
        Just("-1"),
        Just("1.5"),
        Just("true"),
        Just("1979-05-27"),
        Just("#"),
        Just(" "),
        Just("\t"),
        Just("\u{1b}"),
        Just("ü"),
        Just("\u{202e}"),
    ];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

fn judge(bytes: &[u8]) {
    let mut loaded = load_texts(b"", &[(Path::new("servers/a.toml"), bytes)]);
    for diagnostic in &mut loaded.diagnostics {
        let at = loaded.sources.locate(diagnostic.place);
        assert!(
            at.line >= 1 && at.column >= 1 && (at.end_line, at.end_column) >= (at.line, at.column)
        );
        assert_eq!(
            diagnostic.is_error(),
            diagnostic.severity == Severity::Error
        );
    }
    let text = rendered(&loaded, Path::new("nowhere"));
    let steers = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}');
    assert!(!text.contains(steers), "{text:?}");
    serde_json::from_str::<serde_json::Value>(&json::to_json([(
        &loaded.diagnostics[..],
        &loaded.sources,
    )]))
    .unwrap();
    assert_eq!(loaded.config.is_none(), loaded.has_errors());
}

proptest! {
    /// Any bytes give diagnostics that can be shown, and no panic.
    #[test]
    fn any_bytes_are_checked_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        judge(&bytes);
    }

    /// Any text gives diagnostics that can be shown, and no panic.
    #[test]
    fn any_text_is_checked_without_a_panic(text in "\\PC{0,80}|[a-z=\\[\\]\"'{}.,#\n\r\t ]{0,200}") {
        judge(text.as_bytes());
    }

    /// Text that resembles TOML gives diagnostics that can be shown, and no panic.
    #[test]
    fn any_text_like_toml_is_checked_without_a_panic(text in toml_like()) {
        judge(text.as_bytes());
    }

    /// A correct file with one changed byte gives no panic.
    #[test]
    fn a_changed_byte_is_checked_without_a_panic(at in 0usize..1000, byte in any::<u8>()) {
        let mut text = b"name = \"a\"\ndomains = [\"a.b\", \"*.c\"]\naddresses = [{address=\"x\", weight=1}]\nproxy_mode = \"offline\"\nforwarding_mode = \"velocity\"\nforwarding_secret = { env = \"X\" }\ndomain_rewrite = { explicit = \"a\" }\n[motd.online]\ntext = '{\"a\":1}'\nfavicon = \"data:image/png;base64,AAAA\"\n".to_vec();
        let at = at % text.len();
        text[at] = byte;
        judge(&text);
    }
}

/// Too deep nesting is reported as an error, for lists, tables, keys and headers.
#[test]
fn too_deep_nesting_is_an_error() {
    for depth in [70, 100, 1_000, 100_000] {
        let lists = format!("domains = {}{}", "[".repeat(depth), "]".repeat(depth));
        let tables = format!("motd = {}1{}", "{a=".repeat(depth), "}".repeat(depth));
        let keys = format!("{}b = 1", "a.".repeat(depth));
        let header = format!("[{}b]", "a.".repeat(depth));
        let open = "[".repeat(depth);
        let secrets = format!("web = {}1{}", "{token=".repeat(depth), "}".repeat(depth));
        for text in [lists, tables, keys, header, open, secrets] {
            judge(text.as_bytes());
        }
    }
}

/// The report of thousands of mistakes in one very long line is bounded.
#[test]
fn reports_about_long_lines_are_bounded() {
    let start = thread_time();
    judge(format!("domains = [{}]", "\"a:1\",".repeat(100_000)).as_bytes());
    judge(format!("addresses = [{}]", "5,".repeat(200_000)).as_bytes());
    judge("\u{1b}[31m".repeat(50_000).as_bytes());
    let unknown: String = (0..40_000).map(|n| format!("domain{n} = 1\n")).collect();
    judge(unknown.as_bytes());
    judge("=".repeat(900_000).as_bytes());
    judge("x = 1\n".repeat(100_000).as_bytes());
    judge(format!("text = \"{}\"", "ü".repeat(200_000)).as_bytes());
    let took = thread_time() - start;
    assert!(took.as_secs() < 60, "{took:?}");
}
