//! Requests of a backend to the client during the login.

use infrarust_test_support::game::refusal;

use super::{NO_COMPRESSION, admit, begin, enter, offline, welcome};
use crate::support::{FakeBackend, wire};

/// The requests of mod loaders and their answers pass unchanged, several at once and in any
/// order.
#[tokio::test]
async fn requests_of_mods_pass() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    let (mut client, mut server) = begin(&proxy, &backend, 754, "Notch").await;
    let question = |id: u8| [&[id][..], &wire::string("fml:loginwrapper"), &[id; 3000]].concat();
    for id in [0, 1, 2, 2] {
        server.send(4, &question(id)).await;
        assert_eq!(client.expect(4).await, question(id));
    }
    for (id, data) in [(2, &[1, 9][..]), (0, &[0]), (2, &[1]), (1, &[1, 7, 7])] {
        let answer = [&[id], data].concat();
        client.send(2, &answer).await;
        assert_eq!(server.expect(2).await, answer);
    }
    welcome(&mut client, &mut server, 754).await;
    enter(&mut client, &mut server, 754).await;
}

/// Cookies of the backend pass in login.
#[tokio::test]
async fn cookies_pass() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    let (mut client, mut server) = begin(&proxy, &backend, 776, "Notch").await;
    let name = wire::string("a:b");
    server.send(5, &name).await;
    assert_eq!(client.expect(5).await, name);
    let answer = [name, vec![1], wire::varint(5120), vec![8; 5120]].concat();
    client.send(4, &answer).await;
    assert_eq!(server.expect(4).await, answer);
    welcome(&mut client, &mut server, 776).await;
    enter(&mut client, &mut server, 776).await;
}

/// A backend accepts the player before it has all answers: the client first answers in the
/// login state.
#[tokio::test]
async fn answers_come_before_the_success() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    for protocol in [754, 767] {
        let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
        let question = [vec![5], wire::string("a:b")].concat();
        server.send(4, &question).await;
        admit(&mut server, protocol).await;
        assert_eq!(client.expect(4).await, question);
        client.send(2, &[5, 0]).await;
        client.expect(2).await;
        if protocol >= 764 {
            assert_eq!(server.expect(2).await, [5, 0]);
            client.send(3, &[]).await;
            server.expect(3).await;
        }
        enter(&mut client, &mut server, protocol).await;
        drop((client, server));
        proxy.idle().await;
    }
}

/// An answer without a request, or one that is too long, ends the session of the client.
#[tokio::test]
async fn answers_without_a_request() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    let cookie = wire::string("a:b");
    let long = [cookie.clone(), vec![1], wire::varint(5121), vec![8; 5121]].concat();
    let unasked = [wire::string("a:c"), vec![0]].concat();
    let answers = [
        (2, vec![1, 0]),
        (2, Vec::new()),
        (4, unasked),
        (4, long),
        (3, Vec::new()),
        (0, wire::string("Notch")),
        (0x70, Vec::new()),
    ];
    for (id, body) in answers {
        let (mut client, mut server) = begin(&proxy, &backend, 776, "Notch").await;
        server.send(5, &cookie).await;
        client.expect(5).await;
        client.send(id, &body).await;
        let text = refusal(&mut client).await;
        assert!(text.contains("does not understand"), "{id}: {text}");
        server.expect_end().await;
        proxy.idle().await;
    }
}

/// The number and size of unanswered requests of a backend are bounded.
#[tokio::test]
async fn requests_are_bounded() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    let many = |id: i32| [wire::varint(id), wire::string("a:b")].concat();
    let name = "n".repeat(30_000);
    for is_cookie in [false, true] {
        let (mut client, mut server) = begin(&proxy, &backend, 776, "Notch").await;
        let asking = async {
            for id in 0..1025 {
                match is_cookie {
                    true => server.send(5, &wire::string(&name)).await,
                    false => server.send(4, &many(id)).await,
                }
            }
        };
        let reading = async {
            loop {
                let (id, body) = client.next().await.unwrap();
                if id == 0 {
                    break wire::string_in(&body);
                }
            }
        };
        let (text, ()) = tokio::join!(reading, asking);
        assert!(text.contains("does not understand"), "{text}");
        proxy.idle().await;
    }
}
