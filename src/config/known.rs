//! The keys of all files, for the reader.

use crate::config::elsewhere;
use crate::config::hints::Hints;
use crate::config::raw::{RawProxy, RawServer};
use crate::config::reader::HasKeys;

/// The hints about keys of the global file and of server files.
pub(super) static HINTS: Hints =
    Hints::new(&[&RawProxy::TABLE, &RawServer::TABLE], elsewhere::renamed);
