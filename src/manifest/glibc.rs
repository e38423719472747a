//! Which version of the C library a plugin needs, and which one is here.
//!
//! The loader says the same when it is too late: after the configuration was
//! called sound, and in its own words.
#![allow(
    unsafe_code,
    reason = "the C library tells its version through a pointer"
)]

use std::fmt;

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::FileHeader as _;

/// A version of glibc: the two numbers that its symbols have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc {
    /// 2, for decades.
    pub major: u32,
    /// One more every half year.
    pub minor: u32,
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Glibc {
    /// Reads `2.36`, with or without more numbers behind it.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        Some(Self {
            major: numbers.next()??,
            minor: numbers.next()??,
        })
    }
}

/// The newest version that a library needs, as its list of needed versions says
/// (`.gnu.version_r`; `elf(5)`). `None` where it has no such list, or none that
/// can be read: then the loader has the last word.
#[must_use]
pub fn needed(file: &[u8]) -> Option<Glibc> {
    let header = FileHeader64::<Endianness>::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, file).ok()?;
    let (mut lists, strings) = sections.gnu_verneed(endian, file).ok()??;
    let strings = sections.strings(endian, file, strings).ok()?;
    let mut newest = None;
    while let Ok(Some((_, mut versions))) = lists.next() {
        while let Ok(Some(version)) = versions.next() {
            let name = version.name(endian, strings).ok();
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            let number = name.and_then(|name| Glibc::parse(name.strip_prefix("GLIBC_")?));
            newest = newest.max(number);
        }
    }
    newest
}

/// The version that this process runs with; `None` where it is another library.
#[must_use]
pub fn here() -> Option<Glibc> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::{CStr, c_char};

        unsafe extern "C" {
            /// `gnu_get_libc_version(3)`: a constant text.
            safe fn gnu_get_libc_version() -> *const c_char;
        }
        // SAFETY: a text that is never freed.
        let text = unsafe { CStr::from_ptr(gnu_get_libc_version()) };
        Glibc::parse(text.to_str().ok()?)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions are numbers, not texts: 2.4 is older than 2.34.
    #[test]
    fn versions_are_ordered() {
        let parse = |text| Glibc::parse(text).unwrap();
        assert!(parse("2.4") < parse("2.34"));
        assert!(parse("2.2.5") < parse("2.34"));
        assert!(parse("3.0") > parse("2.99"));
        for other in ["PRIVATE", "ABI_DT_RELR", "2", "", "2.x"] {
            assert_eq!(Glibc::parse(other), None, "{other}");
        }
    }

    /// This very program needs a version that is here, and says so.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn this_program_runs_here() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let (needed, here) = (needed(&own).unwrap(), here().unwrap());
        assert!(needed <= here, "{needed} {here}");
        assert!(needed.major >= 2);
    }
}
