//! The answers of hooks. They have named constructors, so that kinds of answers can be
//! added.

use std::borrow::Cow;

use infrarust_plugin_abi::answer;

/// The answer of a hook that decides about a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict(pub(crate) Answer);

/// The answer of `handshake.rewrite`: the host for the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite(pub(crate) Answer);

/// The answer of `status.respond`: the answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(pub(crate) Answer);

/// The answer of `route.select`: the server of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice(pub(crate) Answer);

/// A code and its text, in the form that is passed to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: u32,
    pub(crate) text: Cow<'static, str>,
}

impl Answer {
    pub(crate) const fn word(code: u32) -> Self {
        Self {
            code,
            text: Cow::Borrowed(""),
        }
    }

    pub(crate) fn text(code: u32, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl Verdict {
    /// Accept the client, if the plugins after this one do so too.
    #[must_use]
    pub const fn allow() -> Self {
        Self(Answer::word(answer::PASS))
    }

    /// Refuse with a text for the player: plain, with `§` codes, or a
    /// [`Text`](crate::Text); at most 4096 bytes. No other plugin is called.
    #[must_use]
    pub fn refuse(text: impl Into<Cow<'static, str>>) -> Self {
        Self(Answer::text(answer::REFUSE, text))
    }

    /// Close the connection without a text. No other plugin is called.
    #[must_use]
    pub const fn drop() -> Self {
        Self(Answer::word(answer::DROP))
    }
}

impl Rewrite {
    /// Leave the host as it is.
    #[must_use]
    pub const fn keep() -> Self {
        Self(Answer::word(answer::PASS))
    }

    /// The host for the backend: 1 to 255 bytes, without white space and control
    /// characters. It does not include a mod loader's marker, which the proxy keeps.
    #[must_use]
    pub fn host(host: impl Into<Cow<'static, str>>) -> Self {
        Self(Answer::text(answer::REPLACE, host))
    }
}

impl Reply {
    /// Leave the answer as it is.
    #[must_use]
    pub const fn keep() -> Self {
        Self(Answer::word(answer::PASS))
    }

    /// Answer with this JSON object, of at most 32767 characters.
    #[must_use]
    pub fn json(json: impl Into<Cow<'static, str>>) -> Self {
        Self(Answer::text(answer::REPLACE, json))
    }

    /// Close the connection without an answer. No other plugin is called.
    #[must_use]
    pub const fn drop() -> Self {
        Self(Answer::word(answer::DROP))
    }
}

impl Choice {
    /// Leave the server as it is. The plugins after this one can still choose.
    #[must_use]
    pub const fn keep() -> Self {
        Self(Answer::word(answer::PASS))
    }

    /// Go to the server with this id. No other plugin is called. A server that does not
    /// exist is a failure of the plugin.
    #[must_use]
    pub fn server(id: impl Into<Cow<'static, str>>) -> Self {
        Self(Answer::text(answer::REPLACE, id))
    }
}

/// Converts what a hook returns to the form that is passed to the host.
pub(crate) trait IntoAnswer {
    fn into_answer(self) -> Answer;
}

macro_rules! into_answer {
    ($($verdict:ident),+) => {
        $(impl IntoAnswer for $verdict {
            fn into_answer(self) -> Answer {
                self.0
            }
        })+
    };
}

into_answer!(Verdict, Rewrite, Reply, Choice);

impl IntoAnswer for () {
    fn into_answer(self) -> Answer {
        Answer::word(answer::PASS)
    }
}

impl IntoAnswer for crate::PacketVerdict {
    fn into_answer(self) -> Answer {
        Answer::word(self.0)
    }
}
