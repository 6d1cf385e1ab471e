//! The steps of one member's run, n = 100 and t = 49, each by itself and many at once. Wall-clock time on one thread.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dkg_engine::bls::{
    CommitmentVector, Effort, G2Point, Index, Polynomial, Scalar, Strength, UncheckedVector, VectorEncoding,
    shares_match_all,
};

const SIZE: usize = 100;
const THRESHOLD: usize = 49;
const RANDOMNESS: [u8; 32] = [7; 32];

fn dealings() -> Vec<Polynomial> {
    (0..SIZE - 1).map(|dealer| Polynomial::from_seed(&[dealer as u8; 48], THRESHOLD).expect("a good seed")).collect()
}

fn steps(c: &mut Criterion) {
    let polynomials = dealings();
    let me = Index::from_position(SIZE / 2).expect("a member");
    let vectors: Vec<CommitmentVector> = polynomials.iter().map(Polynomial::commit).collect();
    let all: Vec<&CommitmentVector> = vectors.iter().collect();
    let mut group = c.benchmark_group("n = 100");
    group.sample_size(10);
    group.bench_function("deal a vector of 50 points", |b| b.iter(|| black_box(&polynomials[0]).commit()));
    for (name, encoding) in [("compressed", VectorEncoding::Compressed), ("uncompressed", VectorEncoding::Uncompressed)]
    {
        let bytes = vectors[0].encode(encoding);
        group.bench_function(format!("decode a {name} vector of 50 points"), |b| {
            b.iter(|| UncheckedVector::decode(black_box(&bytes), THRESHOLD + 1).expect("it is one"));
        });
    }
    let decode = |vector: &CommitmentVector| {
        UncheckedVector::decode(&vector.encode(VectorEncoding::Uncompressed), THRESHOLD + 1).expect("it is one")
    };
    let unchecked: Vec<UncheckedVector> = vectors.iter().map(decode).collect();
    group.bench_function("check the subgroup of one vector", |b| {
        b.iter_batched(|| unchecked[0].clone(), UncheckedVector::check_subgroup, BatchSize::LargeInput);
    });
    for (name, strength) in [("2^-64", Strength::Bits64), ("2^-128", Strength::Bits128)] {
        let effort = Effort { strength, ..Effort::ONE_THREAD };
        group.bench_function(format!("check the subgroups of 99 vectors at once, error {name}"), |b| {
            b.iter_batched(
                || unchecked.clone(),
                |vectors| UncheckedVector::check_all(vectors, &RANDOMNESS, effort),
                BatchSize::LargeInput,
            );
        });
    }
    group.bench_function("evaluate one vector", |b| b.iter(|| black_box(&vectors[0]).evaluate(me)));
    group.bench_function("evaluate 99 vectors at once", |b| {
        b.iter(|| CommitmentVector::evaluate_each(black_box(&all), me, Effort::ONE_THREAD));
    });
    let shares: Vec<Scalar> = polynomials.iter().map(|polynomial| polynomial.share(me)).collect();
    let images: Vec<G2Point> = CommitmentVector::evaluate_each(&all, me, Effort::ONE_THREAD);
    let equations: Vec<(G2Point, &Scalar)> = images.into_iter().zip(&shares).collect();
    group.bench_function("hold 99 shares against their images at once", |b| {
        b.iter(|| shares_match_all(black_box(&equations), &RANDOMNESS, Effort::ONE_THREAD));
    });
    group.bench_function("sum 99 vectors", |b| {
        b.iter(|| CommitmentVector::sum_all(black_box(&all), Effort::ONE_THREAD));
    });
    group.bench_function("all 100 public key shares", |b| b.iter(|| black_box(&vectors[0]).evaluate_all(SIZE)));
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
