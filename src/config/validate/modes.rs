//! Compares what a server needs with what its mode offers.

use super::Context;
use crate::capability::{Capability, Offer, modes_with, offer};
use crate::config::entry::Reported;
use crate::config::model::Relay;
use crate::config::raw::RawServer;
use crate::diagnostic::words::any_of;
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::mode::{Family, Mode};

/// The mode of a server, and where it was chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    pub(super) mode: Mode,
    /// `None` if the file does not set it and the default applies.
    pub(super) place: Option<Place>,
}

/// The mode of a server.
pub(super) fn chosen(raw: &RawServer) -> Result<Chosen, Reported> {
    Ok(Chosen {
        mode: *raw.proxy_mode()?,
        place: raw.proxy_mode.given().map(|given| given.place),
    })
}

impl Chosen {
    /// Adds the place that chose the mode.
    pub(super) fn label(self, diagnostic: Diagnostic) -> Diagnostic {
        match self.place {
            Some(place) => diagnostic.label(place, "chosen here"),
            None => diagnostic,
        }
    }

    pub(super) fn said(self) -> &'static str {
        match self.place {
            Some(_) => "",
            None => " (the default of `proxy_mode`)",
        }
    }
}

/// Reports an error if the mode does not offer a capability that a key needs. Returns
/// whether it offers it.
pub(super) fn require(
    chosen: Chosen,
    capability: Capability,
    subject: &str,
    place: Place,
    context: &mut Context<'_>,
) -> bool {
    let reason = match offer(chosen.mode, capability) {
        Offer::Yes => return true,
        Offer::No(reason) => reason,
    };
    let message = format!(
        "{subject} needs {}, which `{}`{} cannot offer",
        capability.gives(),
        chosen.mode,
        chosen.said(),
    );
    let others = any_of(modes_with(capability).map(Mode::name));
    let diagnostic = Diagnostic::new(Code::ModeConflict, place, message)
        .because(reason.text())
        .help(format!(
            "remove it, or set `proxy_mode` to {others}: see `infrarust capabilities`"
        ));
    context.push(chosen.label(diagnostic));
    false
}

/// Warns of a key without effect in the mode.
pub(super) fn no_effect(
    chosen: Chosen,
    key: &str,
    place: Place,
    works_in: &[Mode],
    context: &mut Context<'_>,
) {
    let message = format!("`{key}` does nothing in `{}`{}", chosen.mode, chosen.said());
    let others = any_of(works_in.iter().map(|mode| mode.name()));
    let diagnostic = Diagnostic::new(Code::NoEffect, place, message)
        .help(format!("remove it; it works in {others}"));
    context.push(chosen.label(diagnostic));
}

/// The forwarding modes.
pub(super) const FORWARDING: [Mode; 3] = [Mode::Passthrough, Mode::ZeroCopy, Mode::ServerOnly];

/// The relays that a mode allows, with its default first.
pub(super) const fn relays(mode: Mode) -> &'static [Relay] {
    match mode {
        Mode::Passthrough | Mode::ServerOnly => &[Relay::Copy, Relay::Adaptive],
        Mode::ZeroCopy => &[Relay::Splice, Relay::Adaptive],
        Mode::ClientOnly | Mode::Offline => &[],
    }
}

/// The relay of a forwarding server.
pub(super) fn relay(
    raw: &RawServer,
    chosen: Chosen,
    context: &mut Context<'_>,
) -> Result<Relay, Reported> {
    let allowed = relays(chosen.mode);
    let default = allowed.first().copied().unwrap_or(Relay::Copy);
    let Some(given) = raw.relay.written()? else {
        return Ok(default);
    };
    if allowed.is_empty() {
        no_effect(chosen, "relay", given.key, &FORWARDING, context);
        return Ok(default);
    }
    if allowed.contains(&given.value) {
        return Ok(given.value);
    }
    let message = format!(
        "`relay = \"{}\"` does not go with `{}`{}",
        given.value,
        chosen.mode,
        chosen.said()
    );
    let reason = match chosen.mode {
        Mode::ZeroCopy => "this mode promises that bytes never enter the proxy",
        _ => "this mode promises to copy: bytes pass through the proxy's own memory",
    };
    let fitting = FORWARDING
        .into_iter()
        .filter(|mode| relays(*mode).contains(&given.value))
        .map(Mode::name);
    let diagnostic = Diagnostic::new(Code::ModeConflict, given.place, message)
        .because(reason)
        .help(format!(
            "use {} here, or set `proxy_mode` to {}",
            any_of(allowed.iter().map(|relay| relay.name())),
            any_of(fitting)
        ));
    context.push(chosen.label(diagnostic));
    Err(Reported)
}

/// Warns of keys that the mode allows and the proxy does not support yet.
pub(super) fn not_yet(chosen: Chosen, raw: &RawServer, context: &mut Context<'_>) {
    if chosen.mode.family() != Family::Intercepted {
        return;
    }
    if let Some(key) = raw.limbo_handlers.key() {
        context.push(
            Diagnostic::new(
                Code::UnsupportedKey,
                key,
                "`limbo_handlers` is not supported yet",
            )
            .because("Infrarust v2 holds players without a backend with it")
            .help("remove it, or ignore this warning"),
        );
    }
}
