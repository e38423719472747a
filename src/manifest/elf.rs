//! Checks that a file is a complete ELF library for this machine, and finds the
//! note with the manifest in it.

use infrarust_plugin_abi::{NOTE_NAME, NOTE_TYPE};
use object::Endianness;
use object::elf::{DF_1_PIE, DT_FLAGS_1, ET_DYN, FileHeader64, PT_LOAD};
use object::read::elf::{
    Dyn as _, FileHeader as _, NoteIterator, ProgramHeader as _, SectionHeader as _,
};

use super::refusal::Refusal;

/// The ELF machine that this program is built for, and its name (`elf(5)`,
/// `e_machine`).
#[cfg(target_arch = "x86_64")]
pub(super) const MACHINE: Option<u16> = Some(object::elf::EM_X86_64);
/// The ELF machine that this program is built for.
#[cfg(target_arch = "aarch64")]
pub(super) const MACHINE: Option<u16> = Some(object::elf::EM_AARCH64);
/// Not known on this machine: the loader checks it.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const MACHINE: Option<u16> = None;

/// Finds the descriptor of the note, and checks that the file is whole.
///
/// # Errors
///
/// As [`read`](super::read).
pub fn descriptor(file: &[u8]) -> Result<&[u8], Refusal> {
    let headers = |error: object::Error| Refusal::Headers(error.to_string());
    let header = FileHeader64::<Endianness>::parse(file).map_err(|_| Refusal::NotElf {
        starts_with: file
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" "),
    })?;
    let endian = header.endian().map_err(headers)?;
    let found = header.e_machine(endian);
    if let Some(host) = MACHINE
        && found != host
    {
        return Err(Refusal::Machine { found, host });
    }
    let kind = header.e_type(endian);
    if kind != ET_DYN {
        return Err(Refusal::NotLibrary { found: kind });
    }
    let file_bytes = file.len() as u64;
    let table_end = |offset: u64, entries: u16, entry_bytes: u16| {
        offset.saturating_add(u64::from(entries) * u64::from(entry_bytes))
    };
    let segments = header.program_headers(endian, file).map_err(|_| {
        let (entries, bytes) = (header.e_phnum(endian), header.e_phentsize(endian));
        let end = table_end(header.e_phoff(endian), entries, bytes);
        Refusal::Truncated { end, file_bytes }
    })?;
    // The loader maps what the headers say, and an access past the end of the file
    // kills the process (SIGBUS). The table of sections is at the end of a file: if
    // it is missing, the file was probably cut off.
    let load = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD);
    let ends = load.map(|segment| {
        segment
            .p_offset(endian)
            .saturating_add(segment.p_filesz(endian))
    });
    let (entries, bytes) = (header.e_shnum(endian), header.e_shentsize(endian));
    let sections_end = table_end(header.e_shoff(endian), entries, bytes);
    if let Some(end) = ends.chain([sections_end]).find(|end| *end > file_bytes) {
        return Err(Refusal::Truncated { end, file_bytes });
    }

    // A position-independent program has the type of a library; the loader refuses it.
    let is_program = segments.iter().any(|segment| {
        let entries = segment.dynamic(endian, file).ok().flatten();
        let mut entries = entries.unwrap_or_default().iter();
        entries.any(|entry| {
            entry.d_tag(endian) == u64::from(DT_FLAGS_1)
                && entry.d_val(endian) & u64::from(DF_1_PIE) != 0
        })
    });
    if is_program {
        return Err(Refusal::Program);
    }

    // Segments first: they remain when the section headers are stripped.
    let mut found = Vec::new();
    for segment in segments {
        if let Ok(Some(notes)) = segment.notes(endian, file) {
            ours(notes, endian, &mut found);
        }
    }
    // Then sections: tools that rewrite a library may move a note out of its segment.
    if found.is_empty()
        && let Ok(sections) = header.section_headers(endian, file)
    {
        for section in sections {
            if let Ok(Some(notes)) = section.notes(endian, file) {
                ours(notes, endian, &mut found);
            }
        }
    }
    match found[..] {
        [] => Err(Refusal::NoManifest),
        [one] => Ok(one),
        _ => Err(Refusal::ManyManifests(found.len())),
    }
}

fn ours<'a>(
    mut notes: NoteIterator<'a, FileHeader64<Endianness>>,
    endian: Endianness,
    found: &mut Vec<&'a [u8]>,
) {
    while let Ok(Some(note)) = notes.next() {
        if note.name() == NOTE_NAME.as_bytes()
            && note.n_type(endian) == NOTE_TYPE
            // One note may be part of two segments.
            && !found.iter().any(|other| other.as_ptr() == note.desc().as_ptr())
        {
            found.push(note.desc());
        }
    }
}
