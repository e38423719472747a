//! `client_only`: the identity that the session service confirms, and every kind of
//! failure, with a text that an encrypted client can read.

use infrarust_test_support::game::{
    self, Request, SECRET, Say, Sessions, Speaker, dashed, encrypt, refusal, response, who,
};

use super::{NOTCH, uuid};
use crate::support::{FakeBackend, TestProxy, wire, within};

/// One version for each form of the request and the response.
const FORMS: [i32; 10] = [5, 47, 340, 758, 759, 760, 765, 767, 774, 776];

fn proxy(sessions: &Sessions, backend: &FakeBackend) -> TestProxy {
    TestProxy::with_one_server(
        &sessions.global(),
        "client_only",
        backend,
        "compression_threshold = -1\nforwarding_mode = \"bungeecord\"\n",
    )
}

/// A player of every form is encrypted, authenticated with one request, and gets in with
/// the name, id and properties of the service.
#[tokio::test]
async fn players_of_every_form_are_proved() {
    let mut sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    for protocol in FORMS {
        // The service's spelling of the name wins.
        let mut client = game::begin(proxy.address(), protocol, "nOTCH").await;
        encrypt(&mut client, protocol).await;
        let path = sessions.asked().await;
        let query = path.strip_prefix("/hasJoined?username=nOTCH&serverId=");
        let hash = query.unwrap_or_else(|| panic!("{path}"));
        let digits = hash.strip_prefix('-').unwrap_or(hash);
        assert!(!digits.starts_with('0') && digits.len() <= 40, "{hash}");
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let (mut server, host, start) = game::accept(&backend).await;
        let properties = r#"[{"name":"textures","signature":"c2ln","value":"dGV4"}]"#;
        let parts: Vec<&str> = host.split('\0').collect();
        let id = NOTCH.replace('-', "");
        assert_eq!(parts[..3], ["play.example.com", "127.0.0.1", &id]);
        let received: serde_json::Value = serde_json::from_str(parts[3]).unwrap();
        let expected: serde_json::Value = serde_json::from_str(properties).unwrap();
        assert_eq!(received, expected);
        assert_eq!(start, game::login_start(protocol, "Notch", uuid(NOTCH)));

        let success = game::login_success(protocol, uuid(NOTCH), "Notch");
        server.send(2, &success).await;
        let body = client.expect(2).await;
        assert_eq!(who(protocol, &body), (NOTCH.into(), "Notch".into()));
        let has_properties = body.windows(8).any(|part| part == b"textures");
        assert_eq!(has_properties, protocol >= 759, "{protocol}");
        drop((client, server));
        proxy.idle().await;
    }
}

/// A refusal after the encryption has begun is encrypted, also if the client returned a
/// wrong token.
#[tokio::test]
async fn a_wrong_token_is_refused_encrypted() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    for protocol in FORMS {
        let mut client = game::begin(proxy.address(), protocol, "Notch").await;
        let request = Request::parse(protocol, &client.expect(1).await);
        let (secret, token) = (request.seal(&SECRET), request.seal(b"toke"));
        client.send(1, &response(protocol, &secret, &token)).await;
        client.encrypt(SECRET);
        let text = refusal(&mut client).await;
        assert!(text.contains("could not encrypt"), "{text}");
    }
    proxy.idle().await;
}

/// An answer without a usable secret cannot be encrypted for: its refusal is sent in clear.
#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    for answer in 0..4 {
        let mut client = game::begin(proxy.address(), 767, "Notch").await;
        let request = Request::parse(767, &client.expect(1).await);
        let token = request.seal(&request.token);
        let secret = match answer {
            0 => request.seal(&SECRET[..15]),
            1 => request.seal(&[1; 32]),
            // A number above every modulus. Other bytes that nobody has encrypted are a
            // secret with some keys, see `game::without_secret`.
            2 => vec![0xFF; 128],
            _ => Vec::new(),
        };
        client.send(1, &response(767, &secret, &token)).await;
        let text = refusal(&mut client).await;
        assert!(text.contains("could not encrypt"), "{answer}: {text}");
    }
}

/// A packet that is not an encryption response is refused, before the response or instead
/// of it.
#[tokio::test]
async fn garbage_is_refused() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    let garbage: [(i32, &[u8]); 5] = [
        (1, &[]),
        (1, &[0xFF; 10]),
        (1, &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
        (2, &[0, 0]),
        (0x70, &[1, 2, 3]),
    ];
    for (id, body) in garbage {
        let mut client = game::begin(proxy.address(), 767, "Notch").await;
        client.expect(1).await;
        client.send(id, body).await;
        let text = refusal(&mut client).await;
        assert!(text.contains("does not understand"), "{text}");
    }
    proxy.idle().await;
}

/// For each failure of the service the player reads what to do, and the backend is not
/// dialled.
#[tokio::test]
async fn failures_of_the_session_service() {
    let other = r#"{"id":"069a79f444e94726a5befca90e38aaf5","name":"jeb_","properties":[]}"#;
    let answer = |status, body: &str| Say::Answer(status, body.to_owned());
    let not_joined = "not authenticated with your Minecraft account";
    let down = "cannot be reached";
    let table = [
        (answer(204, ""), not_joined),
        (answer(403, "{}"), not_joined),
        (answer(200, ""), not_joined),
        (answer(429, ""), "busy"),
        (answer(500, "oh"), down),
        (answer(503, ""), down),
        (answer(302, ""), down),
        (answer(200, other), down),
        (answer(200, "<html>"), down),
        (Say::Huge, down),
        (Say::Close, down),
    ];
    for (say, expected) in table {
        let sessions = Sessions::start(say.clone()).await;
        let backend = FakeBackend::start().await;
        let proxy = proxy(&sessions, &backend);
        for protocol in [47, 776] {
            let mut client = game::begin(proxy.address(), protocol, "Notch").await;
            encrypt(&mut client, protocol).await;
            let text = refusal(&mut client).await;
            assert!(text.contains(expected), "{say:?}: {text}");
        }
        proxy.idle().await;
        let accepted = futures_util::FutureExt::now_or_never(backend.listener.accept());
        assert!(accepted.is_none(), "{say:?}");
    }
}

/// After an answer 429 no request is sent: the next player is refused without one.
#[tokio::test]
async fn a_service_that_has_too_many_requests_is_left_alone() {
    let mut sessions = Sessions::start(Say::Answer(429, String::new())).await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    for name in ["Notch", "jeb_"] {
        let mut client = game::begin(proxy.address(), 767, name).await;
        encrypt(&mut client, 767).await;
        let text = refusal(&mut client).await;
        assert!(text.contains("busy"), "{text}");
    }
    assert!(sessions.asked().await.contains("Notch"));
    let second = futures_util::FutureExt::now_or_never(sessions.asked());
    assert!(second.is_none());
}

/// A service that confirms a join only once may have confirmed it in an answer that was
/// lost. So "not joined" after a repeated request does not mean that the player is not
/// authenticated. A confirmation by the second answer lets the player in.
#[tokio::test]
async fn a_join_that_is_confirmed_once() {
    let answer = |status| Say::Answer(status, String::new());
    for first in [Say::Close, answer(502), Say::Huge] {
        let sessions = Sessions::in_turn(vec![first.clone(), answer(204)]).await;
        let backend = FakeBackend::start().await;
        let proxy = proxy(&sessions, &backend);
        let mut client = game::begin(proxy.address(), 767, "Notch").await;
        encrypt(&mut client, 767).await;
        let text = refusal(&mut client).await;
        assert!(text.contains("cannot be reached"), "{first:?}: {text}");
    }
    let profile = r#"{"id":"069a79f444e94726a5befca90e38aaf5","name":"Notch"}"#;
    let confirms = Say::Answer(200, profile.to_owned());
    let sessions = Sessions::in_turn(vec![answer(503), confirms]).await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    let mut client = game::begin(proxy.address(), 767, "Notch").await;
    encrypt(&mut client, 767).await;
    game::accept(&backend).await;
}

/// Of many logins at once, 64 cause requests. The next request is sent when one of these
/// logins ends.
#[tokio::test]
async fn requests_at_once_are_bounded() {
    let mut sessions = Sessions::start(Say::Nothing).await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    // A request is given up after some seconds: all that takes time comes before
    // the first one.
    let mut crowd = std::collections::HashMap::new();
    for index in 0..65 {
        let name = format!("p{index}");
        let mut client = game::begin(proxy.address(), 767, &name).await;
        let answer = game::sealed(&client.expect(1).await, 767);
        crowd.insert(name, (client, answer));
    }
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = game::begin(proxy.address(), 767, "other").await;
        let answer = game::without_secret(&other.expect(1).await, 767);
        others.push((other, answer));
    }
    for (client, answer) in crowd.values_mut() {
        client.send(1, answer).await;
    }
    let mut asked = Vec::new();
    for _ in 0..64 {
        asked.push(sessions.asked().await);
    }
    // Answers are decrypted in order: behind these a request too many had its time.
    for (other, answer) in &mut others {
        other.send(1, answer).await;
        refusal(other).await;
    }
    let more = futures_util::FutureExt::now_or_never(sessions.asked());
    assert!(more.is_none(), "{more:?}");
    let name = |path: &str| {
        let path = path.strip_prefix("/hasJoined?username=").unwrap();
        path.split('&').next().unwrap().to_owned()
    };
    crowd.remove(&name(&asked[0])).unwrap();
    let next = sessions.asked().await;
    assert!(
        asked.iter().all(|before| name(before) != name(&next)),
        "{next}"
    );
    drop(crowd);
    proxy.idle().await;
}

/// A flood of wrong answers from clients that do not wait does not block a correct login,
/// and leaves nothing behind.
#[tokio::test]
async fn a_flood_of_false_answers() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    for index in 0..300 {
        let mut client = game::begin(proxy.address(), 767, &format!("p{index}")).await;
        let answer = game::without_secret(&client.expect(1).await, 767);
        client.send(1, &answer).await;
    }
    let mut client = game::begin(proxy.address(), 767, "Notch").await;
    encrypt(&mut client, 767).await;
    let (mut server, _, _) = game::accept(&backend).await;
    let success = game::login_success(767, uuid(NOTCH), "Notch");
    server.send(2, &success).await;
    client.expect(2).await;
    drop((client, server));
    proxy.idle().await;
}

/// With a silent service the login ends in time, after a first and a second attempt.
#[tokio::test]
async fn a_silent_service() {
    let mut sessions = Sessions::start(Say::Nothing).await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    let mut client = game::begin(proxy.address(), 767, "Notch").await;
    encrypt(&mut client, 767).await;
    let text = refusal(&mut client).await;
    assert!(text.contains("cannot be reached"), "{text}");
    sessions.asked().await;
    sessions.asked().await;
    proxy.idle().await;
}

/// A player who leaves during the request leaves nothing behind, and one who sends
/// something during it is disconnected.
#[tokio::test]
async fn the_client_is_watched_while_the_service_is_asked() {
    let mut sessions = Sessions::start(Say::Nothing).await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    let mut client = game::begin(proxy.address(), 767, "Notch").await;
    encrypt(&mut client, 767).await;
    sessions.asked().await;
    drop(client);
    proxy.idle().await;
    let mut client = game::begin(proxy.address(), 767, "Notch").await;
    encrypt(&mut client, 767).await;
    sessions.asked().await;
    client.send(3, &[]).await;
    assert!(refusal(&mut client).await.contains("does not understand"));
    proxy.idle().await;
}

/// Names that no account can have are refused without a request.
#[tokio::test]
async fn names_without_an_account() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    for name in ["with space", "../x", "\u{a7}4red", "\u{1b}[31m"] {
        let mut client = game::begin(proxy.address(), 767, name).await;
        let text = refusal(&mut client).await;
        assert!(text.contains("character"), "{name:?}: {text}");
    }
}

/// With `prevent_proxy_connections` the service gets the player's address.
#[tokio::test]
async fn the_address_is_sent_with_prevent_proxy_connections() {
    let mut sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let global = format!("{}prevent_proxy_connections = true\n", sessions.global());
    let proxy = TestProxy::with_one_server(&global, "client_only", &backend, "");
    let mut client = game::begin(proxy.address(), 767, "Notch").await;
    encrypt(&mut client, 767).await;
    assert!(sessions.asked().await.ends_with("&ip=127.0.0.1"));
}

/// Behind a load balancer the address of the PROXY header is sent, and an IPv6 address is
/// escaped.
#[tokio::test]
async fn the_address_of_a_header_is_sent() {
    let mut sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let header = "receive_proxy_protocol = true\nproxy_protocol_trusted = [\"127.0.0.1\"]\n";
    let global = format!(
        "{header}{}prevent_proxy_connections = true\n",
        sessions.global()
    );
    let proxy = TestProxy::with_one_server(&global, "client_only", &backend, "");
    for (header, expected) in [
        (
            "TCP6 2001:db8::7 2001:db8::1 40000 25565",
            "&ip=2001%3Adb8%3A%3A7",
        ),
        (
            "TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 40000 25565",
            "&ip=192.0.2.7",
        ),
        ("TCP4 192.0.2.9 192.0.2.1 40000 25565", "&ip=192.0.2.9"),
    ] {
        let connecting = tokio::net::TcpStream::connect(proxy.address());
        let mut client = Speaker::new(within("a connection", connecting).await.unwrap());
        client
            .send_raw(format!("PROXY {header}\r\n").as_bytes())
            .await;
        let hello = wire::handshake(767, "play.example.com", 25565, 2);
        client.send_raw(&hello).await;
        client
            .send(0, &game::login_start(767, "Notch", [7; 16]))
            .await;
        encrypt(&mut client, 767).await;
        let path = sessions.asked().await;
        assert!(path.ends_with(expected), "{path}");
        drop(client);
        proxy.idle().await;
    }
}

/// The chat key of a player of 1.19 to 1.19.2 reaches a backend that uses the player id of
/// the key: in the login start, and in a signed identity.
#[tokio::test]
async fn chat_keys_reach_the_backend() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let more = "compression_threshold = -1\nforwarding_mode = \"velocity\"\nforwarding_secret = \"0123456789abcdef\"";
    let proxy = TestProxy::with_one_server(&sessions.global(), "client_only", &backend, more);
    let key = [
        &[0, 0, 1, 0x8B, 0xCF, 0xE5, 0x68, 0, 3][..],
        b"key",
        &[4],
        b"sign",
    ]
    .concat();
    let with_key = |holder: &[u8]| {
        let name = wire::string("Notch");
        [&name, &[1][..], &key, holder].concat()
    };
    let own = uuid(NOTCH);
    let named = [&[1][..], &own].concat();
    let other = [&[1][..], &[7; 16]].concat();
    for (protocol, holder, version) in [(759, &[][..], 2), (760, &named, 3), (760, &other, 1)] {
        let stream = within(
            "a connection",
            tokio::net::TcpStream::connect(proxy.address()),
        )
        .await;
        let mut client = Speaker::new(stream.unwrap());
        let hello = wire::handshake(protocol, "play.example.com", 25565, 2);
        client.send_raw(&hello).await;
        client.send(0, &with_key(holder)).await;
        encrypt(&mut client, protocol).await;
        let (mut server, _, start) = game::accept(&backend).await;
        let expected = match version {
            1 => game::login_start(protocol, "Notch", own),
            _ => with_key(holder),
        };
        assert_eq!(start, expected, "{protocol}");
        let question = [&[1][..], &wire::string("velocity:player_info"), &[4]].concat();
        server.send(4, &question).await;
        let answer = server.expect(2).await;
        let received = answer.strip_prefix(&[1, 1]).unwrap();
        assert_eq!(received[32], version, "{protocol}");
        let tail = [&key, holder].concat();
        assert_eq!(received.ends_with(&tail), version > 1, "{protocol}");
        drop((client, server));
        proxy.idle().await;
    }
}

/// A login start with this key, as 1.19 to 1.19.2 send it for the player's own key.
fn start_with_key(protocol: i32, key: &[u8]) -> Vec<u8> {
    let bytes = |bytes: &[u8]| {
        let length = i32::try_from(bytes.len()).unwrap();
        [wire::varint(length), bytes.to_vec()].concat()
    };
    let expiry = 1_700_000_000_000_u64.to_be_bytes();
    let holder = match protocol {
        760 => [&[1][..], &uuid(NOTCH)].concat(),
        _ => Vec::new(),
    };
    [
        wire::string("Notch"),
        vec![1],
        expiry.to_vec(),
        bytes(key),
        bytes(b"by Mojang"),
        holder,
    ]
    .concat()
}

/// How a client of 1.19 to 1.19.2 returns the token.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Form {
    /// Encrypted, with a key in the login start.
    Token,
    /// Signed.
    Signed,
    /// Signed, over another token.
    OtherToken,
    /// Signed, by another key than that of the login start.
    OtherKey,
    /// Signed, by a key that is not in the login start.
    WithoutKey,
    /// No signature, and an invalid key.
    Nonsense,
}

/// Players of 1.19 to 1.19.2 with a key sign the token with it, or encrypt the token. A
/// wrong signature is refused with an encrypted text.
#[tokio::test]
async fn tokens_are_signed() {
    use rsa::pkcs8::EncodePublicKey;
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    let new_key = || rsa::PrivateKey::new(&mut getrandom::SysRng, 1024).unwrap();
    let (own, other) = (new_key(), new_key());
    let public = own.to_public_key().to_public_key_der().unwrap();
    for protocol in [759, 760] {
        for form in [
            Form::Token,
            Form::Signed,
            Form::OtherToken,
            Form::OtherKey,
            Form::WithoutKey,
            Form::Nonsense,
        ] {
            let connecting = tokio::net::TcpStream::connect(proxy.address());
            let mut client = Speaker::new(within("a connection", connecting).await.unwrap());
            let hello = wire::handshake(protocol, "play.example.com", 25565, 2);
            client.send_raw(&hello).await;
            let start = match form {
                Form::WithoutKey => game::login_start(protocol, "Notch", uuid(NOTCH)),
                Form::Nonsense => start_with_key(protocol, b"not a key"),
                _ => start_with_key(protocol, public.as_bytes()),
            };
            client.send(0, &start).await;
            let request = Request::parse(protocol, &client.expect(1).await);
            let salt = [9; 8];
            let token = match form {
                Form::OtherToken => b"another".to_vec(),
                _ => request.token.clone(),
            };
            let signer = if form == Form::OtherKey { &other } else { &own };
            let message = [&token[..], &salt].concat();
            let signature = signer.pkcs1v15_sign::<sha2::Sha256>(&message).unwrap();
            let secret = request.seal(&SECRET);
            let answer = match form {
                Form::Token => response(protocol, &secret, &request.seal(&token)),
                _ => {
                    // 128 bytes each.
                    let length = wire::varint(128);
                    [&length, &secret, &[0][..], &salt, &length, &signature].concat()
                }
            };
            client.send(1, &answer).await;
            client.encrypt(SECRET);
            if matches!(form, Form::Token | Form::Signed) {
                let (server, _, passed) = game::accept(&backend).await;
                assert_eq!(passed, start, "{protocol} {form:?}");
                drop((client, server));
            } else {
                let text = refusal(&mut client).await;
                assert!(text.contains("could not encrypt"), "{form:?}: {text}");
            }
        }
    }
}

/// If the backend does not learn the player id, the client gets the id that the backend
/// makes from the name. Since 26.2 the client also reads that the server is in online mode.
#[tokio::test]
async fn without_forwarding_the_id_is_the_backends() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let more = "compression_threshold = -1";
    let proxy = TestProxy::with_one_server(&sessions.global(), "client_only", &backend, more);
    let mut client = game::begin(proxy.address(), 776, "Notch").await;
    encrypt(&mut client, 776).await;
    let (mut server, host, start) = game::accept(&backend).await;
    assert_eq!(host, "play.example.com");
    let offline = uuid(super::NOTCH_OFFLINE);
    assert_eq!(start, game::login_start(776, "Notch", offline));
    server
        .send(2, &game::login_success(776, offline, "Notch"))
        .await;
    let body = client.expect(2).await;
    assert_eq!(who(776, &body).0, dashed(offline));
    into_play(&mut client, &mut server).await;
    // Again after a configuration in between.
    server.send(0x76, &[]).await;
    client.expect(0x76).await;
    client.send(0x10, &[]).await;
    server.expect(0x10).await;
    into_configured_play(&mut client, &mut server).await;
    // An encrypted stream of other packets is what it was.
    for size in [1, 1000, 70_000, 500_000] {
        let bytes: Vec<u8> = (0..251_u8).cycle().take(size).collect();
        server.send(0x7C, &bytes).await;
        assert_eq!(client.expect(0x7C).await, bytes);
        client.send(0x3C, &bytes[..size.min(30_000)]).await;
        assert_eq!(server.expect(0x3C).await.len(), size.min(30_000));
    }
    drop(server);
    let text = super::text(776, &client.expect(0x20).await);
    assert!(!text.is_empty());
    client.expect_end().await;
}

async fn into_play(client: &mut Speaker, server: &mut Speaker) {
    client.send(3, &[]).await;
    server.expect(3).await;
    into_configured_play(client, server).await;
}

async fn into_configured_play(client: &mut Speaker, server: &mut Speaker) {
    server.send(3, &[]).await;
    client.expect(3).await;
    client.send(3, &[]).await;
    server.expect(3).await;
    let join = [[5; 40].as_slice(), &[0, 0]].concat();
    server.send(0x31, &join).await;
    let expected = [[5; 40].as_slice(), &[1, 0]].concat();
    assert_eq!(client.expect(0x31).await, expected);
}

/// A version newer than the table is refused with a text that names the newest known
/// version.
#[tokio::test]
async fn an_unknown_version_is_refused_in_login() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = proxy(&sessions, &backend);
    let stream = within(
        "a connection",
        tokio::net::TcpStream::connect(proxy.address()),
    )
    .await;
    let mut client = Speaker::new(stream.unwrap());
    let hello = wire::handshake(778, "play.example.com", 25565, 2);
    client.send_raw(&hello).await;
    client
        .send(0, &game::login_start(777, "Notch", [7; 16]))
        .await;
    assert!(refusal(&mut client).await.contains("26.3"));
}
