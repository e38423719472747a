//! Measures how long it takes to read and check a folder of server files, and to find out
//! whether one of them has changed.

#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use infrarust::config::{LoadOptions, load};
use infrarust::reload::Look;
use tempfile::TempDir;

/// Loading ten thousand files takes a good part of a second: the least number
/// of samples that criterion takes keeps the whole run short.
const SAMPLES: usize = 10;

/// A global file, and `count` server files beside it.
fn folder(count: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let servers = folder.path().join("servers");
    std::fs::create_dir(&servers).unwrap();
    std::fs::write(folder.path().join("infrarust.toml"), "").unwrap();
    for n in 0..count {
        let text = format!(
            "domains = [\"s{n}.example.com\", \"*.s{n}.example.com\"]\n\
             addresses = [\"10.0.0.5:{port}\", \"s{n}.internal\"]\n\
             max_players = 100\n\
             [motd.online]\ntext = \"server {n}\"\n\
             [timeouts]\nconnect = \"3s\"\n",
            port = 1024 + n,
        );
        std::fs::write(servers.join(format!("s{n}.toml")), text).unwrap();
    }
    folder
}

fn load_folders(c: &mut Criterion) {
    let mut group = c.benchmark_group("load");
    group.sample_size(SAMPLES);
    for count in [100_u64, 1_000, 10_000] {
        let folder = folder(count);
        let options = LoadOptions {
            config: Some(folder.path().join("infrarust.toml")),
            ..LoadOptions::default()
        };
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                let loaded = load(&options);
                assert!(loaded.diagnostics.is_empty());
                loaded.config.unwrap().servers.len()
            });
        });
    }
    group.finish();
}

/// The proxy does this at regular intervals, so that it has to be cheap.
fn check_folders(c: &mut Criterion) {
    let mut group = c.benchmark_group("look");
    for count in [100_u64, 10_000] {
        let folder = folder(count);
        let servers = folder.path().join("servers");
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| Look::at(&servers));
        });
    }
    group.finish();
}

criterion_group!(benches, load_folders, check_folders);
criterion_main!(benches);
