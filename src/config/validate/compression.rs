//! Which packets to clients are compressed.

use crate::config::entry::Reported;
use crate::config::model::ClientCompression;
use crate::config::raw::RawProxy;
use crate::config::types::Whole;

/// The value of the global file, for servers without their own.
pub(super) fn default(raw: &RawProxy) -> Result<ClientCompression, Reported> {
    let written = raw.compression_threshold.get()?;
    Ok(written.map_or(ClientCompression::AsBackend, |number| threshold(*number)))
}

/// The size from which packets are compressed; -1 is none.
pub(super) fn threshold<const MAX: i64>(number: Whole<-1, MAX>) -> ClientCompression {
    u32::try_from(number.0).map_or(ClientCompression::Never, ClientCompression::From)
}
