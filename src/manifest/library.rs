//! Reads from a library's file what it needs of the system: other libraries, a
//! version of glibc, and which compilers made it. Runs none of its code.
//!
//! The glibc is compared with that of this system before the file is loaded. The
//! rest is only shown to people (`infrarust plugin inspect`). A file with wrong
//! values does no harm, since the loader checks everything again.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, SectionHeader as _, SectionTable};

/// The most entries of a table that are read. The largest libraries need some
/// fifty others, and know some hundred versions.
const ENTRIES_MAX: usize = 1024;
/// The longest text in bytes: a compiler's version takes fifty.
const TEXT_BYTES_MAX: usize = 256;
/// The prefix of the versions of glibc.
const GLIBC: &[u8] = b"GLIBC_";

/// What a library needs of the system, as its file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Library {
    /// The libraries that the loader has to find (`DT_NEEDED`).
    pub needed: Vec<String>,
    /// The newest version of glibc of which it uses symbols; `None` if it uses none.
    pub glibc: Option<Glibc>,
    /// The compilers that made it (`.comment`).
    pub compilers: Vec<String>,
}

/// A version of glibc, such as 2.34.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc {
    /// The first number.
    pub major: u32,
    /// The second; a third was last used in 2009.
    pub minor: u32,
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Glibc {
    /// Reads the name of a version; `None` for others such as `GLIBC_PRIVATE`.
    fn parse(name: &[u8]) -> Option<Self> {
        let numbers = std::str::from_utf8(name.strip_prefix(GLIBC)?).ok()?;
        let mut numbers = numbers.split('.').map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { major, minor })
    }
}

type Sections<'a> = SectionTable<'a, FileHeader64<Endianness>>;

/// Reads what a library needs. Missing or broken parts are left out: a library
/// without section headers gives nothing, and can still be loaded.
#[must_use]
pub fn read(file: &[u8]) -> Library {
    let Some((endian, sections)) = sections(file) else {
        return Library::default();
    };
    Library {
        needed: needed(file, endian, &sections).unwrap_or_default(),
        glibc: newest_needed(file, endian, &sections),
        compilers: compilers(file, endian, &sections),
    }
}

/// The version of the glibc of this process; `None` if its C library is not glibc,
/// or the version cannot be determined.
#[must_use]
pub fn glibc_of_this_system() -> Option<Glibc> {
    // It does not change while the process runs.
    static HERE: OnceLock<Option<Glibc>> = OnceLock::new();
    *HERE.get_or_init(find_glibc)
}

/// The newest version of glibc of which a library uses symbols; see [`Library::glibc`].
#[must_use]
pub fn glibc_needed(file: &[u8]) -> Option<Glibc> {
    let (endian, sections) = sections(file)?;
    newest_needed(file, endian, &sections)
}

fn find_glibc() -> Option<Glibc> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    // The path is the sixth column (`proc_pid_maps(5)`), and may have spaces.
    let mut paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]));
    let libc = paths.find(|path| {
        let name = Path::new(path).file_name();
        name.is_some_and(|name| name == "libc.so.6")
    })?;
    newest_offered(&std::fs::read(libc).ok()?)
}

/// The newest version that a C library defines.
fn newest_offered(file: &[u8]) -> Option<Glibc> {
    let (endian, sections) = sections(file)?;
    let (mut versions, strings) = sections.gnu_verdef(endian, file).ok()??;
    let strings = sections.strings(endian, file, strings).ok()?;
    let mut newest = None;
    for _ in 0..ENTRIES_MAX {
        let Ok(Some((_, mut names))) = versions.next() else {
            break;
        };
        // The first name is the version itself, the others are its predecessors.
        let Ok(Some(name)) = names.next() else {
            continue;
        };
        let version = name.name(endian, strings).ok().and_then(Glibc::parse);
        newest = newest.max(version);
    }
    newest
}

fn sections(file: &[u8]) -> Option<(Endianness, Sections<'_>)> {
    let header = FileHeader64::<Endianness>::parse(file).ok()?;
    let endian = header.endian().ok()?;
    Some((endian, header.sections(endian, file).ok()?))
}

fn needed(file: &[u8], endian: Endianness, sections: &Sections<'_>) -> Option<Vec<String>> {
    let (entries, strings) = sections.dynamic(endian, file).ok()??;
    let strings = sections.strings(endian, file, strings).ok()?;
    let names = entries
        .iter()
        .filter(|entry| entry.tag32(endian) == Some(DT_NEEDED))
        .filter_map(|entry| entry.string(endian, strings).ok());
    Some(names.take(ENTRIES_MAX).map(text).collect())
}

fn newest_needed(file: &[u8], endian: Endianness, sections: &Sections<'_>) -> Option<Glibc> {
    let (mut libraries, strings) = sections.gnu_verneed(endian, file).ok()??;
    let strings = sections.strings(endian, file, strings).ok()?;
    let mut newest = None;
    // One limit for all lists: those of a broken file may overlap.
    let mut left = ENTRIES_MAX;
    while let Ok(Some((_, mut versions))) = libraries.next() {
        while let Ok(Some(version)) = versions.next() {
            let version = version.name(endian, strings).ok().and_then(Glibc::parse);
            newest = newest.max(version);
            left = left.saturating_sub(1);
            if left == 0 {
                return newest;
            }
        }
        left = left.saturating_sub(1);
        if left == 0 {
            return newest;
        }
    }
    newest
}

fn compilers(file: &[u8], endian: Endianness, sections: &Sections<'_>) -> Vec<String> {
    let Some((_, section)) = sections.section_by_name(endian, b".comment") else {
        return Vec::new();
    };
    let bytes = section.data(endian, file).unwrap_or_default();
    let mut compilers = Vec::new();
    let parts = bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    for part in parts.take(ENTRIES_MAX).map(text) {
        if !compilers.contains(&part) {
            compilers.push(part);
        }
    }
    compilers
}

/// A text from the file, safe to show.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    crate::show::Line(&text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put<const N: usize>(file: &mut [u8], at: usize, bytes: [u8; N]) {
        file[at..at + N].copy_from_slice(&bytes);
    }

    /// A library that has only the tables that are read: it needs `liba.so` and
    /// glibc 2.5 and 2.34, defines glibc 2.36, and was made by `rustc 1`.
    fn small() -> Vec<u8> {
        const SECTIONS: usize = 7;
        let names = b"\0.shstrtab\0.dynstr\0.dynamic\0.gnu.version_r\0.comment\0.gnu.version_d\0";
        let strings = b"\0liba.so\0GLIBC_2.5\0GLIBC_2.34\0GLIBC_PRIVATE\0GLIBC_2.36\0";
        let name_at = |name: &[u8]| {
            let at = names.windows(name.len()).position(|window| window == name);
            u32::try_from(at.unwrap()).unwrap()
        };
        let string_at = |name: &[u8]| {
            let at = strings
                .windows(name.len())
                .position(|window| window == name);
            u32::try_from(at.unwrap()).unwrap()
        };
        let mut dynamic = Vec::new();
        for word in [1, u64::from(string_at(b"liba.so\0")), 0, 0] {
            dynamic.extend(word.to_le_bytes());
        }
        // Elf64_Verneed, then its Elf64_Vernaux (not in `elf(5)`:
        // Linux Standard Base 5.0, "Symbol Versioning").
        let mut needs = Vec::new();
        needs.extend([1_u16, 3].into_iter().flat_map(u16::to_le_bytes));
        needs.extend([1_u32, 16, 0].into_iter().flat_map(u32::to_le_bytes));
        for (name, next) in [
            (&b"GLIBC_2.5\0"[..], 16),
            (b"GLIBC_2.34\0", 16),
            (b"GLIBC_PRIVATE", 0),
        ] {
            needs.extend(0_u32.to_le_bytes());
            needs.extend([0_u16, 2].into_iter().flat_map(u16::to_le_bytes));
            needs.extend(
                [string_at(name), next]
                    .into_iter()
                    .flat_map(u32::to_le_bytes),
            );
        }
        let mut defines = Vec::new();
        defines.extend([1_u16, 0, 2, 1].into_iter().flat_map(u16::to_le_bytes));
        defines.extend([0_u32, 20, 0].into_iter().flat_map(u32::to_le_bytes));
        defines.extend(
            [string_at(b"GLIBC_2.36"), 0]
                .into_iter()
                .flat_map(u32::to_le_bytes),
        );
        let comment = b"rustc 1\0\0GCC\x1b\0rustc 1\0".to_vec();

        // Name, type, link, number of entries.
        let all: [([u32; 4], Vec<u8>); SECTIONS - 1] = [
            ([name_at(b".shstrtab\0"), 3, 0, 0], names.to_vec()),
            ([name_at(b".dynstr\0"), 3, 0, 0], strings.to_vec()),
            ([name_at(b".dynamic\0"), 6, 2, 0], dynamic),
            ([name_at(b".gnu.version_r\0"), 0x6fff_fffe, 2, 1], needs),
            ([name_at(b".comment\0"), 1, 0, 0], comment),
            ([name_at(b".gnu.version_d\0"), 0x6fff_fffd, 2, 1], defines),
        ];
        let mut file = vec![0; 64 + SECTIONS * 64];
        put(&mut file, 0, *b"\x7fELF\x02\x01\x01");
        put(&mut file, 16, 3_u16.to_le_bytes());
        put(&mut file, 18, 62_u16.to_le_bytes());
        put(&mut file, 20, 1_u32.to_le_bytes());
        put(&mut file, 40, 64_u64.to_le_bytes());
        for (at, half) in [(52, 64_u16), (54, 56), (58, 64), (60, 7), (62, 1)] {
            put(&mut file, at, half.to_le_bytes());
        }
        for (number, ([name, kind, link, info], bytes)) in all.into_iter().enumerate() {
            file.resize(file.len().next_multiple_of(8), 0);
            let (header, offset) = (128 + number * 64, file.len() as u64);
            put(&mut file, header, name.to_le_bytes());
            put(&mut file, header + 4, kind.to_le_bytes());
            put(&mut file, header + 24, offset.to_le_bytes());
            put(&mut file, header + 32, (bytes.len() as u64).to_le_bytes());
            put(&mut file, header + 40, link.to_le_bytes());
            put(&mut file, header + 44, info.to_le_bytes());
            file.extend(bytes);
        }
        file
    }

    /// The needs of a library are read, and escaped so that they are safe to show.
    #[test]
    fn a_library_is_read() {
        let library = read(&small());
        assert_eq!(library.needed, ["liba.so"]);
        assert_eq!(
            library.glibc,
            Some(Glibc {
                major: 2,
                minor: 34
            })
        );
        assert_eq!(library.compilers, ["rustc 1", "GCC\\u{1b}"]);
        assert_eq!(newest_offered(&small()).unwrap().to_string(), "2.36");
    }

    /// The glibc that this test program needs is not newer than the one of the system.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn this_program_runs_here() {
        let own = read(&std::fs::read("/proc/self/exe").unwrap());
        let system = glibc_of_this_system().unwrap();
        assert!(own.glibc.unwrap() <= system, "{own:?} on {system}");
        assert!(own.needed.iter().any(|name| name == "libc.so.6"));
        assert!(own.compilers.iter().any(|name| name.starts_with("rustc ")));
    }

    /// A truncated file does not make the reader panic.
    #[test]
    fn every_truncation_is_survived() {
        let file = small();
        for len in 0..file.len() {
            let _ = read(&file[..len]);
            newest_offered(&file[..len]);
        }
    }

    proptest! {
        /// A file with wrong bytes does not make the reader panic.
        #[test]
        fn wrong_bytes_are_survived(
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16),
        ) {
            let mut file = small();
            for (at, byte) in flips {
                let at = at.index(file.len());
                file[at] = byte;
            }
            let _ = read(&file);
            newest_offered(&file);
        }
    }
}
