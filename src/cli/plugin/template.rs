//! The templates of `infrarust plugin new`: one complete plugin for each hook.

use super::api::Api;
use crate::manifest::Hook;

const MANIFEST: &str = include_str!("template/Cargo.toml.template");
const README: &str = include_str!("template/README.md.template");

/// What differs from hook to hook.
pub(super) struct Template {
    source: &'static str,
    settings: &'static str,
}

macro_rules! templates {
    ($($(#[doc = $doc:literal])+ $hook:ident { method: $method:ident, $($row:tt)* })+) => {
        /// The template of a hook, in files with the name of its method.
        pub(super) fn template(hook: Hook) -> Template {
            match hook {
                $(Hook::$hook => Template {
                    source: include_str!(concat!("template/", stringify!($method), ".rs")),
                    settings: include_str!(concat!("template/", stringify!($method), ".toml")),
                },)+
            }
        }
    };
}

infrarust_plugin_abi::hooks! { [templates] }

impl Template {
    /// The description of the plugin: the first clause of its module documentation
    /// after the colon, capitalised.
    fn description(&self) -> String {
        let lines = self.source.lines();
        let head = lines.map_while(|line| line.strip_prefix("//! "));
        let head = head.collect::<Vec<_>>().join(" ");
        let (_, does) = head.split_once(": ").unwrap_or_default();
        let does = does.split([',', '.']).next().unwrap_or_default();
        let mut letters = does.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect()
    }

    /// Additional dependencies, one for each line.
    fn dependencies(&self) -> &'static str {
        if self.source.contains("serde_json::") {
            "serde_json = \"1\"\n"
        } else {
            ""
        }
    }
}

/// The name of a crate as its source writes it.
pub(super) fn crate_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The files of the crate `name`, by their paths in it.
pub(super) fn files(
    name: &str,
    hook: Hook,
    template: &Template,
    api: &Api,
) -> Vec<(&'static str, String)> {
    let fill = |text: &str| {
        text.replace("template-name", name)
            .replace("template_name", &crate_name(name))
            .replace("template-description", &template.description())
            .replace("template-hook", hook.name())
            .replace("template-table", &table(name, template))
            .replace("template-api", &api.dependency(""))
            .replace(
                "template-testing",
                &api.dependency(", features = [\"testing\"]"),
            )
            .replace("template-more\n", template.dependencies())
    };
    vec![
        ("Cargo.toml", fill(MANIFEST)),
        ("README.md", fill(README)),
        (".gitignore", "/target\n".to_owned()),
        ("config.toml", template.settings.to_owned()),
        ("src/lib.rs", fill(template.source)),
    ]
}

/// The table of the plugin in `infrarust.toml`.
pub(super) fn table(name: &str, template: &Template) -> String {
    format!(
        "[plugins.{name}]\n[plugins.{name}.config]\n{}",
        template.settings
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every hook has a template, and no placeholder is left in it.
    #[test]
    fn every_hook_has_a_template() {
        for hook in Hook::ALL {
            let template = template(hook);
            for (file, text) in files("my-gate", hook, &template, &Api("plugin-api".into())) {
                assert!(!text.contains("template"), "{hook}: {file}: {text}");
                if file.ends_with(".toml") {
                    text.parse::<toml::Table>().unwrap();
                }
            }
            let description = template.description();
            assert!(description.len() > 15, "{description}");
            let table: toml::Table = table("my-gate", &template).parse().unwrap();
            let settings: toml::Table = template.settings.parse().unwrap();
            assert_eq!(
                table["plugins"]["my-gate"]["config"],
                toml::Value::Table(settings)
            );
        }
    }
}
