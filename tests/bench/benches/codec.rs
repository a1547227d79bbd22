//! What a request costs before and after the look-up: decode, and encode the reply.
#![allow(missing_docs)] // criterion's macros make public functions

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rcptmapd::proto::{Limits, Reply, Value, line, socketmap};

fn decode(c: &mut Criterion) {
    let limits = Limits::default();
    let netstrings = b"36:rcpt anna.00000017@mx042.example.org,".repeat(16);
    let lines = b"rcpt anna.00000017@mx042.example.org\n".repeat(16);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(16));
    group.bench_function("16 socketmap requests", |b| {
        b.iter(|| {
            let mut input = black_box(&netstrings[..]);
            let mut bytes = 0;
            while let Ok(Some((request, used))) = socketmap::decode(input, &limits) {
                bytes += black_box(request).key.len();
                input = &input[used..];
            }
            assert_eq!(bytes, 16 * 31);
        });
    });
    group.bench_function("16 lines", |b| {
        b.iter(|| {
            let mut input = black_box(&lines[..]);
            let mut requests = 0;
            while let Ok(Some((request, used))) = line::decode(input, false, &limits) {
                black_box(request);
                requests += 1;
                input = &input[used..];
            }
            assert_eq!(requests, 16);
        });
    });
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut out = Vec::with_capacity(4096);
    let exists = Reply::Ok(Value::Address { local: b"anna.00000017", domain: b"mx042.example.org" });
    for (name, reply) in [("OK", exists), ("NOTFOUND", Reply::NotFound)] {
        c.bench_function(&format!("encode {name}"), |b| {
            b.iter(|| {
                out.clear();
                socketmap::encode(black_box(&reply), &mut out);
                black_box(out.len())
            });
        });
    }
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
