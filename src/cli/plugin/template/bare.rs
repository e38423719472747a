//! The plugin `template-name`: does nothing yet at the hook `template-hook`.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {}

struct Bare;

impl Plugin for Bare {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(_config: Config, _host: &Host<Self>) -> Result<Self> {
        Ok(Bare)
    }
}

template-impl

export_plugin! {
    plugin: Bare,
    name: "template-name",
    hooks: [template-trait],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::TestHost;

    /// The plugin starts with its settings. `TestHost` has a method for each hook.
    #[test]
    fn it_starts() {
        TestHost::<Bare>::start(include_str!("../config.toml")).unwrap();
    }
}
