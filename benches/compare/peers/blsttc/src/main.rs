//! blsttc, with commitments in G1: joint-Feldman out of its polynomials and commitments, since it has no DKG of its own any more.

use blsttc::poly::{Commitment, Poly};
use blsttc::{PublicKeySet, SecretKeyShare};
use rand::rngs::OsRng;
use stopwatch::{Stopwatch, arguments, threshold};

fn main() {
    let (size, repetitions) = arguments();
    let t = threshold(size);
    let me = size / 2;
    let dealings: Vec<(Vec<u8>, [u8; 32])> = (0..size)
        .map(|_| {
            let polynomial = Poly::random(t, &mut OsRng);
            let mut share = polynomial.evaluate(me + 1);
            (polynomial.commitment().to_bytes(), SecretKeyShare::from_mut(&mut share).to_bytes())
        })
        .collect();
    let mut watch = Stopwatch::default();
    for _ in 0..repetitions {
        watch.measure(0, || {
            let polynomial = Poly::random(t, &mut OsRng);
            let shares: Vec<_> = (1..=size).map(|member| polynomial.evaluate(member)).collect();
            (polynomial.commitment().to_bytes(), shares)
        });
        let commitments = watch.measure(1, || {
            let mut commitments = Vec::new();
            for (commitment, share) in &dealings {
                let commitment = Commitment::from_bytes(commitment.clone()).expect("it is one");
                let share = SecretKeyShare::from_bytes(*share).expect("it is one");
                let keys = PublicKeySet::from(commitment.clone());
                assert!(keys.public_key_share(me) == share.public_key_share());
                commitments.push(commitment);
            }
            commitments
        });
        watch.measure(2, || {
            let mut sum = commitments[0].clone();
            commitments[1..].iter().for_each(|commitment| sum += commitment);
            let keys = PublicKeySet::from(sum);
            let shares: Vec<_> = (0..size).map(|member| keys.public_key_share(member).to_bytes()).collect();
            assert_eq!(shares.len(), size);
        });
    }
    watch.report("blsttc 8 (in G1, half the field)");
}
