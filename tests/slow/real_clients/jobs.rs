//! The jobs of the matrix: what a player does at a backend, and the servers of the proxy for
//! it.

use serde_json::{Value, json};

use super::{REAL_JOB, Setup};

/// The version with which a crowd talks.
const CROWDED: &str = "1.21.4";

/// The secret of the signed forwarding.
const SECRET: &str = "the secret of the real backends";

/// The protocol version since which logins have plugin messages (1.13).
const VELOCITY_SINCE: u64 = 393;

/// The protocol version since which there is a configuration state (1.20.2).
const CONFIGURATION_SINCE: u64 = 764;

/// A backend of the matrix.
pub(super) struct Backend<'a> {
    pub(super) version: &'a str,
    pub(super) protocol: u64,
    pub(super) online: bool,
    pub(super) address: String,
}

impl Backend<'_> {
    /// A virtual host for this backend under `name`.
    pub(super) fn host(&self, name: &str) -> String {
        let auth = if self.online { "online" } else { "offline" };
        let version = self.version.replace('.', "-");
        format!("{}-{version}-{auth}.example", name.replace('_', "-"))
    }

    /// A job of the matrix; see the head of `matrix.mjs`. Its id is what it
    /// does, the player, and after `/` the first part of its host.
    pub(super) fn job(&self, what: &str, host: &str) -> Value {
        let auth = if self.online { "online" } else { "offline" };
        let part = host.strip_suffix(&self.host("")).unwrap_or(host);
        json!({
            "id": format!("{what}-{}-{auth}/{part}", self.version),
            "do": what,
            "version": self.version,
            "online": self.online,
            "host": host,
        })
    }
}

/// Keeps the jobs with this name: a whole id, or the part of it before `/`.
pub(super) fn choose(name: &str, jobs: &mut Vec<Value>) {
    let id = |job: &Value| job["id"].as_str().unwrap().to_owned();
    let ids: Vec<_> = jobs.iter().map(id).collect();
    jobs.retain(|job| {
        let id = id(job);
        id == name || id.split('/').next() == Some(name)
    });
    assert!(
        !jobs.is_empty(),
        "{REAL_JOB}: there is no job `{name}`, only\n{}",
        ids.join("\n")
    );
}

/// Sessions and pings as they are, and in `server_only` the promise that a
/// backend without authentication lets nobody in.
pub(super) fn through_mode(
    mode: &str,
    backend: &Backend<'_>,
    setup: &mut Setup,
    jobs: &mut Vec<Value>,
) {
    let host = backend.host(mode);
    setup.server(mode, &host, &backend.address, "");
    jobs.push(backend.job("status", &host));
    if mode == "server_only" && !backend.online {
        jobs.push(backend.job("refused", &host));
    } else {
        jobs.push(backend.job("play", &host));
        jobs.push(backend.job("kick", &host));
    }
}

/// The proxy speaks the protocol: sessions, kicks and losses of the backend in every state,
/// a full server, and a backend in online mode.
pub(super) fn intercepted(
    mode: &str,
    backend: &Backend<'_>,
    setup: &mut Setup,
    jobs: &mut Vec<Value>,
) {
    let proves = json!(mode == "client_only");
    let host = backend.host(mode);
    let lost = format!("{host} has gone");
    let keys = format!("disconnect_message = \"{lost}\"\n");
    setup.server(mode, &host, &backend.address, &keys);
    let mut whats = vec![backend.job("status", &host)];
    if backend.online {
        let mut job = backend.job("refused", &host);
        job["text"] = json!("authenticates players itself");
        job["online"] = json!(false);
        whats.push(job);
    } else {
        // Without forwarding the backend makes the id from the name.
        for what in ["play", "kick", "turnedAway"] {
            whats.push(backend.job(what, &host));
        }
        let mut losses = vec!["lost"];
        if backend.protocol >= CONFIGURATION_SINCE {
            whats.push(backend.job("kickedEarly", &host));
            losses.push("lostEarly");
        }
        for what in losses {
            let mut job = backend.job(what, &host);
            job["text"] = json!(lost);
            // One mode sees a reset, the other one an orderly end.
            job["reset"] = proves.clone();
            whats.push(job);
        }
        let guarded = backend.host(&format!("guarded-{mode}"));
        setup.server(
            mode,
            &guarded,
            &backend.address,
            "plugins = [\"chat-guard\"]\n",
        );
        let mut job = backend.job("guarded", &guarded);
        job["dropped"] = json!("buy GOLD now");
        job["notice"] = json!("no advertising");
        whats.push(job);
        if mode == "client_only" {
            let mut job = backend.job("unproved", &host);
            job["text"] = json!("not authenticated with your Minecraft account");
            whats.push(job);
        }
        let full = backend.host(&format!("full-{mode}"));
        let text = format!("no room on {full}");
        let keys = format!("max_players = 1\nfull_message = \"{text}\"\n");
        setup.server(mode, &full, &backend.address, &keys);
        let mut job = backend.job("full", &full);
        job["text"] = json!(text);
        whats.push(job);
        if backend.version == CROWDED {
            whats.push(backend.job("crowd", &host));
        }
        forwarded(mode, backend, setup, jobs);
        whats.extend(moved(mode, backend, setup));
    }
    for mut job in whats {
        job["intercepted"] = json!(true);
        job["proves"] = proves.clone();
        job["uuid"] = json!("offline");
        jobs.push(job);
    }
}

/// Two servers of a network with the same backend. A client that is kicked from the first,
/// or loses it, is moved to the second. The backend also switches a client back and forth.
pub(super) fn moved(mode: &str, backend: &Backend<'_>, setup: &mut Setup) -> [Value; 3] {
    let hosts = ["moved", "other"].map(|name| backend.host(&format!("{name}-{mode}")));
    let [first, other] = [0, 1].map(|at| hosts[at].strip_suffix(".example").unwrap());
    let keys = format!("network = \"{first}\"\nbungeecord_channel = true\n");
    for host in &hosts {
        setup.server(mode, host, &backend.address, &keys);
    }
    let kick = format!("sent away by {first}");
    let mut kicked = backend.job("moved", &hosts[0]);
    kicked["id"] = json!(format!("{}-kicked", kicked["id"].as_str().unwrap()));
    kicked["notice"] = json!(format!("You were moved from {first} to {other}: {kick}"));
    kicked["kick"] = json!(kick);
    let mut lost = backend.job("moved", &hosts[0]);
    lost["id"] = json!(format!("{}-lost", lost["id"].as_str().unwrap()));
    lost["notice"] = json!(format!(
        "The server {first} cannot be reached. You are on {other} now."
    ));
    // One mode sees a reset, the other one an orderly end.
    lost["reset"] = json!(mode == "client_only");
    let mut switched = backend.job("switched", &hosts[0]);
    switched["servers"] = json!([first, other]);
    [kicked, lost, switched]
}

/// The backend learns the player's identity, and the client gets the same id.
pub(super) fn forwarded(
    mode: &str,
    backend: &Backend<'_>,
    setup: &mut Setup,
    jobs: &mut Vec<Value>,
) {
    let velocity = format!("forwarding_mode = \"velocity\"\nforwarding_secret = \"{SECRET}\"\n");
    let bungeecord = "forwarding_mode = \"bungeecord\"\n".to_owned();
    let ways = [
        ("bungeecord", bungeecord, json!("bungeecord")),
        ("velocity", velocity, json!({ "secret": SECRET })),
    ];
    for (name, keys, forwarding) in ways {
        let host = backend.host(&format!("{name}-{mode}"));
        setup.server(mode, &host, &backend.address, &keys);
        let is_old = name == "velocity" && backend.protocol < VELOCITY_SINCE;
        let mut job = backend.job(if is_old { "refused" } else { "play" }, &host);
        if is_old {
            job["text"] = json!("needs Minecraft 1.13 or newer");
        } else {
            job["forwarding"] = forwarding;
        }
        let proves = mode == "client_only";
        job["intercepted"] = json!(true);
        job["proves"] = json!(proves);
        job["uuid"] = json!(if proves { "profile" } else { "offline" });
        jobs.push(job);
    }
}

/// Every pair of compression thresholds of the two sides.
pub(super) fn compressed(backend: &Backend<'_>, setup: &mut Setup, jobs: &mut Vec<Value>) {
    if backend.online {
        return;
    }
    for client in [-1, 0, 256, 1024] {
        let host = backend.host(&format!("compressed-{client}").replace("--1", "-off"));
        let keys = format!("compression_threshold = {client}\n");
        setup.server("offline", &host, &backend.address, &keys);
        for at_backend in [-1, 0, 256, 1024] {
            for what in ["play", "kick"] {
                let mut job = backend.job(what, &host);
                let id = format!("{}-behind-{at_backend}", job["id"].as_str().unwrap());
                job["id"] = json!(id);
                job["intercepted"] = json!(true);
                job["clientThreshold"] = json!(client);
                job["backendThreshold"] = json!(at_backend);
                jobs.push(job);
            }
        }
    }
}

/// The backend gets another host, in pings and logins.
pub(super) fn rewritten(
    mode: &str,
    backend: &Backend<'_>,
    setup: &mut Setup,
    jobs: &mut Vec<Value>,
) {
    let host = backend.host(&format!("rewritten-{mode}"));
    let seen = backend.host("inside");
    let rewrite = format!("domain_rewrite = {{ explicit = \"{seen}\" }}\n");
    setup.server(mode, &host, &backend.address, &rewrite);
    for what in ["status", "play"] {
        let mut job = backend.job(what, &host);
        job["seenHost"] = json!(seen);
        jobs.push(job);
    }
}

/// Plugins as libraries: one chooses the host for the backend, another refuses all players
/// on one server.
pub(super) fn through_plugins(
    mode: &str,
    backend: &Backend<'_>,
    setup: &mut Setup,
    jobs: &mut Vec<Value>,
) {
    let host = backend.host(&format!("plugin-{mode}"));
    setup.server(
        mode,
        &host,
        &backend.address,
        "plugins = [\"domain-rewrite\"]\n",
    );
    let mut whats = vec!["status"];
    if mode != "server_only" || backend.online {
        whats.extend(["play", "kick"]);
    }
    for what in whats {
        let mut job = backend.job(what, &host);
        job["seenHost"] = json!(host.replace(".example", ".inside"));
        jobs.push(job);
    }
    let host = backend.host(&format!("closed-{mode}"));
    setup.server(mode, &host, &backend.address, "plugins = [\"allowlist\"]\n");
    let mut job = backend.job("refused", &host);
    job["text"] = json!("the list has nobody");
    jobs.push(job);
}

/// A second player reads `full_message` until the first has left.
pub(super) fn with_room_for_one(
    mode: &str,
    backend: &Backend<'_>,
    setup: &mut Setup,
    jobs: &mut Vec<Value>,
) {
    let host = backend.host(&format!("full-{mode}"));
    let text = format!("no room on {host}");
    let keys = format!("max_players = 1\nfull_message = \"{text}\"\n");
    setup.server(mode, &host, &backend.address, &keys);
    let mut job = backend.job("full", &host);
    job["text"] = json!(text);
    jobs.push(job);
}

/// A player on a server without a reachable backend reads `disconnect_message`.
pub(super) fn without_backend(
    nobody: &str,
    version: &str,
    setup: &mut Setup,
    jobs: &mut Vec<Value>,
) {
    let backend = Backend {
        version,
        protocol: 0,
        online: false,
        address: nobody.to_owned(),
    };
    let host = backend.host("down");
    let text = format!("{host} sleeps");
    let keys = format!("disconnect_message = \"{text}\"\n");
    setup.server("passthrough", &host, &backend.address, &keys);
    let mut job = backend.job("refused", &host);
    job["text"] = json!(text);
    jobs.push(job);
}
