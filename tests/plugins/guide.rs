//! The pages about plugins are true for the plugins as they are built: plugins accept the
//! settings on the pages, refuse mistakes as shown, and the commands exist.
//! (`tests/it/examples.rs` compares the pages with the checker.)

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use infrarust::config::{LoadOptions, Loaded, load};
use infrarust::diagnostic::render::{self, Colour};
use infrarust::plugin::probe::{ProbeErrorKind, Request, probe};

use infrarust_test_support::library;

const PROGRAM: &str = env!("CARGO_BIN_EXE_infrarust");
const PAGES: [&str; 2] = ["docs/plugins.md", "docs/shipped-plugins.md"];
/// Longer than a working plugin takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// The code blocks of a page in one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let after = page.split(&begin).skip(1);
    after
        .map(|text| text.split("```").next().unwrap().to_owned())
        .collect()
}

/// The folders of complete plugins, by id.
fn crates() -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    for parent in ["plugins", "examples/plugins"] {
        for entry in fs::read_dir(root(parent)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().join("Cargo.toml").is_file() {
                found.push((entry.file_name().into_string().unwrap(), parent));
            }
        }
    }
    found.sort();
    found
}

/// The plugin of the guide: the crate of `plugin new gate`, built.
fn gate() -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(PROGRAM)
        .current_dir(folder.path())
        .args(["plugin", "new", "gate"])
        .output();
    assert!(made.unwrap().status.success());
    let gate = folder.path().join("gate");
    fs::copy(root("Cargo.lock"), gate.join("Cargo.lock")).unwrap();
    library::build_new(&gate, "gate")
}

/// The library of a plugin by its id.
fn library_of(id: &str) -> PathBuf {
    static GATE: OnceLock<PathBuf> = OnceLock::new();
    if id == "gate" {
        return GATE.get_or_init(gate).clone();
    }
    let crates = crates();
    let (_, parent) = crates.iter().find(|(name, _)| name == id).unwrap();
    library::build(&format!("{parent}/{id}"), &id.replace('-', "_"))
}

/// The file in which a proxy looks for it.
fn file_of(id: &str) -> String {
    format!("plugins/lib{}.so", id.replace('-', "_"))
}

/// A configuration in a folder, with the libraries of its plugins and with servers of the
/// names that the pages use.
struct Case {
    folder: tempfile::TempDir,
    ids: Vec<String>,
    loaded: Loaded,
}

impl Case {
    fn new(global: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let table: toml::Table = global.parse().unwrap();
        let ids: Vec<String> = table["plugins"]
            .as_table()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        // The file that settings of the allowlist name.
        fs::create_dir_all(at("plugins/allowlist")).unwrap();
        fs::write(at("plugins/allowlist/allowed.txt"), "# friends\nAlex\n").unwrap();
        for id in &ids {
            fs::copy(library_of(id), at(&file_of(id))).unwrap();
        }
        fs::create_dir(at("servers")).unwrap();
        // These plugins need a mode that speaks the protocol.
        let need_it = ["welcome", "chat-guard", "packet-greeter"];
        let mode = match ids.iter().any(|id| need_it.contains(&id.as_str())) {
            true => "proxy_mode = \"offline\"\nforwarding_mode = \"bungeecord\"\n",
            false => "",
        };
        for name in ["lobby", "lobby-1", "lobby-2", "eu-1"] {
            let text =
                format!("domains = [\"{name}.test\"]\naddresses = [\"127.0.0.1:1\"]\n{mode}");
            fs::write(at(&format!("servers/{name}.toml")), text).unwrap();
        }
        fs::write(at("infrarust.toml"), global).unwrap();
        let loaded = load(&LoadOptions {
            config: Some(at("infrarust.toml")),
            ..LoadOptions::default()
        });
        Self {
            folder,
            ids,
            loaded,
        }
    }

    fn said(&self) -> String {
        render::to_text(
            &self.loaded.diagnostics,
            &self.loaded.sources,
            Colour::Never,
        )
    }

    fn request(&self, id: &str, fire: bool) -> Request {
        let folder = self.folder.path();
        Request {
            id: id.to_owned(),
            file: folder.join(file_of(id)),
            document: read(folder.join("infrarust.toml")),
            config_path: ["plugins", id, "config"].map(str::to_owned).to_vec(),
            fire,
            data_dir: Some(folder.join("plugins")),
            ..Request::default()
        }
    }

    /// Asserts that there is no diagnostic, and that each plugin accepts its settings,
    /// answers and ends. `fire` says whether its hooks are called.
    fn holds(&self, title: &str, fire: bool) {
        let said = self.said();
        assert!(said.is_empty(), "{title}:\n{said}");
        for id in &self.ids {
            match probe(Path::new(PROGRAM), &self.request(id, fire), PATIENCE) {
                Ok(findings) => assert!(findings.is_good(), "{title}: {id}: {findings:?}"),
                Err(error) => panic!("{title}: {id}: {error}"),
            }
        }
    }
}

/// Plugins accept the settings that the pages show, and work with them.
#[test]
fn plugins_accept_the_settings_of_the_pages() {
    let mut seen = 0;
    for page in PAGES {
        for block in blocks(&read(root(page)), "toml") {
            if block.starts_with("# infrarust.toml\n") {
                Case::new(&block).holds(page, true);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 7);
}

/// Every plugin works with the settings in the comment at the top of its source.
#[test]
fn plugins_work_with_the_settings_at_their_top() {
    let mut seen = 0;
    for (id, parent) in crates() {
        let source = read(root(&format!("{parent}/{id}/src/lib.rs")));
        let head: String = source
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
            .collect();
        let Some(settings) = blocks(&head, "toml").pop() else {
            // It has no settings.
            assert_eq!(id, "packet-greeter");
            Case::new("[plugins.packet-greeter]\n").holds(&id, true);
            continue;
        };
        // Nobody serves what it asks.
        let fire = id != "ask-service";
        Case::new(&settings).holds(&id, fire);
        seen += 1;
    }
    assert!(seen >= 7, "{seen} plugins");
}

/// The diagnostics about a plugin with these settings.
fn refusal(global: &str, id: &str) -> String {
    let case = Case::new(global);
    let error = probe(Path::new(PROGRAM), &case.request(id, false), PATIENCE).unwrap_err();
    assert!(matches!(error.kind, ProbeErrorKind::Refused(_)), "{error}");
    let file = case.folder.path().join(file_of(id));
    let diagnostic = error.diagnostic(id, &file, &case.loaded);
    let shown = render::one(&diagnostic, &case.loaded.sources, Colour::Never);
    shown.replace(&format!("{}/", case.folder.path().display()), "")
}

/// The pages show mistakes in settings as the proxy shows them.
#[test]
fn the_errors_on_the_pages_are_those_of_the_proxy() {
    for (page, id, right, wrong) in [
        (PAGES[0], "gate", "\"Eve\"", "\"Eve\", \"two words\""),
        (PAGES[1], "domain-rewrite", "$1.internal", "$2.internal"),
        (PAGES[1], "allowlist", "10.0.0.0/8", "10.0.0.0/33"),
        (PAGES[1], "motd", "{online} of", "{onlin} of"),
    ] {
        let text = read(root(page));
        let begin = format!("# infrarust.toml\n[plugins.{id}]\n");
        let settings = blocks(&text, "toml");
        let settings = settings.iter().find(|block| block.starts_with(&begin));
        let settings = settings.unwrap();
        assert!(settings.contains(right), "{settings}");
        let shown = refusal(&settings.replace(right, wrong), id);
        // One stands below an entry of a list.
        let entry: String = text
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)))
            .collect();
        let shown = shown.trim_end();
        assert!(
            text.contains(shown) || entry.contains(shown),
            "{page} differs from\n{shown}"
        );
    }
}

/// The program, which ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Joins as a player of 1.8. Returns the text of the kick.
fn join(port: u16, name: &str) -> String {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let frame = |bytes: &[u8]| [&[u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let handshake = [
        &[0, 47][..],
        &text("localhost"),
        &25565_u16.to_be_bytes(),
        &[2],
    ]
    .concat();
    let login = [&[0][..], &text(name)].concat();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let packets = [frame(&handshake), frame(&login)].concat();
    stream.write_all(&packets).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The first steps of the guide give a plugin that runs and can be reloaded.
#[test]
fn the_first_steps_lead_to_a_running_plugin() {
    let page = read(root("docs/plugins.md"));
    let written = blocks(&page, "toml");
    assert!(written[1].starts_with("# servers/lobby.toml\n"));
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for name in ["plugins", "servers"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::copy(library_of("gate"), at("plugins/libgate.so")).unwrap();
    fs::write(at("infrarust.toml"), &written[0]).unwrap();
    // A port on which certainly nobody listens.
    let server = written[1].replace(":25566", ":1");
    fs::write(at("servers/lobby.toml"), server).unwrap();

    let infrarust = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.current_dir(folder.path()).args(arguments);
        command.env_remove("RUST_LOG");
        command
    };
    let checked = infrarust(&["check", "--deep", "--deny-warnings"]).output();
    assert!(checked.unwrap().status.success());
    let mut command = infrarust(&["-b", "127.0.0.1:0", "run"]);
    let program = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut program = Program(program);
    let mut log = BufReader::new(program.0.stdout.take().unwrap()).lines();
    let listens = log.by_ref().map(Result::unwrap);
    let port = listens
        .filter_map(|line| line.split_once("address=127.0.0.1:")?.1.trim().parse().ok())
        .next()
        .unwrap();
    log.by_ref()
        .find(|line| line.as_ref().unwrap().contains("ready"))
        .unwrap()
        .unwrap();

    assert!(join(port, "Eve").contains("You may not join."));
    assert!(join(port, "Steve").contains("cannot be reached"));
    let said = |arguments: &[&str]| {
        let output = infrarust(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let list = said(&["plugin", "list"]);
    assert!(list.contains("generation 1, 2 calls"), "{list}");
    fs::write(at("infrarust.toml"), written[0].replace("Eve", "Mallory")).unwrap();
    said(&["plugin", "reload"]);
    assert!(join(port, "Mallory").contains("You may not join."));
    assert!(join(port, "Eve").contains("cannot be reached"));
}

/// The commands on the pages exist, with these arguments.
#[test]
fn commands_on_the_pages_exist() {
    let mut seen = 0;
    for page in PAGES.into_iter().chain(["README.md"]) {
        let text = read(root(page));
        let shell = blocks(&text, "sh");
        let lines = shell.iter().flat_map(|block| block.lines());
        let prose = text.lines().filter(|line| !line.starts_with("```"));
        let inline = prose.flat_map(|line| line.split('`').skip(1).step_by(2));
        for command in lines.chain(inline) {
            let Some(arguments) = command.strip_prefix("infrarust ") else {
                continue;
            };
            let arguments = arguments.split('#').next().unwrap();
            let output = Command::new(PROGRAM)
                .args(arguments.split_whitespace())
                .arg("--help")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{page}: {command}\n{said}");
            seen += 1;
        }
    }
    assert!(seen >= 20, "{seen} commands");
}

/// Every example is on the page and in the list of examples.
#[test]
fn every_example_is_listed() {
    let pages = [
        read(root("docs/plugins.md")),
        read(root("examples/README.md")),
    ];
    for (id, parent) in crates() {
        if parent == "examples/plugins" {
            let path = format!("plugins/{id}/src/lib.rs");
            assert!(pages.iter().all(|page| page.contains(&path)), "{id}");
        }
    }
}
