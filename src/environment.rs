//! The environment of the process as it began.
//!
//! Plugins share the process and may change its variables. A secret that one of
//! them has removed would refuse every reload, and reading variables while
//! another thread writes them is not safe at all.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;

static AT_START: OnceLock<HashMap<OsString, OsString>> = OnceLock::new();

/// All variables as they were when this module was first asked: before any plugin
/// was loaded, because the configuration that names them is read before.
pub(crate) fn all() -> &'static HashMap<OsString, OsString> {
    AT_START.get_or_init(|| std::env::vars_os().collect())
}

/// The value of a variable, if it is there and is UTF-8.
pub(crate) fn var(name: &str) -> Option<&'static str> {
    all().get(OsStr::new(name))?.to_str()
}
