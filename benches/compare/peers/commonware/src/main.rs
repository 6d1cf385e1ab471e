//! commonware-cryptography, `feldman_desmedt` with keys in G2, at our threshold. Players acknowledge dealings with Ed25519
//! signatures, which are verified in the end; a dealing that reaches a player's log is not decoded a second time here.

use commonware_codec::{Decode as _, DecodeExt as _, Encode as _};
use commonware_cryptography::Signer as _;
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{
    Dealer, DealerPrivMsg, DealerPubMsg, Info, Logs, Player, Reveal,
};
use commonware_cryptography::bls12381::primitives::{sharing::Mode, variant::MinSig};
use commonware_cryptography::ed25519::{PrivateKey, PublicKey};
use commonware_math::algebra::Random as _;
use commonware_parallel::Sequential;
use commonware_utils::{Faults, TryCollect as _, ordered::Set, test_rng};
use num_traits::ToPrimitive;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use stopwatch::{Stopwatch, arguments, threshold};

/// Our threshold: t + 1 of n.
#[derive(Clone, Copy, Debug)]
struct Ours;

impl Faults for Ours {
    fn max_faults(n: impl ToPrimitive) -> u32 {
        let n = n.to_usize().expect("a size");
        (n - threshold(n) - 1) as u32
    }
}

fn main() {
    let (size, repetitions) = arguments();
    let mut rng = test_rng();
    let keys: Vec<PrivateKey> = (0..size).map(|_| PrivateKey::random(&mut rng)).collect();
    let members: Set<PublicKey> = keys.iter().map(|key| key.public_key()).try_collect().expect("different keys");
    let info = Info::<MinSig, PublicKey>::new::<Ours>(
        b"compare",
        0,
        None,
        Mode::NonZeroCounter,
        Reveal::V1,
        members.clone(),
        members,
    )
    .expect("good parameters");
    let me = &keys[size / 2];
    let player = |key: &PrivateKey| Player::<MinSig, PrivateKey>::new(info.clone(), key.clone()).expect("a player");
    // Everybody acknowledges everything, as in an honest run. What the others do is not measured.
    let mut players: BTreeMap<PublicKey, _> = keys.iter().map(|key| (key.public_key(), player(key))).collect();
    let mut logs = Logs::<MinSig, PublicKey, Ours>::new(info.clone());
    let mut dealt = Vec::new();
    for key in &keys {
        let (mut dealer, public, private) =
            Dealer::start::<Ours>(&mut rng, info.clone(), key.clone(), None).expect("a dealer");
        for (to, share) in private {
            if to == me.public_key() {
                dealt.push((key.public_key(), public.encode(), share.encode()));
            }
            let player = players.get_mut(&to).expect("a player");
            let ack = player.dealer_message::<Ours>(key.public_key(), public.clone(), share);
            let ack = ack.expect("an honest dealing").expect("it is new");
            dealer.receive_player_ack(to, ack).expect("an honest player");
        }
        logs.record(key.public_key(), dealer.finalize::<Ours>().check(&info).expect("an honest log").1);
    }
    let most = NonZeroU32::new(size as u32).expect("not zero");
    let mut watch = Stopwatch::default();
    let mut outputs = Vec::new();
    for key in (0..repetitions).map(|_| me).chain([]) {
        watch.measure(0, || {
            let (_, public, private) =
                Dealer::start::<Ours>(&mut rng, info.clone(), key.clone(), None).expect("a dealer");
            (public.encode(), private.into_iter().map(|(_, share)| share.encode()).collect::<Vec<_>>())
        });
        let player = watch.measure(1, || {
            let mut player = player(key);
            for (dealer, public, share) in &dealt {
                let public = DealerPubMsg::<MinSig>::decode_cfg(public.clone(), &most).expect("it is one");
                let share = DealerPrivMsg::decode(share.clone()).expect("it is one");
                let ack = player.dealer_message::<Ours>(dealer.clone(), public, share);
                ack.expect("an honest dealing").expect("it is new");
            }
            player
        });
        let logs = logs.clone();
        watch.measure(2, || {
            let (output, _) = player.finalize::<Ours>(&mut rng, logs, &Sequential).expect("an honest run");
            output.public().precompute_partial_publics();
            outputs.push(*output.public().public());
        });
    }
    let other = players.remove(&keys[0].public_key()).expect("a player");
    let (output, _) = other.finalize::<Ours>(&mut rng, logs, &Sequential).expect("an honest run");
    assert!(outputs.iter().all(|key| key == output.public().public()));
    watch.report("commonware-cryptography 2026.10");
}
