//! A backend for containers: one static program, built by the test with `rustc` only and
//! put into an image by `docker import`.
//!
//! It sends its `NAME` in status answers, accepts every player, and echoes their bytes.
//! Called with `health` it is the health check of its container, which fails as soon as a
//! player has logged in as `poison`.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

#[path = "../support/src/wire.rs"]
mod wire;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The content of a handshake.
pub struct Hello {
    pub protocol: i32,
    pub host: String,
    pub port: u16,
    pub intent: i32,
}

/// The file that makes the container unhealthy.
const POISON: &str = "/poison";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("health") {
        return ExitCode::from(u8::from(Path::new(POISON).exists()));
    }
    let port = std::env::var("PORT").unwrap_or_else(|_| "25565".to_owned());
    let listener = TcpListener::bind(("::", port.parse().unwrap()))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port.parse().unwrap())))
        .unwrap();
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
    ExitCode::SUCCESS
}

/// One connection; `None` ends it.
fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let mut buffer = Vec::new();
    let (_, body) = frame(&mut stream, &mut buffer)?;
    let hello = wire::parse_handshake(&body);
    let (_, body) = frame(&mut stream, &mut buffer)?;
    if hello.intent == 1 {
        let name = std::env::var("NAME").unwrap_or_default();
        let status = format!(
            r#"{{"version":{{"name":"test","protocol":47}},"players":{{"max":20,"online":0}},"description":{{"text":"{name}"}}}}"#
        );
        stream.write_all(&wire::frame(0, &wire::string(&status))).ok()?;
        let (id, body) = frame(&mut stream, &mut buffer)?;
        return stream.write_all(&wire::frame(id, &body)).ok();
    }
    let name = wire::string_in(&body);
    if name == "poison" {
        std::fs::write(POISON, "").ok()?;
    }
    stream.write_all(&wire::login_success(&name)).ok()?;
    stream.write_all(&buffer).ok()?;
    let mut echo = stream.try_clone().ok()?;
    std::io::copy(&mut stream, &mut echo).ok().map(drop)
}

/// The next frame.
fn frame(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(i32, Vec<u8>)> {
    loop {
        if let Some((id, body, used)) = wire::split(buffer) {
            buffer.drain(..used);
            return Some((id, body));
        }
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
        buffer.extend_from_slice(&bytes[..count]);
    }
}
