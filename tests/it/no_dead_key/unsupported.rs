//! Keys of Infrarust v2 that only cause a warning, in the form of its files.

use infrarust::config::schema::FileKind;

use super::Files;

/// Both files, with this text in the file of that kind. Without the text they have no
/// diagnostic.
pub fn files(kind: FileKind, text: &str) -> Files {
    let domains = "domains = [\"a.example.com\"]\n";
    let addresses = if text.starts_with("addresses") {
        ""
    } else {
        "addresses = [\"10.0.0.5\"]\n"
    };
    match kind {
        FileKind::Global => Files::new(text, &format!("{domains}{addresses}")),
        FileKind::Server => Files::new("", &format!("{domains}{addresses}{text}")),
    }
}

/// The path and the text of each.
pub fn written(kind: FileKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        FileKind::Global => GLOBAL,
        FileKind::Server => SERVER,
    }
}

const GLOBAL: &[(&str, &str)] = &[
    ("connect_max_attempts", "connect_max_attempts = 3"),
    (
        "ban",
        "[ban]\nprovider = \"builtin\"\nfile = \"bans.json\"\npurge_interval = \"300s\"\nenable_audit_log = true",
    ),
    (
        "permissions.provider",
        "[permissions]\nprovider = \"builtin\"",
    ),
    (
        "web",
        "[web]\nenable_api = true\nbind = \"127.0.0.1:8080\"\n[web.rate_limit]\nrequests_per_minute = 60",
    ),
    (
        "active_health",
        "[active_health]\nenabled = true\nkind = \"status_ping\"\ninterval = \"30s\"",
    ),
    ("events", "[events]\nhandler_timeout = \"10s\""),
    (
        "telemetry",
        "[telemetry]\nenabled = true\nendpoint = \"http://localhost:4317\"\n[telemetry.traces]\nsampling_ratio = 0.1",
    ),
    ("metrics", "[metrics]\nbind = \"127.0.0.1:9100\""),
    (
        "wasm",
        "[wasm]\nmemory_limit_mb = 64\ncpu_budget = \"3s\"\n[wasm.recovery]\nmax_restarts = 5",
    ),
    (
        "default_motd.sleeping",
        "[default_motd.sleeping]\ntext = \"asleep\"",
    ),
    (
        "default_motd.starting",
        "[default_motd.starting]\ntext = \"soon\"",
    ),
    (
        "default_motd.crashed",
        "[default_motd.crashed]\ntext = \"broken\"",
    ),
    (
        "default_motd.stopping",
        "[default_motd.stopping]\ntext = \"closing\"",
    ),
    (
        "forwarding.bungeecord_channel",
        "[forwarding]\nbungeecord_channel = true",
    ),
    (
        "forwarding.channel_permissions",
        "[forwarding.channel_permissions]\nconnect = true",
    ),
    (
        "plugins.<id>.permissions",
        "[plugins.hello]\nenabled = false\npermissions = [\"ban\", \"raw-packet\"]",
    ),
    (
        "plugins.<id>.deny",
        "[plugins.hello]\nenabled = false\ndeny = [\"command\"]",
    ),
    (
        "plugins.<id>.strict_capabilities",
        "[plugins.hello]\nenabled = false\nstrict_capabilities = true",
    ),
    (
        "plugins.<id>.wasm",
        "[plugins.hello]\nenabled = false\n[plugins.hello.wasm]\nmemory_limit_mb = 32\n[[plugins.hello.wasm.mounts]]\nhost = \"data\"\nguest = \"/data\"",
    ),
];

const SERVER: &[(&str, &str)] = &[
    ("balance", "balance = \"round_robin\""),
    ("slow_start", "slow_start = \"30s\""),
    ("slow_start_aggression", "slow_start_aggression = 1.5"),
    (
        "active_health",
        "[active_health]\nkind = \"tcp\"\ntimeout = \"3s\"",
    ),
    (
        "server_manager",
        "[server_manager]\ntype = \"pterodactyl\"\napi_url = \"https://panel.example.com\"\napi_key = \"k\"\nserver_id = \"1a2b\"",
    ),
    (
        "addresses.weight",
        "addresses = [{ address = \"10.0.0.6:25566\", weight = 2 }]",
    ),
    ("motd.sleeping", "[motd.sleeping]\ntext = \"asleep\""),
    ("motd.starting", "[motd.starting]\ntext = \"soon\""),
    ("motd.crashed", "[motd.crashed]\ntext = \"broken\""),
    ("motd.stopping", "[motd.stopping]\ntext = \"closing\""),
];
