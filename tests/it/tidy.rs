//! Words and phrases that code and documents do not use. `docs/words.md` has the
//! words that they do use.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use infrarust_test_support::root;

/// Words and phrases that puzzle a reader, and what to write instead. Any letter
/// case counts, and a part of an identifier too (`send_off`, `FAREWELL_MAX`).
const STRUCK_OUT: [(&str, &str); 46] = [
    ("whom", "make it the subject: \"the client that ...\""),
    ("anew", "again"),
    ("as things stand", "so far, or at the moment"),
    ("at rest", "idle"),
    ("be had", "available"),
    ("becomes of", "what happens to, or what to do with"),
    ("read over", "ignored"),
    ("without any speciality", "a base value"),
    ("appetite", "choice"),
    ("carry_out", "run"),
    ("come apart", "differ, or close"),
    ("by a hair", "slightly"),
    ("dearer", "more expensive"),
    ("departure", "end, or close"),
    ("desk", "inbox"),
    ("employer", "worker handle"),
    ("farewell", "pending reset"),
    ("hear_out", "drain the input"),
    ("held against", "compared with"),
    ("knows itself", "say what is recognized, and where"),
    ("last_words", "final packet, or crash report"),
    ("last words", "final bytes, or final packet"),
    ("leniently", "say what is accepted"),
    ("look_at", "next deadline"),
    ("look_at_what_is_due", "run timers"),
    ("mute", "unregister"),
    ("nobody needs", "unused, or without a next call"),
    ("pass over", "ignore"),
    ("passed over", "ignored"),
    ("passes over", "ignores"),
    ("promise_kept", "check the guard"),
    ("see_off", "wait for the close"),
    ("send_off", "close with a text"),
    ("so many", "the number, by its name"),
    ("spoil", "mark as broken"),
    ("stranded", "detached"),
    ("take note", "count, or follow"),
    ("takes note", "counts, or follows"),
    ("teller", "writer"),
    ("telling", "reporting, or saying"),
    ("tells", "reports, says, sends or shows"),
    ("the begin", "the start"),
    ("told", "reported, sent, or shown"),
    ("way out", "solution"),
    ("what nobody", "a noun, and \"that no ...\""),
    ("youth", "handover delay"),
];

/// Lines that keep a word that is struck out: names of log fields do not change.
const KEPT: [&str; 1] = ["told = uuid_text("];

/// What may stand after "is no": the other cases are written "is not a".
const AFTER_IS_NO: [&str; 6] = ["longer", "more", "other", "such", "one", "way"];

/// What the test reads: sources, documents, examples and messages.
const FOLDERS: [&str; 11] = [
    "src",
    "plugin-api",
    "plugins",
    "examples",
    "docs",
    "benches",
    "tests/it",
    "tests/config",
    "tests/plugins",
    "tests/slow",
    "tests/support",
];
const FILES: [&str; 3] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
const ENDINGS: [&str; 4] = ["rs", "md", "toml", "stderr"];

/// The repository has none of these words.
#[test]
fn struck_out_words_stay_out() {
    let root = &root("");
    let mut files: Vec<PathBuf> = FILES.iter().map(|file| root.join(file)).collect();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files);
    }
    let mut found = String::new();
    for file in &files {
        if file.ends_with("tests/it/tidy.rs") {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        for (number, line) in text.lines().enumerate() {
            if KEPT.iter().any(|kept| line.contains(kept)) {
                continue;
            }
            for (word, instead) in STRUCK_OUT {
                if has_word(line, word) {
                    let path = file.strip_prefix(root).unwrap().display();
                    writeln!(found, "{path}:{}: `{word}`: {instead}", number + 1).unwrap();
                }
            }
            if says_is_no(line) {
                let path = file.strip_prefix(root).unwrap().display();
                writeln!(found, "{path}:{}: `is no ...`: is not a ...", number + 1).unwrap();
            }
        }
    }
    assert!(found.is_empty(), "see docs/words.md\n{found}");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files);
            }
        } else if path
            .extension()
            .is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
        {
            files.push(path);
        }
    }
}

/// Whether the line has the word, not as a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let is_letter = |c: char| c.is_ascii_alphabetic();
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_letter) && !after.is_some_and(is_letter)
    })
}

/// Whether the line says "X is no Y" for "X is not a Y". "There is no" and a line
/// that ends after "no" do not count.
fn says_is_no(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(4).any(|found| {
        let [before, verb, no, after] = found else {
            return false;
        };
        let after = after.trim_end_matches(|c: char| !c.is_alphanumeric());
        *no == "no"
            && matches!(*verb, "is" | "are" | "was" | "were")
            && !before.ends_with("there")
            && !AFTER_IS_NO.contains(&after)
    })
}

/// A word is found in sentences and identifiers, and not inside another.
#[test]
fn words_are_found_whole() {
    assert!(has_word("for whom it is", "whom"));
    assert!(has_word("fn send_off()", "send_off"));
    assert!(has_word("const FAREWELL_MAX", "farewell"));
    assert!(!has_word("reorders", "orders"));
    assert!(!has_word("whomever", "whom"));
    assert!(says_is_no("/// A port is no number."));
    assert!(!says_is_no(
        "/// There is no number, and it is no longer there."
    ));
}
