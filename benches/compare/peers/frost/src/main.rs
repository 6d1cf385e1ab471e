//! frost-ed25519: Pedersen's DKG with proofs of possession, on another curve.

use std::collections::BTreeMap;

use frost_ed25519::Identifier;
use frost_ed25519::keys::dkg;
use rand::rngs::OsRng;
use stopwatch::{Stopwatch, arguments, threshold};

fn main() {
    let (size, repetitions) = arguments();
    let (max, min) = (size as u16, threshold(size) as u16 + 1);
    let id = |member: usize| Identifier::try_from(member as u16 + 1).expect("not zero");
    let me = size / 2;
    let mut secrets = BTreeMap::new();
    let mut first = BTreeMap::new();
    for member in 0..size {
        let (secret, package) = dkg::part1(id(member), max, min, OsRng).expect("good parameters");
        secrets.insert(member, secret);
        first.insert(id(member), package.serialize().expect("it serializes"));
    }
    let others = |packages: &BTreeMap<Identifier, Vec<u8>>, of: usize| -> BTreeMap<_, _> {
        let others = packages.iter().filter(|(from, _)| **from != id(of));
        others.map(|(from, bytes)| (*from, dkg::round1::Package::deserialize(bytes).expect("it is one"))).collect()
    };
    // What the others send to the one who is measured. Their own checks take long, and are not ours to measure.
    let mut second = BTreeMap::new();
    for (member, secret) in &secrets {
        if *member != me {
            let (_, packages) = dkg::part2(secret.clone(), &others(&first, *member)).expect("honest packages");
            second.insert(id(*member), packages[&id(me)].serialize().expect("it serializes"));
        }
    }
    let mut watch = Stopwatch::default();
    for _ in 0..repetitions {
        watch.measure(0, || dkg::part1(id(me), max, min, OsRng).expect("good parameters"));
        let (secret, first) = watch.measure(1, || {
            let first = others(&first, me);
            let (secret, _) = dkg::part2(secrets[&me].clone(), &first).expect("honest packages");
            (secret, first)
        });
        watch.measure(2, || {
            let second = second
                .iter()
                .map(|(from, bytes)| (*from, dkg::round2::Package::deserialize(bytes).expect("it is one")));
            let (_, public) = dkg::part3(&secret, &first, &second.collect()).expect("an honest run");
            assert_eq!(public.verifying_shares().len(), size);
        });
    }
    watch.report("frost-ed25519 3 (another curve)");
}
