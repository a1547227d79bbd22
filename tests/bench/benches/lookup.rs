//! From a key to the reply's words, out of a directory of a million recipients: listed, and not listed.
#![allow(missing_docs)] // criterion's macros make public functions

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rcptmapd::map::{Builder, Domains, Grant, HashKey, Item, Key, Policy, Scratch, Snapshot, Source};
use rcptmapd::resolve::Directory;
use rcptmapd_bench::recipients::{Questions, Recipients};

const RECIPIENTS: Recipients = Recipients { count: 1_000_000 };
/// Keys asked in turn: together too many for the caches to remember their places.
const KEYS: usize = 1 << 17;

fn directory() -> Directory {
    let key = HashKey::with_seeds(1, 2, 3, 4);
    let mut builder = Builder::new(key.clone(), false, Domains::new());
    let mut address = Vec::new();
    for i in 0..RECIPIENTS.count {
        address.clear();
        Recipients::push_address(i, true, &mut address);
        let at = address.iter().position(|&b| b == b'@').expect("an address");
        let key = Key::Recipient { local: &address[..at], domain: &address[at + 1..] };
        builder.add(&Item { key, grant: Grant::Accept { value: b"" } }).expect("a fit item");
    }
    let content = Some(Arc::new(builder.finish(|_| {})));
    let source = Source::new("bench", 0, content);
    Directory::new(Snapshot::new(key, vec![source], Vec::new(), true, Policy::default()), Vec::new())
}

fn keys(listed: bool) -> Vec<Vec<u8>> {
    let mut questions = Questions::new(RECIPIENTS, 3);
    (0..KEYS)
        .map(|_| {
            let mut key = Vec::new();
            Recipients::push_address(questions.draw().number, listed, &mut key);
            key
        })
        .collect()
}

fn lookup(c: &mut Criterion) {
    let directory = directory();
    let mut scratch = Scratch::default();
    let mut out = Vec::with_capacity(256);
    let mut group = c.benchmark_group("answer, 1 M recipients");
    for (name, listed) in [("hit", true), ("miss", false)] {
        let keys = keys(listed);
        let mut next = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                next = (next + 1) % KEYS;
                out.clear();
                directory.answer(b"rcpt", black_box(&keys[next]), &mut scratch).reply.write(&mut out);
                assert_eq!(out.first() == Some(&b'O'), listed);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
