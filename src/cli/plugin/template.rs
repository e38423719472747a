//! The templates of `infrarust plugin new`: for each hook a plugin that does nothing,
//! made from the row of the hook, and for most a complete plugin.

use super::api::Api;
use crate::manifest::Hook;

const MANIFEST: &str = include_str!("template/Cargo.toml.template");
const README: &str = include_str!("template/README.md.template");

/// What differs from hook to hook.
pub(super) struct Template {
    source: String,
    settings: &'static str,
}

/// The hooks with a complete plugin, in files with the name of the method.
macro_rules! examples {
    ($($hook:ident $method:literal)+) => {
        const EXAMPLES: &[(Hook, &str, &str)] = &[$((
            Hook::$hook,
            include_str!(concat!("template/", $method, ".rs")),
            include_str!(concat!("template/", $method, ".toml")),
        )),+];
    };
}

examples! {
    ConnectionDecide "connection_decide"
    HandshakeRewrite "handshake_rewrite"
    StatusRespond "status_respond"
    LoginDecide "login_decide"
    RouteSelect "route_select"
    SessionObserve "session_observe"
    PlayerObserve "player_observe"
    PacketInspect "packet_inspect"
    PacketModify "packet_modify"
    PlayerCommand "player_command"
}

/// The template of a hook: a complete plugin, unless there is none or it is to be `bare`.
pub(super) fn template(hook: Hook, is_bare: bool) -> Template {
    let example = EXAMPLES.iter().find(|(of, ..)| *of == hook && !is_bare);
    match example {
        Some((_, source, settings)) => Template {
            source: (*source).to_owned(),
            settings,
        },
        None => Template {
            source: include_str!("template/bare.rs")
                .replace("template-impl", &bare(hook))
                .replace("template-trait", hook.trait_name()),
            settings: "",
        },
    }
}

macro_rules! bare {
    ($(
        $(#[doc = $doc:literal])+
        $hook:ident {
            method: $method:ident,
            call: $call:ident,
            input: $input:ident as $view:ident,
            answer: $answer:tt,
            $($rest:tt)*
        }
    )+) => {
        /// The trait of a hook, implemented by a plugin that changes nothing.
        fn bare(hook: Hook) -> String {
            let answers = match hook {
                $(Hook::$hook => (stringify!($method), stringify!($call), stringify!($view), stringify!($answer)),)+
            };
            let (method, call, view, answer) = answers;
            implementation(hook.trait_name(), method, call, view, answer)
        }
    };
}

infrarust_plugin_abi::hooks! { [bare] }

fn implementation(name: &str, method: &str, call: &str, view: &str, answer: &str) -> String {
    let neutral = match answer {
        "()" => "()".to_owned(),
        "Verdict" => "Verdict::allow()".to_owned(),
        "PacketVerdict" => "PacketVerdict::pass()".to_owned(),
        "CommandReply" => "CommandReply::nothing()".to_owned(),
        other => format!("{other}::keep()"),
    };
    let (attribute, keyword) = match call {
        "async" | "command" => ("#[async_trait]\n", "async fn"),
        _ => ("", "fn"),
    };
    let borrow = match (call, answer) {
        ("async" | "command", _) => "",
        ("packet", "PacketVerdict") => "&mut ",
        _ => "&",
    };
    let argument = view.to_lowercase();
    let lists = match call {
        "packet" => {
            "    /// The proxy calls the hook for these packets only.\n    \
             fn interest(&self) -> Interest {\n        Interest::none()\n    }\n\n"
        }
        "command" => {
            "    /// The commands that the plugin adds.\n    \
             fn commands(&self) -> Vec<CommandSpec> {\n        Vec::new()\n    }\n\n"
        }
        _ => "",
    };
    format!(
        "{attribute}impl {name} for Bare {{\n{lists}    \
         {keyword} {method}(&self, _{argument}: {borrow}{view}<'_>) -> Result<{answer}> {{\n        \
         Ok({neutral})\n    }}\n}}"
    )
}

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
        ("src/lib.rs", fill(&template.source)),
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

    /// Every hook has both templates, and no placeholder is left in them.
    #[test]
    fn every_hook_has_a_template() {
        for (hook, is_bare) in Hook::ALL
            .into_iter()
            .flat_map(|hook| [(hook, false), (hook, true)])
        {
            let template = template(hook, is_bare);
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
