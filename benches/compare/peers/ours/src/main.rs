//! Ours, over both encodings of vectors; and u, the time that it takes to uncompress one point of G2.

use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, Polynomial, UncheckedVector, VectorEncoding};
use dkg_engine::protocol::{Output, Parameters, Participant};
use stopwatch::{Stopwatch, arguments, threshold};

const RANDOMNESS: [u8; 32] = [7; 32];

fn main() {
    let (size, repetitions) = arguments();
    for (name, encoding) in [
        ("dkg-engine, uncompressed", VectorEncoding::Uncompressed),
        ("dkg-engine, compressed", VectorEncoding::Compressed),
    ] {
        let me = Index::from_position(size / 2).expect("a member");
        let parameters = |me| Parameters { size, threshold: threshold(size), me, encoding };
        let seed = |member: Index| SecretBytes::new(vec![member.byte(); 48]);
        let deal = |dealer: Index| Participant::start(parameters(dealer), &seed(dealer)).expect("a good seed");
        let (mut shares, mut vectors) = (Vec::new(), Vec::new());
        for dealer in Index::all(size) {
            for output in deal(dealer).1 {
                match output {
                    Output::SendShare { to, message } if to == me => shares.push((dealer, message)),
                    Output::Broadcast(data) => vectors.push((dealer, data)),
                    _ => {}
                }
            }
        }
        let mut watch = Stopwatch::default();
        for _ in 0..repetitions {
            let (mut member, _) = watch.measure(0, || deal(me));
            watch.measure(1, || {
                for (from, share) in &shares {
                    member.take_private(*from, share.expose()).expect("a member's message");
                }
                for (from, vector) in &vectors {
                    member.take_broadcast(*from, vector).expect("a member's message");
                }
                member.end_phase(&RANDOMNESS).expect("phase 1 is on");
            });
            watch.measure(2, || {
                member.end_phase(&RANDOMNESS).expect("phase 2 is on");
                let (outcome, _) = member.finish(&RANDOMNESS).expect("phase 3 is on");
                assert_eq!(outcome.qualified.len(), size);
                assert_eq!(outcome.result.expect("an honest run succeeds").key_shares.len(), size);
            });
        }
        watch.report(name);
    }
    let vector = Polynomial::from_seed(&[1; 48], 999).expect("a good seed").commit();
    let bytes = vector.encode(VectorEncoding::Compressed);
    let mut watch = Stopwatch::default();
    for _ in 0..30 * repetitions {
        watch.measure(0, || UncheckedVector::decode(&bytes, 1000).expect("it is one"));
    }
    watch.report("u");
}
