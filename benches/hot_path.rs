//! Micro-benchmarks of what each produced and fetched batch goes through.
//!
//! `cargo bench --bench hot_path`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for developers"
)]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message, System};
use bytes::{BufMut, Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::sync::oneshot;
use tokio_util::codec::Decoder;
use troupe_actors::log::{Log, LogConfig, Start};
use troupe_actors::runtime::ThreadPool;
use troupe_actors::storage::Disk;
use troupe_protocol::kafka::frame::{RequestFrames, RequestHeader};
use troupe_protocol::kafka::produce::ProduceRequest;
use troupe_protocol::kafka::records::batch::{Batch, assign_offset};
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::compress::Compression;
use troupe_protocol::kafka::records::record::Record;
use troupe_protocol::kafka::records::validate::{ProduceRules, validate_produced};

const START_MS: i64 = 1_700_000_000_000;

/// A batch of about 16 KiB, as the Java producer sends under load.
fn batch(value_size: usize, compression: Compression) -> BytesMut {
    let records: Vec<Record> = (0..16_384 / (value_size + 8))
        .map(|index| {
            let number = i64::try_from(index).unwrap();
            let value = Bytes::from(vec![b'a' + u8::try_from(index % 26).unwrap(); value_size]);
            Record {
                offset: number,
                timestamp: START_MS + number,
                value: Some(value),
                ..Record::default()
            }
        })
        .collect();
    BatchBuilder::new()
        .compression(compression)
        .build_from(&records)
        .unwrap()
}

/// CRC, header rules and the walk over all records.
fn validation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validate a produced batch");
    let rules = ProduceRules {
        now_ms: START_MS,
        ..ProduceRules::default()
    };
    let cases = [
        ("100 B", batch(100, Compression::None)),
        ("1 KB", batch(1000, Compression::None)),
        ("100 B lz4", batch(100, Compression::Lz4)),
        ("100 B zstd", batch(100, Compression::Zstd)),
    ];
    for (name, batch) in &cases {
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(name),
            batch,
            |bencher, batch| {
                bencher.iter(|| validate_produced(black_box(batch), &rules).unwrap());
            },
        );
    }
    group.finish();
}

/// One Produce v9 frame with its length, from the bytes of a socket to the batch inside.
fn frames(criterion: &mut Criterion) {
    let batch = batch(100, Compression::None);
    let mut body = BytesMut::new();
    body.put_u8(0); // transactional id: null
    body.put_i16(1);
    body.put_i32(30_000);
    body.put_slice(&[2, 6]); // one topic with a name of five bytes
    body.put_slice(b"topic");
    body.put_u8(2); // one partition
    body.put_i32(0);
    put_varint(&mut body, batch.len() + 1);
    body.put_slice(&batch);
    body.put_slice(&[0, 0, 0]); // no tags of the partition, the topic and the request
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(4 + 4 + 6 + 1 + body.len()).unwrap());
    frame.put_i16(0);
    frame.put_i16(9);
    frame.put_i32(1);
    frame.put_i16(4);
    frame.put_slice(b"perf");
    frame.put_u8(0);
    frame.put_slice(&body);

    let mut group = criterion.benchmark_group("decode a frame");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("produce", |bencher| {
        bencher.iter_batched(
            || frame.clone(),
            |mut buffer| {
                let frame = RequestFrames::new(1 << 20)
                    .decode(&mut buffer)
                    .unwrap()
                    .unwrap();
                let (header, body) = RequestHeader::parse(frame).unwrap();
                ProduceRequest::decode(header.api_version, body).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(u8::try_from(value & 0x7F).unwrap() | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).unwrap());
}

/// Finding an offset and a time in a log of several segments, by way of their indexes.
fn index_look_up(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 16 << 20,
        ..LogConfig::default()
    };
    let start = Start {
        recovery_point: 0,
        log_start_offset: 0,
        cleaned_to: 0,
        clean_shutdown: false,
    };
    let (mut log, _) = Log::open(
        Arc::new(Disk),
        &directory.path().join("t-0"),
        config,
        start,
        START_MS,
    )
    .unwrap();
    let mut bytes = batch(1000, Compression::None);
    for _ in 0..4000 {
        assign_offset(&mut bytes, log.log_end_offset(), 0);
        let header = *Batch::parse(&bytes).unwrap().header();
        log.append(&bytes, &header, START_MS).unwrap();
    }
    let end = log.log_end_offset();

    let mut group = criterion.benchmark_group("look up");
    let mut offset = 0;
    group.bench_function("offset", |bencher| {
        bencher.iter(|| {
            // Steps that land everywhere in the log.
            offset = (offset + 7919) % end;
            log.read(black_box(offset), 1 << 20, end, true)
                .unwrap()
                .unwrap()
        });
    });
    group.finish();
}

/// A message to an actor on another thread and its answer: what a batch pays for one owner of each log.
fn actor_hop(criterion: &mut Criterion) {
    struct Echo;

    impl Actor for Echo {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Ping(oneshot::Sender<u64>);

    impl Handler<Ping> for Echo {
        type Result = ();

        fn handle(&mut self, ping: Ping, _: &mut Self::Context) {
            // The bench has not gone while it waits.
            let _ = ping.0.send(1);
        }
    }

    let system = System::new();
    let pools = system.block_on(async { [ThreadPool::start(1), ThreadPool::current()] });
    let mut group = criterion.benchmark_group("actor hop");
    for (name, pool) in ["another thread", "the same thread"]
        .into_iter()
        .zip(&pools)
    {
        let address = system.block_on(async { pool.start_actor(0, |_| Echo) });
        group.bench_function(BenchmarkId::new("one at a time", name), |bencher| {
            bencher.iter(|| {
                system.block_on(async {
                    let (reply, answer) = oneshot::channel();
                    address.send(Ping(reply)).await.unwrap();
                    answer.await.unwrap()
                })
            });
        });
        group.throughput(Throughput::Elements(16));
        group.bench_function(BenchmarkId::new("16 in flight", name), |bencher| {
            bencher.iter(|| {
                system.block_on(async {
                    let mut answers = Vec::with_capacity(16);
                    for _ in 0..16 {
                        let (reply, answer) = oneshot::channel();
                        address.try_send(Ping(reply)).unwrap();
                        answers.push(answer);
                    }
                    for answer in answers {
                        answer.await.unwrap();
                    }
                })
            });
        });
        group.throughput(Throughput::Elements(1));
    }
    group.finish();
    pools[0].stop();
}

criterion_group!(hot_path, validation, frames, index_look_up, actor_hop);
criterion_main!(hot_path);
