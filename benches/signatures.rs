//! What signatures cost: one, the shares of a hundred members, the bad ones among them, and many messages at once. Prints
//! each as a multiple of one verification too, measured in turns with it, so that a busy machine spoils both alike.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use dkg_engine::bls::{
    Combiner, Index, Polynomial, PublicKey, RANDOM_BEACON_TAG, SecretKey, Signature, SignatureCollector, combine,
    verify_each,
};

const MEMBERS: usize = 100;
const THRESHOLD: usize = 49;
const MESSAGE: &[u8] = b"message";
const MESSAGES: usize = 100;

/// How often each ratio is measured; the median counts.
const TURNS: usize = 41;

/// A committee of a hundred, and what its members have signed.
struct Committee {
    group_key: PublicKey,
    secrets: Vec<SecretKey>,
    key_shares: Vec<PublicKey>,
    shares: Vec<Signature>,
}

impl Committee {
    fn new() -> Committee {
        let polynomial = Polynomial::from_seed(&[1; 48], THRESHOLD).expect("a good seed");
        let group_key = PublicKey::from(polynomial.commit().constant_term());
        let secrets: Vec<SecretKey> = Index::all(MEMBERS)
            .map(|index| SecretKey::from_scalar(polynomial.share(index)).expect("shares are zero with probability 1/r"))
            .collect();
        let key_shares = secrets.iter().map(SecretKey::public_key).collect();
        let shares = secrets.iter().map(|secret| secret.sign(MESSAGE, &RANDOM_BEACON_TAG)).collect();
        Committee { group_key, secrets, key_shares, shares }
    }

    fn collector(&self) -> SignatureCollector {
        let keys = self.key_shares.clone();
        SignatureCollector::new(self.group_key, keys, THRESHOLD, MESSAGE, &RANDOM_BEACON_TAG).expect("good parameters")
    }

    /// A collector that has these shares.
    fn collected(&self, shares: &[Signature]) -> SignatureCollector {
        let mut collector = self.collector();
        for (index, share) in Index::all(MEMBERS).zip(shares) {
            collector.add(index, &share.to_bytes()).expect("a participant's only share");
        }
        collector
    }

    /// The shares, so many of them bad, in places that depend on the turn.
    fn with_bad(&self, bad: usize, turn: usize) -> Vec<Signature> {
        let mut shares = self.shares.clone();
        for which in 0..bad {
            let place = (37 * which + 11 * turn * (which + 1)) % MEMBERS;
            shares[place] = self.secrets[place].sign(b"another message", &RANDOM_BEACON_TAG);
        }
        shares
    }

    fn signed(&self, shares: &[Signature]) -> Vec<(PublicKey, Signature)> {
        self.key_shares.iter().copied().zip(shares.iter().copied()).collect()
    }

    fn pairs(&self) -> Vec<(Index, Signature)> {
        Index::all(MEMBERS).zip(self.shares.iter().copied()).collect()
    }
}

/// Fresh for every turn, as it is in earnest.
fn randomness(turn: usize) -> [u8; 32] {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&turn.to_le_bytes());
    bytes
}

/// Messages that one key has signed.
fn messages() -> (PublicKey, Vec<([u8; 8], Signature)>) {
    let key = SecretKey::from_seed(&[1; 32]).expect("a good seed");
    let signed = (0..MESSAGES)
        .map(|number| {
            let message = number.to_le_bytes();
            (message, key.sign(&message, &RANDOM_BEACON_TAG))
        })
        .collect();
    (key.public_key(), signed)
}

fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

/// Prints what `work` costs in verifications. It is given the number of the turn, and times itself.
fn ratio(committee: &Committee, what: &str, work: impl Fn(usize) -> Duration) {
    let mut ratios: Vec<f64> = (0..TURNS)
        .map(|turn| {
            let verify = || committee.group_key.verify(black_box(MESSAGE), &RANDOM_BEACON_TAG, &committee.shares[0]);
            let before = time(verify);
            let worked = work(turn);
            2.0 * worked.as_secs_f64() / (before + time(verify)).as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("{what}: {:.2} verifications", ratios[TURNS / 2]);
}

fn ratios(_: &mut Criterion) {
    let committee = Committee::new();
    let pairs = committee.pairs();
    ratio(&committee, "interpolate 50 of 100 shares", |_| time(|| combine(MEMBERS, THRESHOLD, &pairs)));
    ratio(&committee, "combine 100 shares and verify the result", |turn| {
        let mut collector = committee.collected(&committee.shares);
        time(|| collector.signature(&randomness(turn)).expect("good shares"))
    });
    for bad in [0, 1, 3, 10, 49] {
        ratio(&committee, &format!("find {bad} bad shares among 100"), |turn| {
            let signed = committee.signed(&committee.with_bad(bad, turn));
            time(|| verify_each(MESSAGE, &RANDOM_BEACON_TAG, &signed, &randomness(turn)))
        });
    }
    ratio(&committee, "combine 100 shares, 3 of them bad: combine, find, combine again", |turn| {
        let mut collector = committee.collected(&committee.with_bad(3, turn));
        time(|| collector.signature(&randomness(turn)).expect("97 good shares"))
    });
    let (key, signed) = messages();
    let list: Vec<(&[u8], Signature)> = signed.iter().map(|(message, signature)| (&message[..], *signature)).collect();
    ratio(&committee, "verify 100 messages at once", |turn| {
        time(|| assert!(key.verify_all(&RANDOM_BEACON_TAG, &list, &randomness(turn))))
    });
}

fn signatures(c: &mut Criterion) {
    let committee = Committee::new();
    let mut group = c.benchmark_group("signatures");
    let secret = &committee.secrets[0];
    group.bench_function("sign", |b| b.iter(|| secret.sign(black_box(MESSAGE), &RANDOM_BEACON_TAG)));
    let (key, share) = (&committee.key_shares[0], &committee.shares[0]);
    group.bench_function("verify", |b| b.iter(|| key.verify(black_box(MESSAGE), &RANDOM_BEACON_TAG, share)));
    let pairs = committee.pairs();
    group.bench_function("interpolate 50 of 100 shares", |b| {
        b.iter(|| combine(MEMBERS, THRESHOLD, black_box(&pairs)).expect("enough shares"));
    });
    group.bench_function("combine 100 shares and verify the result", |b| {
        let mut collector = committee.collected(&committee.shares);
        b.iter(|| collector.signature(&[7; 32]).expect("good shares"));
    });
    group.bench_function("find 3 bad shares among 100", |b| {
        let mut turn = 0;
        b.iter_batched(
            || {
                turn += 1;
                (turn, committee.signed(&committee.with_bad(3, turn)))
            },
            |(turn, signed)| verify_each(MESSAGE, &RANDOM_BEACON_TAG, &signed, &randomness(turn)),
            criterion::BatchSize::SmallInput,
        );
    });
    let (key, signed) = messages();
    let list: Vec<(&[u8], Signature)> = signed.iter().map(|(message, signature)| (&message[..], *signature)).collect();
    group.bench_function("verify 100 messages at once", |b| {
        b.iter(|| key.verify_all(&RANDOM_BEACON_TAG, black_box(&list), &[7; 32]));
    });
    let signers: Vec<Index> = Index::all(MEMBERS).collect();
    let messages: Vec<[u8; 8]> = (0..10_usize).map(usize::to_le_bytes).collect();
    let shares: Vec<Vec<Signature>> = messages
        .iter()
        .map(|message| committee.secrets.iter().map(|secret| secret.sign(message, &RANDOM_BEACON_TAG)).collect())
        .collect();
    let bundles: Vec<(&[u8], &[Signature])> =
        messages.iter().zip(&shares).map(|(message, shares)| (&message[..], &shares[..])).collect();
    group.bench_function("combine 100 shares of each of 10 messages and verify the results", |b| {
        b.iter(|| {
            let combiner = Combiner::new(MEMBERS, THRESHOLD, &signers).expect("good parameters");
            combiner.combine_all(&committee.group_key, &RANDOM_BEACON_TAG, &bundles, &[7; 32]).expect("enough shares")
        });
    });
    group.finish();
}

criterion_group!(benches, ratios, signatures);
criterion_main!(benches);
