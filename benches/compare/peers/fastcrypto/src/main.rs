//! fastcrypto-tbls, its `dkg_v1` with keys in G2: shares travel encrypted on the board.

use fastcrypto::groups::bls12381::G2Element;
use fastcrypto_tbls::dkg::Party;
use fastcrypto_tbls::dkg_v1::Message;
use fastcrypto_tbls::ecies::{PrivateKey, PublicKey};
use fastcrypto_tbls::nodes::{Node, Nodes};
use fastcrypto_tbls::random_oracle::RandomOracle;
use rand::thread_rng;
use std::num::NonZeroU16;
use stopwatch::{Stopwatch, arguments, threshold};

type Encryption = fastcrypto::groups::ristretto255::RistrettoPoint;

fn main() {
    let (size, repetitions) = arguments();
    let t = threshold(size) as u16 + 1;
    let me = size / 2;
    let keys: Vec<PrivateKey<Encryption>> = (0..size).map(|_| PrivateKey::new(&mut thread_rng())).collect();
    let node = |(id, key)| Node { id: id as u16, pk: PublicKey::from_private_key(key), weight: 1 };
    let nodes = Nodes::new(keys.iter().enumerate().map(node).collect()).expect("good nodes");
    let party = |member: usize| {
        let key = keys[member].clone();
        let oracle = RandomOracle::new("compare");
        Party::<G2Element, Encryption>::new(key, nodes.clone(), t, oracle, &mut thread_rng()).expect("good parameters")
    };
    let message = |party: &Party<G2Element, Encryption>| {
        bcs::to_bytes(&party.create_message_v1(&mut thread_rng()).expect("it has a weight")).expect("it serializes")
    };
    let parties: Vec<_> = (0..size).map(party).collect();
    let messages: Vec<Vec<u8>> = parties.iter().map(message).collect();
    let mut watch = Stopwatch::default();
    let mut group_keys = Vec::new();
    // A second party at the end, to see that all come to one key.
    for member in (0..repetitions).map(|_| me).chain([0]) {
        let mut spare = Stopwatch::default();
        let watch = if member == me { &mut watch } else { &mut spare };
        watch.measure(0, || message(&party(member)));
        let processed: Vec<_> = watch.measure(1, || {
            let process = |bytes: &Vec<u8>| {
                let message: Message<G2Element, Encryption> = bcs::from_bytes(bytes).expect("it is one");
                parties[member].process_message_v1(message, &mut thread_rng()).expect("an honest message")
            };
            messages.iter().map(process).collect()
        });
        watch.measure(2, || {
            let (confirmation, used) = parties[member].merge_v1(&processed).expect("enough messages");
            assert!(confirmation.complaints.is_empty());
            // With nobody complaining, the others' confirmations say nothing; as many as are asked for are ours again.
            let confirmations: Vec<_> = (0..size)
                .map(|sender| {
                    let mut confirmation = confirmation.clone();
                    confirmation.sender = sender as u16;
                    confirmation
                })
                .collect();
            let output = parties[member].complete_v1(&used, &confirmations, &mut thread_rng()).expect("an honest run");
            let shares: Vec<_> = (1..=size)
                .map(|member| output.vss_pk.eval(NonZeroU16::new(member as u16).expect("not zero")))
                .collect();
            assert_eq!(shares.len(), size);
            assert!(output.shares.is_some());
            group_keys.push(*output.vss_pk.c0());
        });
    }
    assert!(group_keys.iter().all(|key| *key == group_keys[0]));
    watch.report("fastcrypto-tbls 0.1 (shares encrypted)");
}
