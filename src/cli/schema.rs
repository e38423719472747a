//! `infrarust schema`: the JSON Schema of the files, for editors.

use std::io::{self, Write};
use std::process::ExitCode;

pub use crate::config::schema::FileKind;
use crate::config::schema::schema;

/// Writes the JSON Schema of a kind of file.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn run(kind: FileKind, out: &mut dyn Write) -> io::Result<ExitCode> {
    writeln!(out, "{:#}", schema(kind))?;
    Ok(ExitCode::SUCCESS)
}
