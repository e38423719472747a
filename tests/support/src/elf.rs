//! Files that look like plugins and contain no code: enough for everything that reads
//! manifests, and not for running them.
//!
//! Written from the layout in the documentation of `plugin-api/abi`, without its code.

use infrarust_plugin_abi::Capability;

/// An ELF library for this machine with one note segment.
fn library(note: &[u8]) -> Vec<u8> {
    const HEADER_BYTES: u64 = 64;
    const SEGMENT_BYTES: u64 = 56;
    let machine: u16 = if cfg!(target_arch = "aarch64") {
        183
    } else {
        62
    };
    let offset = HEADER_BYTES + SEGMENT_BYTES;
    let bytes = note.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [3, machine] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [0, HEADER_BYTES, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // One PT_NOTE, readable.
    file.extend(4_u32.to_le_bytes());
    file.extend(4_u32.to_le_bytes());
    for word in [offset, offset, offset, bytes, bytes, 4] {
        file.extend(word.to_le_bytes());
    }
    file.extend(note);
    file
}

/// The note of a manifest.
fn note(bits: [u64; 3], text: &str) -> Vec<u8> {
    let mut descriptor = Vec::new();
    // Format 1, API 0.1, panics unwind.
    for number in [1_u16, 0, 1, 1] {
        descriptor.extend(number.to_le_bytes());
    }
    for mask in bits {
        descriptor.extend(mask.to_le_bytes());
    }
    descriptor.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    descriptor.extend(text.as_bytes());
    let mut note = Vec::new();
    for number in [10, u32::try_from(descriptor.len()).unwrap(), 1] {
        note.extend(number.to_le_bytes());
    }
    note.extend(b"infrarust\0\0\0");
    note.extend(descriptor);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// The capabilities of a list such as `[PacketInject, ServerSwitch]`.
fn list(text: &str) -> Vec<Capability> {
    let names = text.trim().trim_matches(['[', ']']).split(',');
    let names = names.map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let found = Capability::ALL.iter().find(|c| format!("{c:?}") == name);
            *found.unwrap_or_else(|| panic!("no capability is called {name}"))
        })
        .collect()
}

/// A plugin with the manifest in `text`, which has lines such as `needs: [PacketInject]`. A
/// text without such a line gives a library without a manifest, and one that begins with
/// `text:` gives a file that is not a library.
pub fn plugin(text: &str) -> Vec<u8> {
    if let Some(text) = text.strip_prefix("text:") {
        return text.as_bytes().to_vec();
    }
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    if value("hooks:").is_none() && value("needs:").is_none() {
        return library(&[]);
    }
    let mut bits = [0; 3];
    let requires = value("requires:").unwrap_or("^0.1.0").trim();
    let mut said = format!("name=hub\0version=1.0.0\0requires={requires}\0");
    for (mask, key) in bits.iter_mut().zip(["hooks", "needs", "wants"]) {
        let list = list(value(&format!("{key}:")).unwrap_or_default());
        *mask = list.iter().fold(0, |mask, one| mask | one.bit());
        let names: Vec<_> = list.iter().map(|one| one.name()).collect();
        if !names.is_empty() {
            said.push_str(&format!("{key}={}\0", names.join(",")));
        }
    }
    library(&note(bits, &said))
}
