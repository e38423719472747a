//! The texts that a player reads when the proxy refuses the login, encrypted or not.

use infrarust_test_support::game::{self, Ids, refusal};

use super::modes::{MODES, Modes};
use super::{NO_COMPRESSION, admit, enter, text};

/// Each form of the encryption.
const FORMS: [i32; 9] = [4, 5, 47, 340, 759, 760, 765, 767, 776];

const PRESENT: &str = "You are logged in to this server already.";

/// A second login of a player, and a login on a full server, read why: in encrypted form if
/// the client has encrypted already.
#[tokio::test]
async fn full_servers_and_second_logins() {
    let full = "full_message = \"Nobody can come in.\"";
    for (policy, duplicate) in [("refuse", true), ("replace", false)] {
        let global = format!("duplicate_login = \"{policy}\"");
        let more = match duplicate {
            true => NO_COMPRESSION.to_owned(),
            false => format!("{NO_COMPRESSION}\nmax_players = 1\n{full}"),
        };
        let modes = Modes::start(&global, &more).await;
        for (mode, name_of_mode) in MODES.iter().enumerate() {
            let _in_the_game = modes.playing(mode, 767).await;
            for protocol in FORMS {
                let (name, expected) = match duplicate {
                    // The service has another id for a name in other letters.
                    true if *name_of_mode == "offline" => ("nOTCH", PRESENT),
                    true => ("Notch", PRESENT),
                    false => ("Other", "Nobody can come in."),
                };
                let mut client = modes.client(mode, protocol, name).await;
                assert_eq!(refusal(&mut client).await, expected, "{protocol} {mode}");
            }
        }
    }
    // Where nobody can be replaced, nobody is asked to prove anything.
    let modes = Modes::start("", &format!("{NO_COMPRESSION}\nmax_players = 1\n{full}")).await;
    for mode in 0..2 {
        let _in_the_game = modes.playing(mode, 767).await;
        for protocol in FORMS {
            let mut client = game::begin(modes.proxies[mode].address(), protocol, "Other").await;
            assert_eq!(refusal(&mut client).await, "Nobody can come in.");
        }
    }
}

/// A replaced player reads why, in encrypted form, in the game and before it.
#[tokio::test]
async fn players_who_are_replaced() {
    let modes = Modes::start("duplicate_login = \"replace\"", NO_COMPRESSION).await;
    let replaced = "You logged in from another place.";
    for mode in 0..MODES.len() {
        for protocol in [4, 47, 340, 764, 776] {
            let (mut first, mut of_first) = modes.begin(mode, protocol).await;
            let (mut second, mut of_second) = modes.begin(mode, protocol).await;
            assert_eq!(refusal(&mut first).await, replaced, "{protocol}");
            of_first.expect_end().await;
            admit(&mut of_second, protocol).await;
            second.expect(2).await;
            if protocol >= 764 {
                second.send(3, &[]).await;
                of_second.expect(3).await;
            }
            enter(&mut second, &mut of_second, protocol).await;
            let _third = modes.begin(mode, protocol).await;
            let body = second.expect(Ids::of(protocol).disconnect).await;
            assert_eq!(text(protocol, &body), replaced, "{protocol}");
            second.expect_end().await;
            of_second.expect_end().await;
        }
        modes.idle().await;
    }
}
