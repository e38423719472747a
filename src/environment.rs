//! The environment of the process as it began.
//!
//! Plugins share the process and may change its variables. If one removed a
//! secret, every later reload would fail; and reading variables while another
//! thread writes them is not safe.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;

static AT_START: OnceLock<HashMap<OsString, OsString>> = OnceLock::new();

/// All variables as they were at the first call, which comes before any plugin is
/// loaded, because the configuration is read before.
pub(crate) fn all() -> &'static HashMap<OsString, OsString> {
    AT_START.get_or_init(|| std::env::vars_os().collect())
}

/// The value of a variable, if it is there and is UTF-8.
pub(crate) fn var(name: &str) -> Option<&'static str> {
    all().get(OsStr::new(name))?.to_str()
}
