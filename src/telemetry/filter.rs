//! Reads the log filter of an operator.
//!
//! A filter is a list of directives of the `tracing-subscriber` crate: a level, or a
//! target and its level. That crate takes a word that is not a level as a target, and
//! switches off everything that no directive covers, so that `warning` or the filter of
//! another program would silence the log. Here `info` is the level for everything that
//! no directive covers, and directives that cannot be understood are reported.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Directive;

use super::PLUGIN_TARGET_PREFIX;
use crate::show::Escaped;

/// The target of all lines of the proxy itself.
const OWN_TARGET: &str = "infrarust";
/// Infrarust v2 consisted of crates with names such as `infrarust_core`, and its
/// guides filter by them.
const V2_TARGET_PREFIX: &str = "infrarust_";
/// The level for everything that no directive covers.
const DEFAULT_LEVEL: LevelFilter = LevelFilter::INFO;
/// The most bytes of a filter that are read. A directive takes some 40 bytes.
const FILTER_BYTES_MAX: usize = 4096;

/// A filter in the form that is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Understood {
    /// Directives that the crate reads without an error.
    pub(super) directives: String,
    /// One sentence for each part that was ignored or changed.
    pub(super) notes: Vec<String>,
}

/// Reads a filter. Never fails: parts that cannot be used are left out and noted.
pub(super) fn understand(filter: &str) -> Understood {
    let mut notes = Vec::new();
    let mut directives = vec![DEFAULT_LEVEL.to_string()];
    let filter = if filter.len() > FILTER_BYTES_MAX {
        notes.push(format!(
            "the log filter has more than {FILTER_BYTES_MAX} bytes and is not used; `info` holds"
        ));
        ""
    } else {
        filter
    };
    for written in filter.split([',', ';']).map(str::trim) {
        if written.is_empty() {
            continue;
        }
        match directive(written) {
            Ok((directive, note)) => {
                notes.extend(note);
                // A level for everything replaces the default.
                if directive.parse::<LevelFilter>().is_ok() {
                    directives.remove(0);
                    directives.insert(0, directive);
                } else {
                    directives.push(directive);
                }
            }
            Err(note) => notes.push(note),
        }
    }
    Understood {
        directives: directives.join(","),
        notes,
    }
}

/// One directive in the form of the crate, with a note if it was changed.
fn directive(written: &str) -> Result<(String, Option<String>), String> {
    let shown = Escaped(written);
    if let Some(level) = level(written) {
        return Ok((level.to_string(), None));
    }
    let (target, level_word) = match written.rsplit_once('=') {
        // A `=` inside brackets belongs to the value of a field.
        Some((target, word)) if !word.contains(['}', ']']) => (target.trim(), Some(word.trim())),
        _ => (written, None),
    };
    let of_level = match level_word.map(|word| (word, level(word))) {
        None => String::new(),
        Some((_, Some(level))) => format!("={level}"),
        Some((word, None)) => {
            return Err(format!(
                "the log filter `{shown}` is not used: `{}` is not a level; \
                 levels are error, warn, info, debug, trace and off",
                Escaped(word)
            ));
        }
    };
    let name = target.split('[').next().unwrap_or_default();
    if name.starts_with(V2_TARGET_PREFIX) {
        let note = format!(
            "the log filter `{shown}` names a part of Infrarust v2; \
             it is used as `{OWN_TARGET}{of_level}`"
        );
        return Ok((format!("{OWN_TARGET}{of_level}"), Some(note)));
    }
    // A directive covers the targets that begin with it. Without a level, the beginning
    // of one of our targets is more likely a misspelt level.
    let is_own = |own: &str| {
        name.starts_with(own)
            || ((name.is_empty() || level_word.is_some()) && own.starts_with(name))
    };
    if !is_own(OWN_TARGET) && !is_own(PLUGIN_TARGET_PREFIX) {
        // A single word was meant as a level.
        if level_word.is_none() && !target.contains(['[', ':']) {
            return Err(format!(
                "the log level `{shown}` is not known and not used; \
                 levels are error, warn, info, debug, trace and off"
            ));
        }
        let note = format!(
            "the log filter `{shown}` concerns no line of Infrarust or of a plugin: \
             their targets begin with `{OWN_TARGET}` and `{PLUGIN_TARGET_PREFIX}`"
        );
        return parsed(format!("{target}{of_level}")).map(|directive| (directive, Some(note)));
    }
    parsed(format!("{target}{of_level}")).map(|directive| (directive, None))
}

/// The directive, if the crate reads it.
fn parsed(directive: String) -> Result<String, String> {
    match directive.parse::<Directive>() {
        Ok(_) => Ok(directive),
        Err(error) => Err(format!(
            "the log filter `{}` is not used: {error}",
            Escaped(&directive)
        )),
    }
}

/// The level that a word means: the words of this program, of syslog, Java, Python, npm
/// and others.
fn level(word: &str) -> Option<LevelFilter> {
    let word = word.trim_matches(['"', '\'']).to_ascii_lowercase();
    Some(match word.as_str() {
        "error" | "err" | "errors" | "severe" | "crit" | "critical" | "fatal" | "alert"
        | "emerg" | "panic" => LevelFilter::ERROR,
        "warn" | "warning" | "warnings" => LevelFilter::WARN,
        "info" | "information" | "notice" | "normal" | "default" => LevelFilter::INFO,
        "debug" | "verbose" | "fine" => LevelFilter::DEBUG,
        "trace" | "all" | "finer" | "finest" | "silly" => LevelFilter::TRACE,
        "off" | "none" => LevelFilter::OFF,
        // 0 to 5 are levels of the crate.
        number => return number.parse::<u8>().ok().and(number.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracing_subscriber::EnvFilter;

    use super::*;

    fn in_force(filter: &str) -> (String, usize) {
        let Understood { directives, notes } = understand(filter);
        (directives, notes.len())
    }

    /// Words for levels are understood in any letter case, alone and with a target.
    #[test]
    fn levels() {
        for (written, level) in [
            ("info", "info"),
            ("WARN", "warn"),
            ("warning", "warn"),
            ("Verbose", "debug"),
            ("\"debug\"", "debug"),
            ("SEVERE", "error"),
            ("all", "trace"),
            ("off", "off"),
            ("3", "info"),
            ("", "info"),
            (" , ", "info"),
        ] {
            assert_eq!(in_force(written), (level.to_owned(), 0), "{written:?}");
        }
        assert_eq!(
            in_force("infrarust=WARNING"),
            ("info,infrarust=warn".to_owned(), 0)
        );
    }

    /// `info` is the level for what no directive covers, unless a level is given.
    #[test]
    fn the_rest_stays_at_info() {
        for (written, directives) in [
            ("infrarust=debug", "info,infrarust=debug"),
            (
                "infrarust::connection=trace",
                "info,infrarust::connection=trace",
            ),
            ("plugin::x=off", "info,plugin::x=off"),
            ("warn,infrarust=debug", "warn,infrarust=debug"),
            ("infrarust=debug,off", "off,infrarust=debug"),
            (
                "infrarust[{player=\"a\"}]=debug",
                "info,infrarust[{player=\"a\"}]=debug",
            ),
        ] {
            assert_eq!(in_force(written), (directives.to_owned(), 0), "{written}");
        }
    }

    /// A directive that cannot be used, or matches nothing, is noted and silences nothing.
    #[test]
    fn the_rest_is_reported() {
        for (written, directives, notes) in [
            ("loud", "info", 1),
            ("inf", "info", 1),
            ("infrarust=loud", "info", 1),
            ("6", "info", 1),
            ("infrarust=", "info", 1),
            ("infrarust[=debug", "info", 1),
            ("velocity=debug", "info,velocity=debug", 1),
            ("hickory_resolver::x", "info,hickory_resolver::x", 1),
            (
                "infrarust_core=debug,infrarust_proxy=info",
                "info,infrarust=debug,infrarust=info",
                2,
            ),
        ] {
            assert_eq!(
                in_force(written),
                (directives.to_owned(), notes),
                "{written}"
            );
        }
        let text = understand("a\n\u{1b}[31mb=debug").notes.concat();
        assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
    }

    /// A filter that is longer than the limit is not used.
    #[test]
    fn long_filters() {
        let padded = |len: usize| format!("{:len$}", "debug");
        assert_eq!(in_force(&padded(FILTER_BYTES_MAX)), ("debug".to_owned(), 0));
        assert_eq!(
            in_force(&padded(FILTER_BYTES_MAX + 1)),
            ("info".to_owned(), 1)
        );
    }

    proptest! {
        /// Any text gives a valid filter.
        #[test]
        fn any_filter(written in "([a-z=,:\\[\\]{}\" ]|info|infrarust|\\PC){0,30}") {
            prop_assert!(EnvFilter::try_new(understand(&written).directives).is_ok());
        }
    }
}
