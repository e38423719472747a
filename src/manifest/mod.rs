//! Reads the manifest of a plugin from the bytes of its file.
//!
//! `elf` finds the note with the manifest and checks the ELF file around it, [`read`]
//! parses it, and [`Refusal`] has each reason why a file is not loaded. [`mod@file`] adds
//! the checks that a configuration asks for, [`library`] what the file says about the
//! system that it needs.
//!
//! Nothing here runs code of the plugin. It is separate from the plugin host, so
//! that a configuration can be checked against plugins without loading them.

mod elf;
pub mod file;
pub mod library;
mod refusal;

use std::collections::BTreeMap;
use std::fmt;

pub use infrarust_plugin_abi::Hook;
use infrarust_plugin_abi::{
    API_VERSION, Capability, NOTE_FIXED_BYTES, NOTE_FORMAT, NOTE_TEXT_BYTES_MAX, Version,
    capabilities_in, flag, key,
};
use semver::VersionReq;

pub use self::elf::descriptor;
pub use self::refusal::Refusal;
use crate::capability::{Offer, Reason, offer};
use crate::mode::Mode;
use crate::show;

/// The longest name of a plugin in bytes, as for servers.
const NAME_BYTES_MAX: usize = 64;
/// How many characters of a value from a file an error shows.
const SHOWN_CHARS_MAX: usize = 80;

/// What a plugin says about itself. Every value has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its name: `a-z 0-9 _ - .`, 1 to 64 bytes.
    pub name: String,
    /// Its version.
    pub version: semver::Version,
    /// The versions of the plugin API that it runs on.
    pub requires: VersionReq,
    /// The version of the SDK that it was built with: the first two numbers.
    pub api: (u16, u16),
    /// Its hooks.
    pub hooks: CapabilitySet,
    /// The capabilities without which it does not run.
    pub needs: CapabilitySet,
    /// The capabilities that it uses where the mode offers them.
    pub wants: CapabilitySet,
    /// Whether it was built with debug assertions.
    pub is_debug: bool,
    /// Whether it brings an async runtime of its own.
    pub has_runtime: bool,
    /// Its licence, if stated.
    pub license: Option<String>,
    /// One sentence about it, if stated.
    pub description: Option<String>,
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// The bits, as they are passed to plugins.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether a capability is in it.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Its capabilities, in the order of their bits.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        capabilities_in(self.0)
    }

    /// The capabilities that are in `self`, in `other` or in both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, capability) in self.iter().enumerate() {
            write!(f, "{}{capability}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// In which list of its manifest a plugin has a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// It has the hook.
    Hook,
    /// It does not run without it.
    Need,
    /// It uses it where the mode offers it.
    Want,
}

impl Listing {
    /// The key of the list in the manifest.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Listing::Hook => key::HOOKS,
            Listing::Need => key::NEEDS,
            Listing::Want => key::WANTS,
        }
    }
}

/// A capability that a plugin lists and a mode does not offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingCapability {
    /// The capability.
    pub capability: Capability,
    /// In which list the plugin has it.
    pub listing: Listing,
    /// Why the mode does not offer it.
    pub reason: Reason,
}

impl Manifest {
    /// What `mode` does not offer: hooks, then needs, then wants.
    #[must_use]
    pub fn missing_in(&self, mode: Mode) -> Vec<MissingCapability> {
        let lists = [
            (self.hooks, Listing::Hook),
            (self.needs, Listing::Need),
            (self.wants, Listing::Want),
        ];
        let mut missing = Vec::new();
        for (set, listing) in lists {
            for capability in set.iter() {
                if let Offer::No(reason) = offer(mode, capability) {
                    missing.push(MissingCapability {
                        capability,
                        listing,
                        reason,
                    });
                }
            }
        }
        missing
    }

    /// Whether the plugin runs on servers with `mode`.
    #[must_use]
    pub fn runs_in(&self, mode: Mode) -> bool {
        self.missing_in(mode)
            .iter()
            .all(|one| one.listing == Listing::Want)
    }

    /// The modes in which it runs, in the order of [`Mode::ALL`].
    pub fn modes(&self) -> impl Iterator<Item = Mode> {
        Mode::ALL.into_iter().filter(|mode| self.runs_in(*mode))
    }

    /// Everything that it lists: hooks, needs and wants.
    #[must_use]
    pub fn declared(&self) -> CapabilitySet {
        self.hooks.union(self.needs).union(self.wants)
    }

    /// What the plugin may do on a server with this mode: the capabilities that it
    /// lists and the mode offers.
    #[must_use]
    pub fn grants(&self, mode: Mode) -> CapabilitySet {
        let declared = self.declared();
        let granted = declared
            .iter()
            .filter(|capability| offer(mode, *capability) == Offer::Yes);
        CapabilitySet(granted.fold(0, |bits, capability| bits | capability.bit()))
    }
}

/// A text from the file, safe to show.
fn shown(text: &str) -> String {
    show::start_of_line(text, SHOWN_CHARS_MAX)
}

/// Reads the manifest of a plugin from the bytes of its file.
///
/// # Errors
///
/// A [`Refusal`] when the file must not be loaded: it is not a plugin, damaged,
/// for another machine or API, or would end the proxy when it panics.
pub fn read(file: &[u8]) -> Result<Manifest, Refusal> {
    descriptor(file).and_then(parse)
}

/// The fixed part of a descriptor, in the order of its bytes.
struct Fixed {
    api: (u16, u16),
    flags: u16,
    hooks: u64,
    needs: u64,
    wants: u64,
}

/// Reads the descriptor of a manifest.
///
/// # Errors
///
/// As [`read`].
pub fn parse(descriptor: &[u8]) -> Result<Manifest, Refusal> {
    let (fixed, text) = split(descriptor)?;
    let host = API_VERSION;
    if !Version::new(fixed.api.0, fixed.api.1, 0).same_abi(host) {
        return Err(Refusal::Api {
            found: fixed.api,
            host,
        });
    }
    let texts = texts(text)?;
    let required = |key: &'static str| texts.get(key).copied().ok_or(Refusal::Missing(key));
    let value = |key: &'static str, why: String| {
        let value = shown(texts.get(key).copied().unwrap_or_default());
        Refusal::Value { key, value, why }
    };

    let name = required(key::NAME)?;
    let is_name = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name) {
        return Err(value(
            key::NAME,
            "a name is 1 to 64 of a to z, digits, `-`, `_` and `.`".to_owned(),
        ));
    }
    let version = semver::Version::parse(required(key::VERSION)?)
        .map_err(|error| value(key::VERSION, error.to_string()))?;
    let requires = VersionReq::parse(required(key::REQUIRES)?)
        .map_err(|error| value(key::REQUIRES, error.to_string()))?;
    let offered = semver::Version::new(host.major.into(), host.minor.into(), host.patch.into());
    if !requires.matches(&offered) {
        return Err(Refusal::Requires {
            requires: requires.to_string(),
            host,
        });
    }

    let hooks = set(
        key::HOOKS,
        fixed.hooks,
        texts.get(key::HOOKS).copied(),
        true,
    )?;
    let needs = set(
        key::NEEDS,
        fixed.needs,
        texts.get(key::NEEDS).copied(),
        true,
    )?;
    let wants = set(
        key::WANTS,
        fixed.wants,
        texts.get(key::WANTS).copied(),
        false,
    )?;
    if let Some(capability) = hooks
        .iter()
        .find(|capability| Hook::of(*capability).is_none())
    {
        return Err(Refusal::NoHook { capability });
    }
    if fixed.flags & flag::PANIC_UNWIND == 0 {
        return Err(Refusal::PanicAbort);
    }
    let optional = |key| texts.get(key).map(|text| (*text).to_owned());
    Ok(Manifest {
        name: name.to_owned(),
        version,
        requires,
        api: fixed.api,
        hooks,
        needs,
        wants,
        is_debug: fixed.flags & flag::DEBUG != 0,
        has_runtime: fixed.flags & flag::RUNTIME != 0,
        license: optional(key::LICENSE),
        description: optional(key::DESCRIPTION),
    })
}

fn split(descriptor: &[u8]) -> Result<(Fixed, &[u8]), Refusal> {
    let mut rest = descriptor;
    // The format comes first: everything after it depends on it.
    let format = u16::from_le_bytes(take(&mut rest)?);
    if format != NOTE_FORMAT {
        return Err(Refusal::Format {
            found: format,
            known: NOTE_FORMAT,
        });
    }
    let fixed = Fixed {
        api: (
            u16::from_le_bytes(take(&mut rest)?),
            u16::from_le_bytes(take(&mut rest)?),
        ),
        flags: u16::from_le_bytes(take(&mut rest)?),
        hooks: u64::from_le_bytes(take(&mut rest)?),
        needs: u64::from_le_bytes(take(&mut rest)?),
        wants: u64::from_le_bytes(take(&mut rest)?),
    };
    let announced = u32::from_le_bytes(take(&mut rest)?);
    let len = usize::try_from(announced).unwrap_or(usize::MAX);
    if len > NOTE_TEXT_BYTES_MAX {
        return Err(Refusal::Broken(format!(
            "its text has {announced} bytes, and at most {NOTE_TEXT_BYTES_MAX} are read"
        )));
    }
    let text = rest.get(..len).ok_or_else(|| {
        Refusal::Broken(format!(
            "its text has {announced} bytes, and {} are there",
            rest.len()
        ))
    })?;
    Ok((fixed, text))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Refusal> {
    let (taken, left) = rest.split_first_chunk().ok_or_else(|| {
        Refusal::Broken(format!("it ends before its first {NOTE_FIXED_BYTES} bytes"))
    })?;
    *rest = left;
    Ok(*taken)
}

/// Reads the `key=value` pairs of the text. A key must not occur twice.
fn texts(text: &[u8]) -> Result<BTreeMap<&str, &str>, Refusal> {
    let text = std::str::from_utf8(text)
        .map_err(|error| Refusal::Broken(format!("its text is not UTF-8: {error}")))?;
    let mut texts = BTreeMap::new();
    for pair in text.split_terminator('\0') {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Refusal::Broken(format!(
                "`{}` is not `key=value`",
                shown(pair)
            )));
        };
        if texts.insert(key, value).is_some() {
            return Err(Refusal::Broken(format!("`{}` is there twice", shown(key))));
        }
    }
    Ok(texts)
}

/// Checks that the bits of a list agree with its names. If `is_binding`, unknown
/// capabilities are refused; otherwise they are ignored.
fn set(
    list: &'static str,
    bits: u64,
    names: Option<&str>,
    is_binding: bool,
) -> Result<CapabilitySet, Refusal> {
    let names: Vec<&str> = names
        .map(|names| names.split(',').collect())
        .unwrap_or_default();
    let mut named = 0;
    let mut unknown = Vec::new();
    for name in &names {
        match name.parse::<Capability>() {
            Ok(capability) => named |= capability.bit(),
            Err(_) => unknown.push(shown(name)),
        }
    }
    let known = Capability::ALL
        .iter()
        .fold(0, |bits, capability| bits | capability.bit());
    let strange = bits & !known;
    if is_binding && (strange != 0 || !unknown.is_empty()) {
        if unknown.is_empty() {
            unknown = (0..u64::BITS)
                .filter(|bit| strange & (1 << bit) != 0)
                .map(|bit| format!("bit {bit}"))
                .collect();
        }
        return Err(Refusal::Unknown {
            list,
            named: unknown,
        });
    }
    // An unknown want is not granted, which is not an error.
    if bits & known != named {
        let text = |bits| match CapabilitySet(bits) {
            CapabilitySet(0) => "none".to_owned(),
            set => set.to_string(),
        };
        return Err(Refusal::Disagree {
            list,
            named: text(named),
            bits: text(bits & known),
        });
    }
    Ok(CapabilitySet(named))
}

#[cfg(test)]
mod tests;
