//! `infrarust schema`: the JSON Schema of the files, for editors.

use std::io::{self, Write};
use std::process::ExitCode;

pub use crate::config::schema::FileKind;
use crate::config::schema::schema;

/// Writes the JSON Schema of a kind of file, or lists the kinds if none is given.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn run(kind: Option<FileKind>, out: &mut dyn Write) -> io::Result<ExitCode> {
    match kind {
        Some(kind) => writeln!(out, "{:#}", schema(kind))?,
        None => {
            writeln!(
                out,
                "infrarust schema global   {}",
                FileKind::Global.table().doc
            )?;
            writeln!(
                out,
                "infrarust schema server   {}",
                FileKind::Server.table().doc
            )?;
            writeln!(out, "\ndocs/editors.md says how editors use them")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
