//! Finds the plugin that an address belongs to, for a crash on a thread without a
//! slot: a thread of a plugin, or one that ends.
//!
//! Reading it neither allocates nor waits.

#![allow(unsafe_code, reason = "the stack of a thread that has crashed")]

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::libc;

/// How far up a stack the search goes, in bytes. The frames of an abort and of a panic take
/// some kilobytes.
const STACK_BYTES_MAX: usize = 64 * 1024;
/// Words that are read at a time: the handler may have little stack itself.
const WORDS: usize = 64;

/// The code of one image. Like the images, these entries stay for the life of the process.
struct Code {
    plugin: &'static str,
    addresses: Range<usize>,
    next: *const Code,
}

static ALL: AtomicPtr<Code> = AtomicPtr::new(std::ptr::null_mut());

/// Records the range of the code in the image that contains this address.
pub(super) fn note(plugin: &str, address: *const c_void) {
    let mut found = Find {
        address: address.addr(),
        code: None,
    };
    // SAFETY: the function is called before this one returns, with its argument.
    unsafe { libc::dl_iterate_phdr(Some(is_in), (&raw mut found).cast()) };
    let Some(addresses) = found.code else { return };
    let code = Box::into_raw(Box::new(Code {
        plugin: Box::leak(plugin.to_owned().into_boxed_str()),
        addresses,
        next: std::ptr::null(),
    }));
    let mut first = ALL.load(Ordering::Relaxed);
    loop {
        // SAFETY: made above, and not shared yet.
        unsafe { (*code).next = first };
        match ALL.compare_exchange(first, code, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(other) => first = other,
        }
    }
}

struct Find {
    address: usize,
    code: Option<Range<usize>>,
}

/// Checks one image (`dl_iterate_phdr(3)`).
unsafe extern "C" fn is_in(
    image: *mut libc::dl_phdr_info,
    _: libc::size_t,
    find: *mut c_void,
) -> c_int {
    // SAFETY: both are valid during the call.
    let (image, find) = unsafe { (&*image, &mut *find.cast::<Find>()) };
    if image.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader promises this number of headers.
    let headers = unsafe { std::slice::from_raw_parts(image.dlpi_phdr, image.dlpi_phnum.into()) };
    let place = |header: &libc::Elf64_Phdr| -> Option<Range<usize>> {
        let start = usize::try_from(image.dlpi_addr.wrapping_add(header.p_vaddr)).ok()?;
        Some(start..start.saturating_add(usize::try_from(header.p_memsz).ok()?))
    };
    let is_loaded = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD;
    let mut loaded = headers.iter().filter(is_loaded);
    if !loaded.any(|header| place(header).is_some_and(|place| place.contains(&find.address))) {
        return 0;
    }
    let runs = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0
    };
    find.code = headers.iter().find(runs).and_then(place);
    1
}

/// The plugin that owns the first return address on a stack, from `address` up.
pub(super) fn on_stack(address: usize) -> Option<&'static str> {
    let mut at = address & !(size_of::<usize>() - 1);
    let end = at.saturating_add(STACK_BYTES_MAX);
    let mut words = [0_usize; WORDS];
    while at < end {
        let read = read_own(at, &mut words)?;
        let found = words.iter().take(read).find_map(|word| plugin_at(*word));
        if found.is_some() {
            return found;
        }
        at += read * size_of::<usize>();
    }
    None
}

fn plugin_at(address: usize) -> Option<&'static str> {
    let mut next: *const Code = ALL.load(Ordering::Acquire);
    // SAFETY: null, or one of those that stay.
    while let Some(code) = unsafe { next.as_ref() } {
        if code.addresses.contains(&address) {
            return Some(code.plugin);
        }
        next = code.next;
    }
    None
}

/// Reads memory of this process that may not be mapped, with the help of the kernel.
/// Returns the number of words.
fn read_own(address: usize, words: &mut [usize; WORDS]) -> Option<usize> {
    let to = libc::iovec {
        iov_base: words.as_mut_ptr().cast(),
        iov_len: size_of_val(words),
    };
    let from = libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(address),
        iov_len: size_of_val(words),
    };
    // SAFETY: writes into `words` alone; what cannot be read is an error.
    let read =
        unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0) };
    let words = usize::try_from(read).ok()? / size_of::<usize>();
    (words > 0).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function of this program is found on the stack of the functions that it calls, and
    /// unmapped memory is not read.
    #[test]
    fn code_is_found_on_the_stack() {
        assert_eq!(on_stack(stack()), None);
        note("tests", std::ptr::from_ref(&ALL).cast());
        assert_eq!(on_stack(stack()), Some("tests"));
        assert_eq!(on_stack(8), None);
    }

    #[inline(never)]
    fn stack() -> usize {
        let here = 0_usize;
        std::hint::black_box(&raw const here).addr()
    }
}
