//! The configuration: the files, and the model made from them.
//!
//! [`load`](load::load) reads the files. [`keys`] is the type of the tables of keys, and
//! [`raw`] has these tables and the values as written. [`validate`] turns the values into a
//! [`model`] and collects every mistake. The documents and the JSON Schema ([`schema`]) are
//! generated from the same tables.

pub mod container_checker;
pub mod containers;
mod cure;
mod declare;
mod document;
mod duration;
mod elsewhere;
mod entry;
pub(crate) mod files;
mod folder;
mod hints;
pub mod keys;
mod known;
pub(crate) mod load;
pub mod model;
mod paths;
pub mod plugin_file;
mod raw;
mod reader;
mod report;
mod retype;
pub mod schema;
mod secret_names;
mod syntax;
mod types;
pub(crate) mod validate;

#[cfg(test)]
pub(crate) use load::with_servers;
pub use load::{GlobalText, LoadOptions, Loaded, load, load_texts};
pub use model::Config;
