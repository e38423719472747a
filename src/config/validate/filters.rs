//! Networks of client addresses.

use ipnet::IpNet;

use crate::config::entry::{Entry, List, Reported};
use crate::config::model::IpFilter;
use crate::config::raw::RawIpFilter;
use crate::config::types::Cidr;

/// Reads a filter.
pub(super) fn ip_filter(entry: &Entry<RawIpFilter>) -> Result<IpFilter, Reported> {
    let nothing = RawIpFilter::default();
    let filter = entry.or(&nothing)?;
    Ok(IpFilter {
        allow: networks(filter.whitelist()?)?,
        deny: networks(filter.blacklist()?)?,
    })
}

/// Reads a list of networks.
pub(super) fn networks(list: &List<Cidr>) -> Result<Vec<IpNet>, Reported> {
    Ok(list.all()?.iter().map(|item| item.value.0).collect())
}
