//! The layout of every table, compared with `layout.txt` and with the layouts of released
//! versions.
#![allow(unsafe_code, reason = "places of fields are looked at")]

use std::any::type_name;
use std::fmt::Write as _;
use std::mem::{MaybeUninit, offset_of};
use std::path::Path;

use super::*;

/// The type behind a pointer, without the modules that it lives in.
fn type_at<T>(_: *const T) -> String {
    let mut short = String::new();
    for word in type_name::<T>().split_inclusive(|c: char| !c.is_alphanumeric() && c != '_') {
        short.push_str(word);
        // The part before `::` is a module.
        if short.ends_with(':') {
            let keep = short
                .trim_end_matches(':')
                .rfind(|c: char| !c.is_alphanumeric() && c != '_')
                .map_or(0, |at| at + 1);
            short.truncate(keep);
        }
    }
    short
}

macro_rules! layout {
    ($out:ident, $($table:ty as $name:ident { $($field:ident),+ })+) => {
        $(
            // Without `..`: a field that is not listed does not compile.
            let _ = |$name { $($field: _),+ }: $table| ();
            let place = MaybeUninit::<$table>::uninit();
            let place = place.as_ptr();
            let (name, align) = (stringify!($name), align_of::<$table>());
            writeln!($out, "{name} align {align}").unwrap();
            $(
                let (field, at) = (stringify!($field), offset_of!($table, $field));
                // SAFETY: nothing is read, and the place is as large as the table.
                let kind = type_at(unsafe { &raw const (*place).$field });
                writeln!($out, "{name}.{field} at {at}: {kind}").unwrap();
            )+
        )+
    };
}

macro_rules! numbers {
    ($out:ident, $($module:ident :: { $($name:ident),+ })+) => {
        $($(
            writeln!($out, "{}::{} = {}", stringify!($module), stringify!($name), $module::$name).unwrap();
        )+)+
    };
}

fn layout() -> String {
    let mut out = String::new();
    layout! { out,
        Str as Str { ptr, len }
        Entry as Entry { magic, size, api_major, api_minor, hooks, needs, wants, note, note_bytes, plugin, hook_refs, hook_refs_len }
        HookRef as HookRef { capability, version, table }
        PluginTable as PluginTable { size, reserved, create, destroy, refresh_log }
        SyncHook<()> as SyncHook { size, reserved, call }
        AsyncHook<()> as AsyncHook { size, reserved, start }
        Sink as Sink { ctx, table }
        SinkTable as SinkTable { size, reserved, answer, fail }
        Address as Address { ip, port, family, reserved }
        ConnectionInput as ConnectionInput { size, protocol, grants, peer, intent, host, server }
        HandshakeInput as HandshakeInput { size, protocol, grants, peer, intent, host, current, server }
        StatusInput as StatusInput { size, protocol, grants, peer, online, host, server, current }
        LoginInput as LoginInput { size, protocol, grants, peer, intent, host, server, name, uuid, has_uuid, reserved, proved, reserved_2 }
        SessionInput as SessionInput { size, protocol, grants, peer, event, session, host, server, name, text, serverbound_bytes, clientbound_bytes, duration_ms }
        PlayerInput as PlayerInput { size, protocol, grants, peer, event, player, host, server, name, uuid, proved, reserved, text }
        RawFuture as RawFuture { data, table }
        FutureTable as FutureTable { size, reserved, poll, drop }
        RawWaker as RawWaker { data, table }
        WakerTable as WakerTable { size, reserved, clone, wake_by_ref, drop }
        HostTable as HostTable { size, api_major, api_minor, ctx, query }
        LogTable as LogTable { size, reserved, callsite, enabled, event }
        LogCallsite as LogCallsite { size, level, target, file, line, reserved, fields, fields_len }
        LogField as LogField { index, kind, number, text }
        TimeTable as TimeTable { size, reserved, sleep }
        TaskTable as TaskTable { size, reserved, spawn, abort }
        DataTable as DataTable { size, reserved, folder }
        PlayersTable as PlayersTable { size, reserved, count }
        MetricsTable as MetricsTable { size, reserved, register, record }
        IdentityTable as IdentityTable { size, reserved, profile }
        ProfileSink as ProfileSink { size, reserved, ctx, player, property }
        MessageTable as MessageTable { size, reserved, send, title }
        TitleInput as TitleInput { size, fade_in, stay, fade_out, title, subtitle }
        InjectTable as InjectTable { size, reserved, send, send_kind }
        TransferTable as TransferTable { size, reserved, transfer }
        SwitchTable as SwitchTable { size, reserved, switch }
        CookieTable as CookieTable { size, reserved, store, request }
        PacketHook<()> as PacketHook { size, reserved, call, interest }
        InterestSink as InterestSink { size, reserved, ctx, add }
        PacketInput as PacketInput { size, protocol, grants, player, uuid, proved, to, state, kind, name, server, packet, table }
        PacketTable as PacketTable { size, reserved, get, raw, set, replace, rights }
        FieldValue as FieldValue { field, holds, number, data }
        CommandHook<()> as CommandHook { ask, list }
        CommandSink as CommandSink { size, reserved, ctx, add }
        CommandInput as CommandInput { size, protocol, grants, peer, event, player, host, server, name, uuid, proved, admin, command, arguments }
        ValueSink as ValueSink { size, reserved, ctx, value }
    }
    numbers! { out,
        service::{ LOG, TIME, TASK, DATA, PLAYERS, METRICS, OF_CAPABILITY }
        status::{ OK, PENDING, ERR, PANIC, UNSUPPORTED, DENIED, GONE, FULL }
        answer::{ PASS, REFUSE, DROP, REPLACE }
        failure::{ ERROR, PANIC, CONFIG }
        event::{ OPENED, CONNECTED, CLOSED }
        player_event::{ JOINED, LEFT }
        message::{ CHAT, ACTION_BAR, KICK }
        receiver::{ CLIENT, BACKEND }
        packet_interest::{ ALL_TO_CLIENT, ALL_TO_BACKEND }
        packet_state::{ CONFIGURATION, PLAY }
        packet_right::{ DROP, CHANGE }
        command_audience::{ EVERYBODY, PLAYER_COMMANDS, ADMINS }
        command_event::{ RUN, COMPLETE }
        intent::{ STATUS, LOGIN, TRANSFER }
        family::{ NONE, V4, V6 }
        level::{ ERROR, WARN, INFO, DEBUG, TRACE }
        field::{ TEXT, PRINTED, I64, U64, F64, BOOL }
        interest::{ NEVER, SOMETIMES, ALWAYS }
        metric::{ COUNTER, GAUGE }
        flag::{ PANIC_UNWIND, DEBUG, RUNTIME }
        key::{ NAME, VERSION, REQUIRES, SDK, LICENSE, DESCRIPTION, HOOKS, NEEDS, WANTS }
    }
    for (name, value) in [
        ("ENTRY_SYMBOL", ENTRY_SYMBOL.to_owned()),
        ("ENTRY_MAGIC", format!("{:02x?}", ENTRY_MAGIC)),
        ("NOTE_SECTION", NOTE_SECTION.to_owned()),
        ("NOTE_NAME", NOTE_NAME.to_owned()),
        ("NOTE_TYPE", NOTE_TYPE.to_string()),
        ("NOTE_FORMAT", NOTE_FORMAT.to_string()),
        ("NOTE_FIXED_BYTES", NOTE_FIXED_BYTES.to_string()),
        ("NOTE_TEXT_BYTES_MAX", NOTE_TEXT_BYTES_MAX.to_string()),
    ] {
        writeln!(out, "{name} = {value}").unwrap();
    }
    for capability in Capability::ALL {
        writeln!(out, "{capability} = bit {}", *capability as u8).unwrap();
    }
    for hook in Hook::ALL {
        writeln!(out, "hook {hook} = {}", hook.shape()).unwrap();
    }
    // Tables that are passed as arrays must not grow either.
    for (name, size) in [
        ("Str", size_of::<Str>()),
        ("HookRef", size_of::<HookRef>()),
        ("LogField", size_of::<LogField>()),
        ("FieldValue", size_of::<FieldValue>()),
    ] {
        writeln!(out, "{name} size {size}").unwrap();
    }
    out
}

/// Lines of one text that the other does not have.
fn missing<'a>(from: &'a str, in_other: &str) -> Vec<&'a str> {
    let other: Vec<&str> = in_other.lines().collect();
    from.lines().filter(|line| !other.contains(line)).collect()
}

/// Where the layouts of released versions are kept, one file each.
fn released() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("released")
}

/// `layout.txt` has the current layout. `UPDATE_SNAPSHOTS=1` writes it.
#[test]
#[cfg(target_pointer_width = "64")]
fn the_layout_is_written_down() {
    let now = layout();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("layout.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    let (gone, new) = (missing(&golden, &now), missing(&now, &golden));
    assert!(
        gone.is_empty() && new.is_empty(),
        "layout.txt is not what the tables are:\n- {gone:#?}\n+ {new:#?}"
    );
}

/// The released versions, each with its recorded layout.
fn releases() -> Vec<(Version, String)> {
    let files = std::fs::read_dir(released()).unwrap();
    let releases = files.map(|file| {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut numbers = name.split('.').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        let version = Version::new(next(), next(), next());
        (version, std::fs::read_to_string(&path).unwrap())
    });
    releases.collect()
}

/// `since` of each capability and hook is right: those of a release are not younger than
/// it, and all others are.
#[test]
fn since_is_when_it_came() {
    let capabilities = Capability::ALL.iter();
    let capabilities = capabilities.map(|one| (format!("{one} = bit "), one.since()));
    let hooks = Hook::ALL.into_iter();
    let hooks = hooks.map(|hook| (format!("hook {hook} = "), hook.since()));
    for (line, since) in capabilities.chain(hooks) {
        assert!(
            since <= API_VERSION,
            "`{line}` is since {since}, and this is {API_VERSION}"
        );
        for (version, then) in releases() {
            let is_in = then.lines().any(|one| one.starts_with(&line));
            assert_eq!(
                is_in,
                since <= version,
                "`{line}` is since {since}: is it in {version}?"
            );
        }
    }
}

/// Released fields keep their place as long as the version promises it, and the layout of
/// a released version does not change.
#[test]
#[cfg(target_pointer_width = "64")]
fn released_layouts_are_kept() {
    let now = layout();
    let mut count = 0;
    for (version, then) in releases() {
        if version == API_VERSION {
            let new = missing(&now, &then);
            assert!(
                new.is_empty(),
                "{version} was released without these lines, so that the version has to be \
                 raised in plugin-api/Cargo.toml, plugin-api/abi/Cargo.toml and \
                 `API_VERSION`:\n{new:#?}"
            );
        }
        if version.same_abi(API_VERSION) {
            let gone = missing(&then, &now);
            assert!(
                gone.is_empty(),
                "plugins that were built with {version} break, because these lines are not true \
                 any more:\n{gone:#?}"
            );
            count += 1;
        }
    }
    // A version that may break plugins has no released layouts to keep.
    let first = API_VERSION.patch == 0 && (API_VERSION.major == 0 || API_VERSION.minor == 0);
    assert!(
        count > 0 || first,
        "no layout of this version's line is kept"
    );
}
