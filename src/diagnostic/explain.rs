//! The page of each code: what it means, why it matters, an example with the problem and
//! the same example without it. A test loads all examples.

use super::Code;

/// Files of an example: path and text. A global file that is not among them is
/// empty. For a plugin the text is what its manifest says.
pub type Example = &'static [(&'static str, &'static str)];

/// What `infrarust explain` prints about a code.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The meaning of the code, and its solution.
    pub what: &'static str,
    /// What would happen if the proxy started anyway.
    pub why: &'static str,
    /// Files that have the problem.
    pub wrong: Example,
    /// The same files without it.
    pub right: Example,
}

const GLOBAL: &str = "infrarust.toml";
const LOBBY: &str = "servers/lobby.toml";
const PVP: &str = "servers/pvp.toml";
const HUB: &str = "plugins/libhub.so";

/// A server file without any problem.
const SOUND: &str = "\
domains = [\"play.example.com\"]
addresses = [\"10.0.0.5:25565\"]
";

/// The page of a code.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a table: one entry for each code")]
pub fn page(code: Code) -> Page {
    match code {
        Code::TomlSyntax => Page {
            what: "The file does not follow the rules of TOML, or is not UTF-8 text. The caret \
                   shows where the parser could not go on; the mistake is there or just before. \
                   Texts need quotes, lists need brackets, and a key stands once in its table.",
            why: "Nothing in the file can be trusted before it can be read, so its other keys are \
                  checked only once the syntax is right.",
            wrong: &[(
                LOBBY,
                "domains = [play.example.com]\naddresses = [\"10.0.0.5:25565\"]\n",
            )],
            right: &[(LOBBY, SOUND)],
        },
        Code::UnknownKey => Page {
            what: "No key of this name exists where it stands. It may be misspelt, or belong to \
                   another table or to the other kind of file. A key below a `[header]` belongs to \
                   that table, whatever the indentation.",
            why: "A key that is silently ignored leaves its default in force, and nobody \
                  notices before it hurts.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\nadresses = [\"10.0.0.5:25565\"]\n",
            )],
            right: &[(LOBBY, SOUND)],
        },
        Code::WrongType => Page {
            what: "The key takes another type of value: a text needs quotes, a number and a truth \
                   value must not have them, a list needs brackets. Durations are texts with a unit.",
            why: "Guessing what was meant would make `\"20\"` and `20` mean the same today and \
                  something else tomorrow.",
            wrong: &[(GLOBAL, "connect_timeout = 5\n"), (LOBBY, SOUND)],
            right: &[(GLOBAL, "connect_timeout = \"5s\"\n"), (LOBBY, SOUND)],
        },
        Code::BadValue => Page {
            what: "The value has the right type and cannot be used: a word that the key does not \
                   know, a number out of its range, a duration of zero, a text that begins like \
                   JSON but is not valid JSON, a favicon that is not a PNG of 64 × 64 pixels.",
            why: "Such a value would fail later, when a player joins, or switch off what it was \
                  meant to set.",
            wrong: &[(GLOBAL, "[rate_limit]\nwindow = \"0s\"\n"), (LOBBY, SOUND)],
            right: &[(GLOBAL, "[rate_limit]\nwindow = \"10s\"\n"), (LOBBY, SOUND)],
        },
        Code::BadDomain => Page {
            what: "A domain is the host name that a player types, or a pattern for several: `*` is \
                   any text, dots included, `?` is one character. It has no port, no scheme, no \
                   path, no space, and no part longer than 63 bytes.",
            why: "Clients send the bare name, so an entry with more in it never matches: the \
                  server would be there and nobody could come to it.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com:25565\"]\naddresses = [\"10.0.0.5:25565\"]\n",
            )],
            right: &[(LOBBY, SOUND)],
        },
        Code::NoDomain => Page {
            what: "The server's mode only forwards bytes, so the host name in the handshake is the \
                   one thing that can lead a player to it; and no name is configured.",
            why: "The server would be loaded and never be reached.",
            wrong: &[(LOBBY, "addresses = [\"10.0.0.5:25565\"]\n")],
            right: &[(LOBBY, SOUND)],
        },
        Code::DuplicateDomain => Page {
            what: "Two entries are the same name or the same pattern. Upper case, a dot at the end \
                   and the spelling of international names make no difference. Patterns that \
                   merely overlap are fine: the one with more literal characters wins, of \
                   equal ones the first in the alphabet.",
            why: "Which server a player reaches would depend on chance.",
            wrong: &[
                (LOBBY, SOUND),
                (
                    PVP,
                    "domains = [\"Play.Example.com.\"]\naddresses = [\"10.0.0.6:25565\"]\n",
                ),
            ],
            right: &[
                (LOBBY, SOUND),
                (
                    PVP,
                    "domains = [\"pvp.example.com\"]\naddresses = [\"10.0.0.6:25565\"]\n",
                ),
            ],
        },
        Code::DuplicateServer => Page {
            what: "The id of a server is its `name`, or the name of its file without `.toml`. Two \
                   files have the same one.",
            why: "Logs, metrics and plugins could not distinguish the two servers.",
            wrong: &[
                (LOBBY, SOUND),
                (
                    PVP,
                    "name = \"lobby\"\ndomains = [\"pvp.example.com\"]\naddresses = [\"10.0.0.6:25565\"]\n",
                ),
            ],
            right: &[
                (LOBBY, SOUND),
                (
                    PVP,
                    "name = \"pvp\"\ndomains = [\"pvp.example.com\"]\naddresses = [\"10.0.0.6:25565\"]\n",
                ),
            ],
        },
        Code::UnreachableServer => Page {
            what: "A server in `client_only` or `offline` is reached by a domain, or by a switch \
                   from another server of its `network`. This one has neither.",
            why: "The server would be loaded and never be reached.",
            wrong: &[(
                LOBBY,
                "addresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\n",
            )],
            right: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\n",
            )],
        },
        Code::NoAddress => Page {
            what: "`addresses` says where the Minecraft servers behind this entry are. It is \
                   missing or empty. A container needs it where the proxy cannot find the way by \
                   itself: it is in none of the container's networks, and reaches none of its \
                   published ports.",
            why: "There would be nothing to connect players to.",
            wrong: &[(LOBBY, "domains = [\"play.example.com\"]\naddresses = []\n")],
            right: &[(LOBBY, SOUND)],
        },
        Code::BadAddress => Page {
            what: "An address is `host`, `host:port` or `[IPv6]:port`, with a port from 1 to 65535. \
                   An IPv6 address needs its brackets, since otherwise its last part could be a port.",
            why: "If the proxy had to guess, a wrong guess would make every join fail.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"2001:db8::5:25565\"]\n",
            )],
            right: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"[2001:db8::5]:25565\"]\n",
            )],
        },
        Code::MissingFile => Page {
            what: "A file or a folder that the configuration needs does not exist or cannot be \
                   read. Relative paths begin at the folder of the file that holds them.",
            why: "The proxy would run without something that the configuration asks for.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\n\n[motd.online]\nfavicon = \"icon.png\"\n",
            )],
            right: &[(LOBBY, SOUND)],
        },
        Code::MissingSecret => Page {
            what: "`velocity` and `bungeeguard` prove to the backend that a player came through \
                   the proxy, by a secret that both know. None is configured, or its file or \
                   environment variable is empty. Write `secret_file` or `secret` in \
                   `[forwarding]`, or `forwarding_secret` in the server file.",
            why: "Without the secret every join would fail, or strangers could claim to be anybody.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\nforwarding_mode = \"velocity\"\n",
            )],
            right: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\nforwarding_mode = \"velocity\"\nforwarding_secret = \"the secret of the backend\"\n",
            )],
        },
        Code::ModeConflict => Page {
            what: "The key, or its value, needs something that the server's `proxy_mode` cannot \
                   offer. `infrarust capabilities` shows which mode offers what, and why not. \
                   Choose another mode or remove the key.",
            why: "The proxy would have to ignore the key silently. In the forwarding modes it \
                  does not see packets after the login start, so nothing that needs one can work.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"zero_copy\"\nnetwork = \"main\"\n",
            )],
            right: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"zero_copy\"\n",
            )],
        },
        Code::UnknownPlugin => Page {
            what: "A server file names a plugin that has no table `[plugins.<id>]` in the global file.",
            why: "The server would run without a plugin that may guard it.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nplugins = [\"allowlist\"]\n",
            )],
            right: &[
                (GLOBAL, "[plugins.allowlist]\nenabled = false\n"),
                (
                    LOBBY,
                    "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nplugins = [\"allowlist\"]\n",
                ),
            ],
        },
        Code::UnknownServer => Page {
            what: "The `servers` of a plugin name a server that no file defines. A name is the id \
                   of a server; patterns with `*` and `?` may match nothing.",
            why: "The plugin would be missing where it was meant to be.",
            wrong: &[
                (
                    GLOBAL,
                    "[plugins.allowlist]\nenabled = false\nservers = [\"loby\"]\n",
                ),
                (LOBBY, SOUND),
            ],
            right: &[
                (
                    GLOBAL,
                    "[plugins.allowlist]\nenabled = false\nservers = [\"lobby\"]\n",
                ),
                (LOBBY, SOUND),
            ],
        },
        Code::PluginFile => Page {
            what: "The file of a plugin is missing, cannot be read, is not the one that `sha256` \
                   pins, or is not a shared library that this system could load. It is looked for as \
                   `lib<id>.so`, with `_` for each `-`, in `plugins_dir`, unless `path` says \
                   otherwise. `infrarust plugin inspect FILE` prints more about a file.",
            why: "The servers would run without a plugin that may guard them.",
            wrong: &[(GLOBAL, "[plugins.hub]\n"), (LOBBY, SOUND)],
            right: &[
                (GLOBAL, "[plugins.hub]\n"),
                (HUB, "hooks: [SessionObserve]\n"),
                (LOBBY, SOUND),
            ],
        },
        Code::PluginManifest => Page {
            what: "The file is a shared library, but the note that describes the plugin is \
                   missing, is damaged or contradicts itself. `export_plugin!` writes the note; \
                   a library without it is not a plugin.",
            why: "The needs of a plugin are compared with the modes before any of its code runs, and \
                  only the note has them.",
            wrong: &[
                (GLOBAL, "[plugins.hub]\n"),
                (HUB, "a library without a note\n"),
                (LOBBY, SOUND),
            ],
            right: &[
                (GLOBAL, "[plugins.hub]\n"),
                (HUB, "hooks: [SessionObserve]\n"),
                (LOBBY, SOUND),
            ],
        },
        Code::PluginIncompatible => Page {
            what: "The plugin was built for another plugin API, a newer proxy or another machine, \
                   lists a capability that this proxy does not know, or was built so that a panic \
                   in it would end the proxy. The message names the field with both values.",
            why: "Code that was built against other tables crashes, and takes every player with it.",
            wrong: &[
                (GLOBAL, "[plugins.hub]\n"),
                (HUB, "hooks: [SessionObserve]\nrequires: ^0.9\n"),
                (LOBBY, SOUND),
            ],
            right: &[
                (GLOBAL, "[plugins.hub]\n"),
                (HUB, "hooks: [SessionObserve]\nrequires: ^0.1\n"),
                (LOBBY, SOUND),
            ],
        },
        Code::PluginConfig => Page {
            what: "The plugin has read its own settings, `[plugins.<id>.config]`, and refuses \
                   them. Its documentation lists them. Only the plugin itself can check them, so \
                   this is reported at the start, at a reload and by `infrarust check --deep`, \
                   and not by `check` alone, which runs no code of plugins.",
            why: "A plugin that guesses its settings may do something unwanted.",
            wrong: &[
                (
                    GLOBAL,
                    "[plugins.hub]\n\n[plugins.hub.config]\ncomand = \"/hub\"\n",
                ),
                (HUB, "hooks: [SessionObserve]\n"),
                (LOBBY, SOUND),
            ],
            right: &[
                (
                    GLOBAL,
                    "[plugins.hub]\n\n[plugins.hub.config]\ncommand = \"/hub\"\n",
                ),
                (HUB, "hooks: [SessionObserve]\n"),
                (LOBBY, SOUND),
            ],
        },
        Code::PluginStart => Page {
            what: "The plugin was loaded and did not start: it said why, panicked, took too long, \
                   or was loaded too often by this process. `infrarust plugin verify FILE` tries it \
                   in a process of its own.",
            why: "The servers would run without a plugin that may guard them.",
            wrong: &[
                (
                    GLOBAL,
                    "[plugins.hub.config]\ndatabase = \"gone.internal\"\n",
                ),
                (HUB, "hooks: [SessionObserve]\n"),
                (LOBBY, SOUND),
            ],
            right: &[(GLOBAL, "[plugins.hub]\nenabled = false\n"), (LOBBY, SOUND)],
        },
        Code::PluginInactive => Page {
            what: "The plugin needs a capability that the mode of some of its servers does not \
                   offer, and `unsupported = \"skip\"` says that it is to be left out there. The \
                   message names the servers and what is missing. To have no warning, name in \
                   `servers` only those where it can run.",
            why: "On these servers players do not meet the plugin.",
            wrong: &[
                (GLOBAL, "[plugins.hub]\nunsupported = \"skip\"\n"),
                (HUB, "hooks: [SessionObserve]\nneeds: [PacketInject]\n"),
                (LOBBY, SOUND),
            ],
            right: &[
                (GLOBAL, "[plugins.hub]\nservers = [\"lobby\"]\n"),
                (HUB, "hooks: [SessionObserve]\n"),
                (LOBBY, SOUND),
            ],
        },
        Code::PluginLimited => Page {
            what: "The plugin would use a capability that the mode of some of its servers does \
                   not offer, and runs without it there. Its documentation says what that means.",
            why: "On these servers the plugin does less than on others.",
            wrong: &[
                (GLOBAL, "[plugins.hub]\n"),
                (HUB, "hooks: [SessionObserve]\nwants: [PlayerMessage]\n"),
                (LOBBY, SOUND),
            ],
            right: &[
                (GLOBAL, "[plugins.hub]\n"),
                (HUB, "hooks: [SessionObserve]\n"),
                (LOBBY, SOUND),
            ],
        },
        Code::PluginUnused => Page {
            what: "A file `lib*.so` lies in `plugins_dir`, and no table `[plugins.<id>]` names \
                   it. Plugins are trusted code, so lying there is not enough: write the table, \
                   which may be empty. With `enabled = false` in the table, there is no warning \
                   and the plugin is not loaded.",
            why: "The plugin was probably copied there to be used, and it does not run.",
            wrong: &[
                (GLOBAL, ""),
                (HUB, "hooks: [SessionObserve]\n"),
                (LOBBY, SOUND),
            ],
            right: &[
                (GLOBAL, "[plugins.hub]\n"),
                (HUB, "hooks: [SessionObserve]\n"),
                (LOBBY, SOUND),
            ],
        },
        Code::DockerEngine => Page {
            what: "`infrarust check --docker` asks the engine of `[docker]` which containers are \
                   servers, and got no answer that it can use: nothing listens at the endpoint, \
                   the proxy may not open the socket, the TLS handshake fails, or a proxy in \
                   front of the socket does not let `/containers/json`, `/containers/<id>/json` \
                   and `/events` through. The proxy itself starts all the same, says this in its \
                   log, and asks again.",
            why: "Servers from files work without the engine. Servers from containers are not \
                  known before the engine has answered once.",
            wrong: &[
                (GLOBAL, "[docker]\nendpoint = \"tcp://127.0.0.1:1\"\n"),
                (LOBBY, SOUND),
            ],
            right: &[
                (
                    GLOBAL,
                    "[docker]\nendpoint = \"unix:///var/run/docker.sock\"\n",
                ),
                (LOBBY, SOUND),
            ],
        },
        Code::NoEffect => Page {
            what: "The key is valid, but it has no effect here because of the server's mode, the \
                   modes of all servers, or another key. The message names the setting with \
                   which it works. A key with its default value is not reported, nor is one \
                   beside `enabled = false`.",
            why: "Nothing breaks, but whoever wrote the key probably expects an effect.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"zero_copy\"\nauth_guard = true\n",
            )],
            right: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"server_only\"\nauth_guard = true\n",
            )],
        },
        Code::UnsupportedKey => Page {
            what: "The key belongs to Infrarust v2 and this proxy does not have it yet, or not at \
                   all. The file is loaded as if the key and everything below it were not there.",
            why: "Files of Infrarust v2 load without changes, and the warning says that what the \
                  key did there does not happen here.",
            wrong: &[
                (GLOBAL, "[web]\nbind = \"127.0.0.1:8080\"\n"),
                (LOBBY, SOUND),
            ],
            right: &[(LOBBY, SOUND)],
        },
        Code::UnreadFile => Page {
            what: "Server files are the `*.toml` that lie in the folder itself. A name that ends \
                   otherwise (`.yml`, `.yaml`, `.json`, `.toml.txt`) and a folder with such files \
                   in it are left out. So are the copies that programs make of a file with which \
                   something else has happened: names with `.sync-conflict-` (Syncthing), \
                   `conflicted copy` (Nextcloud, Dropbox) or ` (copy` (desktops).",
            why: "The servers in such a file do not exist for the proxy; and a copy that counted \
                  would claim the domains of its original a second time, so that neither could \
                  be taken over.",
            wrong: &[
                (LOBBY, SOUND),
                ("servers/pvp.yml", "domains: [pvp.example.com]\n"),
            ],
            right: &[
                (LOBBY, SOUND),
                (
                    PVP,
                    "domains = [\"pvp.example.com\"]\naddresses = [\"10.0.0.6:25565\"]\n",
                ),
            ],
        },
        Code::ColourCode => Page {
            what: "The game knows colours and styles by the sign `§` and a letter. Many plugins \
                   also read `&` and a letter; this proxy does not translate it.",
            why: "Players would read the codes themselves: `&aWelcome`.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nmotd.online.text = \"&aWelcome\"\n",
            )],
            right: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nmotd.online.text = \"§aWelcome\"\n",
            )],
        },
        Code::NoServers => Page {
            what: "The folder of the server files holds no file whose name ends in `.toml`. Hidden \
                   files and editors' own copies do not count.",
            why: "The proxy would start, and every player would meet the answer for unknown names.",
            wrong: &[(GLOBAL, "bind = \"0.0.0.0:25565\"\n")],
            right: &[(GLOBAL, "bind = \"0.0.0.0:25565\"\n"), (LOBBY, SOUND)],
        },
        Code::UnprovenIdentity => Page {
            what: "In the forwarding modes the proxy cannot check the name that a \
                   client claims, and `bungeecord` or `bungeeguard` passes the claim to the backend.",
            why: "A backend that trusts the claim lets anybody in under any name, administrators' \
                  names included. It is safe where the backend authenticates by itself, or where \
                  the claim gives no rights.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nforwarding_mode = \"bungeecord\"\n",
            )],
            right: &[(LOBBY, SOUND)],
        },
        Code::OpenProxyProtocol => Page {
            what: "With `receive_proxy_protocol` the proxy believes every PROXY header, and \
                   other machines can connect to it. Name the load balancer in \
                   `proxy_protocol_trusted`.",
            why: "Every client could claim any address: filters, limits and logs would show what \
                  the client made up.",
            wrong: &[(GLOBAL, "receive_proxy_protocol = true\n"), (LOBBY, SOUND)],
            right: &[
                (
                    GLOBAL,
                    "receive_proxy_protocol = true\nproxy_protocol_trusted = [\"192.0.2.10\"]\n",
                ),
                (LOBBY, SOUND),
            ],
        },
        Code::InsecureBackend => Page {
            what: "In `client_only` and `offline` the backend must not authenticate, since the \
                   proxy stands between. Without a `forwarding_mode` it does not learn who the \
                   player is either.",
            why: "The backend sees all players at the proxy's address, gives them UUIDs made from \
                  their names, and lets in whoever reaches it directly.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\n",
            )],
            right: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\nforwarding_mode = \"velocity\"\nforwarding_secret = \"the secret of the backend\"\n",
            )],
        },
        Code::OwnAddress => Page {
            what: "Proxy and backend on one machine need two ports. The game's own port, 25565, is \
                   the default of `bind` and of an address without a port.",
            why: "A connection to the backend would come to the proxy, which would send it to the \
                  same server again. The proxy gives it up instead, so that nobody can join.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"127.0.0.1\"]\n",
            )],
            right: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"127.0.0.1:25566\"]\n",
            )],
        },
        Code::UnprotectedForwarding => Page {
            what: "`bungeecord` writes who the player is into the first packet, without any proof \
                   that the proxy wrote it. The backend's address can be reached from elsewhere.",
            why: "Whoever connects to the backend directly can claim to be any player, operators \
                  included.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"203.0.113.9:25565\"]\nproxy_mode = \"client_only\"\nforwarding_mode = \"bungeecord\"\n",
            )],
            right: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"203.0.113.9:25565\"]\nproxy_mode = \"client_only\"\nforwarding_mode = \"bungeeguard\"\nforwarding_secret = \"the token of the backend\"\n",
            )],
        },
        Code::UnknownNetwork => Page {
            what: "A table of `[networks]` belongs to a network that no server file names, or \
                   its `order` names a server that is not in the network.",
            why: "A rule without its network or server has no effect: the network that was meant \
                  has the defaults, and a server that is not in it takes none of its players.",
            wrong: &[
                (
                    GLOBAL,
                    "[forwarding]\nmode = \"velocity\"\nsecret = \"the secret of the backends\"\n\n[networks.main]\norder = [\"lobby\", \"pvq\"]\n",
                ),
                (
                    LOBBY,
                    "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
                ),
                (
                    PVP,
                    "addresses = [\"10.0.0.6:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
                ),
            ],
            right: &[
                (
                    GLOBAL,
                    "[forwarding]\nmode = \"velocity\"\nsecret = \"the secret of the backends\"\n\n[networks.main]\norder = [\"lobby\", \"pvp\"]\n",
                ),
                (
                    LOBBY,
                    "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
                ),
                (
                    PVP,
                    "addresses = [\"10.0.0.6:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
                ),
            ],
        },
        Code::MixedForwarding => Page {
            what: "Some servers of a network learn from the proxy who a player is, and others do \
                   not: `forwarding_mode` is `none` there.",
            why: "A backend that learns nothing makes a player id from the name. A player who comes \
                  from another server of the network has another id and another skin there than \
                  the client knows.",
            wrong: &[
                (
                    GLOBAL,
                    "[forwarding]\nmode = \"velocity\"\nsecret = \"the secret of the backends\"\n",
                ),
                (
                    LOBBY,
                    "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
                ),
                (
                    PVP,
                    "addresses = [\"10.0.0.6:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\nforwarding_mode = \"none\"\n",
                ),
            ],
            right: &[
                (
                    GLOBAL,
                    "[forwarding]\nmode = \"velocity\"\nsecret = \"the secret of the backends\"\n",
                ),
                (
                    LOBBY,
                    "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
                ),
                (
                    PVP,
                    "addresses = [\"10.0.0.6:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
                ),
            ],
        },
        Code::LonelyNetwork => Page {
            what: "Players can move between the servers of one `network`, and this network has one \
                   member. The other one may be misspelt.",
            why: "Nothing breaks, and there is nowhere to move to.",
            wrong: &[(
                LOBBY,
                "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
            )],
            right: &[
                (
                    LOBBY,
                    "domains = [\"play.example.com\"]\naddresses = [\"10.0.0.5:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
                ),
                (
                    PVP,
                    "addresses = [\"10.0.0.6:25565\"]\nproxy_mode = \"client_only\"\nnetwork = \"main\"\n",
                ),
            ],
        },
    }
}
