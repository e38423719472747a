//! A plugin for the tests of the intercepted modes. It shows the player the facts that it
//! gets.

use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// Whether logins are refused with the known facts about the player.
    #[serde(default)]
    refuse: bool,
    /// The server that every login goes to.
    go_to: Option<String>,
}

struct Stage(Config);

impl Plugin for Stage {
    type Config = Config;

    fn new(config: Config, _: &Host<Self>) -> Result<Self> {
        Ok(Stage(config))
    }
}

#[async_trait]
impl LoginDecide for Stage {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        if !self.0.refuse {
            return Ok(Verdict::allow());
        }
        let (name, uuid, is_proved) = (login.name(), login.uuid(), login.is_proved());
        Ok(Verdict::refuse(format!("{name} {uuid:032x?} {is_proved}")))
    }
}

#[async_trait]
impl RouteSelect for Stage {
    async fn route_select(&self, _: Login<'_>) -> Result<Choice> {
        Ok(self.0.go_to.clone().map_or(Choice::keep(), Choice::server))
    }
}

export_plugin! { plugin: Stage, name: "stage", hooks: [LoginDecide, RouteSelect] }
