//! `cargo ci`: runs `.ci/run`, since an alias of Cargo cannot run a script.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let script = infrarust_test_support::root(".ci/run");
    match Command::new(&script)
        .args(std::env::args_os().skip(1))
        .status()
    {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => panic!("{} cannot be run: {error}", script.display()),
    }
}
