//! A plugin for the tests of the intercepted modes. It does what each packet says, and
//! writes the packets that it sees to a file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The file for the packets that are seen, one line each.
    events: PathBuf,
    /// The kinds that are inspected; `to_client` and `to_backend` are all of a direction.
    #[serde(default)]
    inspect: Vec<String>,
    /// The kinds that are changed and dropped.
    #[serde(default)]
    modify: Vec<String>,
    /// What to do with packets other than lines of chat.
    #[serde(default)]
    others: String,
    /// Whether packets are only counted.
    #[serde(default)]
    counts: bool,
}

struct Packets {
    config: Config,
    count: AtomicUsize,
    host: Host<Self>,
}

/// The channel of a plugin message after which the player is sent one of each.
const SEND_CHANNEL: &str = "p:send";

impl Plugin for Packets {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let (count, host) = (AtomicUsize::new(0), host.clone());
        Ok(Packets {
            config,
            count,
            host,
        })
    }
}

fn interest(names: &[String]) -> Interest {
    let has = |name: &str| names.iter().any(|known| known == name);
    let kinds = PacketKind::ALL.iter().filter(|kind| has(kind.name()));
    let mut interest = Interest::in_kinds(kinds.copied());
    if has("to_client") {
        interest = interest.and_all_to_client();
    }
    if has("to_backend") {
        interest = interest.and_all_to_backend();
    }
    interest
}

impl PacketInspect for Packets {
    fn interest(&self) -> Interest {
        interest(&self.config.inspect)
    }

    fn packet_inspect(&self, packet: &Packet<'_>) -> Result<()> {
        if self.config.counts {
            let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(1000) {
                self.write(&count.to_string())?;
            }
            return Ok(());
        }
        if let Some(message) = packet.plugin_message_to_server()
            && message.channel()? == SEND_CHANNEL
        {
            return self.send_each(packet.player());
        }
        let kind = packet.kind().map_or("other", PacketKind::name);
        let said = match packet.chat_message() {
            Some(chat) => chat.message()?,
            None => what(packet)?,
        };
        let (state, name) = (packet.state(), packet.player_name());
        self.write(&format!("{name} {kind} {state:?} {said}"))
    }
}

/// An instruction in a packet.
fn what(packet: &Packet<'_>) -> Result<String> {
    Ok(if let Some(command) = packet.chat_command() {
        command.command()?
    } else if let Some(message) = packet.plugin_message_to_client() {
        message.channel()?
    } else if let Some(message) = packet.plugin_message_to_server() {
        message.channel()?
    } else if let Some(settings) = packet.client_information() {
        settings.locale()?
    } else if let Some(pack) = packet.resource_pack_push() {
        pack.url()?
    } else if let Some(join) = packet.join_game() {
        format!("mode {}", join.game_mode()?)
    } else if let Some(message) = packet.system_message() {
        message.text()?.plain()
    } else {
        String::new()
    })
}

impl PacketModify for Packets {
    fn interest(&self) -> Interest {
        interest(&self.config.modify)
    }

    fn packet_modify(&self, packet: &mut Packet<'_>) -> Result<PacketVerdict> {
        let said = match (packet.chat_message(), packet.chat_command()) {
            (Some(chat), _) => chat.message()?,
            (_, Some(command)) => command.command()?,
            _ => self.config.others.clone(),
        };
        let (order, text) = said.split_once(' ').unwrap_or((&said, ""));
        match order {
            "rights" => {
                let (can_drop, can_change) = (packet.can_drop(), packet.can_change());
                self.write(&format!("drop {can_drop} change {can_change}"))?;
            }
            "drop" => return Ok(PacketVerdict::drop()),
            "shout" => packet.set(PacketField::Message, text.to_uppercase())?,
            "garbage" => packet.set_fields(&[0xFF; 7])?,
            "other-text" => packet.set(PacketField::Text, Text::new("other").bold())?,
            "pad" => packet.set_fields(&vec![b'p'; text.parse()?])?,
            "long" => packet.set(PacketField::Message, "x".repeat(1000))?,
            "sleep" => {
                self.write("asleep")?;
                std::thread::sleep(Duration::from_millis(text.parse()?));
            }
            "error" => return Err(Error::msg("as the packet says")),
            "panic" => panic!("as the packet says"),
            _ => {}
        }
        Ok(PacketVerdict::pass())
    }
}

impl Packets {
    /// Sends the player one of each, and writes what comes of it.
    fn send_each(&self, player: PlayerId) -> Result<()> {
        let none = || Error::msg("no service");
        let messages = self.host.grant::<capability::PlayerMessage>();
        let messages = messages.ok_or_else(none)?;
        let packets = self.host.grant::<capability::PacketInject>();
        let packets = packets.ok_or_else(none)?;
        let cookies = self.host.grant::<capability::PlayerCookie>();
        let cookies = cookies.ok_or_else(none)?;
        let transfer = self.host.grant::<capability::PlayerTransfer>();
        let transfer = transfer.ok_or_else(none)?;
        let to_client = Outgoing::plugin_message_to_client("p:here", b"x");
        let to_backend = Outgoing::plugin_message_to_server("p:there", b"x");
        let results = [
            ("chat", messages.chat(player, "a line")),
            ("title", messages.title(player, &Title::new("a title"))),
            ("message", packets.send(player, &to_client)),
            ("other message", packets.send(player, &to_backend)),
            ("cookie", cookies.store(player, "p:key", b"x")),
            ("request", cookies.request(player, "p:key").map(drop)),
            ("transfer", transfer.transfer(player, "example.com", 1)),
        ];
        for (what, result) in results {
            match result {
                Ok(()) => self.write(&format!("{what} sent"))?,
                Err(error) => self.write(&format!("{what}: {error}"))?,
            }
        }
        Ok(())
    }

    fn write(&self, line: &str) -> Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .open(&self.config.events)?;
        Ok(writeln!(file, "{line}")?)
    }
}

export_plugin! {
    plugin: Packets,
    name: "packets",
    hooks: [PacketInspect, PacketModify],
    wants: [PacketInject, PlayerCookie, PlayerMessage, PlayerTransfer],
}
