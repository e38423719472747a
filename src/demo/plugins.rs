//! The plugins of the demo: dynamic libraries, which Cargo builds separately from the
//! program, as it does for any author of plugins.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// Where the sources of this program were when it was built.
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// The libraries of the demo.
pub(super) struct Libraries {
    /// Chooses the host that a backend sees.
    pub(super) domain_rewrite: PathBuf,
    /// Greets players with a packet of its own.
    pub(super) packet_greeter: PathBuf,
}

impl Libraries {
    /// Whether plugins can be loaded on this system.
    pub(super) const SUPPORTED: bool = cfg!(target_os = "linux");

    /// Finds them in the folder of the program. If it runs in its source tree, Cargo
    /// builds them there first. Blocks.
    pub(super) fn find() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the program's own path is not known")?;
        let folder = program.parent().unwrap_or(Path::new("."));
        if let (Some(cargo), true) = (std::env::var_os("CARGO"), Path::new(SOURCE).is_dir()) {
            build(Path::new(&cargo), folder)?;
        }
        let library = |name: &str| {
            let path = folder.join(name);
            ensure!(
                path.is_file(),
                "the demo's plugin `{}` is not there: run `cargo run -- demo` in the \
                 source tree, or copy it beside the program",
                path.display()
            );
            Ok(path)
        };
        Ok(Self {
            domain_rewrite: library("libdomain_rewrite.so")?,
            packet_greeter: library("libpacket_greeter.so")?,
        })
    }
}

/// Builds the plugins into the folder of the program: `target/release`, or
/// `target/debug`.
fn build(cargo: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(cargo);
    command.current_dir(SOURCE).args([
        "build",
        "--quiet",
        "--locked",
        "--package=infrarust-plugin-domain-rewrite",
        "--package=infrarust-example-packet-greeter",
    ]);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    let status = command.status().context("Cargo cannot be started")?;
    ensure!(status.success(), "the demo's plugins cannot be built");
    Ok(())
}
