//! What hooks answer. Made with named constructors, so that kinds of answers
//! can be added.

use std::borrow::Cow;

use infrarust_plugin_abi::answer;

/// Whether a client may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict(pub(crate) Answer);

/// Which host the backend sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite(pub(crate) Answer);

/// What a status ping is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(pub(crate) Answer);

/// Which server a login goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice(pub(crate) Answer);

/// A code and its text, as they cross the border.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: u32,
    pub(crate) text: Cow<'static, str>,
}

impl Answer {
    const fn word(code: u32) -> Self {
        Self {
            code,
            text: Cow::Borrowed(""),
        }
    }

    fn text(code: u32, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl Verdict {
    /// Go on. The plugins after this one are asked too.
    #[must_use]
    pub const fn allow() -> Self {
        Self(Answer::word(answer::PASS))
    }

    /// Refuse with a text that the player reads: plain, with `§` codes, or a
    /// [`Text`](crate::Text); at most 4096 bytes. No other plugin is asked.
    #[must_use]
    pub fn refuse(text: impl Into<Cow<'static, str>>) -> Self {
        Self(Answer::text(answer::REFUSE, text))
    }

    /// Close the connection without a word. No other plugin is asked.
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

    /// The backend sees this host: 1 to 255 bytes, without white space and
    /// control characters. A mod loader's marker behind the host is kept by the
    /// proxy; it is not part of this text.
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

    /// Close the connection without an answer. No other plugin is asked.
    #[must_use]
    pub const fn drop() -> Self {
        Self(Answer::word(answer::DROP))
    }
}

impl Choice {
    /// Leave the server as it is. The plugins after this one are asked too.
    #[must_use]
    pub const fn keep() -> Self {
        Self(Answer::word(answer::PASS))
    }

    /// Go to the server with this id. No other plugin is asked. A server that
    /// does not exist is a failure of the plugin.
    #[must_use]
    pub fn server(id: impl Into<Cow<'static, str>>) -> Self {
        Self(Answer::text(answer::REPLACE, id))
    }
}

/// What a hook returns, on its way to the host.
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
