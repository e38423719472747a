//! Whole sessions of the intercepted modes, over real sockets, with a hostile
//! client and a hostile backend: the proxy goes on, and nothing is left of them.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use infrarust::config::{self, LoadOptions};
use infrarust::start::{self, Running};
use infrarust::{listener, socket};
use infrarust_test_support::{FakeBackend, hostile, within, write_config};
use libfuzzer_sys::fuzz_target;
use nix::sys::signal::{SigHandler, Signal, signal};
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct Stage {
    runtime: Runtime,
    backend: FakeBackend,
    running: Running,
    _folder: TempDir,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    // As in every program whose `main` is Rust's; the one of the fuzzer is not.
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.unwrap();
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (backend, running) = runtime.block_on(async {
        let backend = FakeBackend::start().await;
        write_config(folder.path(), "", &hostile::servers(backend.address));
        let loaded = config::load(&LoadOptions {
            config: Some(folder.path().join("infrarust.toml")),
            ..LoadOptions::default()
        });
        let config = loaded.config.unwrap();
        let listeners = listener::open(&config.proxy).unwrap();
        let files = socket::raise_open_files();
        let running = start::start(config, listeners, files).await;
        (backend, running.unwrap())
    });
    Stage {
        runtime,
        backend,
        running,
        _folder: folder,
    }
});

fuzz_target!(|input: &[u8]| {
    let stage = &*STAGE;
    stage.runtime.block_on(async {
        let proxy = stage.running.addresses()[0];
        hostile::run(proxy, &stage.backend, input).await;
        within("the session to end", async {
            while stage.running.open_connections() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    });
});
