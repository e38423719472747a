//! The keys of all files, as the reader is given them.

use crate::config::elsewhere;
use crate::config::hints::Hints;
use crate::config::raw::{RawProxy, RawServer};
use crate::config::reader::HasKeys;

/// Where keys of the global file and of server files belong.
pub(super) static HINTS: Hints =
    Hints::new(&[&RawProxy::TABLE, &RawServer::TABLE], elsewhere::renamed);
