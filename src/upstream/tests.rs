use super::*;

/// A connection leads to the proxy if one of its listeners has the address, also as an
/// unspecified address. Other processes may have the same port on other addresses.
#[test]
fn addresses_of_the_proxy_are_recognized() {
    let is_own = |own: &[&str], far: &str, near: &str| {
        let upstream = Upstream::from_system();
        upstream.listens_at(own.iter().map(|own| own.parse().unwrap()).collect());
        upstream.is_own(far.parse().unwrap(), near.parse().unwrap())
    };
    let any = &["0.0.0.0:25565", "[::1]:25565"];
    assert!(is_own(any, "127.0.0.1:25565", "127.0.0.1:50000"));
    assert!(is_own(any, "127.0.0.2:25565", "127.0.0.1:50000"));
    assert!(is_own(
        any,
        "[::ffff:127.0.0.1]:25565",
        "[::ffff:127.0.0.1]:50000"
    ));
    assert!(is_own(any, "192.0.2.7:25565", "192.0.2.7:50000"));
    assert!(is_own(any, "[::1]:25565", "[::1]:50000"));
    assert!(!is_own(any, "127.0.0.1:25566", "127.0.0.1:50000"));
    assert!(!is_own(any, "192.0.2.9:25565", "192.0.2.7:50000"));
    assert!(!is_own(any, "[2001:db8::7]:25565", "[2001:db8::7]:50000"));
    let one = &["192.0.2.7:25565"];
    assert!(is_own(one, "192.0.2.7:25565", "192.0.2.7:50000"));
    assert!(!is_own(one, "127.0.0.1:25565", "127.0.0.1:50000"));
    let mapped = &["[::ffff:192.0.2.7]:25565"];
    assert!(is_own(mapped, "192.0.2.7:25565", "192.0.2.7:50000"));
}
