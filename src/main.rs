//! The program: parse arguments, do what the command says, exit with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    infrarust::cli::main()
}
