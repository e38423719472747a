//! The half of the border that is the same for every host: the proxy, and `TestHost` in
//! the tests of plugins.
//!
//! The C functions here check the pointers of a plugin, convert what crosses, and catch
//! panics. What a host does for a plugin is a trait without pointers: [`HostServices`] for
//! the services, [`PacketAccess`] for the packet of a hook.
//!
//! Not for plugins, and not part of the versioned API: hosts are built with this crate.
#![allow(unsafe_code, reason = "the border is made of pointers")]

mod future;
mod lists;
mod packet;
mod services;

#[cfg(test)]
mod tests;

pub use future::{Answered, HostFuture};
pub use lists::{with_command_sink, with_interest_sink};
pub use packet::{PacketAccess, packet_table};
pub use services::{
    HostServices, MetricKind, NoMetric, PlayerText, ProfileReceiver, Receiver, host_table,
};

pub use crate::guarded::guarded;
use crate::{Sink, failure, status};

/// The most bytes of the fields of one packet: a map of 128 by 128 pixels has 16 KiB, and
/// no backend compresses more in one piece on a thread that others share.
pub const FIELDS_BYTES_MAX: usize = 256 * 1024;

/// Why a host does not do what a plugin has asked it for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The player does not exist any more.
    Gone,
    /// The plugin does not have the capability there.
    NotGranted,
    /// Over a limit at the moment.
    Full,
    /// It cannot be done at all, for this reason.
    Because(String),
}

impl Refusal {
    /// The status of the call. The sink gets the reason.
    ///
    /// # Safety
    ///
    /// The sink must be null or valid during the call.
    unsafe fn answer(&self, sink: *const Sink) -> i32 {
        match self {
            Self::Gone => status::GONE,
            Self::NotGranted => status::DENIED,
            Self::Full => status::FULL,
            Self::Because(reason) => {
                // SAFETY: the caller promises it.
                unsafe { Sink::fail(sink, failure::ERROR, reason, None) };
                status::ERR
            }
        }
    }
}

/// Writes to a place of the other side. Whether there is one.
///
/// # Safety
///
/// The place must be null, or valid for a write.
pub unsafe fn write<T>(place: *mut T, value: T) -> bool {
    let is_there = !place.is_null();
    if is_there {
        // SAFETY: the caller promises it.
        unsafe { place.write(value) };
    }
    is_there
}
