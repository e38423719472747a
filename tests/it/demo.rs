//! `infrarust demo` from its start to its last line.

use std::fs;
use std::process::{Command, Stdio};

use crate::library::build;

/// Every stage of the demo works, and it shows a packet that a plugin sends to a player,
/// and the errors for the same plugin and a network on a forwarding server.
#[test]
fn the_demo_runs_to_its_end() {
    let temporary = infrarust_test_support::temporary("demo");
    fs::create_dir_all(&temporary).unwrap();
    let folder = tempfile::tempdir_in(temporary).unwrap();
    // It looks for its plugins beside its program.
    let program = folder.path().join("infrarust");
    fs::hard_link(infrarust_test_support::infrarust(), &program).unwrap();
    for (crate_folder, name) in [
        ("plugins/domain-rewrite", "domain_rewrite"),
        ("examples/plugins/packet-greeter", "packet_greeter"),
    ] {
        let library = build(crate_folder, name);
        fs::copy(library, folder.path().join(format!("lib{name}.so"))).unwrap();
    }
    let output = Command::new(program)
        .args(["demo", "--once"])
        // With Cargo it would build the plugins itself.
        .env_remove("CARGO")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}{errors}");
    let mut rest = shown.as_str();
    for part in [
        "survival.demo (passthrough)\n",
        "host in survival.demo → host out survival.demo  joined\n",
        "lobby.demo (zero_copy)\n",
        "host in lobby.demo → host out lobby.internal  joined\n",
        "creative.demo (offline)\n",
        "joined, with the id ",
        "packet.inject → the player reads “Hello Demo! A plugin sends this packet.”\n",
        "everything arrived, byte for byte\n",
        "the BungeeCord channel → minigames",
        "error[mode-conflict]: the plugin `packet-greeter` needs `player.observe` and \
         `packet.inject`, which `zero_copy` cannot give to the server `lobby`\n",
        "servers/lobby.toml:3:14\n",
        "error[mode-conflict]: `network` needs server switching, which `zero_copy` cannot offer\n",
        "\nrefused before any player met it\n",
        "on creative, in offline, the checker takes both\n",
    ] {
        let Some(at) = rest.find(part) else {
            panic!("not there, or in another order: {part}\n{shown}");
        };
        rest = &rest[at + part.len()..];
    }
    assert_eq!(rest, "");
}
