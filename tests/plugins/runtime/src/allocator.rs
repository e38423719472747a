//! An allocator that recognizes its own memory. It writes a mark before each block. So the
//! process ends if memory of the host is freed here, and also if memory of this allocator
//! is freed by the host, because the pointer is not the beginning of the block.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// The mark before each block.
const MARK: u64 = 0x6f75_7273_6f75_7273;

struct Marked;

#[global_allocator]
static ALLOCATOR: Marked = Marked;

/// The layout with space for the mark, and the offset of the block in it.
fn widened(layout: Layout) -> (Layout, usize) {
    let before = layout.align().max(16);
    let bytes = layout.size().checked_add(before);
    let whole = bytes.and_then(|bytes| Layout::from_size_align(bytes, before).ok());
    match whole {
        Some(whole) => (whole, before),
        None => std::process::abort(),
    }
}

// SAFETY: pieces of the system's allocator, moved by a multiple of their alignment.
unsafe impl GlobalAlloc for Marked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (whole, before) = widened(layout);
        // SAFETY: not empty, because of the mark.
        let start = unsafe { System.alloc(whole) };
        if start.is_null() {
            return start;
        }
        // SAFETY: there are 16 bytes or more, aligned to as many, before the piece.
        unsafe {
            let piece = start.add(before);
            piece.cast::<u64>().sub(1).write(MARK);
            piece
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let (whole, before) = widened(layout);
        // SAFETY: a piece of `alloc` has a mark before it; another one is what
        // this is about.
        let mark = unsafe { piece.cast::<u64>().sub(1).read() };
        if mark != MARK {
            eprintln!("a piece of memory was freed by a side that did not make it");
            std::process::abort();
        }
        // SAFETY: as it was made.
        unsafe {
            piece.cast::<u64>().sub(1).write(0);
            System.dealloc(piece.sub(before), whole);
        }
    }
}

/// Whether this memory was allocated here.
pub(crate) fn is_ours() -> bool {
    let piece = Box::new(7_u64);
    let place: *const u64 = &*piece;
    // SAFETY: the mark stands there.
    unsafe { place.sub(1).read() == MARK }
}
