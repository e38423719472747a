//! The cost of hooks on a server without plugins: nothing is allocated, and no call is
//! pending.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use infrarust::manifest::Hook;
use infrarust::plugin::{Client, HookSet, Player, Session, SessionEvent};
use infrarust::protocol::handshake::Intent;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a question without anybody to ask is pending"),
    }
}

/// No hook of a server without plugins allocates memory.
#[test]
fn an_empty_hook_point_allocates_nothing() {
    let hooks = HookSet::default();
    let client = Client {
        peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        protocol: 767,
        intent: Intent::Login,
        virtual_host: "a",
        server: "a",
    };
    let player = Player {
        name: "Steve",
        uuid: None,
        is_proved: false,
    };
    let before = ALLOCATIONS.with(Cell::get);
    for hook in Hook::ALL {
        assert!(!hooks.has(hook));
    }
    at_once(hooks.connection_decide(&client)).unwrap();
    assert_eq!(hooks.handshake_rewrite(&client, "a"), Ok(None));
    assert_eq!(at_once(hooks.status_respond(&client, true, "{}")), Ok(None));
    at_once(hooks.login_decide(&client, &player)).unwrap();
    assert_eq!(
        at_once(hooks.route_select(&client, &player, |_| true)),
        Ok(None)
    );
    hooks.session_observe(&client, &player, &mut Session::new(1), SessionEvent::Opened);
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
    // The counter counts.
    drop(Box::new(1));
    assert_eq!(ALLOCATIONS.with(Cell::get), before + 1);
}
