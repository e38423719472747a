//! Proofs for the keys of `[docker]`, with a fake engine.

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::witness::{HOST, LATE, SOON, file, sooner};
use super::{Proofs, effect};
use crate::program::Program;
use crate::support::engine::{FakeEngine, container};
use crate::support::{FakeBackend, FakeClient};

pub fn proofs() -> Proofs {
    vec![
        effect("docker.endpoint", endpoint()),
        effect("docker.network", network()),
        effect("docker.poll_interval", poll_interval()),
        effect("docker.reconnect_delay", reconnect_delay()),
        effect("docker.secrets_dir", label_folder("secrets_dir")),
        effect("docker.favicons_dir", label_folder("favicons_dir")),
        effect("docker.tls.ca", tls_ca()),
        effect("docker.tls.cert", tls_own("cert")),
        effect("docker.tls.key", tls_own("key")),
    ]
}

/// Waits until a player at the host of the proofs reaches the backend.
async fn joins(program: &mut Program, backend: &FakeBackend) {
    let proxy = program.address().await;
    program.line("servers of containers changed").await;
    let _client = FakeClient::login(proxy, HOST, "Alice").await;
    assert_eq!(backend.accept_login().await.1.host, HOST);
}

async fn endpoint() {
    let (backend, engine) = (FakeBackend::start().await, FakeEngine::start());
    engine.put(&container(
        "a",
        backend.address,
        &[("infrarust.domains", HOST)],
    ));
    joins(&mut Program::start(&engine.table(""), &[]), &backend).await;
    // Without the key it is looked for in its usual place; without the table
    // nowhere.
    let mut program = Program::start("[docker]", &[]);
    let line = program.line_with("reading containers").await;
    assert_eq!(line["endpoint"], "unix:///var/run/docker.sock");
}

async fn network() {
    let engine = FakeEngine::start();
    let inner = FakeBackend::start().await;
    let listener = TcpListener::bind(("127.0.0.2", inner.address.port()))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let outer = FakeBackend { listener, address };
    let mut both = container("a", inner.address, &[("infrarust.domains", HOST)]);
    let networks = &mut both["NetworkSettings"]["Networks"];
    networks["outer"] = networks["net"].clone();
    networks["outer"]["IPAddress"] = "127.0.0.2".into();
    engine.put(&both);
    joins(&mut Program::start(&engine.table(""), &[]), &inner).await;
    let table = engine.table("network = \"outer\"");
    joins(&mut Program::start(&table, &[]), &outer).await;
}

/// A label that names a file gives a server with the key, and none without it.
async fn label_folder(key: &'static str) {
    let (backend, engine) = (FakeBackend::start().await, FakeEngine::start());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let (label, content) = match key {
        "secrets_dir" => ("infrarust.forwarding_secret.file", b"secret".to_vec()),
        _ => {
            let size = [0, 0, 0, 64, 0, 0, 0, 64];
            let png = [&b"\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR"[..], &size].concat();
            ("infrarust.motd.offline.favicon", png)
        }
    };
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap();
    let mut labels = vec![("infrarust.domains", HOST), (label, path)];
    if key == "secrets_dir" {
        labels.push(("infrarust.forwarding_mode", "bungeeguard"));
    }
    engine.put(&container("a", backend.address, &labels));
    let table = engine.table(&format!("{key} = {:?}", folder.path()));
    let mut with = Program::start(&table, &[]);
    with.line("servers of containers changed").await;
    let mut without = Program::start(&engine.table(""), &[]);
    let line = without.line_with("the container `a` is refused").await;
    assert!(line["message"].as_str().unwrap().contains(key), "{line}");
}

async fn poll_interval() {
    let (backend, engine) = (FakeBackend::start().await, FakeEngine::start());
    let begin = async |interval: &str| {
        let table = engine.table(&format!("poll_interval = {interval:?}"));
        let mut program = Program::start(&table, &[]);
        program.line("containers are read").await;
        program
    };
    let (mut soon, mut late) = (begin(SOON).await, begin(LATE).await);
    // Without an event.
    engine.put(&container("a", backend.address, &[]));
    let changed = "servers of containers changed";
    sooner(soon.line(changed), late.line(changed)).await;
}

async fn reconnect_delay() {
    let mut engine = FakeEngine::absent();
    let soon = engine.table("");
    let late = soon.replace("50ms", LATE);
    let begin = async |table: &str| {
        let mut program = Program::start(table, &[]);
        program.line_with("the engine cannot be read").await;
        program
    };
    let (mut soon, mut late) = (begin(&soon).await, begin(&late).await);
    engine.begin();
    let read = "containers are read";
    sooner(soon.line(read), late.line(read)).await;
}

/// A certificate authority and its key.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        Self { issuer }
    }

    fn file(&self) -> NamedTempFile {
        file(&self.issuer.pem())
    }

    /// A certificate for an engine or a proxy at this address, and its key.
    fn sign(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// Puts an engine behind TLS. With `wants_own` it requires a certificate of the same
/// authority from the proxy. Returns the port.
async fn secure(engine: &FakeEngine, authority: &Authority, wants_own: bool) -> u16 {
    let provider = Arc::new(crypto::ring::default_provider());
    let (certificate, key) = authority.sign();
    let chain = vec![CertificateDer::from(certificate)];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = if wants_own {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        config.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        config.with_no_client_auth()
    };
    let config = Arc::new(config.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = engine.server();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (server, acceptor) = (server.clone(), TlsAcceptor::from(Arc::clone(&config)));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    server.serve(stream).await;
                }
            });
        }
    });
    port
}

/// Whether containers are read through TLS with these lines of the table.
async fn is_read(port: u16, tls: &str) -> bool {
    let table = format!("[docker]\nendpoint = \"tcp://127.0.0.1:{port}\"\n[docker.tls]\n{tls}");
    let mut program = Program::start(&table, &[]);
    program.line_with("reading containers").await;
    let line = program
        .line_among(&["containers are read", "the engine cannot be read"])
        .await;
    line.starts_with("containers are read")
}

async fn tls_ca() {
    let engine = FakeEngine::start();
    let (ours, other) = (Authority::new(), Authority::new());
    let port = secure(&engine, &ours, false).await;
    for (authority, is_trusted) in [(ours, true), (other, false)] {
        let ca = authority.file();
        let tls = format!("ca = {:?}", ca.path());
        assert_eq!(is_read(port, &tls).await, is_trusted);
    }
}

async fn tls_own(key: &str) {
    let engine = FakeEngine::start();
    let ours = Authority::new();
    let port = secure(&engine, &ours, true).await;
    let ca = ours.file();
    let (certificate, own) = ours.sign();
    let (cert_file, key_file) = (file(&certificate.pem()), file(&own.serialize_pem()));
    let ca = format!("ca = {:?}\n", ca.path());
    let tls = |cert: &NamedTempFile, key: &NamedTempFile| {
        format!("{ca}cert = {:?}\nkey = {:?}", cert.path(), key.path())
    };
    assert!(is_read(port, &tls(&cert_file, &key_file)).await);
    assert!(!is_read(port, &ca).await);
    let (strange_cert, strange_key) = Authority::new().sign();
    let strange_cert = file(&strange_cert.pem());
    let strange_key = file(&strange_key.serialize_pem());
    let other = match key {
        "cert" => tls(&strange_cert, &key_file),
        _ => tls(&cert_file, &strange_key),
    };
    assert!(!is_read(port, &other).await);
}
