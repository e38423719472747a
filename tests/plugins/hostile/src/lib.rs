//! A plugin without the SDK that breaks each rule of the border that the host can check.
//! The virtual host, the name of the player and the configuration choose the rule.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

use infrarust_plugin_abi::*;

const HOOKS: &[Capability] = &[Capability::HandshakeRewrite, Capability::LoginDecide];
const TEXT: NoteText = NoteText::new()
    .value(key::NAME, "hostile")
    .value(key::VERSION, "0.1.0")
    .requires(&[HOOKS])
    .names(key::HOOKS, HOOKS);

#[used]
#[unsafe(link_section = ".note.infrarust.plugin")]
static NOTE: Note<{ TEXT.padded_bytes() }> = Note::new(&TEXT, flag::PANIC_UNWIND, HOOKS, &[], &[]);

const fn bytes_of<T>() -> u32 {
    size_of::<T>() as u32
}

static HANDSHAKE: SyncHook<HandshakeInput> = SyncHook {
    size: bytes_of::<SyncHook<HandshakeInput>>(),
    reserved: 0,
    call: Some(handshake),
};
static SMALL_HANDSHAKE: SyncHook<HandshakeInput> = SyncHook {
    size: 8,
    reserved: 0,
    call: Some(handshake),
};
static EMPTY_HANDSHAKE: SyncHook<HandshakeInput> = SyncHook {
    size: bytes_of::<SyncHook<HandshakeInput>>(),
    reserved: 0,
    call: None,
};
static LOGIN: AsyncHook<LoginInput> = AsyncHook {
    size: bytes_of::<AsyncHook<LoginInput>>(),
    reserved: 0,
    start: Some(login),
};
static PLUGIN: PluginTable = PluginTable {
    size: bytes_of::<PluginTable>(),
    reserved: 0,
    create: Some(create),
    destroy: Some(destroy),
    refresh_log: None,
};
static SMALL_PLUGIN: PluginTable = PluginTable {
    size: 12,
    reserved: 0,
    create: Some(create),
    destroy: Some(destroy),
    refresh_log: None,
};

const fn hook<T>(capability: Capability, version: u32, table: *const T) -> HookRef {
    HookRef {
        capability: capability as u32,
        version,
        table: table.cast(),
    }
}

/// The tests change the digit in the file.
static WHICH: [u8; 16] = *b"HOSTILE-ENTRY=00";

#[unsafe(no_mangle)]
extern "C" fn infrarust_plugin_entry_v1() -> *const Entry {
    // SAFETY: a static.
    let which = unsafe { std::ptr::read_volatile(&raw const WHICH) }[15];
    let mut hooks = vec![
        hook(Capability::HandshakeRewrite, 1, &raw const HANDSHAKE),
        hook(Capability::LoginDecide, 1, &raw const LOGIN),
    ];
    let mut entry = Entry {
        magic: ENTRY_MAGIC,
        size: bytes_of::<Entry>(),
        api_major: API_VERSION.major,
        api_minor: API_VERSION.minor,
        hooks: mask(HOOKS),
        needs: 0,
        wants: 0,
        note: NOTE.descriptor().as_ptr(),
        note_bytes: TEXT.padded_bytes(),
        plugin: &raw const PLUGIN,
        hook_refs: std::ptr::null(),
        hook_refs_len: 0,
    };
    match which {
        b'1' => return std::ptr::null(),
        b'2' => return 3 as *const Entry,
        b'3' => entry.magic = *b"irplug\0\x09",
        b'4' => entry.size = 20,
        b'5' => entry.api_minor += 1,
        b'6' => entry.hooks = Capability::HandshakeRewrite.bit(),
        b'7' => entry.plugin = std::ptr::null(),
        b'8' => entry.plugin = &raw const SMALL_PLUGIN,
        b'9' => hooks[0].table = (&raw const SMALL_HANDSHAKE).cast(),
        b'a' => hooks[0].table = std::ptr::null(),
        b'b' => hooks[0].version = 2,
        b'c' => hooks.clear(),
        b'd' => hooks = hooks.repeat(50),
        b'e' => hooks[0].table = (&raw const EMPTY_HANDSHAKE).cast(),
        _ => {}
    }
    if which != b'f' {
        let hooks = Vec::leak(hooks);
        (entry.hook_refs, entry.hook_refs_len) = (hooks.as_ptr(), hooks.len());
    }
    Box::leak(Box::new(entry))
}

static HOST: AtomicPtr<HostTable> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "C" fn create(
    host: *const HostTable,
    document: Str,
    _: Str,
    sink: *const Sink,
    instance: *mut *mut c_void,
) -> i32 {
    HOST.store(host.cast_mut(), Ordering::Relaxed);
    // SAFETY: good for the call.
    match unsafe { document.text() } {
        "" => {
            // SAFETY: the host gives a place to write to.
            unsafe { *instance = std::ptr::without_provenance_mut(8) };
            status::OK
        }
        "nothing" => status::OK,
        "garbage" => {
            fail(
                sink,
                99,
                b"\xff\xfe\x1b[31m\nplugin `other`: all is well",
                (9, 3),
            );
            status::ERR
        }
        _ => -77,
    }
}

unsafe extern "C" fn destroy(_: *mut c_void) {}

fn answer(sink: *const Sink, code: u32, text: Str) -> i32 {
    // SAFETY: good for the call.
    unsafe { ((*(*sink).table).answer.unwrap())((*sink).ctx, code, text) }
}

fn fail(sink: *const Sink, code: u32, text: &[u8], place: (u64, u64)) -> i32 {
    let text = Str {
        ptr: text.as_ptr(),
        len: text.len(),
    };
    // SAFETY: good for the call.
    unsafe { ((*(*sink).table).fail.unwrap())((*sink).ctx, code, text, place.0, place.1) }
}

unsafe extern "C" fn handshake(
    _: *const c_void,
    input: *const HandshakeInput,
    sink: *const Sink,
) -> i32 {
    let replace = |text: Str| {
        answer(sink, answer::REPLACE, text);
        status::OK
    };
    // SAFETY: good for the call.
    match unsafe { (*input).host.text() } {
        "utf8" => replace(Str {
            ptr: b"a\xff\xfeb".as_ptr(),
            len: 4,
        }),
        "null" => replace(Str {
            ptr: std::ptr::null(),
            len: 40,
        }),
        "endless" => replace(Str {
            ptr: b"a".as_ptr(),
            len: usize::MAX,
        }),
        "huge" => replace(Str::new(&"x".repeat(64 << 20))),
        "code" => {
            answer(sink, 77, Str::new("x"));
            status::OK
        }
        "status" => 12_345,
        "pending" => status::PENDING,
        "panic" => status::PANIC,
        "twice" => {
            answer(sink, answer::REPLACE, Str::new("first"));
            answer(sink, 77, Str::new("second"));
            replace(Str::new("third"))
        }
        "both" => {
            fail(sink, failure::ERROR, b"no", (0, 0));
            replace(Str::new("yes"))
        }
        "essay" => {
            let text = b"\xff\x00\x1b[2J\nplugin `other`: ".repeat(1 << 20);
            fail(sink, failure::ERROR, &text, (u64::MAX, 0));
            status::ERR
        }
        "silent" => status::ERR,
        _ => status::OK,
    }
}

static FUTURE: FutureTable = FutureTable {
    size: bytes_of::<FutureTable>(),
    reserved: 0,
    poll: Some(poll),
    drop: Some(end),
};
static SMALL_FUTURE: FutureTable = FutureTable {
    size: 4,
    reserved: 0,
    poll: Some(poll),
    drop: Some(end),
};
static NO_POLL: FutureTable = FutureTable {
    size: bytes_of::<FutureTable>(),
    reserved: 0,
    poll: None,
    drop: None,
};

unsafe extern "C" fn login(
    _: *const c_void,
    input: *const LoginInput,
    waker: *const RawWaker,
    _: *const Sink,
    future: *mut RawFuture,
) -> i32 {
    // SAFETY: good for the call.
    let (name, waker) = unsafe { ((*input).name.text(), *waker) };
    let table = match name {
        "Nothing" => return status::PENDING,
        "Small" => &raw const SMALL_FUTURE,
        "NoPoll" => &raw const NO_POLL,
        "Services" => return services(),
        "Leak" => {
            Vec::leak(vec![1_u8; 1 << 20]);
            return status::OK;
        }
        "Wake" | "Keep" => &raw const FUTURE,
        _ => return status::OK,
    };
    if name == "Keep" {
        keep(waker);
    }
    // SAFETY: the host gives a place to write to, and a waker for the call.
    unsafe {
        *future = RawFuture {
            data: std::ptr::null_mut(),
            table,
        };
        ((*waker.table).wake_by_ref.unwrap())(waker.data);
    }
    status::PENDING
}

/// Wakes itself for ever.
unsafe extern "C" fn poll(_: *mut c_void, waker: *const RawWaker, _: *const Sink) -> i32 {
    // SAFETY: good for the call.
    unsafe { ((*(*waker).table).wake_by_ref.unwrap())((*waker).data) };
    status::PENDING
}

unsafe extern "C" fn end(_: *mut c_void) {}

struct Kept(RawWaker);
// SAFETY: a clone of a waker may go to any thread.
unsafe impl Send for Kept {}
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// Keeps clones for ever, and wakes the first from another thread long after its task.
fn keep(waker: RawWaker) {
    let mut kept = KEPT.lock().unwrap();
    for _ in 0..1000 {
        // SAFETY: the waker is good for the call.
        kept.push(Kept(unsafe { ((*waker.table).clone.unwrap())(waker.data) }));
    }
    std::thread::spawn(|| {
        for _ in 0..200 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let first = KEPT.lock().unwrap()[0].0;
            // SAFETY: a clone is good until it is dropped.
            unsafe { ((*first.table).wake_by_ref.unwrap())(first.data) };
        }
    });
}

/// Calls every service with null pointers. `OK` if each call was refused.
fn services() -> i32 {
    // SAFETY: made at `create`, and good for the life of the process.
    let host = unsafe { &*HOST.load(Ordering::Relaxed) };
    let find = |number, version| {
        // SAFETY: the context belongs to the table.
        unsafe { (host.query.unwrap())(host.ctx, number, version) }
    };
    let mut wrong = 0;
    let mut is = |right: bool, bit: u32| wrong |= i32::from(!right) << bit;
    let none: *mut c_void = std::ptr::null_mut();
    // Numbers that nobody has.
    is(find(service::LOG, 2).is_null(), 0);
    is(find(9999, 1).is_null(), 1);
    let inject = service::OF_CAPABILITY + Capability::PacketInject as u32;
    is(find(inject, 1).is_null(), 2);
    // SAFETY: the numbers go with the types; what is passed is what is tested.
    unsafe {
        let log = &*find(service::LOG, 1).cast::<LogTable>();
        let (mut id, mut interest) = (0, 0);
        let callsite = log.callsite.unwrap();
        let refused = callsite(host.ctx, std::ptr::null(), &raw mut id, &raw mut interest);
        is(refused != status::OK, 3);
        let mut site = LogCallsite {
            size: bytes_of::<LogCallsite>(),
            level: 77,
            target: Str {
                ptr: b"\xff\n".as_ptr(),
                len: 2,
            },
            file: Str {
                ptr: std::ptr::null(),
                len: 9,
            },
            line: 0,
            reserved: 0,
            fields: std::ptr::null(),
            fields_len: usize::MAX,
        };
        let introduce = |site: &LogCallsite, id: *mut u64, interest: *mut u32| {
            callsite(host.ctx, site, id, interest)
        };
        is(
            introduce(&site, &raw mut id, &raw mut interest) != status::OK,
            4,
        );
        site.fields_len = 0;
        is(
            introduce(&site, none.cast(), &raw mut interest) != status::OK,
            5,
        );
        is(introduce(&site, &raw mut id, none.cast()) != status::OK, 6);
        site.size = 4;
        is(
            introduce(&site, &raw mut id, &raw mut interest) != status::OK,
            7,
        );
        is((log.enabled.unwrap())(host.ctx, u64::MAX) == 0, 8);
        let event = log.event.unwrap();
        event(host.ctx, u64::MAX, std::ptr::null(), 0);
        is(event(host.ctx, 0, std::ptr::null(), 3) != status::OK, 9);
        is(
            event(host.ctx, 0, std::ptr::null(), usize::MAX) != status::OK,
            10,
        );

        let time = &*find(service::TIME, 1).cast::<TimeTable>();
        is(
            (time.sleep.unwrap())(host.ctx, 1, none.cast()) != status::OK,
            11,
        );
        let mut future = RawFuture::NONE;
        is(
            (time.sleep.unwrap())(host.ctx, u64::MAX, &raw mut future) == status::OK,
            12,
        );
        let poll = (*future.table).poll.unwrap();
        is(
            poll(future.data, std::ptr::null(), std::ptr::null()) < 0,
            13,
        );
        ((*future.table).drop.unwrap())(future.data);

        let task = &*find(service::TASK, 1).cast::<TaskTable>();
        let spawn = task.spawn.unwrap();
        is(
            spawn(host.ctx, RawFuture::NONE, &raw mut id) != status::OK,
            14,
        );
        let data = std::ptr::null_mut();
        let small = RawFuture {
            data,
            table: &raw const SMALL_FUTURE,
        };
        is(spawn(host.ctx, small, &raw mut id) != status::OK, 15);
        let broken = RawFuture {
            data,
            table: &raw const NO_POLL,
        };
        is(spawn(host.ctx, broken, none.cast()) == status::OK, 16);
        (task.abort.unwrap())(host.ctx, u64::MAX);

        let folder = (*find(service::DATA, 1).cast::<DataTable>())
            .folder
            .unwrap();
        is(folder(host.ctx, std::ptr::null()) != status::OK, 17);
        let sink = Sink {
            ctx: none,
            table: std::ptr::null(),
        };
        is(folder(host.ctx, &raw const sink) != status::OK, 18);

        let count = (*find(service::PLAYERS, 1).cast::<PlayersTable>())
            .count
            .unwrap();
        is(
            count(
                host.ctx,
                Str {
                    ptr: b"\xff".as_ptr(),
                    len: 1,
                },
            ) < 3,
            19,
        );

        let metrics = &*find(service::METRICS, 1).cast::<MetricsTable>();
        let register = metrics.register.unwrap();
        let name = Str::new("good");
        is(
            register(host.ctx, name, metric::GAUGE, none.cast()) != status::OK,
            20,
        );
        is(register(host.ctx, name, 99, &raw mut id) != status::OK, 21);
        let long = Str {
            ptr: b"a".as_ptr(),
            len: 0,
        };
        is(
            register(host.ctx, long, metric::GAUGE, &raw mut id) != status::OK,
            22,
        );
        (metrics.record.unwrap())(host.ctx, u64::MAX, 1);

        // No context at all.
        let nobody = std::ptr::null();
        is(
            (time.sleep.unwrap())(nobody, 1, &raw mut future) != status::OK,
            23,
        );
        is(
            spawn(nobody, RawFuture::NONE, &raw mut id) != status::OK,
            24,
        );
        is(count(nobody, Str::EMPTY) == -1, 25);
        is(
            register(nobody, name, metric::GAUGE, &raw mut id) != status::OK,
            26,
        );
        (metrics.record.unwrap())(nobody, 0, 1);
        (task.abort.unwrap())(nobody, 0);
    }
    // A status that nobody knows is printed by the host.
    if wrong == 0 {
        status::OK
    } else {
        wrong | 1 << 30
    }
}
