//! The configuration: the files, and the model made from them.
//!
//! [`load`](load::load) reads the files, [`keys`] owns what may stand in them,
//! [`raw`] holds what was typed, [`validate`] turns that into a [`model`] and
//! collects every mistake on the way. The documents and the JSON Schema come
//! from the same table of keys ([`schema`] has the latter).

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
