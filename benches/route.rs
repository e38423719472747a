//! How long a look-up of a route takes, with few routes and with many.
//!
//! A host that matches only `*` is the worst case: every other pattern has been tried
//! before.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use infrarust::route::{HostPattern, RouteTable};

/// A table of `count` routes and one for all other hosts.
fn table(count: usize, route: impl Fn(usize) -> String) -> RouteTable<usize> {
    let routes = (0..count).map(|n| (HostPattern::parse(&route(n)).unwrap(), n));
    let rest = (HostPattern::parse("*").unwrap(), count);
    RouteTable::build(routes.chain([rest])).0
}

fn look_up(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for count in [10, 10_000] {
        let last = count - 1;
        let names = table(count, |n| format!("s{n}.example.com"));
        let host = format!("s{last}.example.com");
        group.bench_function(format!("{count} names, found"), |b| {
            b.iter(|| names.find(black_box(&host)).map(|found| *found.target));
        });
        group.bench_function(format!("{count} names, nobody's"), |b| {
            b.iter(|| {
                names
                    .find(black_box("elsewhere.example.org"))
                    .map(|found| *found.target)
            });
        });
        // `*` and a literal part, as operators write them.
        let suffixes = table(count, |n| format!("*.s{n}.example.com"));
        let host = format!("eu.s{last}.example.com");
        group.bench_function(format!("{count} `*.name`, found"), |b| {
            b.iter(|| suffixes.find(black_box(&host)).map(|found| *found.target));
        });
        group.bench_function(format!("{count} `*.name`, nobody's"), |b| {
            b.iter(|| {
                suffixes
                    .find(black_box("elsewhere.example.org"))
                    .map(|found| *found.target)
            });
        });
        // Every other pattern is tried in turn.
        let prefixes = table(count, |n| format!("s{n}.*"));
        group.bench_function(format!("{count} `name.*`, nobody's"), |b| {
            b.iter(|| {
                prefixes
                    .find(black_box("elsewhere.example.org"))
                    .map(|found| *found.target)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, look_up);
criterion_main!(benches);
