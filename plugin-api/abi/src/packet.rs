//! The kinds of packets that plugins know by name, and their fields. Each has a number
//! that is the same for every version of the game.

/// The type of a field of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum FieldType {
    /// True or false.
    Bool = 1,
    /// A whole number of at most 64 bits.
    Int = 2,
    /// A floating point number of 32 bits.
    Float = 3,
    /// Characters.
    Str = 4,
    /// A text component, as JSON with the keys that the game has since 1.21.5.
    Text = 5,
    /// Bytes.
    Bytes = 6,
    /// A UUID of 16 bytes.
    Uuid = 7,
}

/// Writes an enum of numbers that cross the border. Each number has a name and one further
/// column, which a method returns.
macro_rules! numbered {
    (
        $(#[$attribute:meta])*
        enum $type:ident {
            $(
                $(#[doc = $doc:literal])+
                $name:ident = $number:literal, $id:literal, $column:ident;
            )+
        }
        $(#[$of_method:meta])*
        fn $method:ident -> $holds:ty { $of_column:ident }
    ) => {
        $(#[$attribute])*
        ///
        /// The numbers never change; new ones are appended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum $type {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl $type {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name in documents, messages and the log, in lower case with `_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            $(#[$of_method])*
            #[must_use]
            pub const fn $method(self) -> $holds {
                match self { $(Self::$name => $of_column!($column),)+ }
            }

            /// The number, as it crosses the border.
            #[must_use]
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The one with this number.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

macro_rules! is_clientbound {
    (clientbound) => {
        true
    };
    (serverbound) => {
        false
    };
}

macro_rules! field_type {
    ($type:ident) => {
        FieldType::$type
    };
}

numbered! {
    /// A packet that means the same in every version of the game that has it. The proxy
    /// knows its id and its encoding in each version.
    enum PacketKind {
        /// A line of chat that a player sends.
        ChatMessage = 1, "chat_message", serverbound;
        /// A command that a player sends, without its `/`.
        ChatCommand = 2, "chat_command", serverbound;
        /// A line in the chat window that no player has signed. Up to 1.18.2 these are
        /// all lines, those of players too.
        SystemMessage = 3, "system_message", clientbound;
        /// The line above the items (1.8 and later).
        ActionBar = 4, "action_bar", clientbound;
        /// The big text, which begins the display (1.8 and later).
        Title = 5, "title", clientbound;
        /// The text below the title that follows it (1.8 and later).
        Subtitle = 6, "subtitle", clientbound;
        /// How long the titles that follow are shown (1.8 and later).
        TitleTimes = 7, "title_times", clientbound;
        /// The end of a title (1.8 and later).
        ClearTitle = 8, "clear_title", clientbound;
        /// The end of the connection, with a text.
        Disconnect = 9, "disconnect", clientbound;
        /// A plugin message to a client.
        PluginMessageToClient = 10, "plugin_message_to_client", clientbound;
        /// A plugin message to a server.
        PluginMessageToServer = 11, "plugin_message_to_server", serverbound;
        /// The player joins the game of a server, for the first time or after a switch.
        JoinGame = 12, "join_game", clientbound;
        /// The player changes the world, or respawns after a death.
        Respawn = 13, "respawn", clientbound;
        /// A resource pack to load (1.8 and later).
        ResourcePackPush = 14, "resource_pack_push", clientbound;
        /// A resource pack to unload, or all of them (1.20.3 and later).
        ResourcePackPop = 15, "resource_pack_pop", clientbound;
        /// The result of a resource pack (1.8 and later).
        ResourcePackStatus = 16, "resource_pack_status", serverbound;
        /// A move to another address (1.20.5 and later).
        Transfer = 17, "transfer", clientbound;
        /// A request for a cookie (1.20.5 and later).
        CookieRequest = 18, "cookie_request", clientbound;
        /// A cookie to keep (1.20.5 and later).
        CookieStore = 19, "cookie_store", clientbound;
        /// The requested cookie (1.20.5 and later).
        CookieResponse = 20, "cookie_response", serverbound;
        /// The client's settings.
        ClientInformation = 21, "client_information", serverbound;
        /// A request that the client answers to show that it is connected.
        KeepAlive = 22, "keep_alive", clientbound;
        /// The answer to it.
        KeepAliveAnswer = 23, "keep_alive_answer", serverbound;
        /// The texts above and below the list of players (1.8 and later).
        PlayerListText = 24, "player_list_text", clientbound;
        /// A new boss bar (1.9 and later).
        BossBarAdd = 25, "boss_bar_add", clientbound;
        /// The end of a boss bar (1.9 and later).
        BossBarRemove = 26, "boss_bar_remove", clientbound;
        /// How full a boss bar is (1.9 and later).
        BossBarProgress = 27, "boss_bar_progress", clientbound;
        /// The text of a boss bar (1.9 and later).
        BossBarText = 28, "boss_bar_text", clientbound;
    }

    /// Whether servers send it to clients; the others go to servers.
    fn is_clientbound -> bool { is_clientbound }
}

numbered! {
    /// A field of packets. One field means the same in every packet that has it.
    enum PacketField {
        /// What a player wrote; a command without its `/`.
        Message = 1, "message", Str;
        /// The text that is shown.
        Text = 2, "text", Text;
        /// The channel of a plugin message, by its name since 1.13 in every version.
        Channel = 3, "channel", Str;
        /// The content of a plugin message or a cookie.
        Data = 4, "data", Bytes;
        /// The name of a cookie.
        Key = 5, "key", Str;
        /// A host name or an address.
        Host = 6, "host", Str;
        /// A port.
        Port = 7, "port", Int;
        /// How long a title takes to appear, in ticks of 50 ms.
        FadeIn = 8, "fade_in", Int;
        /// How long a title stays, in ticks.
        Stay = 9, "stay", Int;
        /// How long a title takes to disappear, in ticks.
        FadeOut = 10, "fade_out", Int;
        /// Whether the times of titles are set back too.
        Reset = 11, "reset", Bool;
        /// The URL of a resource pack.
        Url = 12, "url", Str;
        /// The SHA-1 of a resource pack, in 40 hexadecimal digits, or nothing.
        Hash = 13, "hash", Str;
        /// Whether a player who refuses the resource pack has to leave (1.17 and later).
        Forced = 14, "forced", Bool;
        /// The text of the request to load a resource pack (1.17 and later).
        Prompt = 15, "prompt", Text;
        /// Which resource pack (1.20.3 and later).
        PackId = 16, "pack_id", Uuid;
        /// The result of a resource pack: 0 loaded, 1 declined, 2 failed, 3 accepted; since
        /// 1.20.3 also 4 downloaded, 5 bad address, 6 reload failed, 7 discarded.
        PackStatus = 17, "pack_status", Int;
        /// The number that the answer to a keep alive repeats.
        Id = 18, "id", Int;
        /// The language, such as `en_us`.
        Locale = 19, "locale", Str;
        /// How many chunks around the player are seen.
        ViewDistance = 20, "view_distance", Int;
        /// Which messages the client shows: 0 all, 1 of commands, 2 none.
        ChatMode = 21, "chat_mode", Int;
        /// Whether the client shows colours in chat.
        ChatColors = 22, "chat_colors", Bool;
        /// The parts of the skin that are shown, a bit each (1.8 and later).
        SkinParts = 23, "skin_parts", Int;
        /// The main hand: 0 left, 1 right (1.9 and later).
        MainHand = 24, "main_hand", Int;
        /// Whether texts are filtered for this player (1.17 and later).
        TextFiltering = 25, "text_filtering", Bool;
        /// Whether the player may be in the sample of the server list (1.18 and later).
        Listed = 26, "listed", Bool;
        /// How many particles are shown: 0 all, 1 fewer, 2 few (1.21.2 and later).
        Particles = 27, "particles", Int;
        /// The number of the player's own entity.
        EntityId = 28, "entity_id", Int;
        /// The game mode: 0 survival, 1 creative, 2 adventure, 3 spectator.
        GameMode = 29, "game_mode", Int;
        /// The game mode before, or -1 (1.16 and later).
        PreviousGameMode = 30, "previous_game_mode", Int;
        /// Whether the world ends with the player's first death.
        Hardcore = 31, "hardcore", Bool;
        /// The name of the world; before 1.16 that of its dimension.
        World = 32, "world", Str;
        /// The name of the kind of dimension (1.16, 1.16.1 and 1.19 to 1.20.4).
        Dimension = 33, "dimension", Str;
        /// The number of the dimension: before 1.16 -1, 0 or 1; since 1.20.5 its place in
        /// the registry.
        DimensionId = 34, "dimension_id", Int;
        /// A hash of the world's seed (1.15 and later).
        HashedSeed = 35, "hashed_seed", Int;
        /// The difficulty, 0 to 3 (before 1.14).
        Difficulty = 36, "difficulty", Int;
        /// The most players of the server, as it announces.
        MaxPlayers = 37, "max_players", Int;
        /// The kind of world, such as `flat` (before 1.16).
        LevelType = 38, "level_type", Str;
        /// In how many chunks around the player the game runs (1.18 and later).
        SimulationDistance = 39, "simulation_distance", Int;
        /// Whether the debug screen hides coordinates (1.8 and later).
        ReducedDebugInfo = 40, "reduced_debug_info", Bool;
        /// Whether a death shows a screen (1.15 and later).
        RespawnScreen = 41, "respawn_screen", Bool;
        /// Whether only known recipes can be used (1.20.2 and later).
        LimitedCrafting = 42, "limited_crafting", Bool;
        /// Whether the world is the one with all blocks (1.16 and later).
        DebugWorld = 43, "debug_world", Bool;
        /// Whether the world is flat (1.16 and later).
        FlatWorld = 44, "flat_world", Bool;
        /// How many ticks a portal stays closed (1.20 and later).
        PortalCooldown = 45, "portal_cooldown", Int;
        /// The level of the sea (1.21.2 and later).
        SeaLevel = 46, "sea_level", Int;
        /// Whether the server wants signed chat (1.20.5 and later).
        SecureChat = 47, "secure_chat", Bool;
        /// Whether the server proves its players (26.2 and later).
        OnlineMode = 48, "online_mode", Bool;
        /// The data that a respawn keeps, a bit each: 1 attributes, 2 other data (1.16 and later).
        Kept = 49, "kept", Int;
        /// The text above the list of players.
        Header = 50, "header", Text;
        /// The text below the list of players.
        Footer = 51, "footer", Text;
        /// Which boss bar.
        BossBarId = 52, "boss_bar_id", Uuid;
        /// How full it is, 0 to 1.
        Progress = 53, "progress", Float;
        /// Its colour: 0 pink, 1 blue, 2 red, 3 green, 4 yellow, 5 purple, 6 white.
        BossBarColor = 54, "boss_bar_color", Int;
        /// Its parts: 0 one, 1 six, 2 ten, 3 twelve, 4 twenty.
        BossBarParts = 55, "boss_bar_parts", Int;
        /// 1 the sky is dark, 2 the music of the end plays, 4 there is fog.
        BossBarFlags = 56, "boss_bar_flags", Int;
        /// When a message was written, in milliseconds since 1970 (1.19 and later).
        Timestamp = 57, "timestamp", Int;
        /// A part of what is signed (1.19 and later).
        Salt = 58, "salt", Int;
        /// The signature of a message (1.19 and later).
        Signature = 59, "signature", Bytes;
        /// The signatures of a command's arguments, as they are in the packet (1.19 and
        /// later, since 1.20.5 only where there are some).
        ArgumentSignatures = 60, "argument_signatures", Bytes;
        /// Which messages the client has seen, as it is in the packet (1.19.1 and later).
        Seen = 61, "seen", Bytes;
        /// How many messages have come since the last one that was sent (1.19.3 and later).
        SeenOffset = 62, "seen_offset", Int;
        /// Where a line is shown: 0 chat, 1 system (1.8 to 1.19).
        Position = 63, "position", Int;
        /// Who sent a line (1.16 to 1.18.2).
        Sender = 64, "sender", Uuid;
    }

    /// What it holds.
    fn holds -> FieldType { field_type }
}

#[cfg(test)]
mod tests {
    use super::{PacketField, PacketKind};

    /// Numbers are dense and in order, names are unique, and each number gives its value.
    #[test]
    fn numbers_and_names_are_unique() {
        for (index, kind) in PacketKind::ALL.iter().enumerate() {
            assert_eq!(usize::from(kind.number()), index + 1);
            assert_eq!(PacketKind::from_number(kind.number()), Some(*kind));
            let same = PacketKind::ALL
                .iter()
                .filter(|other| other.name() == kind.name());
            assert_eq!(same.count(), 1);
        }
        for (index, field) in PacketField::ALL.iter().enumerate() {
            assert_eq!(usize::from(field.number()), index + 1);
            assert_eq!(PacketField::from_number(field.number()), Some(*field));
            let same = PacketField::ALL
                .iter()
                .filter(|other| other.name() == field.name());
            assert_eq!(same.count(), 1);
        }
        for number in [0, 0x8000, u16::MAX] {
            assert_eq!(PacketKind::from_number(number), None);
            assert_eq!(PacketField::from_number(number), None);
        }
    }
}
