//! Every configuration key has an effect that this test observes, or a warning that says
//! why it has none yet.
//!
//! The test walks through the table of keys. Each path needs a proof here, and a proof for
//! a key that no longer exists fails as well. Effects are observed from outside: bytes on a
//! socket, lines and threads of the program, its system calls.

mod channel;
mod docker;
mod global;
mod intercepted;
mod plugin;
mod server_file;
mod unsupported;
mod witness;

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use infrarust::config::keys::{Shape, Table};
use infrarust::config::schema::FileKind;
use infrarust::config::{Loaded, load_texts};
use infrarust::diagnostic::Code;

/// The most proofs that run at a time: some start the program, and the machine may be
/// small.
const PROOFS_AT_A_TIME: usize = 8;

/// The proof that a key has an effect.
enum Proof {
    /// Something observable differs with and without the key.
    Effect(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// The key changes the configuration, and a warning says that this has no effect yet.
    Model { with: Files, without: Files },
}

/// A global file and a server file.
#[derive(Debug, Clone)]
struct Files {
    global: String,
    server: String,
}

/// The proofs for one kind of file, by the path of the key.
type Proofs = Vec<(String, Proof)>;

/// A proof by an effect.
fn effect(path: &str, proof: impl Future<Output = ()> + Send + 'static) -> (String, Proof) {
    (path.to_owned(), Proof::Effect(Box::pin(proof)))
}

impl Files {
    fn new(global: &str, server: &str) -> Self {
        Self {
            global: global.to_owned(),
            server: server.to_owned(),
        }
    }

    fn load(&self) -> Loaded {
        load_texts(
            self.global.as_bytes(),
            &[(Path::new("a.toml"), self.server.as_bytes())],
        )
    }

    /// The codes of all diagnostics about the files.
    fn codes(&self) -> Vec<Code> {
        self.load().diagnostics.iter().map(|d| d.code).collect()
    }
}

/// The paths of all keys of a table, and of the keys that only cause a warning.
fn walk(table: &Table, prefix: &str, keys: &mut Vec<String>, unsupported: &mut Vec<String>) {
    for key in table.keys {
        let path = format!("{prefix}{}", key.name);
        if !is_table(&key.shape) {
            keys.push(path.clone());
        }
        inside(&key.shape, &path, keys, unsupported);
    }
    unsupported.extend(
        table
            .unsupported
            .iter()
            .map(|old| format!("{prefix}{}", old.name)),
    );
}

/// Whether a key has no value of its own, only keys in it.
fn is_table(shape: &Shape) -> bool {
    matches!(shape, Shape::Table(_) | Shape::Map(Shape::Table(_)))
}

fn inside(shape: &Shape, path: &str, keys: &mut Vec<String>, unsupported: &mut Vec<String>) {
    match shape {
        Shape::Table(table) => walk(table, &format!("{path}."), keys, unsupported),
        Shape::Map(of) => inside(of, &format!("{path}.<id>"), keys, unsupported),
        Shape::List(of) => inside(of, path, keys, unsupported),
        Shape::OneOf(shapes) => {
            for shape in *shapes {
                inside(shape, path, keys, unsupported);
            }
        }
        Shape::Text { .. } | Shape::Bool | Shape::Whole { .. } | Shape::Choice(_) | Shape::Free => {
        }
    }
}

/// The paths of a kind of file: keys, and keys that only cause a warning.
fn paths(kind: FileKind) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut unsupported) = (Vec::new(), Vec::new());
    walk(kind.table(), "", &mut keys, &mut unsupported);
    (keys, unsupported)
}

fn proofs(kind: FileKind) -> Proofs {
    match kind {
        FileKind::Global => global::proofs(),
        FileKind::Server => server_file::proofs(),
    }
}

/// Asserts that two lists have the same paths, each once.
fn assert_same(what: &str, keys: &[String], proofs: &[String]) {
    let mut problems = Vec::new();
    let (table, proved): (BTreeSet<_>, BTreeSet<_>) =
        (keys.iter().collect(), proofs.iter().collect());
    for path in table.difference(&proved) {
        problems.push(format!("the key `{path}` has no proof"));
    }
    for path in proved.difference(&table) {
        problems.push(format!("the proof of `{path}` has no key"));
    }
    if proved.len() < proofs.len() {
        problems.push("a key is proved twice".to_owned());
    }
    assert!(problems.is_empty(), "{what}:\n{}", problems.join("\n"));
}

/// Every key of both files has a proof, and every proof has a key.
#[test]
fn every_key_has_a_proof() {
    for kind in [FileKind::Global, FileKind::Server] {
        let (keys, unsupported) = paths(kind);
        let proved: Vec<_> = proofs(kind).into_iter().map(|(path, _)| path).collect();
        assert_same(&format!("{kind:?} file"), &keys, &proved);
        let written = unsupported::written(kind);
        let written: Vec<_> = written.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_same(
            &format!("{kind:?} file, keys of Infrarust v2"),
            &unsupported,
            &written,
        );
    }
}

/// All proofs succeed. The names of all that fail are reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_proof_holds() {
    let mut waiting = Vec::new();
    for kind in [FileKind::Global, FileKind::Server] {
        for (path, proof) in proofs(kind) {
            waiting.push((format!("{kind:?} file, `{path}`"), proof));
        }
    }
    let mut running = FuturesUnordered::new();
    let mut failed = Vec::new();
    loop {
        while running.len() < PROOFS_AT_A_TIME
            && let Some((name, proof)) = waiting.pop()
        {
            let task = tokio::spawn(holds(proof));
            running.push(async move { (name, task.await) });
        }
        match running.next().await {
            None => break,
            Some((_, Ok(()))) => {}
            Some((name, Err(error))) => {
                let why = error.try_into_panic().ok();
                let why = why.as_ref().and_then(|why| {
                    let text = why.downcast_ref::<String>().map(String::as_str);
                    text.or(why.downcast_ref::<&str>().copied())
                });
                failed.push(format!("{name}: {}", why.unwrap_or("it panicked")));
            }
        }
    }
    assert!(failed.is_empty(), "dead keys?\n{}", failed.join("\n"));
}

async fn holds(proof: Proof) {
    match proof {
        Proof::Effect(effect) => effect.await,
        Proof::Model { with, without } => {
            let is_reported = |codes: &[Code]| codes.contains(&Code::UnsupportedKey);
            assert!(is_reported(&with.codes()) && !is_reported(&without.codes()));
            let [with, without] = [with, without].map(|files| files.load().config.unwrap());
            assert!(
                with.proxy != without.proxy || with.servers != without.servers,
                "the configuration means the same"
            );
        }
    }
}

/// A file with an unsupported key of Infrarust v2 loads, with one warning that names the
/// key and no other diagnostic.
#[test]
fn unsupported_keys_are_warned_of_once() {
    for kind in [FileKind::Global, FileKind::Server] {
        for (path, text) in unsupported::written(kind) {
            let loaded = unsupported::files(kind, text).load();
            let said: Vec<_> = loaded
                .diagnostics
                .iter()
                .map(|d| (d.code, d.message.as_str()))
                .collect();
            let name = path.rsplit('.').next().unwrap();
            assert!(
                matches!(said[..], [(Code::UnsupportedKey, text)] if text.contains(&format!("`{name}`"))),
                "{kind:?} file, `{path}`: {said:?}"
            );
            assert!(loaded.config.is_some(), "{path}");
        }
    }
}
