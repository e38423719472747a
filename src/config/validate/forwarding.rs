//! Player forwarding: how backends learn the identity of a player, and the secrets for it.
//!
//! Without a secret, a signed forwarding mode could not send anything that the backend can
//! trust. So a missing secret is an error, and never switches forwarding off silently.

use std::net::IpAddr;
use std::path::Path;

use super::modes::{self, Chosen};
use super::{Context, LabelFile, ProxyFile};
use crate::capability::Capability;
use crate::config::entry::{Entry, Item, Reported};
use crate::config::files;
use crate::config::model::{
    BackendAddress, BackendHost, HostForwarding, IdentityForwarding, Secret, ServerKind,
};
use crate::config::raw::{RawForwarding, RawServer};
use crate::config::types::{FilePath, ForwardingWord, HostTailWord, SecretSource};
use crate::diagnostic::words::{self, Quoted};
use crate::diagnostic::{Code, Diagnostic, FileId, Place};
use crate::mode::Family;

/// The largest file that may hold a secret.
const SECRET_BYTES_MAX: u64 = 4096;

/// The forwarding settings of the global file.
#[derive(Debug)]
pub(super) struct Global<'a> {
    raw: Option<&'a RawForwarding>,
    file: FileId,
    /// The mode.
    mode: Result<ForwardingWord, Reported>,
    /// The place of the mode.
    place: Option<Place>,
    secret: GlobalSecret,
    /// The number of servers in forwarding modes that inherit a mode without proof.
    unproven: usize,
    /// The number of servers in forwarding modes that would inherit `velocity`, which they
    /// cannot have.
    passed_over: usize,
    /// The number of servers in intercepted modes that inherit the mode.
    taken: usize,
}

#[derive(Debug, Clone)]
enum GlobalSecret {
    /// It has not been requested yet.
    Unread,
    Known(Secret),
    /// None is configured.
    None,
    /// It has a mistake, which is reported.
    Bad,
}

impl<'a> Global<'a> {
    pub(super) fn new(file: &'a ProxyFile, context: &mut Context<'_>) -> Self {
        let table = match &file.raw {
            None => Err(Reported),
            Some(raw) => raw.forwarding.get(),
        };
        let nothing = RawForwarding::default();
        let mode = table.and_then(|table| table.unwrap_or(&nothing).mode().copied());
        let raw = table.ok().flatten();
        let mut global = Self {
            raw,
            file: file.file,
            mode,
            place: raw
                .and_then(|raw| raw.mode.given())
                .map(|given| given.place),
            secret: if table.is_ok() {
                GlobalSecret::Unread
            } else {
                GlobalSecret::Bad
            },
            unproven: 0,
            passed_over: 0,
            taken: 0,
        };
        if let (Ok(mode), Some(place)) = (mode, global.place)
            && mode.needs_secret()
            && matches!(global.secret(context), GlobalSecret::None)
        {
            context.push(missing(mode, place, "secret_file", "`[forwarding]`"));
            global.secret = GlobalSecret::Bad;
        }
        global
    }

    /// The global secret, read when first asked for.
    fn secret(&mut self, context: &mut Context<'_>) -> GlobalSecret {
        if matches!(self.secret, GlobalSecret::Unread) {
            self.secret = self.read_secret(context);
        }
        self.secret.clone()
    }

    fn read_secret(&self, context: &mut Context<'_>) -> GlobalSecret {
        let or_bad = |secret: Result<Secret, Reported>| {
            secret.map_or(GlobalSecret::Bad, GlobalSecret::Known)
        };
        if let Some(raw) = self.raw {
            if let (Some(secret), Some(file)) = (raw.secret.key(), raw.secret_file.key()) {
                context.push(
                    Diagnostic::new(
                        Code::BadValue,
                        file,
                        "`secret` and `secret_file` are both written",
                    )
                    .label(secret, "the other one")
                    .help("keep one of them"),
                );
                return GlobalSecret::Bad;
            }
            match (&raw.secret, &raw.secret_file) {
                (Entry::Given(given), _) => return or_bad(resolve(&given.value, context)),
                (_, Entry::Given(given)) => {
                    return or_bad(from_file(&given.value.0, given.place, context));
                }
                (Entry::Broken(_), _) | (_, Entry::Broken(_)) => return GlobalSecret::Bad,
                (Entry::Absent, Entry::Absent) => {}
            }
        }
        let nothing = RawForwarding::default();
        let Ok(FilePath(default)) = nothing.secret_file() else {
            return GlobalSecret::None;
        };
        if files::exists(&context.resolve(self.file, default)) {
            let place = self.place.unwrap_or(Place::whole(self.file));
            return or_bad(from_file(default, place, context));
        }
        GlobalSecret::None
    }

    /// Reports problems that concern all servers together. `all_sound` is true if no server
    /// has an error, so that the counts are right; `are_all`, if there are no other servers.
    pub(super) fn finish(&self, all_sound: bool, are_all: bool, context: &mut Context<'_>) {
        if all_sound && are_all && matches!(self.secret, GlobalSecret::Unread) {
            self.report_unused_secret(context);
        }
        let is_passed_over = self.passed_over > 0 && self.taken == 0;
        if let (Some(place), GlobalSecret::Known(_), true) = (self.place, &self.secret, all_sound)
            && is_passed_over
        {
            context.push(
                Diagnostic::new(Code::NoEffect, place, "`velocity` does nothing here")
                    .because(
                        "no server that inherits it is in `client_only` or `offline`, which it needs",
                    )
                    .help(
                        "remove it, or set `proxy_mode` to `client_only` in the server files that \
                         it is for",
                    ),
            );
        }
        if let (Ok(mode), Some(place), true) = (self.mode, self.place, self.unproven > 0) {
            let servers = words::count(self.unproven, "server");
            let message = format!(
                "`{}` sends {servers} in forwarding modes a name and a UUID that nobody has proved",
                mode.name()
            );
            context.push(unproven(place, message));
        }
    }
}

impl Global<'_> {
    /// Warns of a secret that neither the global mode nor a server needs.
    fn report_unused_secret(&self, context: &mut Context<'_>) {
        let (Some(raw), Ok(mode)) = (self.raw, self.mode) else {
            return;
        };
        let nothing = RawForwarding::default();
        let file = raw.secret_file.given();
        let file = file.filter(|given| Ok(&given.value) != nothing.secret_file());
        let keys = [
            ("secret", raw.secret.key()),
            ("secret_file", file.map(|given| given.key)),
        ];
        for (name, key) in keys {
            let Some(key) = key else { continue };
            let message = format!("`{name}` does nothing here");
            let diagnostic = Diagnostic::new(Code::NoEffect, key, message);
            let diagnostic = match self.place {
                Some(place) => diagnostic.label(place, format!("`{}` has no secret", mode.name())),
                None => diagnostic.because("`mode` is not written and is `none`"),
            };
            context.push(diagnostic.help(
                "write `mode = \"velocity\"` or `mode = \"bungeeguard\"`, or remove the secret",
            ));
        }
    }
}

fn missing(mode: ForwardingWord, place: Place, key: &str, table: &str) -> Diagnostic {
    let message = format!("`{}` needs a secret, and none is configured", mode.name());
    Diagnostic::new(Code::MissingSecret, place, message)
        .because("without it the backend cannot distinguish the proxy from a stranger")
        .help(format!(
            "write `{key} = …` in {table}, with the same secret as in the backend's configuration"
        ))
}

fn unproven(place: Place, message: String) -> Diagnostic {
    Diagnostic::new(Code::UnprovenIdentity, place, message)
        .because("in these modes the client only claims who it is")
        .help("let nobody but the proxy reach the backend, and let the backend authenticate; or use `client_only`")
}

/// The player forwarding of one server, if it has any.
pub(super) fn identity(
    raw: &RawServer,
    chosen: Chosen,
    global: &mut Global<'_>,
    context: &mut Context<'_>,
) -> Result<Option<IdentityForwarding>, Reported> {
    let own = raw.forwarding_mode.written()?;
    let mode = match own {
        Some(given) => given.value,
        None => global.mode?,
    };
    let is_forwarding = chosen.mode.family() == Family::Forwarding;
    if mode == ForwardingWord::Velocity && is_forwarding {
        // An inherited mode is meant for the other servers.
        let given = match own {
            None => {
                global.passed_over += 1;
                unused_secret(
                    raw,
                    "the inherited `velocity` does not apply to this mode",
                    context,
                );
                return Ok(None);
            }
            Some(given) => given,
        };
        let subject = "`forwarding_mode = \"velocity\"`";
        modes::require(
            chosen,
            Capability::ForwardingSigned,
            subject,
            given.place,
            context,
        );
        return Err(Reported);
    }
    if own.is_none() && !is_forwarding {
        global.taken += 1;
    }
    match mode {
        ForwardingWord::None => {
            unused_secret(raw, "`forwarding_mode` is `none`", context);
            if !is_forwarding {
                let place = own.map(|given| given.place).or(chosen.place);
                if let Some(place) = place {
                    context.push(insecure(chosen, place));
                }
            }
            return Ok(None);
        }
        ForwardingWord::BungeeCord => unused_secret(raw, "`bungeecord` has no secret", context),
        ForwardingWord::BungeeGuard | ForwardingWord::Velocity => {}
    }
    if is_forwarding {
        match own {
            Some(given) => {
                let message = format!(
                    "`{}` sends the backend a name and a UUID that nobody has proved",
                    mode.name()
                );
                let mut diagnostic = unproven(given.place, message);
                if let Some(place) = chosen.place {
                    diagnostic = diagnostic.label(place, "the mode");
                }
                context.push(diagnostic);
            }
            None => global.unproven += 1,
        }
    }
    let place = own.map_or(Place::whole(global.file), |given| given.place);
    Ok(Some(match mode {
        ForwardingWord::BungeeCord | ForwardingWord::None => {
            IdentityForwarding::Host(HostForwarding::BungeeCord)
        }
        ForwardingWord::BungeeGuard => {
            let secret = server_secret(raw, mode, place, global, context)?;
            IdentityForwarding::Host(HostForwarding::BungeeGuard(secret))
        }
        ForwardingWord::Velocity => {
            IdentityForwarding::Velocity(server_secret(raw, mode, place, global, context)?)
        }
    }))
}

/// Warns of `bungeecord` with a backend address that is probably reachable by others than
/// the proxy. In a forwarding mode `unproven-identity` is reported instead.
pub(super) fn unprotected(
    raw: &RawServer,
    addresses: &[BackendAddress],
    kind: &ServerKind,
    chosen: Chosen,
    context: &mut Context<'_>,
) {
    let ServerKind::Intercepted(intercepted) = kind else {
        return;
    };
    let bungeecord = IdentityForwarding::Host(HostForwarding::BungeeCord);
    if intercepted.identity.as_ref() != Some(&bungeecord) {
        return;
    }
    let is_public = |address: &&BackendAddress| match address.host {
        BackendHost::Ip(ip) => !is_private(ip),
        BackendHost::Name(_) => false,
    };
    let Some(address) = addresses.iter().find(is_public) else {
        return;
    };
    let Some(place) = raw.forwarding_mode.key().or(chosen.place) else {
        return;
    };
    let message = format!(
        "`bungeecord` proves nothing to `{address}`, which can be reached from other networks"
    );
    context.push(
        Diagnostic::new(Code::UnprotectedForwarding, place, message)
            .because("whoever reaches the backend directly can claim to be any player")
            .help("use `velocity` or `bungeeguard`, or let only the proxy reach the backend"),
    );
}

/// Warns of a client's tail of the host field that is kept where the identity takes its place.
pub(super) fn replaced_tail(raw: &RawServer, kind: &ServerKind, context: &mut Context<'_>) {
    let keeps = raw.host_tail.given();
    let keeps = keeps.filter(|given| given.value == HostTailWord::Keep);
    let is_replaced = match kind {
        ServerKind::Forwarding(forwarding) => forwarding.identity.is_some(),
        ServerKind::Intercepted(intercepted) => {
            matches!(intercepted.identity, Some(IdentityForwarding::Host(_)))
        }
    };
    let Some(given) = keeps.filter(|_| is_replaced) else {
        return;
    };
    let message = "`host_tail = \"keep\"` does nothing for logins here";
    let diagnostic = Diagnostic::new(Code::NoEffect, given.key, message)
        .help("remove it, or write `forwarding_mode = \"none\"` for this server");
    let reason = "the identity of the player takes the place of the client's data";
    context.push(match raw.forwarding_mode.given() {
        Some(mode) => diagnostic.label(mode.place, reason),
        None => diagnostic.because(format!("{reason} (`forwarding.mode`)")),
    });
}

/// Whether an address belongs to this machine or to a network of its own
/// (RFC 1918, RFC 4193, RFC 6598, and the addresses of one link).
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn insecure(chosen: Chosen, place: Place) -> Diagnostic {
    let message = format!(
        "the backend of this `{}` server receives nothing about the player",
        chosen.mode
    );
    Diagnostic::new(Code::InsecureBackend, place, message)
        .because("the backend authenticates nobody and sees every player at the proxy's address")
        .help("set `forwarding_mode` to `velocity` or `bungeeguard`, and let nobody but the proxy reach the backend")
}

fn unused_secret(raw: &RawServer, reason: &str, context: &mut Context<'_>) {
    if let Some(key) = raw.forwarding_secret.key() {
        context.push(
            Diagnostic::new(Code::NoEffect, key, "`forwarding_secret` does nothing here")
                .because(reason)
                .help("remove it; it works with `velocity` and `bungeeguard`"),
        );
    }
}

/// The secret of one server: its own, else the global one.
fn server_secret(
    raw: &RawServer,
    mode: ForwardingWord,
    place: Place,
    global: &mut Global<'_>,
    context: &mut Context<'_>,
) -> Result<Secret, Reported> {
    match raw.forwarding_secret.get()? {
        Some(source) => resolve(source, context),
        None => match global.secret(context) {
            GlobalSecret::Known(secret) => Ok(secret),
            GlobalSecret::None => {
                let key = context.example(
                    place.file,
                    "forwarding_secret",
                    "infrarust.forwarding_secret.file",
                );
                let here = context.example(place.file, "this file", "a label");
                let place_of_it =
                    format!("{here}, or `secret_file` in `[forwarding]` of `infrarust.toml`");
                context.push(missing(mode, place, key, &place_of_it));
                Err(Reported)
            }
            GlobalSecret::Bad | GlobalSecret::Unread => Err(Reported),
        },
    }
}

fn resolve(source: &SecretSource, context: &mut Context<'_>) -> Result<Secret, Reported> {
    match source {
        SecretSource::Value(secret) => Ok(secret.clone()),
        SecretSource::File(Item { place, value }) => from_file(value, *place, context),
        SecretSource::Env(name) => {
            let value = crate::environment::var(&name.value).unwrap_or_default();
            let value = value.trim();
            if value.is_empty() {
                let message = format!(
                    "the environment variable {} holds no secret",
                    Quoted(&name.value)
                );
                context.push(
                    Diagnostic::new(Code::MissingSecret, name.place, message)
                        .because("it is not set, empty, or not text")
                        .help("set it where the proxy is started"),
                );
                return Err(Reported);
            }
            Ok(Secret::new(value.to_owned()))
        }
    }
}

fn from_file(path: &Path, place: Place, context: &mut Context<'_>) -> Result<Secret, Reported> {
    let written = path;
    let path = context.named_file(place, written, LabelFile::Secret)?;
    let shown = words::path(&path);
    let bytes = match files::read_named(&path, SECRET_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(problem) => {
            context.unread(&problem);
            let message = format!("the secret file `{shown}` cannot be read: {problem}");
            let begin = context.where_paths_begin(place.file, written);
            context.push(
                Diagnostic::new(Code::MissingFile, place, message)
                    .help(format!("write the secret of the backend into it; {begin}")),
            );
            return Err(Reported);
        }
    };
    match String::from_utf8(bytes) {
        // Probably a wrong file, and all of it would be sent to the backend.
        Ok(text) if text.trim().contains(char::is_control) => {
            let message = format!("the secret file `{shown}` holds more than a secret");
            context.push(
                Diagnostic::new(Code::BadValue, place, message)
                    .because("a secret is one line")
                    .help("write the secret of the backend into a file of its own"),
            );
            Err(Reported)
        }
        Ok(text) if !text.trim().is_empty() => Ok(Secret::new(text.trim().to_owned())),
        Ok(_) => {
            context.push(
                Diagnostic::new(
                    Code::MissingSecret,
                    place,
                    format!("the secret file `{shown}` is empty"),
                )
                .help("write the secret of the backend into it"),
            );
            Err(Reported)
        }
        Err(_) => {
            let message = format!("the secret file `{shown}` is not UTF-8 text");
            context.bad_value(place, message, "write the secret as plain text");
            Err(Reported)
        }
    }
}
