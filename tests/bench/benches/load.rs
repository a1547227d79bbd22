//! From a list to a content of the map: a million recipients.
#![allow(missing_docs)] // criterion's macros make public functions

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rcptmapd::map::{Builder, Domains, Grant, HashKey, Item, Key};
use rcptmapd_bench::recipients::Recipients;

const COUNT: u64 = 1_000_000;

fn addresses() -> Vec<u8> {
    let mut addresses = Vec::new();
    (0..COUNT).for_each(|i| Recipients::push_address(i, true, &mut addresses));
    addresses
}

fn build(addresses: &[u8]) -> Builder {
    let mut builder = Builder::new(HashKey::with_seeds(1, 2, 3, 4), false, Domains::new());
    for address in addresses.chunks_exact(31) {
        let (local, domain) = (&address[..13], &address[14..]);
        let key = Key::Recipient { local, domain };
        builder.add(&Item { key, grant: Grant::Accept { value: b"" } }).expect("a fit item");
    }
    builder
}

fn load(c: &mut Criterion) {
    let addresses = addresses();
    let mut group = c.benchmark_group("1 M recipients");
    group.sample_size(10);
    group.throughput(Throughput::Elements(COUNT));
    group.bench_function("add to the builder", |b| b.iter(|| build(&addresses).len()));
    group.bench_function("finish the content", |b| {
        b.iter_batched(|| build(&addresses), |builder| builder.finish(|_| {}), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, load);
criterion_main!(benches);
