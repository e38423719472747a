//! Why a plugin's file is not loaded, and what to do about it.

use infrarust_plugin_abi::{Capability, Version};
use object::elf::ET_DYN;
use thiserror::Error;

/// Why a file is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not a 64-bit ELF file.
    #[error("it is not a 64-bit ELF shared library (it starts with {starts_with})")]
    NotElf {
        /// The first bytes, in hexadecimal.
        starts_with: String,
    },
    /// An ELF file that is not a library.
    #[error("it is an ELF file of type {found}, and a plugin has type {ET_DYN} (shared library)")]
    NotLibrary {
        /// `e_type`.
        found: u16,
    },
    /// An ELF file that is run, not loaded.
    #[error("it is a program, and a plugin is a shared library")]
    Program,
    /// Another machine.
    #[error("it is built for {}, and this proxy runs on {}", machine(*found), machine(*host))]
    Machine {
        /// `e_machine` of the file.
        found: u16,
        /// `e_machine` of this program.
        host: u16,
    },
    /// The file is shorter than its headers say.
    #[error("it is truncated: its headers lead to byte {end}, but the file has {file_bytes}")]
    Truncated {
        /// The offset at which a segment or a table of headers would end.
        end: u64,
        /// The length of the file.
        file_bytes: u64,
    },
    /// Headers that cannot be read.
    #[error("its ELF headers are broken: {0}")]
    Headers(String),
    /// A library that is not a plugin of this proxy.
    #[error("it has no plugin manifest")]
    NoManifest,
    /// More than one manifest.
    #[error("it has {0} plugin manifests, and a plugin has one")]
    ManyManifests(usize),
    /// A manifest of another layout.
    #[error("its manifest has format {found}, and this proxy knows format {known}")]
    Format {
        /// In the file.
        found: u16,
        /// Here.
        known: u16,
    },
    /// A manifest that is malformed.
    #[error("its manifest is broken: {0}")]
    Broken(String),
    /// A required value is missing.
    #[error("its manifest has no `{0}`")]
    Missing(&'static str),
    /// A value that cannot be used.
    #[error("its manifest says `{key} = {value}`: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value, shortened and escaped.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// An incompatible plugin API, with other tables.
    #[error("it is built with plugin API {}.{}, and this proxy offers {host}", found.0, found.1)]
    Api {
        /// In the file.
        found: (u16, u16),
        /// Here.
        host: Version,
    },
    /// A newer plugin API.
    #[error("it requires plugin API {requires}, and this proxy offers {host}")]
    Requires {
        /// In the file.
        requires: String,
        /// Here.
        host: Version,
    },
    /// Capabilities that this proxy does not know.
    #[error(
        "it lists {} in `{list}`, which this proxy does not know",
        names(named)
    )]
    Unknown {
        /// `hooks` or `needs`.
        list: &'static str,
        /// Their names, or their bits if they have no names.
        named: Vec<String>,
    },
    /// A capability in `hooks` that is not a hook of this proxy.
    #[error("it lists `{capability}` in `hooks`, which this proxy does not call")]
    NoHook {
        /// Which.
        capability: Capability,
    },
    /// Bits and names contradict each other.
    #[error("its manifest lists {named} in `{list}`, but its bits say {bits}")]
    Disagree {
        /// The list.
        list: &'static str,
        /// What the names say.
        named: String,
        /// What the bits say.
        bits: String,
    },
    /// A panic would end the proxy.
    #[error("it is built with `panic = \"abort\"`: a panic in it would end the proxy")]
    PanicAbort,
}

impl Refusal {
    /// What to do about it: a clause in the imperative.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Refusal::NotElf { .. } | Refusal::NotLibrary { .. } | Refusal::Program => {
                "build the plugin with `crate-type = [\"cdylib\"]` on Linux".to_owned()
            }
            Refusal::Machine { host, .. } => {
                format!("build the plugin for {}", machine(*host))
            }
            Refusal::Truncated { .. } => {
                "copy the file again; the copy was perhaps not finished".to_owned()
            }
            Refusal::Headers(_) | Refusal::Broken(_) | Refusal::Disagree { .. } => {
                "build the plugin again, and copy it as it is".to_owned()
            }
            Refusal::NoManifest => {
                "write `export_plugin!` in the plugin's crate; a library that is not a plugin does \
                 not belong here"
                    .to_owned()
            }
            Refusal::ManyManifests(_) => "write `export_plugin!` once per library".to_owned(),
            Refusal::Missing(_) | Refusal::Value { .. } => {
                "correct `Cargo.toml` or `export_plugin!`, and build the plugin again".to_owned()
            }
            Refusal::Format { found, known } if found < known => {
                "build the plugin with a newer `infrarust-plugin-api`".to_owned()
            }
            Refusal::Format { .. } => "use a newer proxy, or an older plugin".to_owned(),
            Refusal::Api { host, .. } => format!(
                "build the plugin with `infrarust-plugin-api = \"{}.{}\"`, or use the proxy that \
                 it was made for",
                host.major, host.minor
            ),
            Refusal::Requires { .. } | Refusal::Unknown { .. } | Refusal::NoHook { .. } => {
                "use a newer proxy, or an older version of the plugin".to_owned()
            }
            Refusal::PanicAbort => {
                "write `panic = \"unwind\"` in the profile of the plugin's workspace".to_owned()
            }
        }
    }
}

fn machine(number: u16) -> String {
    match number {
        object::elf::EM_X86_64 => "x86_64".to_owned(),
        object::elf::EM_AARCH64 => "aarch64".to_owned(),
        object::elf::EM_RISCV => "riscv".to_owned(),
        object::elf::EM_386 => "x86".to_owned(),
        object::elf::EM_ARM => "arm".to_owned(),
        number => format!("ELF machine {number}"),
    }
}

fn names(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
