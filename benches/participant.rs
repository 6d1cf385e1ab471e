//! What one member computes in a run: from the bytes the others sent to its keys. And what a signature costs.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, Polynomial, RANDOM_BEACON_TAG, SecretKey, UncheckedVector, VectorEncoding, combine};
use dkg_engine::committee::threshold;
use dkg_engine::protocol::{Output, Parameters, Participant};

const SIZES: [usize; 3] = [10, 50, 100];

/// Everything that the last member of a committee receives in an honest run.
struct Received {
    parameters: Parameters,
    shares: Vec<(Index, SecretBytes)>,
    vectors: Vec<(Index, Vec<u8>)>,
}

fn seed(member: Index) -> SecretBytes {
    SecretBytes::new(vec![member.byte(); 48])
}

fn received(size: usize, encoding: VectorEncoding) -> Received {
    let me = Index::all(size).last().expect("the committee has members");
    let parameters = |me| Parameters { size, threshold: threshold(size), me, encoding };
    let mut received = Received { parameters: parameters(me), shares: Vec::new(), vectors: Vec::new() };
    for dealer in Index::all(size) {
        let (_, outputs) = Participant::start(parameters(dealer), &seed(dealer)).expect("a good seed");
        for output in outputs {
            match output {
                Output::SendShare { to, message } if to == me => received.shares.push((dealer, message)),
                Output::Broadcast(data) => received.vectors.push((dealer, data)),
                _ => {}
            }
        }
    }
    received
}

/// Dealing, taking in what n - 1 others dealt, and making the keys.
fn run(received: &Received) {
    let randomness = [7; 32];
    let me = received.parameters.me;
    let (mut member, _) = Participant::start(received.parameters, &seed(me)).expect("a good seed");
    for (from, message) in &received.shares {
        member.take_private(*from, message.expose()).expect("a member's message");
    }
    for (from, data) in &received.vectors {
        member.take_broadcast(*from, data).expect("a member's message");
    }
    member.end_phase(&randomness).expect("phase 1 is on");
    member.end_phase(&randomness).expect("phase 2 is on");
    let (outcome, _) = member.finish(&randomness).expect("phase 3 is on");
    black_box(outcome.result.expect("an honest run succeeds").group_key);
}

fn participant(c: &mut Criterion) {
    let mut group = c.benchmark_group("participant");
    group.sample_size(10);
    for (name, encoding) in [("compressed", VectorEncoding::Compressed), ("uncompressed", VectorEncoding::Uncompressed)]
    {
        for size in SIZES {
            let received = received(size, encoding);
            group.bench_function(BenchmarkId::new(name, size), |b| b.iter(|| run(&received)));
        }
    }
    group.finish();
}

fn steps(c: &mut Criterion) {
    let polynomial = Polynomial::from_seed(&[1; 48], 49).expect("a good seed");
    let vector = polynomial.commit();
    let bytes = vector.encode(VectorEncoding::Compressed);
    c.bench_function("deal a vector of 50 points", |b| b.iter(|| black_box(&polynomial).commit()));
    c.bench_function("decode a compressed vector of 50 points", |b| {
        b.iter(|| UncheckedVector::decode(black_box(&bytes), 50).expect("it is one"));
    });
    let unchecked = UncheckedVector::decode(&bytes, 50).expect("it is one");
    c.bench_function("check the subgroup of 50 points", |b| {
        b.iter_batched(|| unchecked.clone(), UncheckedVector::check_subgroup, BatchSize::SmallInput);
    });
}

fn signatures(c: &mut Criterion) {
    let key = SecretKey::from_seed(&[1; 32]).expect("a good seed");
    let public = key.public_key();
    let signature = key.sign(b"message", &RANDOM_BEACON_TAG);
    c.bench_function("sign", |b| b.iter(|| key.sign(black_box(b"message"), &RANDOM_BEACON_TAG)));
    c.bench_function("verify", |b| b.iter(|| public.verify(black_box(b"message"), &RANDOM_BEACON_TAG, &signature)));
    let polynomial = Polynomial::from_seed(&[1; 48], 49).expect("a good seed");
    let shares: Vec<_> = Index::all(50)
        .filter_map(|index| {
            let share = SecretKey::from_scalar(polynomial.share(index))?;
            Some((index, share.sign(b"message", &RANDOM_BEACON_TAG)))
        })
        .collect();
    c.bench_function("combine 50 shares", |b| b.iter(|| combine(100, 49, black_box(&shares)).expect("enough shares")));
}

criterion_group!(benches, participant, steps, signatures);
criterion_main!(benches);
