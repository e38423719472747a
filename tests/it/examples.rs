//! The examples and the README are correct.

use std::fs;
use std::path::{Path, PathBuf};

use infrarust::config::{LoadOptions, Loaded, load, load_texts};
use infrarust::diagnostic::render::{self, Colour};

use crate::elf;
#[cfg(target_os = "linux")]
use crate::library;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every folder of examples is a configuration without any diagnostic.
#[test]
fn examples_have_no_diagnostics() {
    let mut seen = 0;
    for entry in fs::read_dir(root("examples")).unwrap() {
        let config = entry.unwrap().path().join("infrarust.toml");
        // What needs plugins has a test of its own.
        if !config.is_file() || config.parent().unwrap().ends_with("with-plugins") {
            continue;
        }
        seen += 1;
        let loaded = load(&LoadOptions {
            config: Some(config.clone()),
            ..LoadOptions::default()
        });
        let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
        assert!(text.is_empty(), "{}:\n{text}", config.display());
        assert!(!loaded.config.unwrap().servers.is_empty());
    }
    assert!(seen >= 2);
}

/// The diagnostics in the README are those that the program prints.
#[test]
fn the_diagnostics_in_the_readme_are_those_of_the_program() {
    let files: [(&str, &str); 2] = [
        (
            "servers/lobby.toml",
            "domains = [\"lobby.example.com\"]\nadresses = [\"10.0.0.5:25565\"]\n",
        ),
        (
            "servers/pvp.toml",
            "domains = [\"pvp.example.com\"]\naddresses = [\"10.0.0.7:25565\"]\nproxy_mode = \"zero_copy\"\nnetwork = \"main\"\n",
        ),
    ];
    let files = files.map(|(name, text)| (Path::new(name), text.as_bytes()));
    let loaded = load_texts(b"", &files);
    let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    let readme = fs::read_to_string(root("README.md")).unwrap();
    assert!(
        readme.contains(text.trim_end()),
        "the README differs from\n{text}"
    );
}

/// The five lines of the README are a valid server file.
#[test]
fn the_server_file_of_the_readme_is_valid() {
    let readme = fs::read_to_string(root("README.md")).unwrap();
    let begin = readme.find("```toml\ndomains").unwrap() + "```toml\n".len();
    let end = begin + readme[begin..].find("```").unwrap();
    let server = &readme[begin..end];
    let loaded = load_texts(
        b"",
        &[(Path::new("servers/survival.toml"), server.as_bytes())],
    );
    let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    assert!(text.is_empty() && loaded.config.is_some(), "{text}");
}

/// The example with plugins, with the libraries that it names, has no diagnostic, and the
/// plugins accept their settings.
#[test]
#[cfg(target_os = "linux")]
fn the_example_with_plugins_works() {
    let folder = tempfile::tempdir().unwrap();
    let example = root("examples/with-plugins");
    for file in ["infrarust.toml", "servers/lobby.toml", "servers/staff.toml"] {
        let to = folder.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(example.join(file), to).unwrap();
    }
    fs::create_dir(folder.path().join("plugins")).unwrap();
    for plugin in ["domain-rewrite", "allowlist", "motd"] {
        let library = plugin.replace('-', "_");
        let file = library::build(&format!("plugins/{plugin}"), &library);
        let to = folder.path().join(format!("plugins/lib{library}.so"));
        fs::copy(file, to).unwrap();
    }
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
        .arg("-c")
        .arg(folder.path().join("infrarust.toml"))
        .args(["check", "--deep", "--deny-warnings"])
        .output()
        .unwrap();
    let text = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(text, "no problems in the global file and 2 server files\n");
    let config = in_folder(folder.path()).config.unwrap();
    let of = |id: &str| {
        let server = config.servers.iter().find(|server| server.id == id);
        server.unwrap().plugins.clone()
    };
    assert_eq!(of("lobby"), ["domain-rewrite", "motd"]);
    assert_eq!(of("staff"), ["allowlist", "domain-rewrite"]);
}

fn in_folder(folder: &Path) -> Loaded {
    load(&LoadOptions {
        config: Some(folder.join("infrarust.toml")),
        ..LoadOptions::default()
    })
}

/// The TOML blocks of a page that begin with this line.
fn blocks<'a>(page: &'a str, first: &str) -> Vec<&'a str> {
    let blocks = page.split("```toml\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|block| block.starts_with(first)).collect()
}

/// The configurations on the pages about plugins are valid.
#[test]
fn configurations_of_the_plugin_pages_are_valid() {
    let mut seen = 0;
    for page in ["docs/plugins.md", "docs/shipped-plugins.md"] {
        let page = fs::read_to_string(root(page)).unwrap();
        let mut servers = blocks(&page, "# servers/lobby.toml\n");
        if servers.is_empty() {
            servers.push("domains = [\"a.b\"]\naddresses = [\"10.0.0.5\"]\n");
        }
        for global in blocks(&page, "# infrarust.toml\n") {
            seen += 1;
            let folder = tempfile::tempdir().unwrap();
            for folder_of in ["plugins", "servers"] {
                fs::create_dir(folder.path().join(folder_of)).unwrap();
            }
            fs::write(folder.path().join("infrarust.toml"), global).unwrap();
            let id = global.split("[plugins.").nth(1).unwrap();
            let library = id.split(']').next().unwrap().replace('-', "_");
            let file = folder.path().join(format!("plugins/lib{library}.so"));
            fs::write(file, elf::plugin("hooks: [LoginDecide]")).unwrap();
            for server in &servers {
                fs::write(folder.path().join("servers/lobby.toml"), server).unwrap();
                let loaded = in_folder(folder.path());
                let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
                assert!(text.is_empty(), "{global}\n{server}\n{text}");
            }
        }
    }
    assert_eq!(seen, 7);
}

/// The configurations on the page about modes are valid: all its files together give no
/// diagnostic. The blocks of the global file belong together. A second block of the same
/// server file replaces the first, which is checked before.
#[test]
fn the_configuration_of_the_page_about_modes_is_valid() {
    let page = fs::read_to_string(root("docs/modes.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("servers")).unwrap();
    let secret = folder.path().join("forwarding.secret");
    fs::write(&secret, "a secret of the test\n").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let try_all = || {
        let loaded = in_folder(folder.path());
        let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
        assert!(text.is_empty(), "{text}");
        loaded.config.unwrap().servers.len()
    };
    let mut blocks = 0;
    for block in page.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let first = block.lines().next().unwrap().trim();
        let path = first.strip_prefix("# ").expect("a block names its file");
        let file = folder.path().join(path);
        let text = match fs::read_to_string(&file) {
            Ok(before) if path == "infrarust.toml" => before + block,
            Ok(_) => {
                try_all();
                block.to_owned()
            }
            Err(_) => block.to_owned(),
        };
        fs::write(file, text).unwrap();
        blocks += 1;
    }
    assert_eq!(blocks, 8);
    assert_eq!(try_all(), 5);
}

/// The diagnostic in the guide is the one that the program prints.
#[test]
fn the_diagnostic_in_the_guide_is_that_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    for folder_of in ["plugins", "servers"] {
        fs::create_dir(folder.path().join(folder_of)).unwrap();
    }
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write(
        "infrarust.toml",
        b"[plugins.packet-greeter]\npath = \"plugins/libgreeter.so\"\nservers = [\"lobby\"]\n",
    );
    write(
        "servers/lobby.toml",
        b"domains = [\"a.b\"]\naddresses = [\"10.0.0.5\"]\nproxy_mode = \"zero_copy\"\n",
    );
    write(
        "plugins/libgreeter.so",
        &elf::plugin("hooks: [PlayerObserve]\nneeds: [PacketInject]"),
    );
    let loaded = in_folder(folder.path());
    let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    let text = text.replace(&format!("{}/", folder.path().display()), "");
    let guide = fs::read_to_string(root("docs/plugins.md")).unwrap();
    assert!(
        guide.contains(text.trim_end()),
        "the guide differs from\n{text}"
    );
}
