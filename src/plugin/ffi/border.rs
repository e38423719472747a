//! Values that cross the C border in both directions: texts, answers, failures,
//! tables.

use std::ffi::c_void;
use std::fmt;
use std::ops::Range;

use infrarust_plugin_abi::{Sink, SinkTable, Str, failure, status, table};

use crate::show::Line;

/// The most bytes of an error text of a plugin that are kept.
pub(super) const FAILURE_BYTES_MAX: usize = 2048;

/// What a plugin has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::plugin) struct Answer {
    /// One of [`infrarust_plugin_abi::answer`], or an unknown one.
    pub(in crate::plugin) code: u32,
    pub(in crate::plugin) text: String,
}

/// How a plugin has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::plugin) struct Failure {
    pub(in crate::plugin) kind: FailureKind,
    pub(in crate::plugin) text: String,
    /// Bytes of the configuration.
    pub(in crate::plugin) place: Option<Range<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin) enum FailureKind {
    Error,
    Panic,
    Config,
    BadAnswer,
}

impl Failure {
    pub(in crate::plugin) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            place: None,
        }
    }

    #[cold]
    pub(super) fn unsupported() -> Box<Self> {
        Box::new(Self::new(
            FailureKind::BadAnswer,
            "it has no function for this",
        ))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FailureKind::Panic => write!(f, "panicked: {}", self.text),
            FailureKind::Error | FailureKind::Config | FailureKind::BadAnswer => {
                f.write_str(&self.text)
            }
        }
    }
}

/// The answer and the failure that one call gives to its sink.
pub(super) struct Answers {
    text_bytes_max: usize,
    answer: Option<Answer>,
    failure: Option<Failure>,
}

static SINK: SinkTable = table!(SinkTable {
    answer: take_answer,
    fail: take_failure,
});

impl Answers {
    #[inline]
    pub(super) const fn new(text_bytes_max: usize) -> Self {
        Self {
            text_bytes_max,
            answer: None,
            failure: None,
        }
    }

    /// Runs a call with a sink that is valid during the call.
    pub(super) fn during<T>(&mut self, call: impl FnOnce(*const Sink) -> T) -> T {
        let sink = Sink {
            ctx: std::ptr::from_mut(self).cast(),
            table: &raw const SINK,
        };
        call(&raw const sink)
    }

    /// The answer of the plugin. Most calls have none, which means to continue.
    #[inline]
    pub(super) fn outcome(&mut self, status: i32) -> Result<Option<Answer>, Box<Failure>> {
        if status == status::OK && self.answer.is_none() && self.failure.is_none() {
            return Ok(None);
        }
        self.said(status)
    }

    #[inline(never)]
    fn said(&mut self, status: i32) -> Result<Option<Answer>, Box<Failure>> {
        let kind = match status {
            status::OK => None,
            status::PANIC => Some(FailureKind::Panic),
            status::ERR => Some(FailureKind::Error),
            status => {
                let text = format!("it returned the status {status}, which means nothing here");
                return Err(Box::new(Failure::new(FailureKind::BadAnswer, text)));
            }
        };
        match (self.failure.take(), kind) {
            // A failure with the status `OK` is about the answer: it was too large.
            (Some(failure), _) => Err(Box::new(failure)),
            (None, None) => Ok(self.answer.take()),
            (None, Some(kind)) => Err(Box::new(Failure::new(kind, "it did not say why"))),
        }
    }
}

/// A text of a plugin, cut to a length in bytes and to valid UTF-8.
///
/// # Safety
///
/// The pointer and the length of the text must be valid.
pub(super) unsafe fn text(text: Str, bytes_max: usize) -> String {
    // SAFETY: as the caller promises; a shorter length is valid too.
    let bytes = unsafe {
        Str {
            ptr: text.ptr,
            len: text.len.min(bytes_max),
        }
        .bytes()
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

unsafe extern "C" fn take_answer(ctx: *mut c_void, code: u32, given: Str) -> i32 {
    // SAFETY: the context is that of the call that runs, on its thread.
    let answers = unsafe { &mut *ctx.cast::<Answers>() };
    if given.len > answers.text_bytes_max {
        let why = format!(
            "its answer has {} bytes, and at most {} are taken",
            given.len, answers.text_bytes_max
        );
        answers.failure = Some(Failure::new(FailureKind::BadAnswer, why));
        return status::DENIED;
    }
    // SAFETY: valid during the call.
    let text = unsafe { text(given, answers.text_bytes_max) };
    answers.answer = Some(Answer { code, text });
    status::OK
}

unsafe extern "C" fn take_failure(
    ctx: *mut c_void,
    code: u32,
    said: Str,
    start: u64,
    end: u64,
) -> i32 {
    // SAFETY: the context is that of the call that runs, on its thread.
    let answers = unsafe { &mut *ctx.cast::<Answers>() };
    let kind = match code {
        failure::PANIC => FailureKind::Panic,
        failure::CONFIG => FailureKind::Config,
        _ => FailureKind::Error,
    };
    let place = Sink::place(start, end);
    // SAFETY: valid during the call.
    let text = Line(&unsafe { text(said, FAILURE_BYTES_MAX) }).to_string();
    answers.failure = Some(Failure { kind, text, place });
    status::OK
}
