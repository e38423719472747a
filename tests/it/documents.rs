//! The documents that are generated from tables of the code. `UPDATE_DOCS=1` writes them.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use infrarust::cli::capabilities;
use infrarust::config::containers;
use infrarust::config::keys::{Choice, Effect, Key, Shape, Table, TextKind};
use infrarust::config::schema::FileKind;
use infrarust::diagnostic::{Code, page};
use infrarust::mode::Mode;
use infrarust_plugin_abi::Hook;

/// The documents in the repository equal the generated ones.
#[test]
fn generated_documents_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/plugins.md")).unwrap();
    for (name, text) in [
        ("docs/configuration.md", configuration()),
        ("docs/capabilities.md", capabilities::to_markdown()),
        ("docs/errors.md", errors()),
        ("docs/plugins.md", with_hooks(&guide)),
        ("plugin-api/src/hooks.md", hooks()),
    ] {
        let path = root.join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == text,
            "{name} is stale: run the tests with UPDATE_DOCS=1"
        );
    }
}

/// The table of the hooks on the page of the crate `plugin-api`.
fn hooks() -> String {
    let mut text = String::from("| trait | when | may wait | when it fails |\n|---|---|---|---|\n");
    for hook in Hook::ALL {
        let _ = writeln!(text, "| [`{}`] {}", hook.trait_name(), columns(hook));
    }
    text
}

/// The guide for authors, with the table of the hooks in it.
fn with_hooks(guide: &str) -> String {
    let head = "| trait | name | when | may wait | when it fails |\n|---|---|---|---|---|\n";
    let (before, after) = guide
        .split_once(head)
        .expect("the guide has a table of hooks");
    let (_, after) = after.split_once("\n\n").expect("text follows the table");
    let mut text = format!("{before}{head}");
    for hook in Hook::ALL {
        let _ = writeln!(
            text,
            "| `{}` | `{hook}` {}",
            hook.trait_name(),
            columns(hook)
        );
    }
    format!("{text}\n{after}")
}

/// The columns that both tables of hooks have.
fn columns(hook: Hook) -> String {
    let may_wait = if hook.may_wait() { "yes" } else { "no" };
    let (when, means) = (hook.when(), hook.failure_means());
    format!("| {when} | {may_wait} | {means} |")
}

/// `docs/errors.md`, generated from the pages of the codes.
fn errors() -> String {
    let mut text = String::from(
        "# Errors and warnings\n\n\
         <!-- Made from src/diagnostic/explain.rs by a test: UPDATE_DOCS=1 cargo test. -->\n\n\
         What `infrarust check` can say, as `infrarust explain CODE` prints it. Codes are stable.\n",
    );
    for code in Code::ALL {
        let page = page(*code);
        text.push_str(&format!(
            "\n## {} ({})\n\n{}\n",
            code.name(),
            code.severity().name(),
            page.what
        ));
        text.push_str(&format!("\n{}\n", page.why));
        for (title, files) in [("With the problem", page.wrong), ("Without it", page.right)] {
            text.push_str(&format!("\n{title}:\n\n```toml\n"));
            for (n, (path, content)) in files.iter().enumerate() {
                let gap = if n == 0 { "" } else { "\n" };
                text.push_str(&format!("{gap}# {path}\n{content}"));
            }
            text.push_str("```\n");
        }
    }
    text
}
/// `docs/configuration.md`, generated from the table of keys.
fn configuration() -> String {
    let mut page = String::from(
        "# All keys\n\n\
         <!-- Made from the table of keys in src/config/raw.rs by a test: UPDATE_DOCS=1 cargo test. -->\n\n\
         Files are TOML. An unknown key is an error; relative paths begin at the folder of the file\n\
         that holds them, not at the working directory; durations are texts with units, such as\n\
         `\"5s\"`, `\"250ms\"` or `\"1m 30s\"`. `infrarust check` shows every mistake of every file at once.\n\n\
         Server files are the files `*.toml` directly in the folder of the server files. Files in folders\n\
         below it, and files with names that begin with `.`, `#` or `~`, are not read. If a server file\n\
         has no `name`, the id of the server is the name of the file without `.toml`.\n\n\
         Programs make copies of files. A copy is ignored with a warning (`unread-file`) that names it\n\
         and its original if its name contains `.sync-conflict-` (Syncthing), `conflicted copy`\n\
         (Nextcloud, Dropbox), ` (copy` or ` - copy` (desktops), in upper or lower case. A copy with\n\
         another name is a server file: it claims the domains of its original a second time, and is\n\
         refused with both names (`duplicate-domain`).\n\n\
         A server file is read again when it changes, and `infrarust.toml` at `SIGHUP` or `infrarust\n\
         plugin reload`. The column \"takes effect\" says when a change of a key takes effect after that:\n\
         at once, for connections that are accepted after it, or at the next start. Open connections keep\n\
         the configuration with which they began.\n\n\
         In the column \"default\", \"–\" means that there is no default value: the meaning says what\n\
         happens without the key.\n",
    );
    for (kind, title) in [
        (FileKind::Global, "The global file `infrarust.toml`"),
        (FileKind::Server, "A server file `servers/<id>.toml`"),
    ] {
        let _ = write!(
            page,
            "\n## {title}\n\n{}\n",
            keys(kind.table(), Effect::NewConnections)
        );
        inner_tables(kind.table(), "", Effect::NewConnections, &mut page);
    }
    let names = containers::names().iter();
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let _ = write!(
        page,
        "\n## Labels of a container\n\n\
         With a table `[docker]`, see [docker.md](docker.md). Three labels are for containers alone,\n\
         here without the `infrarust.` in front:\n\n{}\n\n\
         Every key of a server file is a label too; `infrarust.motd.text`, as Infrarust v2 calls it,\n\
         is `infrarust.motd.online.text`. All labels: {}.\n",
        keys(containers::LABELS, Effect::NewConnections),
        names.join(", "),
    );
    page
}

/// The tables inside a table, each under its path; `outer` is when changes of
/// the table take effect.
fn inner_tables(table: &Table, prefix: &str, outer: Effect, page: &mut String) {
    for key in table.keys {
        let path = format!("{prefix}{}", key.name);
        let effect = key.effect_in(outer);
        let (inner, path) = match key.shape {
            Shape::Table(inner) => (inner, path),
            Shape::Map(Shape::Table(inner)) => (*inner, format!("{path}.<id>")),
            _ => continue,
        };
        let _ = write!(
            page,
            "\n### `[{path}]`\n\n{}\n\n{}\n",
            inner.doc,
            keys(inner, effect)
        );
        match same_inside(inner) {
            Some(state) => {
                let _ = write!(
                    page,
                    "\n### `[{path}.<state>]`\n\n{}\n\n{}\n",
                    state.doc,
                    keys(state, effect)
                );
            }
            None => inner_tables(inner, &format!("{path}."), effect, page),
        }
    }
}

/// The table that all keys of a table share, as the states of a MOTD do; it is
/// described once.
fn same_inside(table: &Table) -> Option<&'static Table> {
    let tables = table.keys.iter().map(|key| match key.shape {
        Shape::Table(inner) => Some(inner),
        _ => None,
    });
    let tables: Vec<_> = tables.collect::<Option<_>>()?;
    let first = *tables.first()?;
    tables
        .iter()
        .all(|inner| inner.title == first.title)
        .then_some(first)
}

fn keys(table: &Table, outer: Effect) -> String {
    let mut text = String::from(
        "| key | type | default | modes | takes effect | meaning |\n|---|---|---|---|---|---|\n",
    );
    for key in table.keys {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            key.name,
            kind(key),
            key.default
                .map_or_else(|| "–".to_owned(), |default| format!("`{default}`")),
            modes(key),
            effects(key, outer),
            meaning(key),
        );
    }
    if !table.unsupported.is_empty() {
        text.push_str("\nIgnored with a warning (known from Infrarust v2): ");
        let names: Vec<_> = table
            .unsupported
            .iter()
            .map(|old| format!("`{}`", old.name))
            .collect();
        text.push_str(&names.join(", "));
        text.push('.');
    }
    text.trim_end().to_owned()
}

fn kind(key: &Key) -> String {
    match key.shape {
        Shape::Choice(_) => "one of the words".to_owned(),
        Shape::Whole { min, max } => {
            let unit = key.unit.map(|unit| format!(", {unit}")).unwrap_or_default();
            format!("a whole number from {min} to {max}{unit}")
        }
        Shape::List(of) => match of {
            Shape::Text {
                kind: TextKind::Plain,
                ..
            } => "a list of texts".to_owned(),
            of => format!("a list; each entry is {}", of.words()),
        },
        shape => shape.words(),
    }
}

/// When changes of a key take effect; for a table, of the keys in it.
fn effects(key: &Key, outer: Effect) -> &'static str {
    let outer = key.effect_in(outer);
    let Some(inner) = inner_table(key) else {
        return outer.words();
    };
    let mut words: Vec<_> = inner.keys.iter().map(|key| effects(key, outer)).collect();
    words.dedup();
    match words[..] {
        [words] => words,
        _ => "see its keys",
    }
}

/// The table that the value of a key is, or that each entry of its value is.
fn inner_table(key: &Key) -> Option<&'static Table> {
    match key.shape {
        Shape::Table(inner) => Some(inner),
        Shape::Map(Shape::Table(inner)) => Some(*inner),
        _ => None,
    }
}

/// The modes in which a key has an effect; for a table, in which one of its keys has.
fn modes_of(key: &Key) -> Vec<Mode> {
    let modes = key.scope.modes();
    let Some(inner) = inner_table(key) else {
        return modes;
    };
    let inner: Vec<_> = inner.keys.iter().flat_map(modes_of).collect();
    modes
        .into_iter()
        .filter(|mode| inner.contains(mode))
        .collect()
}

fn modes(key: &Key) -> String {
    let modes = modes_of(key);
    if modes.len() == Mode::ALL.len() {
        return "all".to_owned();
    }
    let names: Vec<_> = modes.iter().map(|mode| format!("`{mode}`")).collect();
    names.join(", ")
}

fn meaning(key: &Key) -> String {
    let mut text = key.doc.to_owned();
    if let Shape::Choice(choices) = key.shape {
        for Choice { name, aliases, doc } in choices {
            let others: String = aliases
                .iter()
                .map(|alias| format!(", `\"{alias}\"`"))
                .collect();
            let _ = write!(text, "<br>`\"{name}\"`{others}: {doc}");
        }
    }
    text
}
