//! Networks of client addresses.

use ipnet::IpNet;

use crate::config::entry::{Entry, List};
use crate::config::model::IpFilter;
use crate::config::raw::RawIpFilter;
use crate::config::types::Cidr;

/// Reads a filter; `None` when an entry is bad.
pub(super) fn ip_filter(entry: &Entry<RawIpFilter>) -> Option<IpFilter> {
    match entry {
        Entry::Absent => Some(IpFilter::default()),
        Entry::Broken(_) => None,
        Entry::Given(filter) => Some(IpFilter {
            allow: networks(&filter.value.whitelist)?,
            deny: networks(&filter.value.blacklist)?,
        }),
    }
}

/// Reads a list of networks; `None` when an entry is bad.
pub(super) fn networks(entry: &Entry<List<Cidr>>) -> Option<Vec<IpNet>> {
    match entry {
        Entry::Absent => Some(Vec::new()),
        Entry::Broken(_) => None,
        Entry::Given(list) if list.value.is_broken => None,
        Entry::Given(list) => Some(list.value.items.iter().map(|item| item.value.0).collect()),
    }
}
