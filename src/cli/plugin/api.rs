//! Finds the folder of the crate that plugins depend on.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::diagnostic::words;

/// The name of the crate that plugins depend on.
pub(super) const API_CRATE: &str = "infrarust-plugin-api";
/// Its folder when this program was built.
const API_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/plugin-api");

/// The folder of `infrarust-plugin-api`.
pub(super) struct Api(pub(super) PathBuf);

impl Api {
    pub(super) fn find(folder: Option<&Path>) -> anyhow::Result<Self> {
        let is_api = |folder: &Path| {
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).ok();
            let manifest: Option<toml::Table> = manifest.and_then(|text| text.parse().ok());
            let name = manifest
                .as_ref()
                .and_then(|manifest| manifest.get("package")?.get("name"));
            name.and_then(toml::Value::as_str) == Some(API_CRATE)
        };
        match folder {
            Some(folder) if is_api(folder) => Ok(Api(std::fs::canonicalize(folder)?)),
            Some(folder) => bail!(
                "`{}` is not the crate `{API_CRATE}`: name the folder `plugin-api` of a checkout",
                words::path(folder)
            ),
            None if is_api(Path::new(API_FOLDER)) => Ok(Api(API_FOLDER.into())),
            None => bail!(
                "the crate `{API_CRATE}` is not published, and the checkout that this program was \
                 built from is gone: name the folder `plugin-api` of a checkout with `--api-path`"
            ),
        }
    }

    pub(super) fn shown(&self) -> String {
        format!("`{}`", words::path(&self.0))
    }

    /// The dependency, as TOML writes it.
    pub(super) fn dependency(&self, features: &str) -> String {
        let path = toml::Value::from(self.0.to_string_lossy().into_owned());
        format!("{{ path = {path}{features} }}")
    }
}
