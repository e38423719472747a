//! Maps log call sites of plugins to `tracing` call sites.
//!
//! The host's `tracing` needs call sites that live for ever. Those of a plugin
//! are copied here once; a reloaded plugin reuses those of the previous
//! generation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use infrarust_plugin_abi::interest;
use tracing::callsite::{Callsite, Identifier};
use tracing::field::{FieldSet, Value};
use tracing::metadata::Kind;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, dispatcher};

use crate::show;

/// The most call sites that one generation of a plugin adds to those of earlier generations.
/// A large plugin with its dependencies has a thousand. Their memory is never freed, because
/// `tracing` needs call sites that live for ever.
pub(super) const SITES_MAX: usize = 4096;
/// The most lines of one plugin in [`LINES_WINDOW`]. At some 200 bytes a line it
/// writes 10 kB a second at most, and leaves room in the queue of the log.
pub(super) const LINES_MAX: u32 = 500;
/// See [`LINES_MAX`].
pub(super) const LINES_WINDOW: Duration = Duration::from_secs(10);
/// `tracing` has no room for more fields.
pub(super) const FIELDS_MAX: usize = 32;

/// [`interest::NEVER`] in the type of [`Site::interest`].
const NEVER: u8 = 0;

/// Identifies a call site.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) fields: Vec<String>,
}

struct Site {
    interest: AtomicU8,
    metadata: OnceLock<Metadata<'static>>,
}

impl Callsite for Site {
    fn set_interest(&self, given: Interest) {
        let interest = if given.is_never() {
            interest::NEVER
        } else if given.is_always() {
            interest::ALWAYS
        } else {
            interest::SOMETIMES
        };
        self.interest
            .store(u8::try_from(interest).unwrap_or(0), Ordering::Relaxed);
    }

    fn metadata(&self) -> &Metadata<'_> {
        // Registered only after it was filled.
        self.metadata
            .get()
            .unwrap_or_else(|| unreachable!("a call site is filled before it is registered"))
    }
}

#[derive(Default)]
struct Sites {
    all: Vec<&'static Site>,
    by_key: HashMap<Key, u64>,
}

static SITES: RwLock<Option<Sites>> = RwLock::new(None);

/// The number of call sites that a generation has added.
#[derive(Debug, Default)]
pub(super) struct Added(AtomicUsize);

/// The number of a call site, which is added if it is new, and its interest. `None` if it is
/// new and the generation has `added` as many as it may.
pub(super) fn find_or_add(key: Key, added: &Added) -> Option<(u64, u32)> {
    if key.fields.len() > FIELDS_MAX {
        return None;
    }
    let mut sites = SITES.write().unwrap_or_else(PoisonError::into_inner);
    let sites = sites.get_or_insert_default();
    let id = match sites.by_key.get(&key) {
        Some(id) => *id,
        None => {
            // Only changed under the lock.
            if added.0.load(Ordering::Relaxed) >= SITES_MAX {
                return None;
            }
            added.0.fetch_add(1, Ordering::Relaxed);
            let id = sites.all.len() as u64;
            sites.all.push(make(&key));
            sites.by_key.insert(key, id);
            id
        }
    };
    let site = sites.all.get(usize::try_from(id).ok()?)?;
    Some((id, site.interest.load(Ordering::Relaxed).into()))
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn make(key: &Key) -> &'static Site {
    let site: &'static Site = Box::leak(Box::new(Site {
        interest: AtomicU8::new(0),
        metadata: OnceLock::new(),
    }));
    let names: Vec<&'static str> = key.fields.iter().map(|name| leak(name)).collect();
    let names: &'static [&'static str] = Box::leak(names.into_boxed_slice());
    let target = leak(&key.target);
    let _ = site.metadata.set(Metadata::new(
        "event of a plugin",
        target,
        key.level,
        (!key.file.is_empty()).then(|| leak(&key.file)),
        (key.line > 0).then_some(key.line),
        Some(target),
        FieldSet::new(names, Identifier(site)),
        Kind::EVENT,
    ));
    tracing::callsite::register(site);
    site
}

fn site(id: u64) -> Option<&'static Site> {
    let sites = SITES.read().unwrap_or_else(PoisonError::into_inner);
    sites.as_ref()?.all.get(usize::try_from(id).ok()?).copied()
}

/// Whether an event of this call site would be logged now.
pub(super) fn is_enabled(id: u64) -> bool {
    site(id).is_some_and(|site| {
        site.interest.load(Ordering::Relaxed) != NEVER
            && dispatcher::get_default(|dispatch| dispatch.enabled(site.metadata()))
    })
}

/// Limits the log lines of a plugin to [`LINES_MAX`] in a window, and counts the rest.
#[derive(Debug, Default)]
pub(super) struct LineLimit(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

/// The decision about a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Written,
    /// Left out, as the first one since lines left out were last reported.
    FirstLeftOut,
    LeftOut,
}

impl LineLimit {
    /// Whether to log a line at `now`.
    pub(super) fn line(&self, now: Instant) -> Line {
        let mut window = self.window();
        let is_over = |began| now.saturating_duration_since(began) >= LINES_WINDOW;
        if window.began.is_none_or(is_over) {
            window.began = Some(now);
            window.lines = 0;
        }
        if window.lines < LINES_MAX {
            window.lines += 1;
            return Line::Written;
        }
        window.left_out += 1;
        if window.left_out == 1 {
            Line::FirstLeftOut
        } else {
            Line::LeftOut
        }
    }

    /// The number of lines left out since the last call.
    pub(super) fn take_left_out(&self) -> u64 {
        std::mem::take(&mut self.window().left_out)
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value of an event.
pub(super) enum EventValue {
    Text(String),
    Printed(String),
    I64(i64),
    U64(u64),
    F64(f64),
    Bool(bool),
}

/// Logs an event that is enabled. Values without a field are ignored.
pub(super) fn event(id: u64, values: Vec<(usize, EventValue)>) {
    let Some(site) = site(id) else { return };
    let metadata: &'static Metadata<'static> = match site.metadata.get() {
        Some(metadata) => metadata,
        None => return,
    };
    let mut all: Vec<Option<Box<dyn Value>>> = Vec::new();
    all.resize_with(metadata.fields().len(), || None);
    for (index, value) in values {
        if let Some(place) = all.get_mut(index) {
            *place = Some(match value {
                EventValue::Text(text) => Box::new(show::Line(&text).to_string()),
                EventValue::Printed(text) => {
                    Box::new(tracing::field::display(show::Line(&text).to_string()))
                }
                EventValue::I64(number) => Box::new(number),
                EventValue::U64(number) => Box::new(number),
                EventValue::F64(number) => Box::new(number),
                EventValue::Bool(truth) => Box::new(truth),
            });
        }
    }
    let all: Vec<Option<&dyn Value>> = all.iter().map(Option::as_deref).collect();
    Event::dispatch(metadata, &metadata.fields().value_set_all(&all));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(line: u32) -> Key {
        Key {
            level: Level::INFO,
            target: "plugin::places::a".to_owned(),
            file: "lib.rs".to_owned(),
            line,
            fields: vec!["message".to_owned()],
        }
    }

    /// A generation that has reached its limit gets no new call sites, but still finds known
    /// ones. The next generation can add its own.
    #[test]
    fn call_sites_are_bounded_for_each_generation() {
        let first = Added::default();
        let max = u32::try_from(SITES_MAX).unwrap();
        for line in 0..max {
            assert!(find_or_add(key(line), &first).is_some(), "{line}");
        }
        assert_eq!(find_or_add(key(max), &first), None);
        let known = find_or_add(key(7), &first).unwrap();
        let next = Added::default();
        assert_eq!(find_or_add(key(7), &next), Some(known));
        for line in max..2 * max {
            assert!(find_or_add(key(line), &next).is_some(), "{line}");
        }
        assert_eq!(find_or_add(key(2 * max), &next), None);
    }

    /// Of a flood, the first lines are logged and the rest is counted.
    #[test]
    fn lines_are_limited_and_counted() {
        let (limit, now) = (LineLimit::default(), Instant::now());
        for _ in 0..LINES_MAX {
            assert_eq!(limit.line(now), Line::Written);
        }
        assert_eq!(limit.line(now), Line::FirstLeftOut);
        assert_eq!(limit.line(now), Line::LeftOut);
        assert_eq!(limit.take_left_out(), 2);
        assert_eq!(limit.line(now), Line::FirstLeftOut);
        assert_eq!(limit.line(now + LINES_WINDOW), Line::Written);
        assert_eq!(limit.take_left_out(), 1);
    }
}
