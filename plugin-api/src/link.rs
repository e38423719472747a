//! The tables of the host, through which a plugin calls it.
#![allow(unsafe_code, reason = "services are C tables of the host")]

use infrarust_plugin_abi::{
    DataTable, HostTable, LogTable, MetricsTable, PlayersTable, TaskTable, TimeTable, service,
};

use crate::{Error, Result};

/// The host's tables. They live as long as the process.
pub(crate) struct Link {
    pub(crate) host: &'static HostTable,
    pub(crate) log: Option<&'static LogTable>,
    pub(crate) time: &'static TimeTable,
    pub(crate) task: &'static TaskTable,
    pub(crate) data: &'static DataTable,
    pub(crate) players: &'static PlayersTable,
    pub(crate) metrics: &'static MetricsTable,
    #[cfg(feature = "rt")]
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Link {
    /// Finds the services; an error names the one that the host lacks.
    ///
    /// # Safety
    ///
    /// `host` must point to a table that is valid as long as the process lives.
    pub(crate) unsafe fn new(
        host: *const HostTable,
        #[cfg(feature = "rt")] runtime: tokio::runtime::Handle,
    ) -> Result<Self> {
        // SAFETY: the caller promises it.
        let host = unsafe { host.as_ref() }.ok_or_else(|| Error::msg("the host gave no table"))?;
        // SAFETY: each number belongs to the type of its table.
        unsafe {
            Ok(Self {
                host,
                log: find(host, service::LOG),
                time: find(host, service::TIME).ok_or_else(|| lacks("clock"))?,
                task: find(host, service::TASK).ok_or_else(|| lacks("tasks"))?,
                data: find(host, service::DATA).ok_or_else(|| lacks("data folder"))?,
                players: find(host, service::PLAYERS).ok_or_else(|| lacks("player counts"))?,
                metrics: find(host, service::METRICS).ok_or_else(|| lacks("metrics"))?,
                #[cfg(feature = "rt")]
                runtime,
            })
        }
    }
}

pub(crate) fn lacks(service: &str) -> Error {
    Error::msg(format!("the host does not offer the service `{service}`"))
}

/// The table of the first version of a service, if the host has it.
///
/// # Safety
///
/// `T` must be the table of `service`. The first field of a table is its size.
unsafe fn find<T>(host: &HostTable, service: u32) -> Option<&'static T> {
    let query = host.query?;
    // SAFETY: the context belongs to the table.
    let table = unsafe { query(host.ctx, service, 1) };
    if table.is_null() {
        return None;
    }
    // SAFETY: every table begins with its size and lives as long as the process.
    let size = unsafe { *table.cast::<u32>() };
    // SAFETY: it is as large as this type, which belongs to the number.
    (size as usize >= size_of::<T>()).then(|| unsafe { &*table.cast::<T>() })
}
