//! A plugin as the configuration describes it, and the limits for loading plugins.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::model::{Document, OnFailure, PluginConfig};
use crate::config::plugin_file::Sha;
use crate::manifest::Manifest;

/// How often one plugin can be loaded by a process. Its images stay mapped, about 0.65 MiB
/// each for a small plugin.
pub(super) const GENERATIONS_MAX: u32 = 32;
/// How long a plugin may take to start. Reading a file or opening a database
/// takes seconds at worst.
pub(super) const CREATE_TIME_MAX: Duration = Duration::from_secs(30);

/// What to load, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The id of its table, which is its name in the log.
    pub id: String,
    /// Its file.
    pub file: PathBuf,
    /// The SHA-256 that the file must have.
    pub sha256: Option<Sha>,
    /// The effect of a failure; `None` is the default of each hook.
    pub on_failure: Option<OnFailure>,
    /// How long a hook may wait; `None` is two seconds.
    pub deadline: Option<Duration>,
    /// The manifest that the servers were checked with. The file must still have it. `None` if
    /// they were not checked.
    pub checked: Option<Manifest>,
    /// The SHA-256 of the content that was tried. The file must still have it. `None` if it
    /// was not tried.
    pub content: Option<Sha>,
    /// The TOML document with its own table. Places of its errors are bytes of
    /// this document.
    pub document: Document,
    /// The keys that lead to the table, such as `plugins`, the id and `config`. Without keys
    /// the whole document is the table. A missing table counts as empty.
    pub config_path: Vec<String>,
}

impl From<&PluginConfig> for Spec {
    fn from(config: &PluginConfig) -> Self {
        Self {
            id: config.id.clone(),
            file: config.file.clone(),
            sha256: config.sha256,
            on_failure: config.on_failure,
            deadline: config.deadline,
            checked: Some(config.manifest.clone()),
            content: None,
            document: config.document.clone(),
            config_path: vec!["plugins".to_owned(), config.id.clone(), "config".to_owned()],
        }
    }
}

impl Spec {
    /// Whether both describe the same plugin with the same settings. The documents may differ
    /// outside of the plugin's own table.
    pub(super) fn means_the_same(&self, other: &Spec) -> bool {
        let rest = |spec: &Spec| Spec {
            document: Document::default(),
            // They belong to the file, which is compared as a whole.
            checked: None,
            content: None,
            ..spec.clone()
        };
        let is_equal = self.document == other.document
            || self
                .table()
                .is_some_and(|table| other.table() == Some(table));
        is_equal && rest(self) == rest(other)
    }

    /// The table of the plugin's own settings; `None` when the document cannot
    /// be read.
    fn table(&self) -> Option<toml::Value> {
        let mut table = toml::Value::Table(self.document.0.parse().ok()?);
        for key in &self.config_path {
            let empty = || toml::Value::Table(toml::Table::new());
            table = table.get(key).cloned().unwrap_or_else(empty);
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change outside a plugin's own table is not a change of the plugin.
    #[test]
    fn only_the_own_table_counts() {
        let spec = |document: &str| Spec {
            id: "a".to_owned(),
            file: PathBuf::new(),
            sha256: None,
            on_failure: None,
            deadline: None,
            checked: None,
            content: None,
            document: Document(document.into()),
            config_path: vec!["a".to_owned()],
        };
        let one = spec("b = 1\n[a]\nx = 1");
        assert!(one.means_the_same(&spec("a.x = 1 # moved\nb = 2")));
        assert!(!one.means_the_same(&spec("b = 1\n[a]\nx = 2")));
        assert!(!one.means_the_same(&spec("b = 1")));
        assert!(spec("b = 1").means_the_same(&spec("")));
        assert!(!one.means_the_same(&Spec {
            on_failure: Some(OnFailure::Deny),
            ..one.clone()
        }));
    }
}
