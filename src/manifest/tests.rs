use infrarust_plugin_abi::NOTE_TYPE;
use object::elf::{ET_DYN, PT_LOAD};
use proptest::prelude::*;

use super::elf::MACHINE;
use super::*;

/// The values that a test writes into a descriptor.
struct Spec<'a> {
    format: u16,
    api: (u16, u16),
    flags: u16,
    bits: [u64; 3],
    text: &'a [u8],
    announced: Option<u32>,
}

const GOOD: &[u8] = b"name=gate\0version=1.2.3\0requires=^0.1.0\0hooks=login.decide\0future=x\0";

impl Default for Spec<'_> {
    fn default() -> Self {
        let hooks = Capability::LoginDecide.bit();
        Self {
            format: 1,
            api: (0, 1),
            flags: 1,
            bits: [hooks, 0, 0],
            text: GOOD,
            announced: None,
        }
    }
}

impl Spec<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.format, self.api.0, self.api.1, self.flags] {
            bytes.extend(number.to_le_bytes());
        }
        for number in self.bits {
            bytes.extend(number.to_le_bytes());
        }
        let len = u32::try_from(self.text.len()).unwrap();
        bytes.extend(self.announced.unwrap_or(len).to_le_bytes());
        bytes.extend(self.text);
        bytes
    }

    fn refusal(&self) -> Refusal {
        parse(&self.bytes()).unwrap_err()
    }
}

/// Every value of a good descriptor is read; unknown keys and flags are ignored.
#[test]
fn a_manifest_is_read() {
    let manifest = parse(
        &Spec {
            flags: 0b1000_0101,
            ..Spec::default()
        }
        .bytes(),
    )
    .unwrap();
    assert_eq!(
        (
            manifest.name.as_str(),
            manifest.version.to_string().as_str()
        ),
        ("gate", "1.2.3")
    );
    assert!(manifest.hooks.contains(Capability::LoginDecide));
    assert!(manifest.has_runtime && !manifest.is_debug);
    assert_eq!(manifest.modes().count(), 5);
    assert_eq!(manifest.license, None);
}

/// Each mistake is named with its field, what is there and what should be.
#[test]
fn refusals_have_both_values() {
    let text = |text: &'static [u8]| {
        Spec {
            text,
            ..Spec::default()
        }
        .refusal()
        .to_string()
    };
    let cases = [
        (
            Spec {
                format: 9,
                ..Spec::default()
            }
            .refusal()
            .to_string(),
            "its manifest has format 9, and this proxy knows format 1",
        ),
        (
            Spec {
                api: (2, 0),
                ..Spec::default()
            }
            .refusal()
            .to_string(),
            "it is built with plugin API 2.0, and this proxy offers HERE",
        ),
        (
            Spec {
                flags: 0,
                ..Spec::default()
            }
            .refusal()
            .to_string(),
            "it is built with `panic = \"abort\"`: a panic in it would end the proxy",
        ),
        (
            Spec {
                announced: Some(5000),
                ..Spec::default()
            }
            .refusal()
            .to_string(),
            "its manifest is broken: its text has 5000 bytes, and at most 4096 are read",
        ),
        (
            Spec {
                announced: Some(100),
                ..Spec::default()
            }
            .refusal()
            .to_string(),
            "its manifest is broken: its text has 100 bytes, and 68 are there",
        ),
        (
            Spec {
                bits: [8, 1 << 40, 0],
                ..Spec::default()
            }
            .refusal()
            .to_string(),
            "it lists `bit 40` in `needs`, which this proxy does not know",
        ),
        (
            Spec {
                bits: [1, 0, 0],
                ..Spec::default()
            }
            .refusal()
            .to_string(),
            "its manifest lists login.decide in `hooks`, but its bits say connection.decide",
        ),
        (
            text(b"version=1.0.0\0requires=*\0"),
            "its manifest has no `name`",
        ),
        (
            text(b"name=a b\0version=1.0.0\0requires=*\0"),
            "its manifest says `name = a b`: a name is 1 to 64 of a to z, digits, `-`, `_` and `.`",
        ),
        (
            text(b"name=a\0version=one\0requires=*\0"),
            "its manifest says `version = one`: unexpected character 'o' while parsing major version number",
        ),
        (
            text(b"name=a\0version=1.0.0\0requires=^0.1.3\0"),
            "it requires plugin API ^0.1.3, and this proxy offers HERE",
        ),
        (
            text(b"name=a\0version=1.0.0\0requires=*\0hooks=login.decide,moon.phase\0"),
            "it lists `moon.phase` in `hooks`, which this proxy does not know",
        ),
        (
            text(b"name=a\0name=b\0"),
            "its manifest is broken: `name` is there twice",
        ),
        (
            text(b"name\0"),
            "its manifest is broken: `name` is not `key=value`",
        ),
    ];
    for (found, wanted) in cases {
        let wanted = wanted.replace("HERE", &API_VERSION.to_string());
        assert_eq!(found, wanted);
    }
    let service = Spec {
        bits: [Capability::PacketInject.bit(), 0, 0],
        text: b"name=a\0version=1.0.0\0requires=*\0hooks=packet.inject\0",
        ..Spec::default()
    };
    assert_eq!(
        service.refusal(),
        Refusal::NoHook {
            capability: Capability::PacketInject
        }
    );
}

/// An unknown capability in `wants` is ignored; one in `needs` is refused.
#[test]
fn wants_may_be_unknown() {
    let spec = Spec {
        bits: [0, 0, 1 << 50],
        text: b"name=a\0version=1.0.0\0requires=*\0wants=moon.phase\0",
        ..Spec::default()
    };
    assert_eq!(
        parse(&spec.bytes()).unwrap().wants,
        CapabilitySet::default()
    );
}

/// A need decides in which modes the plugin runs, a want only what it gets.
#[test]
fn modes_follow_from_needs() {
    let spec = |needs: &'static [u8], bits| Spec {
        text: needs,
        bits,
        ..Spec::default()
    };
    let inject = Capability::PacketInject.bit();
    let needs = spec(
        b"name=a\0version=1.0.0\0requires=*\0needs=packet.inject\0",
        [0, inject, 0],
    );
    let manifest = parse(&needs.bytes()).unwrap();
    assert_eq!(
        manifest.modes().collect::<Vec<_>>(),
        [Mode::ClientOnly, Mode::Offline]
    );
    let missing = manifest.missing_in(Mode::ZeroCopy);
    assert_eq!(missing.len(), 1);
    assert_eq!(
        (missing[0].listing, missing[0].reason),
        (Listing::Need, Reason::KernelMovesBytes)
    );
    assert_eq!(manifest.grants(Mode::Passthrough).bits(), 0);
    assert_eq!(manifest.grants(Mode::Offline).bits(), inject);
    let wants = spec(
        b"name=a\0version=1.0.0\0requires=*\0wants=packet.inject\0",
        [0, 0, inject],
    );
    let manifest = parse(&wants.bytes()).unwrap();
    assert_eq!(manifest.modes().count(), 5);
    assert_eq!(
        manifest.missing_in(Mode::ZeroCopy)[0].listing,
        Listing::Want
    );
}

/// A small library around a note: one `PT_LOAD`, one `PT_NOTE`.
fn elf(machine: u16, kind: u16, descriptor: &[u8], load_bytes: u64) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(kind.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for number in [0_u64, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for number in [64_u16, 56, 2, 64, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    let mut note = Vec::new();
    note.extend(10_u32.to_le_bytes());
    note.extend(u32::try_from(descriptor.len()).unwrap().to_le_bytes());
    note.extend(NOTE_TYPE.to_le_bytes());
    note.extend(b"infrarust\0\0\0");
    note.extend(descriptor);
    note.resize(note.len().next_multiple_of(4), 0);
    let note_bytes = note.len() as u64;
    for (kind, offset, bytes) in [
        (PT_LOAD, 0, load_bytes),
        (object::elf::PT_NOTE, 176, note_bytes),
    ] {
        file.extend(kind.to_le_bytes());
        file.extend(4_u32.to_le_bytes());
        for number in [offset, 0, 0, bytes, bytes, 4] {
            file.extend(number.to_le_bytes());
        }
    }
    assert_eq!(file.len(), 176);
    file.extend(note);
    file
}

/// The note is found in a library, and files of other kinds are distinguished.
#[test]
fn notes_are_found_only_in_libraries_for_this_machine() {
    let Some(host) = MACHINE else { return };
    let note = Spec::default().bytes();
    assert_eq!(read(&elf(host, ET_DYN, &note, 176)).unwrap().name, "gate");
    assert_eq!(
        read(b""),
        Err(Refusal::NotElf {
            starts_with: String::new()
        })
    );
    assert_eq!(
        read(b"hello").unwrap_err().to_string(),
        "it is not a 64-bit ELF shared library (it starts with 68 65 6c 6c)"
    );
    assert_eq!(
        read(&elf(40, ET_DYN, &note, 176)),
        Err(Refusal::Machine { found: 40, host })
    );
    assert_eq!(
        read(&elf(host, 2, &note, 176)),
        Err(Refusal::NotLibrary { found: 2 })
    );
    let short = elf(host, ET_DYN, &note, 9000);
    let file_bytes = short.len() as u64;
    assert_eq!(
        read(&short),
        Err(Refusal::Truncated {
            end: 9000,
            file_bytes
        })
    );
    let mut other = elf(host, ET_DYN, &note, 176);
    other[188] ^= 1;
    assert_eq!(read(&other), Err(Refusal::NoManifest));
    assert!(!Refusal::NoManifest.help().is_empty());
}

proptest! {
    /// No bytes make the reader panic.
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
        let _ = parse(&bytes);
    }

    /// A library with some of its bytes changed does not make the reader panic.
    #[test]
    fn damaged_libraries_are_read_without_a_panic(changes in proptest::collection::vec((0_usize..290, any::<u8>()), 1..8)) {
        let mut file = elf(MACHINE.unwrap_or(62), ET_DYN, &Spec::default().bytes(), 176);
        for (at, byte) in changes {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        let _ = read(&file);
    }

    /// A cut library is refused.
    #[test]
    fn cut_libraries_are_refused(at in 0_usize..280) {
        let file = elf(MACHINE.unwrap_or(62), ET_DYN, &Spec::default().bytes(), 176);
        prop_assume!(at < file.len() - 4);
        prop_assert!(read(&file[..at]).is_err());
    }
}
