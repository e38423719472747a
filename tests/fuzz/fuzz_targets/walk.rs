//! The walk over frames in play: a stream that is cut anywhere gives its receiver
//! the same bytes, and ends alike.
#![no_main]

use infrarust::forward::trial::cut_any_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| cut_any_bytes(input));
