//! The manifest of a plugin: an ELF note, which the host reads without running the
//! plugin.
//!
//! All numbers of the descriptor are little-endian: format `u16`, API version
//! of the SDK twice `u16`, flags `u16`, hooks, needs and wants `u64` each, the
//! length of the text `u32`, and the text: `key=value` pairs, each ended by a
//! zero byte. Unknown keys are ignored.

use crate::{API_VERSION, Capability, Hook, Version};

/// The section of the note.
pub const NOTE_SECTION: &str = ".note.infrarust.plugin";
/// The name in the note, without its final zero byte.
pub const NOTE_NAME: &str = "infrarust";
/// The type in the note.
pub const NOTE_TYPE: u32 = 1;
/// The version of the layout of the descriptor.
pub const NOTE_FORMAT: u16 = 1;
/// Bytes of the descriptor before the text.
pub const NOTE_FIXED_BYTES: usize = 36;
/// The most bytes of text. A dozen short values take 500, and a reader refuses a longer
/// text before it parses it.
pub const NOTE_TEXT_BYTES_MAX: usize = 4096;
/// The name with its zero byte, padded to a multiple of four as ELF wants it.
const NAME_FIELD_BYTES: usize = 12;

/// Bits of the flags. Unknown bits are ignored.
pub mod flag {
    /// Panics unwind, so that the plugin can catch them.
    pub const PANIC_UNWIND: u16 = 1;
    /// Built with debug assertions.
    pub const DEBUG: u16 = 1 << 1;
    /// Brings an async runtime of its own.
    pub const RUNTIME: u16 = 1 << 2;
}

/// Keys of the text.
pub mod key {
    /// The name of the plugin; required.
    pub const NAME: &str = "name";
    /// The version of the plugin; required, semver.
    pub const VERSION: &str = "version";
    /// The versions of the API that the plugin runs with; required, a semver
    /// requirement.
    pub const REQUIRES: &str = "requires";
    /// The version of the SDK.
    pub const SDK: &str = "sdk";
    /// The licence of the plugin.
    pub const LICENSE: &str = "license";
    /// One sentence about the plugin.
    pub const DESCRIPTION: &str = "description";
    /// The names of the hooks, separated by commas.
    pub const HOOKS: &str = "hooks";
    /// The names of the needs, separated by commas.
    pub const NEEDS: &str = "needs";
    /// The names of the wants, separated by commas.
    pub const WANTS: &str = "wants";
}

/// A whole note, as it stands in the file. `N` is the length of the
/// descriptor, padded to a multiple of four.
#[derive(Debug)]
#[repr(C, align(4))]
pub struct Note<const N: usize> {
    name_bytes: u32,
    descriptor_bytes: u32,
    kind: u32,
    name: [u8; NAME_FIELD_BYTES],
    descriptor: [u8; N],
}

/// The parts of a note, built by the compiler of the plugin.
#[derive(Debug, Clone, Copy)]
pub struct NoteText {
    bytes: [u8; NOTE_TEXT_BYTES_MAX],
    len: usize,
}

impl NoteText {
    /// No text yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "used in constants only")]
    pub const fn new() -> Self {
        Self {
            bytes: [0; NOTE_TEXT_BYTES_MAX],
            len: 0,
        }
    }

    const fn byte(mut self, byte: u8) -> Self {
        assert!(
            self.len < NOTE_TEXT_BYTES_MAX,
            "the manifest of the plugin is over 4096 bytes"
        );
        self.bytes[self.len] = byte;
        self.len += 1;
        self
    }

    const fn text(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at] != 0, "a value of the manifest has a zero byte");
            self = self.byte(bytes[at]);
            at += 1;
        }
        self
    }

    const fn number(self, number: u16) -> Self {
        let mut text = self;
        let mut unit = 10_000;
        let mut started = false;
        while unit > 0 {
            let digit = (number / unit) % 10;
            if digit > 0 || started || unit == 1 {
                started = true;
                // A digit fits a byte.
                text = text.byte(b'0' + digit.to_le_bytes()[0]);
            }
            unit /= 10;
        }
        text
    }

    /// Adds a value, unless it is empty.
    #[must_use]
    pub const fn value(self, key: &str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        self.text(key).text("=").text(value).byte(0)
    }

    /// Adds the names of capabilities, unless there are none.
    #[must_use]
    pub const fn names(self, key: &str, capabilities: &[Capability]) -> Self {
        if capabilities.is_empty() {
            return self;
        }
        let mut text = self.text(key).text("=");
        let mut at = 0;
        while at < capabilities.len() {
            if at > 0 {
                text = text.text(",");
            }
            text = text.text(capabilities[at].name());
            at += 1;
        }
        text.byte(0)
    }

    const fn version(self, key: &str, prefix: &str, version: Version) -> Self {
        self.text(key)
            .text("=")
            .text(prefix)
            .number(version.major)
            .text(".")
            .number(version.minor)
            .text(".")
            .number(version.patch)
            .byte(0)
    }

    /// Adds the version of the SDK, and the version that the plugin requires: the first
    /// one that has all its hooks and needs.
    #[must_use]
    pub const fn requires(self, lists: &[&[Capability]]) -> Self {
        let mut version = oldest();
        let mut list = 0;
        while list < lists.len() {
            version = latest(version, lists[list]);
            list += 1;
        }
        self.required(version)
    }

    /// Like [`requires`](Self::requires), for a plugin with these hooks and needs. A
    /// capability can be older than its hook.
    #[must_use]
    pub const fn requires_for(self, hooks: &[Capability], needs: &[Capability]) -> Self {
        let mut version = oldest();
        let mut at = 0;
        while at < hooks.len() {
            version = version.max(match Hook::of(hooks[at]) {
                Some(hook) => hook.since(),
                None => hooks[at].since(),
            });
            at += 1;
        }
        self.required(latest(version, needs))
    }

    const fn required(self, version: Version) -> Self {
        self.version(key::SDK, "", API_VERSION)
            .version(key::REQUIRES, "^", version)
    }

    /// The length of the descriptor, padded.
    #[must_use]
    pub const fn padded_bytes(&self) -> usize {
        (NOTE_FIXED_BYTES + self.len).next_multiple_of(4)
    }
}

/// The oldest version that is compatible with this one.
const fn oldest() -> Version {
    if API_VERSION.major == 0 {
        Version::new(0, API_VERSION.minor, 0)
    } else {
        Version::new(API_VERSION.major, 0, 0)
    }
}

/// The first version from `version` on that has these capabilities.
const fn latest(version: Version, capabilities: &[Capability]) -> Version {
    let mut version = version;
    let mut at = 0;
    while at < capabilities.len() {
        version = version.max(capabilities[at].served_since());
        at += 1;
    }
    version
}

/// The mask of a list of capabilities.
#[must_use]
pub const fn mask(capabilities: &[Capability]) -> u64 {
    let mut mask = 0;
    let mut at = 0;
    while at < capabilities.len() {
        mask |= capabilities[at].bit();
        at += 1;
    }
    mask
}

impl<const N: usize> Note<N> {
    /// Builds a note. `N` is [`NoteText::padded_bytes`].
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the text has at most 4096 bytes"
    )]
    pub const fn new(
        text: &NoteText,
        flags: u16,
        hooks: &[Capability],
        needs: &[Capability],
        wants: &[Capability],
    ) -> Self {
        let mut name = [0; NAME_FIELD_BYTES];
        name.split_at_mut(NOTE_NAME.len())
            .0
            .copy_from_slice(NOTE_NAME.as_bytes());
        let mut descriptor = [0; N];
        let mut writer = Writer {
            out: &mut descriptor,
            at: 0,
        };
        writer.put(&NOTE_FORMAT.to_le_bytes());
        writer.put(&API_VERSION.major.to_le_bytes());
        writer.put(&API_VERSION.minor.to_le_bytes());
        writer.put(&flags.to_le_bytes());
        writer.put(&mask(hooks).to_le_bytes());
        writer.put(&mask(needs).to_le_bytes());
        writer.put(&mask(wants).to_le_bytes());
        writer.put(&(text.len as u32).to_le_bytes());
        writer.put(text.bytes.split_at(text.len).0);
        Self {
            name_bytes: NOTE_NAME.len() as u32 + 1,
            descriptor_bytes: (NOTE_FIXED_BYTES + text.len) as u32,
            kind: NOTE_TYPE,
            name,
            descriptor,
        }
    }

    /// The descriptor with its padding.
    #[must_use]
    pub const fn descriptor(&self) -> &[u8; N] {
        &self.descriptor
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    const fn put(&mut self, bytes: &[u8]) {
        let rest = self.out.split_at_mut(self.at).1;
        rest.split_at_mut(bytes.len()).0.copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOKS: &[Capability] = &[Capability::HandshakeRewrite, Capability::LoginDecide];
    const TEXT: NoteText = NoteText::new()
        .value(key::NAME, "a")
        .value(key::LICENSE, "")
        .names(key::HOOKS, HOOKS)
        .requires(&[HOOKS, &[]]);

    /// The bytes of a note that the compiler built are as documented.
    #[test]
    fn a_note_is_made_in_a_constant() {
        static NOTE: Note<{ TEXT.padded_bytes() }> = Note::new(
            &TEXT,
            flag::PANIC_UNWIND,
            HOOKS,
            &[],
            &[Capability::PacketInject],
        );
        let d = NOTE.descriptor();
        assert_eq!(d[..8], [1, 0, 0, 0, 1, 0, 1, 0]);
        assert_eq!(d[8..16], 0b1010_u64.to_le_bytes());
        assert_eq!(d[24..32], (1_u64 << 9).to_le_bytes());
        let text = format!(
            "name=a\0hooks=handshake.rewrite,login.decide\0sdk={API_VERSION}\0requires=^0.1.0\0"
        );
        assert_eq!(d[32..36], u32::try_from(text.len()).unwrap().to_le_bytes());
        assert_eq!(&d[36..36 + text.len()], text.as_bytes());
        assert_eq!(NOTE.descriptor_bytes as usize, 36 + text.len());
        assert_eq!(d.len() % 4, 0);
        assert_eq!(NOTE.name[..10], *b"infrarust\0");
    }

    /// A plugin requires the version of the latest of its hooks and needs.
    #[test]
    fn the_latest_of_a_list_is_required() {
        let required = |text: NoteText| {
            let text = String::from_utf8(text.bytes[..text.len].to_vec()).unwrap();
            text.split('\0')
                .find_map(|value| value.strip_prefix("requires=^").map(str::to_owned))
        };
        for hook in Hook::ALL {
            let text = NoteText::new().requires_for(&[hook.capability()], &[]);
            let since = hook.since().max(oldest());
            assert_eq!(required(text), Some(since.to_string()), "{hook}");
        }
        for capability in Capability::ALL {
            let text = NoteText::new().requires_for(&[], &[*capability]);
            let since = capability.served_since().max(oldest());
            assert_eq!(required(text), Some(since.to_string()), "{capability}");
        }
    }
}
