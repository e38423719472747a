//! `infrarust explain CODE`: the long text of a diagnostic.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::diagnostic::words::{Quoted, nearest};
use crate::diagnostic::{Code, Example, page};

/// The width of the text, for terminals of the usual 80 columns.
const WIDTH: usize = 78;

/// Explains a code, or lists all codes when none is named.
///
/// The exit code is 2 for a code that does not exist.
///
/// # Errors
///
/// When an output cannot be written.
pub fn run(code: Option<&str>, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let Some(name) = code else {
        for code in Code::ALL {
            let severity = code.severity().name();
            writeln!(out, "{:<22} {severity:<8} {}", code.name(), code.meaning())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let Ok(code) = name.parse::<Code>() else {
        write!(err, "error: there is no code {}", Quoted(name))?;
        match nearest(name, Code::ALL.iter().map(|code| code.name())) {
            Some(near) => writeln!(err, "; did you mean `{near}`?")?,
            None => writeln!(err, "; `infrarust explain` lists all")?,
        }
        return Ok(ExitCode::from(2));
    };
    out.write_all(text(code).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a code as text.
#[must_use]
pub fn text(code: Code) -> String {
    let page = page(code);
    let mut text = format!(
        "{} ({})\n{}\n",
        code.name(),
        code.severity().name(),
        code.meaning()
    );
    section(&mut text, "What it means", page.what);
    section(&mut text, "Why it matters", page.why);
    example(&mut text, "With the problem", page.wrong);
    example(&mut text, "Without it", page.right);
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    text.push_str(&format!("\n{title}\n"));
    let mut column = 0;
    for word in body.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > WIDTH {
            text.push('\n');
            column = 0;
        }
        text.push_str(if column == 0 { "  " } else { " " });
        text.push_str(word);
        column += width + if column == 0 { 2 } else { 1 };
    }
    text.push('\n');
}

fn example(text: &mut String, title: &str, files: Example) {
    text.push_str(&format!("\n{title}\n"));
    for (path, content) in files {
        text.push_str(&format!("\n  # {path}\n"));
        for line in content.lines() {
            text.push_str(format!("  {line}").trim_end());
            text.push('\n');
        }
    }
}
