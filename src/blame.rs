//! Who is to blame for the end of a connection.

/// The side that ended a connection, or caused its end.
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
    /// None of these: a normal end, or a failure of a third party.
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
