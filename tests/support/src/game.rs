//! A peer that speaks the protocol after the handshake: compression, encryption and the
//! packets of a login, written a second time for the tests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aes::Aes128Enc;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use rsa::PublicKey;
use rsa::pkcs8::DecodePublicKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::wire::{handshake, read_varint, string, string_in, varint};
use crate::{FakeBackend, within};

/// AES-128 in CFB mode with 8 bits of feedback: one direction.
struct Cfb8 {
    aes: Aes128Enc,
    register: Vec<u8>,
}

impl Cfb8 {
    fn new(secret: [u8; 16]) -> Self {
        Self {
            aes: Aes128Enc::new(&Array::from(secret)),
            register: secret.to_vec(),
        }
    }

    fn apply(&mut self, bytes: &mut [u8], encrypt: bool) {
        for byte in bytes {
            let mut block = Array::try_from(&self.register[..]).unwrap();
            self.aes.encrypt_block(&mut block);
            let before = *byte;
            *byte ^= block[0];
            self.register.remove(0);
            self.register.push(if encrypt { *byte } else { before });
        }
    }
}

/// The most bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// One end of a connection, from the handshake on.
pub struct Speaker {
    stream: TcpStream,
    /// Received bytes, decrypted.
    input: Vec<u8>,
    threshold: Option<usize>,
    ciphers: Option<(Cfb8, Cfb8)>,
    /// The most bytes of one read.
    read_bytes_max: usize,
    is_lenient: bool,
}

impl Speaker {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            input: Vec::new(),
            threshold: None,
            ciphers: None,
            read_bytes_max: READ_BYTES,
            is_lenient: false,
        }
    }

    /// Reads at most this number of bytes at once.
    pub fn read_at_most(&mut self, bytes: usize) {
        self.read_bytes_max = bytes;
    }

    /// Accepts compressed packets below the threshold, as clients since 1.18 do.
    pub fn be_lenient(&mut self) {
        self.is_lenient = true;
    }

    /// Simulates an unplugged cable: the kernel drops all packets, and the peer reads
    /// neither an end nor an error.
    #[cfg(target_os = "linux")]
    pub fn pull_the_cable(&self) {
        // Returns 0: no byte of a packet is kept (classic BPF, `BPF_RET | BPF_K`).
        let drop_all = [socket2::SockFilter::new(0x06, 0, 0, 0)];
        let socket = socket2::SockRef::from(&self.stream);
        socket.attach_filter(&drop_all).unwrap();
    }

    /// From now on the system keeps few bytes for this side that it has not read.
    pub fn receive_little(&self) {
        const BUFFER_BYTES: usize = 64 * 1024;
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
    }

    /// Completes when the connection accepts bytes, or has failed.
    pub async fn writable(&self) {
        let _ = self.stream.writable().await;
    }

    /// Completes when there is something to read, or the end.
    pub async fn readable(&self) {
        let _ = self.stream.readable().await;
    }

    /// Sends as many of these unencrypted bytes as the connection accepts now. Returns
    /// their number; `None` if it accepts none.
    pub fn try_send(&self, bytes: &[u8]) -> Option<usize> {
        assert!(self.ciphers.is_none());
        self.stream.try_write(bytes).ok()
    }

    /// Sends this frame again and again, from the byte `*at` on, until the connection
    /// accepts no more. A later call continues where the frame was cut.
    pub fn flood(&self, frame: &[u8], at: &mut usize) {
        while let Some(bytes) = self.try_send(&frame[*at..]) {
            *at = (*at + bytes) % frame.len();
        }
    }

    /// Encrypts both directions from the next byte on.
    pub fn encrypt(&mut self, secret: [u8; 16]) {
        self.ciphers = Some((Cfb8::new(secret), Cfb8::new(secret)));
    }

    /// Frames with compression from the next frame on, in both directions.
    pub fn compress(&mut self, threshold: i32) {
        self.threshold = usize::try_from(threshold).ok();
    }

    /// A packet as a frame, before encryption.
    pub fn framed(&self, id: i32, body: &[u8]) -> Vec<u8> {
        let packet = [varint(id), body.to_vec()].concat();
        let content = match self.threshold {
            None => packet,
            Some(threshold) if packet.len() < threshold => [vec![0], packet].concat(),
            Some(_) => [varint(packet.len() as i32), deflated(&packet)].concat(),
        };
        [varint(content.len() as i32), content].concat()
    }

    pub async fn send(&mut self, id: i32, body: &[u8]) {
        let bytes = self.framed(id, body);
        self.send_raw(&bytes).await;
    }

    /// Sends bytes that may not be a frame. The peer may have closed.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if let Some((encrypt, _)) = &mut self.ciphers {
            encrypt.apply(&mut bytes, true);
        }
        let _ = within("a write", self.stream.write_all(&bytes)).await;
    }

    /// Sends as many of these unencrypted bytes as the connection accepts now, and drops
    /// the rest.
    pub fn send_some(&self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(taken) = self.try_send(rest).filter(|taken| *taken > 0) {
            rest = &rest[taken..];
        }
    }

    /// Reads and drops the bytes that arrive in this time.
    pub async fn glance(&mut self, time: std::time::Duration) {
        let mut bytes = vec![0; READ_BYTES];
        if let Ok(Ok(read)) = tokio::time::timeout(time, self.stream.read(&mut bytes)).await {
            self.input.extend_from_slice(&bytes[..read]);
            self.forget_frames();
        }
    }

    /// Reads to the end of the stream. An orderly end is between two frames.
    pub async fn read_frames(mut self) {
        let mut bytes = vec![0; READ_BYTES];
        while let Ok(read) = self.stream.read(&mut bytes).await {
            self.input.extend_from_slice(&bytes[..read]);
            self.forget_frames();
            if read == 0 {
                // A reset that a write has reported looks like an end to the next read, but
                // the socket has no peer any more.
                let is_reset = self.stream.peer_addr().is_err();
                let is_whole = self.input.is_empty() || is_reset;
                assert!(is_whole, "cut in a frame: {:?}", self.input);
                return;
            }
        }
    }

    /// Drops the complete frames that have arrived.
    fn forget_frames(&mut self) {
        while let Some((length, at)) = read_varint(&self.input)
            && self.input.len() >= at + length as usize
        {
            assert!((1..=3).contains(&at) && length > 0, "no frame: {length}");
            self.input.drain(..at + length as usize);
        }
    }

    /// The next packet; `None` at the end of the stream, between two frames.
    ///
    /// A compressed packet below the threshold is an error, as for servers and
    /// old clients.
    pub async fn next(&mut self) -> Option<(i32, Vec<u8>)> {
        loop {
            if let Some((length, at)) = read_varint(&self.input)
                && self.input.len() >= at + length as usize
            {
                assert!(at <= 3, "a length of {at} bytes");
                let frame: Vec<u8> = self.input.drain(..at + length as usize).skip(at).collect();
                let packet = self.opened(frame);
                let (id, used) = read_varint(&packet).unwrap();
                return Some((id, packet[used..].to_vec()));
            }
            if !self.fill().await {
                assert!(self.input.is_empty(), "cut in a frame: {:?}", self.input);
                return None;
            }
        }
    }

    fn opened(&self, frame: Vec<u8>) -> Vec<u8> {
        let Some(threshold) = self.threshold else {
            return frame;
        };
        let (length, used) = read_varint(&frame).unwrap();
        let content = &frame[used..];
        if length == 0 {
            return content.to_vec();
        }
        assert!(
            self.is_lenient || length as usize >= threshold,
            "compressed below the threshold"
        );
        let mut packet = vec![0; length as usize];
        let bytes = Decompressor::new().zlib_decompress(content, &mut packet);
        assert_eq!(bytes, Ok(packet.len()));
        packet
    }

    /// The fields of the next packet, which has this id.
    pub async fn expect(&mut self, id: i32) -> Vec<u8> {
        let packet = self.next().await;
        let (came, body) = packet.unwrap_or_else(|| panic!("the end came instead of {id:#04x}"));
        assert_eq!(
            came, id,
            "{came:#04x} came instead of {id:#04x}: {body:02x?}"
        );
        body
    }

    /// Ends the stream in this direction.
    pub async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Asserts that the stream ends, without another packet.
    pub async fn expect_end(&mut self) {
        let packet = self.next().await;
        assert_eq!(packet, None, "unexpected before the end");
    }

    /// Resets the connection: later bytes of the peer are refused.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    async fn fill(&mut self) -> bool {
        let mut bytes = vec![0; self.read_bytes_max];
        let read = within("a read", self.stream.read(&mut bytes)).await;
        bytes.truncate(read.unwrap_or(0));
        if let Some((_, decrypt)) = &mut self.ciphers {
            decrypt.apply(&mut bytes, false);
        }
        self.input.extend_from_slice(&bytes);
        !bytes.is_empty()
    }
}

pub fn deflated(packet: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut out = vec![0; compressor.zlib_compress_bound(packet.len())];
    let bytes = compressor.zlib_compress(packet, &mut out).unwrap();
    out.truncate(bytes);
    out
}

/// Ids of the packets that the tests use, by protocol.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    pub join: i32,
    pub disconnect: i32,
    pub plugin: i32,
    /// Configuration: disconnect, finish from either side.
    pub config_disconnect: i32,
    pub finish: i32,
    /// Configuration: a registry.
    pub registry: i32,
}

/// Ids by protocol: each is valid from its protocol up to the next.
type Runs = &'static [(i32, i32)];

const JOIN: Runs = &[
    (4, 0x01),
    (107, 0x23),
    (393, 0x25),
    (573, 0x26),
    (735, 0x25),
    (751, 0x24),
    (755, 0x26),
    (759, 0x23),
    (760, 0x25),
    (761, 0x24),
    (762, 0x28),
    (764, 0x29),
    (766, 0x2B),
    (768, 0x2C),
    (770, 0x2B),
    (773, 0x30),
    (775, 0x31),
    (777, 0x32),
];
const DISCONNECT: Runs = &[
    (4, 0x40),
    (107, 0x1A),
    (393, 0x1B),
    (477, 0x1A),
    (573, 0x1B),
    (735, 0x1A),
    (751, 0x19),
    (755, 0x1A),
    (759, 0x17),
    (760, 0x19),
    (761, 0x17),
    (762, 0x1A),
    (764, 0x1B),
    (766, 0x1D),
    (770, 0x1C),
    (773, 0x20),
];
const PLUGIN: Runs = &[
    (4, 0x3F),
    (107, 0x18),
    (393, 0x19),
    (477, 0x18),
    (573, 0x19),
    (735, 0x18),
    (751, 0x17),
    (755, 0x18),
    (759, 0x15),
    (760, 0x16),
    (761, 0x15),
    (762, 0x17),
    (764, 0x18),
    (766, 0x19),
    (770, 0x18),
];

/// The protocol numbers of all releases.
pub const RELEASES: [i32; 52] = [
    4, 5, 47, 107, 108, 109, 110, 210, 315, 316, 335, 338, 340, 393, 401, 404, 477, 480, 485, 490,
    498, 573, 575, 578, 735, 736, 751, 753, 754, 755, 756, 757, 758, 759, 760, 761, 762, 763, 764,
    765, 766, 767, 768, 769, 770, 771, 772, 773, 774, 775, 776, 777,
];

impl Ids {
    pub fn of(protocol: i32) -> Self {
        assert!(RELEASES.contains(&protocol), "no ids for {protocol}");
        let id = |runs: Runs| {
            runs.iter()
                .rev()
                .find(|(from, _)| *from <= protocol)
                .unwrap()
                .1
        };
        let (config_disconnect, finish, registry) = match protocol {
            ..=765 => (1, 2, 5),
            _ => (2, 3, 7),
        };
        Self {
            join: id(JOIN),
            disconnect: id(DISCONNECT),
            plugin: id(PLUGIN),
            config_disconnect,
            finish,
            registry,
        }
    }
}

/// The fields of a login start.
pub fn login_start(protocol: i32, name: &str, uuid: [u8; 16]) -> Vec<u8> {
    let mut body = string(name);
    match protocol {
        ..=758 => {}
        759 => body.push(0),
        760 => body.extend([&[0, 1][..], &uuid].concat()),
        761..=763 => body.extend([&[1][..], &uuid].concat()),
        _ => body.extend(uuid),
    }
    body
}

/// The fields of a login success of a backend.
pub fn login_success(protocol: i32, uuid: [u8; 16], name: &str) -> Vec<u8> {
    let mut body = match protocol {
        ..=4 => string(&dashed(uuid).replace('-', "")),
        5..=578 => string(&dashed(uuid)),
        _ => uuid.to_vec(),
    };
    body.extend(string(name));
    if protocol >= 759 {
        body.push(0);
    }
    if (766..768).contains(&protocol) {
        body.push(1);
    }
    if protocol >= 776 {
        body.extend([3; 16]);
    }
    body
}

/// Player id and name of a login success.
pub fn who(protocol: i32, body: &[u8]) -> (String, String) {
    if protocol <= 578 {
        let uuid = string_in(body);
        let name = string_in(&body[string(&uuid).len()..]);
        assert_eq!(uuid.contains('-'), protocol > 4, "{uuid}");
        let bytes = u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap();
        return (dashed(bytes.to_be_bytes()), name);
    }
    let uuid = dashed(body[..16].try_into().unwrap());
    (uuid, string_in(&body[16..]))
}

pub fn dashed(uuid: [u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

/// An encryption request: server id, key and token.
pub struct Request {
    pub key: Vec<u8>,
    pub token: Vec<u8>,
}

impl Request {
    pub fn parse(protocol: i32, body: &[u8]) -> Self {
        assert_eq!(body[0], 0, "the server id is empty");
        let mut at = 1;
        let mut array = || {
            let (length, used) = match protocol {
                ..=5 => (usize::from(u16::from_be_bytes([body[at], body[at + 1]])), 2),
                _ => read_varint(&body[at..])
                    .map(|(n, used)| (n as usize, used))
                    .unwrap(),
            };
            let bytes = body[at + used..at + used + length].to_vec();
            at += used + length;
            bytes
        };
        let (key, token) = (array(), array());
        let rest: &[u8] = if protocol >= 766 { &[1] } else { &[] };
        assert_eq!(
            &body[at..],
            rest,
            "whether the client shall call the service"
        );
        Self { key, token }
    }

    pub fn seal(&self, bytes: &[u8]) -> Vec<u8> {
        let key = PublicKey::from_public_key_der(&self.key).unwrap();
        key.pkcs1v15_encrypt(bytes).unwrap()
    }
}

/// The fields of an encryption response with a token.
pub fn response(protocol: i32, secret: &[u8], token: &[u8]) -> Vec<u8> {
    let array = |bytes: &[u8]| match protocol {
        ..=5 => [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat(),
        _ => [varint(bytes.len() as i32), bytes.to_vec()].concat(),
    };
    let has_token: &[u8] = match protocol {
        759 | 760 => &[1],
        _ => &[],
    };
    [&array(secret), has_token, &array(token)].concat()
}

/// The fields of an encryption response that costs a decryption and has no secret: the
/// content is too short for one.
///
/// Bytes that nobody has encrypted would not do: the `rsa` crate decrypts them to bytes
/// that it derives from them and the key, and with some keys those are a secret.
pub fn without_secret(request: &[u8], protocol: i32) -> Vec<u8> {
    let request = Request::parse(protocol, request);
    response(
        protocol,
        &request.seal(&SECRET[1..]),
        &request.seal(b"toke"),
    )
}

pub const SECRET: [u8; 16] = *b"0123456789abcdef";

/// A client that has sent its handshake and login start.
pub async fn begin(proxy: SocketAddr, protocol: i32, name: &str) -> Speaker {
    begin_at(proxy, protocol, "play.example.com", name).await
}

/// The same, with this host.
pub async fn begin_at(proxy: SocketAddr, protocol: i32, host: &str, name: &str) -> Speaker {
    let stream = within("a connection", TcpStream::connect(proxy)).await;
    let mut client = Speaker::new(stream.unwrap());
    let hello = handshake(protocol, host, 25565, 2);
    client.send_raw(&hello).await;
    let start = login_start(protocol, name, [7; 16]);
    client.send(0, &start).await;
    client
}

/// The fields of the correct response to this encryption request.
pub fn sealed(request: &[u8], protocol: i32) -> Vec<u8> {
    let request = Request::parse(protocol, request);
    let (secret, token) = (request.seal(&SECRET), request.seal(&request.token));
    response(protocol, &secret, &token)
}

/// Answers the encryption request as a client does, and encrypts.
pub async fn encrypt(client: &mut Speaker, protocol: i32) {
    let answer = sealed(&client.expect(1).await, protocol);
    client.send(1, &answer).await;
    client.encrypt(SECRET);
}

/// The text of the next login disconnect, after which the stream ends.
pub async fn refusal(client: &mut Speaker) -> String {
    let body = client.expect(0).await;
    let json = string_in(&body);
    assert_eq!(string(&json), body, "bytes behind the text");
    let text: serde_json::Value = serde_json::from_str(&json).unwrap();
    client.expect_end().await;
    text["text"].as_str().unwrap().to_owned()
}

/// The backend accepts the player. The client reads the compression threshold of the proxy
/// and the login success. Since 1.20.2 the client acknowledges it, and the configuration
/// begins.
pub async fn welcome(
    [client, backend]: [&mut Speaker; 2],
    protocol: i32,
    player: ([u8; 16], &str),
    threshold: Option<i32>,
) {
    let (uuid, name) = player;
    let success = login_success(protocol, uuid, name);
    backend.send(2, &success).await;
    if let Some(threshold) = threshold {
        assert_eq!(client.expect(3).await, varint(threshold));
        client.compress(threshold);
    }
    client.expect(2).await;
    if protocol >= 764 {
        client.send(3, &[]).await;
        assert!(backend.expect(3).await.is_empty());
    }
}

/// Goes through the rest of a configuration, if there is one.
pub async fn configure([client, backend]: [&mut Speaker; 2], protocol: i32) {
    let ids = Ids::of(protocol);
    if protocol >= 764 {
        backend.send(ids.finish, &[]).await;
        client.expect(ids.finish).await;
        client.send(ids.finish, &[]).await;
        backend.expect(ids.finish).await;
    }
}

/// The same with a registry that the backend sends, and the client reads, before.
pub async fn configure_with([client, backend]: [&mut Speaker; 2], protocol: i32, registry: &[u8]) {
    let ids = Ids::of(protocol);
    if protocol >= 764 {
        backend.send(ids.registry, registry).await;
        backend.send(ids.finish, &[]).await;
        assert_eq!(client.expect(ids.registry).await, registry, "{protocol}");
        client.expect(ids.finish).await;
        client.send(ids.finish, &[]).await;
        backend.expect(ids.finish).await;
    }
}

/// The next connection of a backend, after its handshake and login start. Returns its host
/// field too.
pub async fn accept(backend: &FakeBackend) -> (Speaker, String, Vec<u8>) {
    let accepted = within("a backend connection", backend.listener.accept()).await;
    let mut peer = Speaker::new(accepted.unwrap().0);
    let hello = crate::wire::parse_handshake(&peer.expect(0).await);
    let start = peer.expect(0).await;
    (peer, hello.host, start)
}

/// The answer of the session service to a request.
#[derive(Debug, Clone)]
pub enum Say {
    /// A status and a body.
    Answer(u16, String),
    /// Every player is confirmed, with an id made from the name.
    Confirm,
    /// Headers, and a body that is larger than allowed.
    Huge,
    /// No answer; the connection stays open.
    Nothing,
    /// The connection is closed.
    Close,
}

/// A session service that gives these answers and records the requests.
pub struct Sessions {
    pub url: String,
    asked: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Sessions {
    pub async fn start(say: Say) -> Self {
        Self::in_turn(vec![say]).await
    }

    /// Gives these answers one after the other, and the last one to every further request.
    pub async fn in_turn(says: Vec<Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hasJoined", listener.local_addr().unwrap());
        let (tell, asked) = tokio::sync::mpsc::unbounded_channel();
        let says = Arc::new(Mutex::new(says));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&says), tell.clone()));
            }
        });
        Self { url, asked }
    }

    /// Confirms `name`.
    pub async fn confirming(name: &str) -> Self {
        let profile = format!(
            r#"{{"id":"069a79f444e94726a5befca90e38aaf5","name":"{name}","properties":[{{"name":"textures","value":"dGV4","signature":"c2ln"}}]}}"#
        );
        Self::start(Say::Answer(200, profile)).await
    }

    /// The lines of the global file that make the proxy use it.
    pub fn global(&self) -> String {
        format!("[auth]\nsession_url = \"{}\"\n", self.url)
    }

    /// The path of the next request.
    pub async fn asked(&mut self) -> String {
        within("a request", self.asked.recv()).await.unwrap()
    }
}

async fn answer(
    mut stream: TcpStream,
    says: Arc<Mutex<Vec<Say>>>,
    tell: tokio::sync::mpsc::UnboundedSender<String>,
) {
    let mut request = Vec::new();
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
                return;
            }
        }
        let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
        let path = text.split(' ').nth(1).unwrap().to_owned();
        let name = path.split(['=', '&']).nth(1).unwrap_or_default().to_owned();
        let _ = tell.send(path);
        let say = {
            let mut says = says.lock().unwrap();
            match &says[..] {
                [last] => last.clone(),
                _ => says.remove(0),
            }
        };
        let written = match &say {
            Say::Answer(status, body) => format!(
                "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
            Say::Confirm => {
                let id: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
                let profile = format!(r#"{{"id":"{id:0>32}","name":"{name}","properties":[]}}"#);
                let length = profile.len();
                format!("HTTP/1.1 200 Said\r\ncontent-length: {length}\r\n\r\n{profile}")
            }
            Say::Huge => format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n{}",
                " ".repeat(200_000)
            ),
            Say::Nothing => String::new(),
            Say::Close => return,
        };
        if stream.write_all(written.as_bytes()).await.is_err() {
            return;
        }
    }
}
