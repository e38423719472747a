//! Every hook and every service of the API version that it is built with.
//!
//! A binary is kept for each released version, so its answers must not change after that.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use infrarust_plugin_api::prelude::*;
use infrarust_plugin_api::{Counter, Gauge};

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// Written before hosts and into texts.
    word: String,
    /// At most 10.
    limit: Option<Spanned<u32>>,
}

struct Everything {
    word: String,
    host: Host<Self>,
    asked: Counter,
    open: Gauge,
}

impl Plugin for Everything {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        if let Some(limit) = config.limit
            && *limit.get_ref() > 10
        {
            return Err(Error::at(limit.span(), "the limit is 10"));
        }
        let ticks = host.gauge("ticks")?;
        let mut count = 0;
        host.every(Duration::from_millis(2), move || {
            count += 1;
            ticks.set(count);
            std::future::ready(())
        })?;
        host.spawn(std::future::pending())?.abort();
        host.gauge("players")?.set(i64::try_from(host.players())?);
        let lobby = host.players_on("lobby").map_or(-1, u64::cast_signed);
        host.gauge("players_on_lobby")?.set(lobby);
        let nowhere = host.players_on("nowhere").map_or(-1, u64::cast_signed);
        host.gauge("players_on_nowhere")?.set(nowhere);
        let granted = host.grant::<capability::PacketInject>().is_some();
        std::fs::write(host.data_folder()?.join("word"), &config.word)?;
        tracing::error!(word = config.word, "at error");
        tracing::warn!(number = -3, "at warn");
        tracing::info!(granted, "at info");
        tracing::debug!(half = 0.5, "at debug");
        tracing::trace!(printed = ?Some(1), "at trace");
        Ok(Self {
            word: config.word,
            host: host.clone(),
            asked: host.counter("asked")?,
            open: host.gauge("open")?,
        })
    }
}

impl Drop for Everything {
    fn drop(&mut self) {
        if let Ok(folder) = self.host.data_folder() {
            let _ = std::fs::write(folder.join("ended"), &self.word);
        }
    }
}

#[async_trait]
impl ConnectionDecide for Everything {
    async fn connection_decide(&self, connection: Connection<'_>) -> Result<Verdict> {
        self.asked.add(1);
        let peer = connection.peer();
        if peer.ip().is_loopback() {
            return Ok(Verdict::allow());
        }
        if connection.virtual_host().is_empty() {
            return Ok(Verdict::drop());
        }
        Ok(Verdict::refuse(format!(
            "{peer} {} {} {} {:?}",
            connection.virtual_host(),
            connection.server(),
            connection.protocol(),
            connection.intent(),
        )))
    }
}

impl HandshakeRewrite for Everything {
    fn handshake_rewrite(&self, handshake: &Handshake<'_>) -> Result<Rewrite> {
        self.asked.add(1);
        match handshake.virtual_host() {
            "keep" => Ok(Rewrite::keep()),
            "panic" => panic!("asked for"),
            _ => Ok(Rewrite::host(format!("{}.{}", self.word, handshake.host()))),
        }
    }
}

#[async_trait]
impl StatusRespond for Everything {
    async fn status_respond(&self, status: Status<'_>) -> Result<Reply> {
        self.asked.add(1);
        self.host.sleep(Duration::from_millis(1)).await;
        Ok(match status.virtual_host() {
            "keep" => Reply::keep(),
            "drop" => Reply::drop(),
            _ => Reply::json(format!(
                "{{\"word\":\"{}\",\"online\":{},\"was\":{}}}",
                self.word,
                status.is_online(),
                status.json()
            )),
        })
    }
}

#[async_trait]
impl LoginDecide for Everything {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        self.asked.add(1);
        match login.name() {
            "Panic" => panic!("asked for"),
            "Error" => Err(Error::msg("asked for")),
            "Sleep" => {
                self.host.sleep(Duration::from_millis(5)).await;
                Ok(Verdict::refuse("slept"))
            }
            "Timeout" => {
                let never = std::future::pending::<()>();
                let waited = self.host.timeout(Duration::from_millis(5), never).await;
                Ok(Verdict::refuse(waited.unwrap_err().to_string()))
            }
            "Spawn" => {
                let done = Arc::new(AtomicBool::new(false));
                let set = Arc::clone(&done);
                self.host
                    .spawn(async move { set.store(true, Ordering::Release) })?;
                while !done.load(Ordering::Acquire) {
                    self.host.sleep(Duration::from_millis(1)).await;
                }
                Ok(Verdict::refuse("spawned"))
            }
            "May" => Ok(Verdict::refuse(format!(
                "{} {}",
                login.may(Capability::LoginDecide),
                login.may(Capability::PacketInject)
            ))),
            _ => Ok(Verdict::allow()),
        }
    }
}

#[async_trait]
impl RouteSelect for Everything {
    async fn route_select(&self, login: Login<'_>) -> Result<Choice> {
        self.asked.add(1);
        Ok(match login.uuid() {
            Some(uuid) => Choice::server(format!("s{uuid}")),
            None => Choice::keep(),
        })
    }
}

impl SessionObserve for Everything {
    fn session_observe(&self, session: &Session<'_>) -> Result<()> {
        self.asked.add(1);
        match session.event() {
            Event::Opened => self.open.set(session.id().cast_signed()),
            Event::Connected { backend } => {
                tracing::info!(backend, name = session.name(), "connected");
            }
            Event::Closed {
                serverbound_bytes,
                clientbound_bytes,
                duration,
                reason,
            } => {
                self.open.set(0);
                let bytes = self.host.counter("bytes")?;
                bytes.add(serverbound_bytes + clientbound_bytes);
                tracing::info!(reason, seconds = duration.as_secs(), "closed");
            }
            _ => {}
        }
        Ok(())
    }
}

impl PlayerObserve for Everything {
    fn player_observe(&self, player: &Player<'_>) -> Result<()> {
        self.asked.add(1);
        let identity = self.host.grant::<capability::IdentityVerified>();
        let profile = identity.map(|identity| identity.profile(player.id()));
        tracing::info!(name = player.name(), ?profile, "observed");
        Ok(())
    }
}

impl PacketInspect for Everything {
    fn interest(&self) -> Interest {
        Interest::in_kinds([PacketKind::ChatMessage])
    }

    fn packet_inspect(&self, packet: &Packet<'_>) -> Result<()> {
        self.asked.add(1);
        if let Some(chat) = packet.chat_message()
            && chat.message()? == "panic"
        {
            panic!("asked for");
        }
        Ok(())
    }
}

impl PacketModify for Everything {
    fn interest(&self) -> Interest {
        Interest::in_kinds([PacketKind::ChatMessage])
    }

    fn packet_modify(&self, packet: &mut Packet<'_>) -> Result<PacketVerdict> {
        self.asked.add(1);
        let said: Option<String> = packet.get(PacketField::Message)?;
        match said.as_deref() {
            None | Some("keep" | "panic") => {}
            Some("drop") => return Ok(PacketVerdict::drop()),
            Some(line) => {
                let raw = packet.fields().len();
                packet.set(PacketField::Message, format!("{} {line} {raw}", self.word))?;
            }
        }
        Ok(PacketVerdict::pass())
    }
}

#[async_trait]
impl PlayerCommand for Everything {
    fn commands(&self) -> Vec<CommandSpec> {
        vec![CommandSpec::new("everything", Audience::Everybody)]
    }

    async fn player_command(&self, command: Command<'_>) -> Result<CommandReply> {
        self.asked.add(1);
        let messages = self.host.grant::<capability::PlayerMessage>();
        let sent = messages.map(|messages| messages.chat(command.player(), "said"));
        Ok(CommandReply::say(format!("{} {sent:?}", self.word)))
    }

    async fn complete(&self, command: Command<'_>) -> Result<Vec<String>> {
        self.asked.add(1);
        Ok(vec![format!("{}{}", self.word, command.arguments())])
    }
}

export_plugin! {
    plugin: Everything,
    name: "everything",
    hooks: [
        ConnectionDecide, HandshakeRewrite, StatusRespond, LoginDecide, RouteSelect, SessionObserve,
        PlayerObserve, PacketInspect, PacketModify, PlayerCommand,
    ],
    needs: [ForwardingHost],
    wants: [
        PacketInject, PlayerMessage, IdentityVerified, PlayerTransfer, PlayerCookie, ServerSwitch,
    ],
}
