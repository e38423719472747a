//! Who is to blame for the end of a connection.

/// Who has ended a connection, or made its end necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The client.
    Client,
    /// The backend.
    Backend,
    /// A plugin.
    Plugin,
    /// The proxy: its rules, its limits or its stop.
    Proxy,
    /// Nobody: everything went as it should, or a third party failed.
    Nobody,
}

impl Blame {
    /// The name in logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Blame::Client => "client",
            Blame::Backend => "backend",
            Blame::Plugin => "plugin",
            Blame::Proxy => "proxy",
            Blame::Nobody => "nobody",
        }
    }
}
