//! The layout of every table, held against `layout.txt`.

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};

use super::*;

macro_rules! layout {
    ($out:ident, $($table:ty as $name:literal { $($field:ident),+ })+) => {
        $(
            writeln!($out, "{} align {}", $name, align_of::<$table>()).unwrap();
            $(writeln!($out, "{}.{} at {}", $name, stringify!($field), offset_of!($table, $field)).unwrap();)+
        )+
    };
}

fn layout() -> String {
    let mut out = String::new();
    layout! { out,
        Str as "Str" { ptr, len }
        Entry as "Entry" { magic, size, api_major, api_minor, hooks, needs, wants, note, note_bytes, plugin, hook_refs, hook_refs_len }
        HookRef as "HookRef" { capability, version, table }
        PluginTable as "PluginTable" { size, create, destroy, refresh_log }
        SyncHook<()> as "SyncHook" { size, call }
        AsyncHook<()> as "AsyncHook" { size, start }
        Sink as "Sink" { ctx, table }
        SinkTable as "SinkTable" { size, answer, fail }
        Address as "Address" { ip, port, family }
        ConnectionInput as "ConnectionInput" { size, protocol, grants, peer, intent, host, server }
        HandshakeInput as "HandshakeInput" { size, protocol, grants, peer, intent, host, current, server }
        StatusInput as "StatusInput" { size, protocol, grants, peer, online, host, server, current }
        LoginInput as "LoginInput" { size, protocol, grants, peer, intent, host, server, name, uuid, has_uuid }
        SessionInput as "SessionInput" { size, protocol, grants, peer, event, session, host, server, name, text, serverbound_bytes, clientbound_bytes, duration_ms }
        RawFuture as "RawFuture" { data, table }
        FutureTable as "FutureTable" { size, poll, drop }
        RawWaker as "RawWaker" { data, table }
        WakerTable as "WakerTable" { size, clone, wake_by_ref, drop }
        HostTable as "HostTable" { size, api_major, api_minor, ctx, query }
        LogTable as "LogTable" { size, callsite, enabled, event }
        LogCallsite as "LogCallsite" { size, level, target, file, line, fields, fields_len }
        LogField as "LogField" { index, kind, number, text }
        TimeTable as "TimeTable" { size, sleep }
        TaskTable as "TaskTable" { size, spawn, abort }
        DataTable as "DataTable" { size, folder }
        PlayersTable as "PlayersTable" { size, count }
        MetricsTable as "MetricsTable" { size, register, record }
    }
    for (name, number) in [
        ("service.LOG", service::LOG),
        ("service.TIME", service::TIME),
        ("service.TASK", service::TASK),
        ("service.DATA", service::DATA),
        ("service.PLAYERS", service::PLAYERS),
        ("service.METRICS", service::METRICS),
        ("service.OF_CAPABILITY", service::OF_CAPABILITY),
        ("answer.PASS", answer::PASS),
        ("answer.REFUSE", answer::REFUSE),
        ("answer.DROP", answer::DROP),
        ("answer.REPLACE", answer::REPLACE),
        ("event.OPENED", event::OPENED),
        ("event.CONNECTED", event::CONNECTED),
        ("event.CLOSED", event::CLOSED),
    ] {
        writeln!(out, "{name} = {number}").unwrap();
    }
    for capability in Capability::ALL {
        writeln!(out, "{capability} = bit {}", *capability as u8).unwrap();
    }
    // Tables whose values lie side by side in memory may not even grow.
    for (name, size) in [
        ("Str", size_of::<Str>()),
        ("HookRef", size_of::<HookRef>()),
        ("LogField", size_of::<LogField>()),
    ] {
        writeln!(out, "{name} size {size}").unwrap();
    }
    out
}

/// What has been released stays where it was: every line of the golden file is
/// still true. New lines are to be added to it.
#[test]
#[cfg(target_pointer_width = "64")]
fn the_layout_is_append_only() {
    let now = layout();
    let now: Vec<&str> = now.lines().collect();
    let golden: Vec<&str> = include_str!("../layout.txt").lines().collect();
    let gone: Vec<_> = golden.iter().filter(|line| !now.contains(line)).collect();
    assert!(
        gone.is_empty(),
        "the border has changed where it must not:\n{gone:#?}"
    );
    let new: Vec<_> = now.iter().filter(|line| !golden.contains(line)).collect();
    assert!(
        new.is_empty(),
        "add these lines to layout.txt:\n{}",
        new.iter().map(|l| format!("{l}\n")).collect::<String>()
    );
}
