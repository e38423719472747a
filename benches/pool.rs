//! Measures what a pipe from a worker's pool costs, compared with a new pipe.

#![allow(missing_docs, clippy::unwrap_used)]

#[cfg(target_os = "linux")]
mod linux {
    use criterion::{Criterion, criterion_group};
    use infrarust::forward::pipe::{Pool, make};

    fn pipes(c: &mut Criterion) {
        let mut pool = Pool::default();
        let first = pool.take(make).unwrap();
        pool.put(first);
        c.bench_function("pipe, from the pool and back", |b| {
            b.iter(|| {
                let pipe = pool.take(make).unwrap();
                pool.put(pipe);
            });
        });
        c.bench_function("pipe, made and closed", |b| b.iter(|| make().unwrap()));
    }

    criterion_group!(benches, pipes);
}

#[cfg(target_os = "linux")]
criterion::criterion_main!(linux::benches);

#[cfg(not(target_os = "linux"))]
fn main() {}
