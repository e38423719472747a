//! Keys of the global file that have no effect because of another key.
//!
//! A key with its default value is not reported, nor is one beside a written
//! `enabled = false` or `bungeecord = false`: there the operator has switched all of it off,
//! and keeps the other keys for later.

use super::Context;
use super::modes::chosen;
use super::server::Draft;
use crate::config::entry::{Entry, Given, List};
use crate::config::keys::Scope;
use crate::config::raw::{
    RawAuth, RawPermissions, RawPluginMessaging, RawProxy, RawRateLimit, RawStatusCache,
};
use crate::config::reader::HasKeys;
use crate::config::types::{Count, DuplicateLoginWord, OfflineUuidWord, UnknownDomainWord};
use crate::diagnostic::words::any_of;
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::mode::Mode;

/// Warns of such keys.
pub(super) fn rules(raw: &RawProxy, drafts: &[Draft<'_>], context: &mut Context<'_>) {
    rate_limit(&raw.rate_limit, context);
    status_cache(&raw.status_cache, context);
    default_motd(raw, context);
    permissions(&raw.permissions, context);
    let is_open = plugin_messaging(&raw.plugin_messaging, context);
    // Containers are servers too. A server with an unknown mode can be the one that a key is
    // for, and without a server nothing is known.
    let modes: Option<Vec<Mode>> = drafts
        .iter()
        .map(|draft| chosen(draft.raw?).ok().map(|chosen| chosen.mode))
        .collect();
    let Some(modes) = modes.filter(|modes| !modes.is_empty() && !raw.docker.is_written()) else {
        return;
    };
    for key in keys_of_modes(raw) {
        if !key.modes.iter().any(|mode| modes.contains(mode)) {
            let message = format!("`{}` does nothing here", key.name);
            let modes = any_of(key.modes.iter().map(|mode| mode.name()));
            context.push(
                Diagnostic::new(Code::NoEffect, key.place, message)
                    .because(format!("no server is in {modes}"))
                    .help("remove it, or set `proxy_mode` in the server files that it is for"),
            );
        }
    }
    let has_channel = |draft: &Draft<'_>| {
        let raw = draft.raw.map(|raw| raw.bungeecord_channel.value());
        raw == Some(Some(&true))
    };
    if let Some(place) = is_open.filter(|_| !drafts.iter().any(has_channel)) {
        context.push(
            Diagnostic::new(Code::NoEffect, place, "`bungeecord` does nothing here")
                .because("no server has `bungeecord_channel = true`")
                .help("write that in the files of the servers that may use the channel"),
        );
    }
}

fn rate_limit(entry: &Entry<RawRateLimit>, context: &mut Context<'_>) {
    let Some(raw) = entry.value() else { return };
    if raw.enabled() != Ok(&true) {
        return;
    }
    let (logins, pings) = (zero(&raw.max_connections), zero(&raw.status_max));
    for (name, key, count, limit) in [
        ("window", raw.window.key(), logins, "max_connections"),
        (
            "status_window",
            raw.status_window.key(),
            pings,
            "status_max",
        ),
    ] {
        if let (Some(key), Some(count)) = (key, count) {
            let message = format!("`{name}` does nothing without a limit");
            context.push(
                Diagnostic::new(Code::NoEffect, key, message)
                    .label(count.place, "no limit")
                    .help(format!("remove it, or write another `{limit}`")),
            );
        }
    }
    if let (Some(key), Some(logins), Some(_)) = (yes(&raw.limit_loopback), logins, pings) {
        context.push(
            Diagnostic::new(
                Code::NoEffect,
                key,
                "`limit_loopback` does nothing without a limit",
            )
            .label(logins.place, "no limit")
            .help("remove it, or write another `max_connections` or `status_max`"),
        );
    }
}

fn status_cache(entry: &Entry<RawStatusCache>, context: &mut Context<'_>) {
    let Some(raw) = entry.value() else { return };
    let off = raw.ttl.given().filter(|given| given.value.0.is_zero());
    if let (Some(ttl), Some(key)) = (off, raw.max_entries.key()) {
        context.push(
            Diagnostic::new(
                Code::NoEffect,
                key,
                "`max_entries` does nothing without a cache",
            )
            .label(ttl.place, "switched off here")
            .help("remove it, or write another `ttl`"),
        );
    }
}

/// Pings for unknown hosts are answered with it, and with these words they are closed.
fn default_motd(raw: &RawProxy, context: &mut Context<'_>) {
    let Some(behavior) = raw.unknown_domain_behavior.given() else {
        return;
    };
    let online = raw.default_motd.value().and_then(|set| set.online.key());
    if let (Some(key), UnknownDomainWord::Kick | UnknownDomainWord::Drop) = (online, behavior.value)
    {
        context.push(
            Diagnostic::new(
                Code::NoEffect,
                key,
                "`online` of `default_motd` does nothing here",
            )
            .label(
                behavior.place,
                "status pings for unknown hosts get no answer",
            )
            .help("remove the table, or write `unknown_domain_behavior = \"default_motd\"`"),
        );
    }
}

fn permissions(entry: &Entry<RawPermissions>, context: &mut Context<'_>) {
    let Some(raw) = entry.value() else { return };
    let has_none = !raw.admins.is_broken() && filled(&raw.admins).is_none();
    if let Some(key) = yes(&raw.trust_offline_admins).filter(|_| has_none) {
        context.push(
            Diagnostic::new(
                Code::NoEffect,
                key,
                "`trust_offline_admins` does nothing without `admins`",
            )
            .help("name the players in `admins`, or remove it"),
        );
    }
}

/// Returns the place of `bungeecord`, if it is `true`.
fn plugin_messaging(entry: &Entry<RawPluginMessaging>, context: &mut Context<'_>) -> Option<Place> {
    let raw = entry.value()?;
    let is_closed = raw.bungeecord() == Ok(&false);
    let permissions = raw.bungeecord_permissions.given();
    if let (true, Some(given)) = (is_closed && !raw.bungeecord.is_written(), permissions) {
        context.push(
            Diagnostic::new(
                Code::NoEffect,
                given.key,
                "`bungeecord_permissions` does nothing without `bungeecord = true`",
            )
            .help("write `bungeecord = true` in `[plugin_messaging]`, or remove the table"),
        );
    }
    yes(&raw.bungeecord)
}

/// A key that has an effect only in some modes.
struct KeyOfModes {
    name: &'static str,
    place: Place,
    modes: Vec<Mode>,
}

/// The keys of this kind that are written with another value than their default.
fn keys_of_modes(raw: &RawProxy) -> Vec<KeyOfModes> {
    let mut keys = Vec::new();
    let mut add = |name, place: Option<Place>, scope: Option<Scope>| {
        if let (Some(place), Some(scope)) = (place, scope) {
            let modes = scope.modes();
            keys.push(KeyOfModes { name, place, modes });
        }
    };
    let key = "compression_threshold";
    add(key, raw.compression_threshold.key(), scope::<RawProxy>(key));
    let key = "announce_proxy_commands";
    let off = raw.announce_proxy_commands.given();
    let off = off.filter(|given| !given.value).map(|given| given.key);
    add(key, off, scope::<RawProxy>(key));
    if let Some(auth) = raw.auth.value() {
        let key = "session_url";
        add(key, auth.session_url.key(), scope::<RawAuth>(key));
        let key = "prevent_proxy_connections";
        let place = yes(&auth.prevent_proxy_connections);
        add(key, place, scope::<RawAuth>(key));
        let key = "offline_uuid";
        let given = auth.offline_uuid.given();
        let given = given.filter(|given| given.value != OfflineUuidWord::Offline);
        add(key, given.map(|given| given.key), scope::<RawAuth>(key));
        let key = "duplicate_login";
        let given = auth.duplicate_login.given();
        let given = given.filter(|given| given.value != DuplicateLoginWord::Refuse);
        add(key, given.map(|given| given.key), scope::<RawAuth>(key));
    }
    if let Some(permissions) = raw.permissions.value() {
        let key = "admins";
        let place = filled(&permissions.admins);
        add(key, place, scope::<RawPermissions>(key));
        let key = "player_commands";
        let place = filled(&permissions.player_commands);
        add(key, place, scope::<RawPermissions>(key));
        // Without `admins` it is reported already.
        let key = "trust_offline_admins";
        let place =
            filled(&permissions.admins).and_then(|_| yes(&permissions.trust_offline_admins));
        add(key, place, scope::<RawPermissions>(key));
    }
    keys
}

/// The modes in which a key of a table has an effect.
fn scope<T: HasKeys>(name: &str) -> Option<Scope> {
    let key = T::TABLE.keys.iter().find(|key| key.name == name);
    key.map(|key| key.scope)
}

/// A count that is written as 0, which means no limit.
fn zero(entry: &Entry<Count>) -> Option<&Given<Count>> {
    entry.given().filter(|given| given.value.get() == 0)
}

/// The place of a key with the value `true`.
fn yes(entry: &Entry<bool>) -> Option<Place> {
    let given = entry.given().filter(|given| given.value);
    given.map(|given| given.key)
}

/// The place of a list that is not empty.
fn filled<T>(entry: &Entry<List<T>>) -> Option<Place> {
    let given = entry.given().filter(|given| !given.value.items.is_empty());
    given.map(|given| given.key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::reader::default_value;

    /// Each key of these tables that has an effect only in some modes is checked.
    #[test]
    fn all_keys_of_modes_are_checked() {
        let raw: RawProxy = default_value::<RawProxy, _>(
            r#"{
                compression_threshold = 1,
                announce_proxy_commands = false,
                auth = {
                    session_url = "https://a.example",
                    prevent_proxy_connections = true,
                    offline_uuid = "client",
                    duplicate_login = "replace",
                },
                permissions = {
                    admins = ["a"],
                    player_commands = ["a"],
                    trust_offline_admins = true,
                },
            }"#,
        );
        let checked: BTreeSet<_> = keys_of_modes(&raw).iter().map(|key| key.name).collect();
        let tables = [RawProxy::TABLE, RawAuth::TABLE, RawPermissions::TABLE];
        let keys = tables.iter().flat_map(|table| table.keys);
        let of_modes = keys.filter(|key| matches!(key.scope, Scope::Only(_)));
        assert_eq!(checked, of_modes.map(|key| key.name).collect());
        let defaults: RawProxy = default_value::<RawProxy, _>(
            r#"{
                announce_proxy_commands = true,
                auth = { offline_uuid = "offline", duplicate_login = "refuse" },
                permissions = { admins = [], trust_offline_admins = true },
            }"#,
        );
        assert_eq!(keys_of_modes(&defaults).len(), 0);
    }
}
