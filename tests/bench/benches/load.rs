//! From a list to a content of the map, step by step: a million recipients.
#![allow(missing_docs)] // criterion's macros make public functions

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rcptmapd::map::{Builder, Domains, Grant, HashKey, Item, Key};
use rcptmapd::source;
use rcptmapd_bench::recipients::Recipients;

const COUNT: u64 = 1_000_000;

fn addresses() -> Vec<u8> {
    let mut addresses = Vec::new();
    (0..COUNT).for_each(|i| Recipients::push_address(i, true, &mut addresses));
    addresses
}

/// Counts what a parser says, and keeps nothing.
#[derive(Default)]
struct Count {
    items: u64,
    others: u64,
}

impl source::Sink for Count {
    fn item(&mut self, _line: u32, item: source::Item<'_>) {
        std::hint::black_box(item);
        self.items += 1;
    }
    fn pair(&mut self, _line: u32, _key: &[u8], _value: &[u8]) {
        self.others += 1;
    }
    fn fault(&mut self, _line: u32, _text: &[u8], _fault: source::Fault) {
        self.others += 1;
    }
    fn skip(&mut self, _line: u32, _reason: source::Skip) {
        self.others += 1;
    }
    fn note(&mut self, _line: u32, _note: source::Note) {
        self.others += 1;
    }
}

fn parse(text: &[u8]) -> Count {
    let mut count = Count::default();
    let mut parser = source::Parser::new(source::Format::Postmap, &source::Options::default());
    for chunk in text.chunks(256 * 1024) {
        parser.feed(chunk, &mut count).expect("a good list");
    }
    parser.finish(&mut count).expect("a good list");
    count
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
    let mut text = Vec::new();
    for address in addresses.chunks_exact(31) {
        text.extend_from_slice(address);
        text.extend_from_slice(b" OK\n");
    }
    group.bench_function("parse the postmap file", |b| {
        b.iter(|| {
            let count = parse(&text);
            assert_eq!((count.items, count.others), (COUNT, 0));
        });
    });
    group.bench_function("add to the builder", |b| b.iter(|| build(&addresses).len()));
    group.bench_function("finish the content", |b| {
        b.iter_batched(|| build(&addresses), |builder| builder.finish(|_| {}), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, load);
criterion_main!(benches);
