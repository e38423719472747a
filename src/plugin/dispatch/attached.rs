//! One plugin at one hook: its calls within the deadline, and the effect of its failures.

use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use infrarust_plugin_abi::{AsyncHook, Point, SyncHook, answer};

use super::subject::Refusal;
use crate::config::model::OnFailure;
use crate::player_text;
use crate::plugin::ffi::{self, Answer, Failure, FailureKind, HookCall};
use crate::plugin::generation::Generation;
use crate::plugin::health::Kind;

/// A plugin at one hook.
#[derive(Debug)]
pub(super) struct Attached<H: Point> {
    pub(super) generation: Arc<Generation>,
    /// The place of the plugin in the order of the configuration.
    pub(super) order: usize,
    pub(super) grants: u64,
    pub(super) hook: &'static H::Table,
}

// Not derived: the hook is a reference, so `H` need not be cloned.
impl<H: Point> Clone for Attached<H> {
    fn clone(&self) -> Self {
        Self {
            generation: Arc::clone(&self.generation),
            ..*self
        }
    }
}

pub(super) type HookList<H> = Box<[Attached<H>]>;

/// The answer of a hook. `None` means to continue.
pub(super) type Answered = Result<Option<Answer>, HookFailure>;

/// A failure of a hook, and how it is counted.
pub(super) struct HookFailure {
    kind: Kind,
    text: String,
}

impl From<Box<Failure>> for HookFailure {
    #[cold]
    fn from(failure: Box<Failure>) -> Self {
        let kind = match failure.kind {
            FailureKind::Panic => Kind::Panic,
            FailureKind::BadAnswer => Kind::BadAnswer,
            FailureKind::Error | FailureKind::Config => Kind::Error,
        };
        Self {
            kind,
            text: failure.to_string(),
        }
    }
}

#[cold]
fn quarantined() -> HookFailure {
    HookFailure {
        kind: Kind::Quarantined,
        text: "it is quarantined and was not asked".to_owned(),
    }
}

#[cold]
fn ended() -> HookFailure {
    bad_answer("it has ended".to_owned())
}

#[cold]
pub(super) fn overrun(deadline: Duration) -> HookFailure {
    HookFailure {
        kind: Kind::Overrun,
        text: format!(
            "it did not answer within its deadline of {} ms",
            deadline.as_millis()
        ),
    }
}

#[cold]
pub(super) fn busy() -> HookFailure {
    HookFailure {
        kind: Kind::Overrun,
        text: "too many of its calls have not returned: it was not asked".to_owned(),
    }
}

pub(super) fn bad_answer(text: String) -> HookFailure {
    HookFailure {
        kind: Kind::BadAnswer,
        text,
    }
}

impl<H: Point> Attached<H> {
    pub(super) fn id(&self) -> &str {
        &self.generation.spec.id
    }

    pub(super) fn refusal(&self, text: Option<String>, is_failure: bool) -> Refusal {
        Refusal {
            plugin: self.id().to_owned(),
            text,
            is_failure,
        }
    }

    #[inline]
    pub(super) fn instance(&self) -> Result<&ffi::Instance, HookFailure> {
        if self.generation.health.is_quarantined() {
            return Err(quarantined());
        }
        self.instance_anyway()
    }

    /// The instance, also of a plugin in quarantine.
    #[inline]
    fn instance_anyway(&self) -> Result<&ffi::Instance, HookFailure> {
        self.generation.health.called();
        self.generation.instance().ok_or_else(ended)
    }

    pub(super) fn note(&self, failure: &HookFailure, on_failure: OnFailure) {
        let consequence = match on_failure {
            OnFailure::Continue => "the connection goes on",
            OnFailure::Deny => "the connection is refused",
        };
        self.generation
            .health
            .failed(H::HOOK.name(), failure.kind, &failure.text, consequence);
    }

    /// The effect of a failure on the connection: none, or its end.
    pub(super) fn apply_failure_policy<T>(
        &self,
        answer: Result<T, HookFailure>,
    ) -> Result<Option<T>, Refusal> {
        let failure = match answer {
            Ok(answer) => return Ok(Some(answer)),
            Err(failure) => failure,
        };
        let on_failure = self.generation.spec.on_failure;
        let on_failure = on_failure.unwrap_or(H::HOOK.on_failure());
        self.note(&failure, on_failure);
        match on_failure {
            OnFailure::Continue => Ok(None),
            OnFailure::Deny => Err(self.refusal(Some(player_text::PLUGIN_FAILED.to_owned()), true)),
        }
    }

    #[inline]
    pub(super) fn verdict(&self, answer: Answered) -> Result<(), Refusal> {
        match answer {
            Ok(None) => Ok(()),
            answer => self.decide(answer),
        }
    }

    fn decide(&self, answer: Answered) -> Result<(), Refusal> {
        let answer = answer.and_then(|answer| match answer {
            Some(Answer { code, .. })
                if !matches!(code, answer::PASS | answer::REFUSE | answer::DROP) =>
            {
                Err(unknown_code(code))
            }
            answer => Ok(answer),
        });
        let Some(answer) = self.apply_failure_policy(answer)?.flatten() else {
            return Ok(());
        };
        match answer.code {
            answer::PASS => Ok(()),
            answer::DROP => Err(self.refusal(None, false)),
            _ if answer.text.is_empty() => {
                Err(self.refusal(Some(player_text::PLUGIN_REFUSED.to_owned()), false))
            }
            _ => Err(self.refusal(Some(answer.text), false)),
        }
    }
}

impl<H: Point> Attached<H> {
    pub(super) fn call<I>(&self, input: &I) -> Answered
    where
        H: Point<Input = I, Table = SyncHook<I>>,
    {
        self.call_instance(self.instance()?, input)
    }

    pub(super) fn call_anyway<I>(&self, input: &I) -> Answered
    where
        H: Point<Input = I, Table = SyncHook<I>>,
    {
        self.call_instance(self.instance_anyway()?, input)
    }

    fn call_instance<I>(&self, instance: &ffi::Instance, input: &I) -> Answered
    where
        H: Point<Input = I, Table = SyncHook<I>>,
    {
        let _mark = self.generation.plugin_id.hook(H::HOOK.capability());
        let bytes_max = H::HOOK.answer_bytes_max();
        Ok(ffi::call(instance, self.hook, input, bytes_max)?)
    }

    pub(super) async fn ask<I: Sync>(&self, input: &I) -> Answered
    where
        H: Point<Input = I, Table = AsyncHook<I>>,
    {
        self.ask_table(self.hook, input).await
    }

    /// Calls an async hook.
    pub(super) async fn ask_table<I: Sync>(&self, hook: &AsyncHook<I>, input: &I) -> Answered {
        let instance = self.instance()?;
        let plugin_id = self.generation.plugin_id;
        let mut call = HookCall::new(
            instance,
            hook,
            input,
            H::HOOK.answer_bytes_max(),
            plugin_id,
            H::HOOK.capability(),
        );
        // Most hooks answer at once, and need no timer.
        if let std::task::Poll::Ready(answer) = poll!(&mut call) {
            return Ok(answer?);
        }
        let deadline = self.generation.deadline;
        match tokio::time::timeout(deadline, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(overrun(deadline)),
        }
    }
}

pub(super) fn unknown_code(code: u32) -> HookFailure {
    bad_answer(format!(
        "it gave the answer {code}, which this hook does not know"
    ))
}

/// The text that replaces another one, if the answer has one and it is valid.
pub(super) fn replaced(
    answer: Option<Answer>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<Option<String>, HookFailure> {
    let Some(Answer { code, text }) = answer else {
        return Ok(None);
    };
    match code {
        answer::PASS => Ok(None),
        answer::REPLACE => {
            check(&text).map_err(bad_answer)?;
            Ok(Some(text))
        }
        code => Err(unknown_code(code)),
    }
}
