//! The bridge from `tracing` to the log of the host.
//!
//! A dynamic library has its own copy of `tracing`, without a subscriber. The subscriber
//! here registers each call site with the host once, and sends each event as the number
//! of its call site and its values.
#![allow(unsafe_code, reason = "the log is a C table of the host")]

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use infrarust_plugin_abi::{
    HostTable, LogCallsite, LogField, LogTable, Str, field, interest, level, size_of_table, status,
};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::link::Link;

/// The target of events about a panic that no call could return. The host recognizes and
/// counts them; an older one only logs them.
const PANIC_TARGET: &str = "infrarust_plugin_api::panic";

/// Reports to the host a panic that was caught while a value was dropped.
pub(crate) fn report_panic(link: &Link, text: &str) {
    let Some(log) = link.log else { return };
    let (Some(introduce), Some(event)) = (log.callsite, log.event) else {
        return;
    };
    let names = [Str::new("message")];
    let callsite = LogCallsite {
        size: size_of_table::<LogCallsite>(),
        level: level::ERROR,
        target: Str::new(PANIC_TARGET),
        file: Str::EMPTY,
        line: 0,
        reserved: 0,
        fields: names.as_ptr(),
        fields_len: names.len(),
    };
    let message = LogField {
        index: 0,
        kind: field::TEXT,
        number: 0,
        text: Str::new(text),
    };
    let (mut id, mut given) = (0, interest::NEVER);
    // SAFETY: the context belongs to the host, all texts are valid during the calls.
    unsafe {
        let status = introduce(
            link.host.ctx,
            &raw const callsite,
            &raw mut id,
            &raw mut given,
        );
        if status == status::OK {
            event(link.host.ctx, id, &raw const message, 1);
        }
    }
}

/// Sends the events of this library to the host from now on.
pub(crate) fn install(host: &'static HostTable, table: &'static LogTable) {
    let bridge = Bridge {
        host,
        table,
        sites: RwLock::default(),
    };
    // Fails if the plugin has set its own subscriber, which is then kept.
    let _ = tracing::subscriber::set_global_default(bridge);
}

struct Bridge {
    host: &'static HostTable,
    table: &'static LogTable,
    /// The registered call sites; `None` for one that the host has refused.
    sites: RwLock<HashMap<Identifier, Option<Site>>>,
}

#[derive(Clone, Copy)]
struct Site {
    id: u64,
    interest: u32,
}

impl Bridge {
    /// The call site of an event. `tracing` can ask about a call site on one thread while
    /// another thread still registers it, so it may have to be registered here.
    fn site(&self, metadata: &Metadata<'_>) -> Option<Site> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        let site = sites.get(&metadata.callsite()).copied();
        drop(sites);
        site.unwrap_or_else(|| self.meet(metadata))
    }

    /// Registers a call site. If two threads do so, the host gives both the same number.
    fn meet(&self, metadata: &Metadata<'_>) -> Option<Site> {
        let site = self.introduce(metadata);
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        sites.insert(metadata.callsite(), site);
        site
    }

    fn introduce(&self, metadata: &Metadata<'_>) -> Option<Site> {
        let names: Vec<Str> = metadata
            .fields()
            .iter()
            .map(|field| Str::new(field.name()))
            .collect();
        let callsite = LogCallsite {
            size: size_of_table::<LogCallsite>(),
            level: match *metadata.level() {
                Level::ERROR => level::ERROR,
                Level::WARN => level::WARN,
                Level::INFO => level::INFO,
                Level::DEBUG => level::DEBUG,
                Level::TRACE => level::TRACE,
            },
            target: Str::new(metadata.target()),
            file: metadata.file().map_or(Str::EMPTY, Str::new),
            line: metadata.line().unwrap_or(0),
            reserved: 0,
            fields: names.as_ptr(),
            fields_len: names.len(),
        };
        let mut site = Site {
            id: 0,
            interest: interest::NEVER,
        };
        let introduce = self.table.callsite?;
        // SAFETY: the context belongs to the host, all texts are valid during the call.
        let status = unsafe {
            introduce(
                self.host.ctx,
                &raw const callsite,
                &raw mut site.id,
                &raw mut site.interest,
            )
        };
        (status == status::OK).then_some(site)
    }
}

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Only events are sent.
        if !metadata.is_event() {
            return Interest::never();
        }
        match self.meet(metadata).map(|site| site.interest) {
            None | Some(interest::NEVER) => Interest::never(),
            Some(interest::ALWAYS) => Interest::always(),
            Some(_) => Interest::sometimes(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Only events are sent.
        if !metadata.is_event() {
            return false;
        }
        let Some(site) = self.site(metadata) else {
            return false;
        };
        match (site.interest, self.table.enabled) {
            (interest::NEVER, _) => false,
            (interest::ALWAYS, _) | (_, None) => true,
            // SAFETY: the context belongs to the host.
            (_, Some(enabled)) => unsafe { enabled(self.host.ctx, site.id) != 0 },
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Spans are never enabled; a caller that makes one anyway gets any number.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let (Some(site), Some(log)) = (self.site(event.metadata()), self.table.event) else {
            return;
        };
        let mut values = Values::default();
        event.record(&mut values);
        let fields: Vec<LogField> = values.0.iter().map(Value::field).collect();
        // SAFETY: the context belongs to the host, all texts are valid during the call.
        unsafe { log(self.host.ctx, site.id, fields.as_ptr(), fields.len()) };
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Value {
    index: u32,
    kind: u32,
    number: u64,
    text: String,
}

impl Value {
    fn field(&self) -> LogField {
        LogField {
            index: self.index,
            kind: self.kind,
            number: self.number,
            text: Str::new(&self.text),
        }
    }
}

#[derive(Default)]
struct Values(Vec<Value>);

impl Values {
    fn push(&mut self, field: &Field, kind: u32, number: u64, text: String) {
        // `tracing` allows 32 fields.
        let index = u32::try_from(field.index()).unwrap_or(u32::MAX);
        self.0.push(Value {
            index,
            kind,
            number,
            text,
        });
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, field::PRINTED, 0, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, field::TEXT, 0, value.to_owned());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, field::I64, value.cast_unsigned(), String::new());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, field::U64, value, String::new());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, field::F64, value.to_bits(), String::new());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, field::BOOL, value.into(), String::new());
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::c_void;
    use std::sync::{Mutex, OnceLock};

    use tracing::callsite::Callsite;
    use tracing::field::FieldSet;
    use tracing::metadata::Kind;

    use super::*;

    /// How many call sites were registered with the host below, and how many events it got.
    static SEEN: Mutex<(u64, u64)> = Mutex::new((0, 0));

    unsafe extern "C" fn callsite(
        _: *const c_void,
        site: *const LogCallsite,
        id: *mut u64,
        given: *mut u32,
    ) -> i32 {
        // SAFETY: the bridge passes valid pointers.
        let is_refused = unsafe { (*site).line } == 2;
        let mut seen = SEEN.lock().unwrap();
        seen.0 += 1;
        if is_refused {
            return status::DENIED;
        }
        // SAFETY: as above.
        unsafe { (*id, *given) = (7, interest::SOMETIMES) };
        status::OK
    }

    unsafe extern "C" fn enabled(_: *const c_void, id: u64) -> u32 {
        u32::from(id == 7)
    }

    unsafe extern "C" fn event(_: *const c_void, id: u64, _: *const LogField, _: usize) -> i32 {
        SEEN.lock().unwrap().1 += u64::from(id == 7);
        status::OK
    }

    struct Place(OnceLock<Metadata<'static>>);

    impl Callsite for Place {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            self.0.get().unwrap()
        }
    }

    static PLACES: [Place; 2] = [const { Place(OnceLock::new()) }; 2];

    fn metadata(place: &'static Place, line: u32) -> &'static Metadata<'static> {
        let fields = FieldSet::new(&["message"], Identifier(place));
        let make = || {
            Metadata::new(
                "event",
                "target",
                Level::INFO,
                None,
                Some(line),
                None,
                fields,
                Kind::EVENT,
            )
        };
        place.0.get_or_init(make)
    }

    /// A thread that logs while another thread still registers the call site registers it
    /// too: its event is not lost. A call site that the host refuses is registered only
    /// once.
    #[test]
    fn events_during_a_registration_are_not_lost() {
        static HOST: HostTable = HostTable {
            size: 0,
            api_major: 0,
            api_minor: 1,
            ctx: std::ptr::null(),
            query: None,
        };
        static TABLE: LogTable = LogTable {
            size: 0,
            reserved: 0,
            callsite: Some(callsite),
            enabled: Some(enabled),
            event: Some(event),
        };
        let bridge = Bridge {
            host: &HOST,
            table: &TABLE,
            sites: RwLock::default(),
        };
        let [known, refused] = [&PLACES[0], &PLACES[1]];
        let (known, refused) = (metadata(known, 1), metadata(refused, 2));
        let values: [Option<&dyn tracing::Value>; 1] = [Some(&"x")];
        for metadata in [known, refused, known, refused] {
            let is_enabled = bridge.enabled(metadata);
            assert_eq!(is_enabled, std::ptr::eq(metadata, known));
            if is_enabled {
                let values = metadata.fields().value_set_all(&values);
                bridge.event(&Event::new(metadata, &values));
            }
        }
        assert_eq!(*SEEN.lock().unwrap(), (2, 2));
    }
}
