//! A fake container engine: it reports containers that do not exist, and can hang, answer
//! wrongly, and end in the middle of an answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinHandle;

use super::within;

/// How the engine answers a path instead of the truth.
#[derive(Debug, Clone)]
pub enum Override {
    /// It reads the request and never answers.
    Hang,
    /// It answers with these bytes and ends.
    Say(Vec<u8>),
    /// It answers with this text as JSON.
    Json(String),
    /// It answers later, on a signal, with the state at the time of the request.
    Late(Arc<Notify>),
}

#[derive(Default)]
pub struct State {
    /// The description of each container, by id.
    pub containers: BTreeMap<String, Value>,
    /// The content of lists, if it is not the truth.
    pub listed: Option<Value>,
    /// Other answers, by the beginning of the path.
    pub overrides: BTreeMap<String, Override>,
    /// The paths of all requests.
    pub requests: Vec<String>,
}

pub struct FakeEngine {
    pub state: Arc<Mutex<State>>,
    folder: TempDir,
    events: broadcast::Sender<String>,
    requests: watch::Sender<usize>,
    task: Option<JoinHandle<()>>,
}

impl FakeEngine {
    /// An engine without containers that listens.
    pub fn start() -> Self {
        let mut engine = Self::absent();
        engine.begin();
        engine
    }

    /// An engine that does not listen yet.
    pub fn absent() -> Self {
        Self {
            state: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
            events: broadcast::channel(100_000).0,
            requests: watch::channel(0).0,
            task: None,
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// The lines of a global file that name it.
    pub fn table(&self, more: &str) -> String {
        let socket = self.socket();
        let endpoint = format!("endpoint = \"unix://{}\"", socket.display());
        format!("[docker]\n{endpoint}\nreconnect_delay = \"50ms\"\n{more}\n")
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Begins to listen.
    pub fn begin(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let server = self.server();
        self.task = Some(tokio::spawn(async move {
            // They end with this task.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(server.clone().serve(stream));
            }
        }));
    }

    /// Ends with all connections, as when its process ends.
    pub async fn end(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
        std::fs::remove_file(self.socket()).unwrap();
    }

    /// Answers on any other stream.
    pub fn server(&self) -> Server {
        Server {
            state: Arc::clone(&self.state),
            events: self.events.clone(),
            requests: self.requests.clone(),
        }
    }

    /// Sends an event, or any other line.
    pub fn send_event(&self, line: &str) {
        let _ = self.events.send(format!("{line}\n"));
    }

    /// Sends an event of a container.
    pub fn send_event_of(&self, id: &str, action: &str) {
        self.send_event(&event(id, action));
    }

    /// Adds a container without an event.
    pub fn put(&self, container: &Value) {
        let id = container["Id"].as_str().unwrap().to_owned();
        self.state().containers.insert(id, container.clone());
    }

    /// Starts a container.
    pub fn run(&self, container: &Value) {
        self.put(container);
        self.send_event_of(container["Id"].as_str().unwrap(), "start");
    }

    /// Changes the description of a container.
    pub fn change(&self, id: &str, pointer: &str, value: Value) {
        let mut state = self.state();
        *state
            .containers
            .get_mut(id)
            .unwrap()
            .pointer_mut(pointer)
            .unwrap() = value;
    }

    /// Waits until `count` requests have come that begin with `begin`.
    pub async fn await_requests(&self, begin: &str, count: usize) {
        let mut requests = self.requests.subscribe();
        // Each request is counted once, so that many of them cost little.
        let (mut seen, mut found) = (0, 0);
        let is_enough = |_: &usize| {
            let state = self.state();
            let new = &state.requests[seen..];
            found += new.iter().filter(|path| path.starts_with(begin)).count();
            seen = state.requests.len();
            found >= count
        };
        within(begin, requests.wait_for(is_enough)).await.unwrap();
    }
}

/// An event of a container with the label.
pub fn event(id: &str, action: &str) -> String {
    json!({
        "Type": "container", "Action": action,
        "Actor": {"ID": id, "Attributes": {"infrarust.enable": "true"}},
    })
    .to_string()
}

/// A container with a game server at this address. Later ones are younger.
pub fn container(id: &str, at: SocketAddr, labels: &[(&str, &str)]) -> Value {
    static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let made = MADE.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let mut all = BTreeMap::from([
        ("infrarust.enable".to_owned(), "true".to_owned()),
        ("infrarust.port".to_owned(), at.port().to_string()),
    ]);
    all.extend(
        labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    json!({
        "Id": id, "Name": format!("/{id}"), "Created": format!("2026-01-01T00:00:00.{made:09}Z"),
        "State": {"Running": true, "Paused": false, "Health": {"Status": "healthy"}},
        "Config": {"Labels": all},
        "HostConfig": {"NetworkMode": "net"},
        "NetworkSettings": {
            "Networks": {"net": {"IPAddress": at.ip().to_string(), "IPPrefixLen": 8, "Gateway": "127.0.0.1"}},
            "Ports": {},
        },
    })
}

#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<String>,
    requests: watch::Sender<usize>,
}

impl Server {
    /// One connection.
    pub async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut reader = BufReader::new(&mut stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if !matches!(reader.read_line(&mut head).await, Ok(1..)) {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let mut events = self.events.subscribe();
        let answer = self.answer(&path);
        self.requests.send_modify(|requests| *requests += 1);
        let written = match answer {
            Answer::Hang => std::future::pending().await,
            Answer::Bytes(bytes) => stream.write_all(&bytes).await,
            Answer::Late(bytes, due) => {
                due.notified().await;
                stream.write_all(&bytes).await
            }
            Answer::Events => {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                let mut written = stream.write_all(head.as_bytes()).await;
                while written.is_ok()
                    && let Ok(line) = events.recv().await
                {
                    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                    written = stream.write_all(chunk.as_bytes()).await;
                }
                written
            }
        };
        let _ = written;
        let _ = stream.shutdown().await;
    }

    fn answer(&self, path: &str) -> Answer {
        let mut state = self.state.lock().unwrap();
        state.requests.push(path.to_owned());
        let found = state
            .overrides
            .iter()
            .rev()
            .find(|(begin, _)| path.starts_with(begin.as_str()));
        let due = match found.map(|(_, answer)| answer.clone()) {
            Some(Override::Hang) => return Answer::Hang,
            Some(Override::Say(bytes)) => return Answer::Bytes(bytes),
            Some(Override::Json(text)) => return json_answer("200 OK", &text),
            Some(Override::Late(due)) => Some(due),
            None => None,
        };
        match (state.truth(path), due) {
            (Answer::Bytes(bytes), Some(due)) => Answer::Late(bytes, due),
            (truth, _) => truth,
        }
    }
}

impl State {
    fn truth(&self, path: &str) -> Answer {
        if path.starts_with("/events") {
            return Answer::Events;
        }
        if path.starts_with("/containers/json") {
            let list = self.listed.clone();
            let list = list.unwrap_or_else(|| self.containers.values().map(listed).collect());
            return json_answer("200 OK", &list.to_string());
        }
        let id = path.split('/').nth(2).unwrap();
        match self.containers.get(id) {
            Some(container) => json_answer("200 OK", &container.to_string()),
            None => json_answer("404 Not Found", "{\"message\":\"no such container\"}"),
        }
    }
}

/// A container as lists show it.
pub fn listed(container: &Value) -> Value {
    let is_up = container["State"]["Running"] == true;
    let health = &container["State"]["Health"]["Status"];
    json!({
        "Id": container["Id"], "Names": [container["Name"]],
        "State": if is_up { "running" } else { "exited" },
        "Status": format!("Up 3 seconds ({})", health.as_str().unwrap_or("none")),
        "Labels": container["Config"]["Labels"],
        "NetworkSettings": {"Networks": container["NetworkSettings"]["Networks"]},
        "Ports": [],
    })
}

enum Answer {
    Hang,
    Bytes(Vec<u8>),
    Late(Vec<u8>, Arc<Notify>),
    Events,
}

fn json_answer(status: &str, text: &str) -> Answer {
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    Answer::Bytes([head.into_bytes(), text.as_bytes().to_vec()].concat())
}
