//! Exclusive use of the machine, and tests in a process of their own.

use std::process::Command;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locked by tests that measure, and shared by tests that only take long.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Set for the process that runs one test.
const OWN_PROCESS: &str = "INFRARUST_TEST_OWN_PROCESS";

/// Exclusive use of the machine, for a test that measures.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// As [`alone`], for a test without a runtime.
pub(crate) fn blocking_alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.blocking_write()
}

/// Shared use of the machine, for a test that waits for others and does not measure.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.blocking_read()
}

/// Runs `body` in a process that does nothing else, with exclusive use of the machine. This
/// binary starts itself with the name of the calling test.
pub(crate) fn in_own_process(test: &str, body: impl FnOnce()) {
    if std::env::var_os(OWN_PROCESS).is_some() {
        return body();
    }
    let _alone = blocking_alone();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(OWN_PROCESS, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("\ntest result: ok. 1 passed;"),
        "{said}{problems}"
    );
}
