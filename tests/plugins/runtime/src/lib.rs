//! A plugin for the tests of the host: it waits on timers and tasks of its own
//! tokio, inside futures that the proxy polls.
#![forbid(unsafe_code)]

use std::time::Duration;

use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde")]
struct Config {}

struct Timed;

impl Plugin for Timed {
    type Config = Config;

    fn new(_: Config, _: &Host<Self>) -> Result<Self> {
        Ok(Timed)
    }
}

#[async_trait]
impl LoginDecide for Timed {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let name = login.name().to_owned();
        let checked = tokio::spawn(async move { format!("not you, {name}") }).await?;
        Ok(Verdict::refuse(checked))
    }
}

export_plugin! { plugin: Timed, name: "timed", hooks: [LoginDecide] }
