//! Pipes of spliced sessions.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicUsize;

use nix::errno::Errno;

use super::*;
use crate::forward::adaptive::CopyOrSplice;

async fn relay_four_mib(forwarder: &AnyForwarder) -> Outcome {
    const TOTAL: usize = 4 * MIB;
    let pattern = Random(21).bytes(PERIOD);
    let running = rig(NO_LIMITS, None).await.run(forwarder);
    let (mut player, mut server) = (running.player, running.server);
    let sending = async {
        send(&mut server, &pattern, TOTAL, Random(22)).await;
        server.shutdown().await.unwrap();
    };
    let (received, ()) = tokio::join!(receive(&mut player, &pattern, Random(23)), sending);
    assert_eq!(received, TOTAL);
    drop(player);
    outcome(running.relay, &running.counters).await
}

/// If no pipe can be made, the session copies, and its outcome is `degraded`.
#[tokio::test]
async fn without_pipes_sessions_copy() {
    let none: pipe::MakePipe = || Err(Errno::EMFILE.into());
    let methods = [
        Method::Splice(none),
        Method::Adaptive(none, CopyOrSplice::default()),
    ];
    for forwarder in methods.into_iter().flat_map(drivers) {
        let outcome = relay_four_mib(&forwarder).await;
        // An adaptive relay may not have needed a pipe.
        let splices = format!("{forwarder:?}").contains("Splice");
        assert!(outcome.degraded || !splices);
        assert_eq!(outcome.end, End::Closed(Side::Backend));
    }
}

/// If the kernel cannot splice from a socket, the session copies.
#[tokio::test]
async fn without_splice_sessions_copy() {
    let useless: pipe::MakePipe = || {
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        Ok(pipe::Pipe::new(
            OwnedFd::from(null.try_clone()?),
            OwnedFd::from(null),
            0,
        ))
    };
    for forwarder in drivers(Method::Splice(useless)) {
        assert!(relay_four_mib(&forwarder).await.degraded);
    }
}

/// Bytes that are in a pipe already when the kernel refuses to splice further
/// are copied out of it.
#[tokio::test]
async fn bytes_of_a_pipe_are_copied_where_they_cannot_be_spliced() {
    let half: pipe::MakePipe = || {
        let pipe::Pipe { read, write, .. } = pipe::make()?;
        // It is never full, and closed by nobody.
        std::mem::forget(read);
        let zeros = OpenOptions::new().read(true).open("/dev/zero")?;
        Ok(pipe::Pipe::new(OwnedFd::from(zeros), write, 0))
    };
    for forwarder in drivers(Method::Splice(half)) {
        let mut running = rig(NO_LIMITS, None).await.run(&forwarder);
        running.server.write_all(b"hello").await.unwrap();
        let mut heard = [1; 5];
        timeout(PATIENCE, running.player.read_exact(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(heard, [0; 5], "they come from the pipe");
        running.server.write_all(b"again").await.unwrap();
        running.player.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"again");
        drop((running.player, running.server));
        let outcome = outcome(running.relay, &running.counters).await;
        assert!(outcome.degraded);
        assert_eq!(outcome.clientbound_bytes, 10);
    }
}

/// splice(2) never gets past a byte that TCP marks as urgent, and the socket
/// stays readable: what follows it is relayed all the same, also at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_behind_an_urgent_one_arrive() {
    let reactor = Reactor::start(NonZeroUsize::MIN).unwrap();
    let forwarder = reactor
        .forwarder(Method::of(Relay::Splice))
        .with_handover_delay(Duration::ZERO);
    for is_end in [false, true] {
        let mut running = rig(NO_LIMITS, None)
            .await
            .run(&AnyForwarder::Reactor(forwarder.clone()));
        until("the worker to have it", || forwarder.handed_over() > 0).await;
        greet(&mut running).await;
        SockRef::from(&running.player)
            .send_out_of_band(b"!")
            .unwrap();
        running.player.write_all(FINAL_TEXT).await.unwrap();
        if is_end {
            running.player.shutdown().await.unwrap();
            assert_eq!(read_all(&mut running.server).await, FINAL_TEXT);
        } else {
            let mut heard = vec![0; FINAL_TEXT.len()];
            timeout(PATIENCE, running.server.read_exact(&mut heard))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(heard, FINAL_TEXT);
            greet(&mut running).await;
        }
        drop((running.player, running.server));
        assert!(outcome(running.relay, &running.counters).await.degraded);
    }
}

/// The same while the runtime drives the session. Its task must not take the end that
/// splice(2) reports at an urgent byte for the end of the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_behind_an_urgent_one_arrive_in_a_young_session() {
    let forwarder = portable::PortableForwarder(Method::of(Relay::Splice));
    let mut running = rig(NO_LIMITS, None)
        .await
        .run(&AnyForwarder::Portable(forwarder));
    greet(&mut running).await;
    SockRef::from(&running.player)
        .send_out_of_band(b"!")
        .unwrap();
    running.player.write_all(FINAL_TEXT).await.unwrap();
    running.player.shutdown().await.unwrap();
    assert_eq!(read_all(&mut running.server).await, FINAL_TEXT);
    drop((running.player, running.server));
    assert!(outcome(running.relay, &running.counters).await.degraded);
}

/// Says hello both ways.
async fn greet(running: &mut Running) {
    let mut heard = [0; 5];
    running.player.write_all(b"hello").await.unwrap();
    running.server.read_exact(&mut heard).await.unwrap();
    running.server.write_all(b"hello").await.unwrap();
    running.player.read_exact(&mut heard).await.unwrap();
}

/// Twenty idle sessions hold no pipe: the pipe of each pool serves all their messages,
/// one after the other.
#[tokio::test]
async fn idle_sessions_hold_no_pipe() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let counting: pipe::MakePipe = || {
        MADE.fetch_add(1, Ordering::Relaxed);
        pipe::make()
    };
    let mut idle = Vec::new();
    for forwarder in drivers(Method::Splice(counting)) {
        for _ in 0..20 {
            let mut running = rig(NO_LIMITS, None).await.run(&forwarder);
            greet(&mut running).await;
            idle.push(running);
        }
    }
    // One of this thread, and one of the reactor's.
    let made = MADE.load(Ordering::Relaxed);
    assert!((1..=2).contains(&made), "{made} pipes");
}

/// A splice that ends because the pipe has no slot left does not count as one that
/// has emptied the socket.
#[tokio::test]
async fn a_full_pipe_hides_no_bytes() {
    const BYTES: usize = 64 * 1024;
    let small: pipe::MakePipe = || pipe::make_of(1);
    for forwarder in drivers(Method::Splice(small)) {
        let mut rig = rig(NO_LIMITS, None).await;
        rig.server.write_all(&[7; BYTES]).await.unwrap();
        let mut running = rig.run(&forwarder);
        let mut read = vec![0; BYTES];
        let read = timeout(PATIENCE, running.player.read_exact(&mut read)).await;
        assert_eq!(read.unwrap().unwrap(), BYTES, "{forwarder:?}");
    }
}

/// A pipe that a session leaves with bytes in it serves no other session.
#[tokio::test]
async fn a_pipe_with_bytes_is_never_used_again() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let counting: pipe::MakePipe = || {
        MADE.fetch_add(1, Ordering::Relaxed);
        pipe::make()
    };
    // The runtime's pool belongs to this thread, which only this test uses.
    let forwarder = AnyForwarder::Portable(portable::PortableForwarder(Method::Splice(counting)));
    let running = rig(NO_LIMITS, Some(32 * 1024)).await.run(&forwarder);
    let mut server = running.server;
    fill(&mut server, &[7; 65_536]).await;
    assert_eq!(MADE.load(Ordering::Relaxed), 1);
    running.stop.cancel();
    let outcome = outcome(running.relay, &running.counters).await;
    assert_eq!(outcome.end, End::Stopped);
    let mut next = rig(NO_LIMITS, None).await.run(&forwarder);
    greet(&mut next).await;
    assert_eq!(MADE.load(Ordering::Relaxed), 2);
}
