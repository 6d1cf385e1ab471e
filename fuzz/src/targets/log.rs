//! The log chain: entries, the committee file's content, and replicas over arbitrary logs.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use dkg_engine::bls::{G2Point, ProvenPublicKey, PublicKey, SecretKey, VectorEncoding};
use dkg_engine::chain::DkgResult;
use dkg_engine::chain::log::{
    ChainConfig, ChainEvent, ChainMember, ChainSpec, ConfigError, Entry, LogChain, LogPlace, MAX_CHAIN_ID_BYTES,
    MAX_ENTRY_BYTES, MAX_VIEW_MS, MAX_VIEWS_IN_EPOCH, MIN_VIEWS_PER_PHASE, Payload, Prefix, Schedule, SignedEntry,
    SkipReason,
};
use dkg_engine::committee::{Index, NodeId};
use dkg_engine::epoch::{EpochCounter, EpochPhase, InstanceId, ProtocolEvent, View};
use ed25519_dalek::{SigningKey, VerifyingKey};

use super::board;
use super::bytes::Choices;

/// Members of the chain in `log_chain`; at most one of them may be malicious.
const SIZE: usize = 4;
const THRESHOLD: usize = 1;
/// How many keys there are to choose from.
const KEYS: usize = 8;

/// The chain that the entries in the corpus are signed for.
pub const CHAIN: [u8; 32] = [9; 32];

/// The key that a member signs its entries with.
pub fn network_key(member: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(member).unwrap() + 1; 32])
}

fn staking_keys() -> &'static [PublicKey] {
    static PUBLIC: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
        (1..=KEYS).map(|seed| SecretKey::from_seed(&[seed as u8; 32]).unwrap().public_key()).collect()
    });
    &PUBLIC
}

fn node(number: usize) -> NodeId {
    NodeId::new([u8::try_from(number).unwrap(); 32])
}

/// Entries of the log: what decodes is what its author signs, to the byte, and is attributed to nobody else.
pub fn log_entry(data: &[u8]) {
    let read = SignedEntry::decode(data);
    let again = SignedEntry::decode(data).map(SignedEntry::into_entry);
    assert_eq!(read.as_ref().map(SignedEntry::entry).map_err(Clone::clone), again.as_ref().map_err(Clone::clone));
    let Ok(signed) = read else { return };
    assert!(data.len() <= MAX_ENTRY_BYTES);
    let entry = signed.entry();
    for member in 0..2 {
        let key = network_key(member);
        let bytes = entry.sign(&CHAIN, &key).unwrap();
        assert_eq!(bytes[..bytes.len() - 64], data[..data.len() - 64], "a second encoding of one entry");
        assert_eq!(SignedEntry::decode(&bytes).unwrap().into_entry(), *entry);
        assert!(SignedEntry::decode(&bytes).unwrap().is_signed_by(&key.verifying_key(), &CHAIN));
        assert_eq!(signed.is_signed_by(&key.verifying_key(), &CHAIN), bytes == data);
        assert!(bytes != data || !signed.is_signed_by(&key.verifying_key(), &[8; 32]), "good for another chain");
    }
}

/// What a committee file may say.
fn spec(choices: &mut Choices<'_>) -> ChainSpec {
    let length = choices.byte();
    let chain_id = String::from_utf8_lossy(choices.take(usize::from(length))).into_owned();
    let (genesis_ms, view_ms) = (choices.u64(), choices.u64());
    let schedule = Schedule {
        views_in_epoch: choices.u64(),
        setup_first_view: choices.u64(),
        views_per_phase: choices.u64(),
        poll_step: choices.u64(),
    };
    let vector_encoding = if choices.flag() { VectorEncoding::Uncompressed } else { VectorEncoding::Compressed };
    let member = |choices: &mut Choices<'_>| {
        let node_id = NodeId::new([choices.byte(); 32]);
        let staking_key = match choices.below(KEYS + 1) {
            KEYS => PublicKey::from(G2Point::identity()),
            known => staking_keys()[known],
        };
        let network_key = match choices.below(KEYS + 1) {
            KEYS => VerifyingKey::from_bytes(&choices.array()).unwrap_or_default(),
            known => network_key(known).verifying_key(),
        };
        ChainMember { node_id, staking_key: ProvenPublicKey::vouched_for(staking_key), network_key, address: None }
    };
    let members = (0..choices.below(9)).map(|_| member(choices)).collect();
    ChainSpec { chain_id, genesis_ms, view_ms, schedule, members, vector_encoding, log: LogPlace::Local }
}

/// Whether all keys of a list differ.
fn distinct<T: Ord>(keys: impl Iterator<Item = T> + Clone) -> bool {
    keys.clone().count() == keys.collect::<std::collections::BTreeSet<_>>().len()
}

fn is_sound(spec: &ChainSpec) -> bool {
    let ChainSpec { chain_id, view_ms, schedule, members, .. } = spec;
    let name = (1..=MAX_CHAIN_ID_BYTES).contains(&chain_id.len())
        && chain_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let Schedule { views_in_epoch, setup_first_view, views_per_phase, poll_step } = *schedule;
    let run_end = u128::from(setup_first_view) + 3 * u128::from(views_per_phase);
    let schedule = views_per_phase >= MIN_VIEWS_PER_PHASE
        && (1..=MAX_VIEWS_IN_EPOCH).contains(&poll_step)
        && views_in_epoch <= MAX_VIEWS_IN_EPOCH
        && run_end < u128::from(views_in_epoch);
    let members = members.len() >= 2
        && members.iter().all(|m| !m.staking_key.key().is_identity() && !m.network_key.is_weak())
        && distinct(members.iter().map(|m| m.node_id))
        && distinct(members.iter().map(|m| m.staking_key.key().to_flow_bytes()))
        && distinct(members.iter().map(|m| m.network_key.to_bytes()));
    name && schedule && (1..=MAX_VIEW_MS).contains(view_ms) && members
}

/// The content of a committee file: sound or refused, the same in any order of members, another chain when anything in it
/// is otherwise; and its arithmetic holds for every view.
pub fn chain_config(data: &[u8]) {
    let mut choices = Choices(data);
    let spec = spec(&mut choices);
    let config = ChainConfig::new(spec.clone());
    assert_eq!(config.is_ok(), is_sound(&spec), "{spec:?}");
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            assert!(error.to_string().len() < 600, "an error as long as what it is about");
            assert!(!matches!(&error, ConfigError::ChainId(id) if id.chars().count() > MAX_CHAIN_ID_BYTES + 16));
            return;
        }
    };
    let mut rotated = spec.clone();
    rotated.members.rotate_left(choices.below(8) % spec.members.len());
    assert_eq!(ChainConfig::new(rotated).as_ref(), Ok(&config));
    let mut others = vec![spec.clone(); 6];
    others[0].genesis_ms ^= 1;
    others[1].view_ms = if spec.view_ms == MAX_VIEW_MS { 1 } else { spec.view_ms + 1 };
    others[2].schedule.poll_step =
        if spec.schedule.poll_step == MAX_VIEWS_IN_EPOCH { 1 } else { spec.schedule.poll_step + 1 };
    others[3].vector_encoding = match spec.vector_encoding {
        VectorEncoding::Compressed => VectorEncoding::Uncompressed,
        VectorEncoding::Uncompressed => VectorEncoding::Compressed,
    };
    others[4].chain_id = if spec.chain_id == "x" { "y".into() } else { "x".into() };
    others[5].members[0].network_key = network_key(100).verifying_key();
    for other in others.into_iter().filter(|other| *other != spec) {
        assert_ne!(ChainConfig::new(other).unwrap().identity(), config.identity());
    }
    for (position, member) in config.committee().members().iter().enumerate() {
        let index = Index::from_position(position).unwrap();
        let ours = spec.members.iter().find(|m| m.node_id == member.node_id).unwrap();
        assert_eq!(config.network_key(index), Some(&ours.network_key));
        assert_eq!(config.index_of_network_key(&ours.network_key), Some(index));
    }
    for view in [0, 1, u64::MAX, u64::MAX - 1, choices.u64(), choices.u64() >> 32] {
        check_view(&config, view);
    }
}

fn check_view(config: &ChainConfig, view: u64) {
    let views = config.epoch_at(View(view));
    let Schedule { views_in_epoch, setup_first_view, views_per_phase, .. } = *config.schedule();
    assert!(views.first.0 <= view && view <= views.last.0);
    let after = |count: u64| View(views.first.0.saturating_add(count));
    assert_eq!(u128::from(views.epoch.0) * u128::from(views_in_epoch), u128::from(views.first.0));
    assert_eq!(views.setup_first, after(setup_first_view).max(View(1)));
    assert!(views.phase_finals[2] <= views.run_last() && views.run_last() <= views.last);
    let finals = [1, 2, 3].map(|phase| after(setup_first_view + phase * views_per_phase - 1));
    assert_eq!(views.phase_finals, finals);
    assert!(finals.is_sorted() && (finals[2] < views.last || views.last.0 == u64::MAX));
    let begins = config.begins_at(View(view));
    if begins < u64::MAX {
        assert_eq!(config.view_at(begins), View(view));
        assert!(begins == 0 || config.view_at(begins - 1).0 <= view);
    }
}

fn config() -> &'static Arc<ChainConfig> {
    static CONFIG: LazyLock<Arc<ChainConfig>> = LazyLock::new(|| {
        let member = |number| ChainMember {
            node_id: node(number),
            staking_key: ProvenPublicKey::vouched_for(staking_keys()[number]),
            network_key: network_key(number).verifying_key(),
            address: None,
        };
        let spec = ChainSpec {
            chain_id: "fuzz".into(),
            genesis_ms: 1000,
            view_ms: 100,
            schedule: Schedule { views_in_epoch: 8, setup_first_view: 1, views_per_phase: 2, poll_step: 1 },
            members: (0..SIZE).map(member).collect(),
            vector_encoding: VectorEncoding::Compressed,
            log: LogPlace::Local,
        };
        Arc::new(ChainConfig::new(spec).unwrap())
    });
    &CONFIG
}

/// A result that fits, with keys that are keys (or, of kind 3, are none).
fn good_result(kind: usize) -> DkgResult {
    let index_map: BTreeMap<NodeId, Index> = (0..SIZE).map(node).zip(Index::all(SIZE)).collect();
    let key = |number: usize| &staking_keys()[number % KEYS];
    if kind == 3 {
        let digits = "00".repeat(96);
        return DkgResult::Complete { group_key: digits.clone(), key_shares: vec![digits; SIZE], index_map };
    }
    let shares: Vec<PublicKey> = (0..SIZE).map(|number| *key(kind + number)).collect();
    DkgResult::complete(key(kind), &shares, index_map)
}

/// What a replica shows, in a form that can be compared.
fn shown(chain: &LogChain) -> impl PartialEq + std::fmt::Debug {
    let members = || Index::all(SIZE);
    (
        (chain.prefix(), chain.header(), *chain.epoch(), chain.phase(), chain.keys().cloned()),
        (chain.contract().clone(), chain.unattributed(), chain.forked().cloned()),
        members().map(|member| (chain.last_tick(member), chain.last_sequence(member))).collect::<Vec<_>>(),
        members().map(|member| chain.faults(member).collect::<Vec<_>>()).collect::<Vec<_>>(),
    )
}

/// A replica over an arbitrary log: honest entries, lies, repetitions, damage and any bytes. A replica that starts in the
/// middle from a copy, and one that reads the log afterwards, end in the same state and have told the same.
pub fn log_chain(data: &[u8]) {
    const ENTRIES: usize = 160;
    let mut choices = Choices(data);
    let mut chain = LogChain::new(Arc::clone(config()));
    let mut log: Vec<Vec<u8>> = Vec::new();
    let mut told = Vec::new();
    let mut copy: Option<LogChain> = None;
    let mut sequence = 0;
    while log.len() < ENTRIES && !choices.is_empty() {
        let bytes = next_entry(&mut choices, &chain, &log, &mut sequence);
        let before = (chain.header(), chain.prefix(), chain.epoch().epoch);
        let stopped = chain.forked().cloned();
        let unchanged = chain.clone();
        let applied = chain.apply(&bytes);
        if let Some(copy) = &mut copy {
            assert_eq!(copy.apply(&bytes), applied);
        }
        if choices.0.len() % 16 == 0 {
            copy = Some(chain.clone());
        }
        match &applied {
            Err(forked) => {
                assert!(stopped.is_none_or(|stopped| stopped == *forked) && chain.forked() == Some(forked));
                assert!(forked.members.len() > THRESHOLD);
            }
            Ok(applied) => {
                assert_eq!(chain.prefix(), before.1.extended(&bytes));
                check_events(&chain, &applied.events, before.0.view);
                if let Some(skip) = applied.skipped {
                    assert!(applied.events.is_empty());
                    assert_eq!((chain.header(), chain.contract()), (unchanged.header(), unchanged.contract()));
                    assert_eq!(skip.author.is_none(), chain.unattributed() > unchanged.unattributed());
                    let sequences =
                        |chain: &LogChain| Index::all(SIZE).map(|m| chain.last_sequence(m)).collect::<Vec<_>>();
                    assert!(skip.reason.is_proven() || sequences(&chain) == sequences(&unchanged));
                    assert!(skip.reason != SkipReason::Malformed || SignedEntry::decode(&bytes).is_err());
                }
            }
        }
        assert!(chain.header().view >= before.0.view && chain.epoch().epoch >= before.2);
        check_ticks(&chain);
        check_board(&chain);
        told.push(applied);
        log.push(bytes);
    }
    let mut afterwards = LogChain::new(Arc::clone(config()));
    let again: Vec<_> = log.iter().map(|bytes| afterwards.apply(bytes)).collect();
    assert_eq!(again, told);
    assert_eq!(shown(&afterwards), shown(&chain));
    assert!(copy.is_none_or(|copy| shown(&copy) == shown(&chain)));
}

/// The next bytes of the log.
fn next_entry(choices: &mut Choices<'_>, chain: &LogChain, log: &[Vec<u8>], sequence: &mut u64) -> Vec<u8> {
    let kind = choices.byte() % 16;
    let author = choices.below(SIZE);
    *sequence += 1;
    let payload = match kind {
        0 => return choices.announced().to_vec(),
        1 if !log.is_empty() => return log[choices.below(log.len())].clone(),
        2..=7 => Payload::Tick(View(chain.header().view.0.saturating_add(choices.u16().into()) % 20_000)),
        8 => Payload::Tick(View(choices.u64())),
        9 | 10 => Payload::Post(String::from_utf8_lossy(choices.announced()).into_owned()),
        11 => Payload::Submit { instance: chain.run(), result: board::result(choices) },
        12 => Payload::Submit { instance: chain.run(), result: DkgResult::Empty },
        _ => Payload::Submit { instance: chain.run(), result: good_result(choices.below(4)) },
    };
    let oddity = choices.byte();
    let mut entry =
        Entry { author: Index::from_position(author).unwrap(), sequence: *sequence, payload, seen: chain.prefix() };
    match oddity {
        1 => entry.sequence = choices.u64(),
        2 => entry.seen.position = choices.u64(),
        3 => entry.seen.hash[0] ^= 1,
        4 => entry.seen = Prefix { position: choices.byte().into(), hash: choices.array() },
        5 => entry.seen = Prefix::genesis(config().identity()),
        6 => entry.author = Index::from_byte(choices.byte() % 254).unwrap(),
        9 => {
            if let Payload::Submit { instance, .. } = &mut entry.payload {
                *instance = InstanceId::new(config().chain_id(), EpochCounter(choices.byte().into()));
            }
        }
        _ => {}
    }
    let signer = if oddity == 7 { author + 1 } else { author };
    let Ok(mut bytes) = entry.sign(config().identity(), &network_key(signer)) else {
        return choices.announced().to_vec();
    };
    if oddity == 8 {
        let place = usize::from(choices.u16()) % bytes.len();
        bytes[place] ^= choices.byte();
    }
    bytes
}

/// What is told fits what the replica shows, and blocks are told in their order.
fn check_events(chain: &LogChain, events: &[ChainEvent], finalized: View) {
    for event in events {
        match event {
            ChainEvent::Protocol(ProtocolEvent::BlockFinalized(block)) => {
                assert!(*block == chain.header() && block.view > finalized && block.height == chain.prefix().position);
            }
            ChainEvent::Protocol(ProtocolEvent::EpochSetupPhaseStarted { setup, .. }) => {
                assert!(setup.epoch == chain.epoch().run_for && chain.contract().is_running());
                assert!(setup.first_view == chain.epoch().setup_first && chain.header().view == setup.first_view);
            }
            ChainEvent::Protocol(ProtocolEvent::EpochCommittedPhaseStarted { current, commit, .. }) => {
                assert!(*current == chain.epoch().epoch && commit.epoch == chain.epoch().run_for);
                assert_eq!(chain.phase(), EpochPhase::Committed(commit.clone()));
                assert!(chain.header().view >= chain.epoch().phase_finals[2]);
            }
            ChainEvent::Protocol(ProtocolEvent::EpochFallbackExited { commit, .. }) => {
                assert_eq!(chain.keys(), Some(commit));
            }
            ChainEvent::EpochFailed { epoch } => assert!(*epoch < chain.epoch().epoch),
            ChainEvent::EpochsPassedOver { first, last } => {
                assert!(first <= last && last.next() == Some(chain.epoch().epoch));
            }
        }
    }
}

/// A view is final when more than `t` members have ticked it or a later one, and the keys in force are the present epoch's.
fn check_ticks(chain: &LogChain) {
    let mut ticks: Vec<View> = Index::all(SIZE).map(|member| chain.last_tick(member)).collect();
    ticks.sort_unstable();
    assert_eq!(ticks[SIZE - 1 - THRESHOLD], chain.header().view);
    assert!(chain.epoch().first <= chain.header().view && chain.header().view <= chain.epoch().last);
    assert!(chain.keys().is_none_or(|keys| keys.epoch == chain.epoch().epoch));
}

/// Whatever stands on the board can be read as of the last block and no further.
fn check_board(chain: &LogChain) {
    let header = chain.header();
    if let Ok(messages) = chain.messages(0, &header, usize::MAX) {
        assert_eq!(messages, chain.contract().messages(0, messages.len()));
        let half = messages.len() / 2;
        assert_eq!(chain.messages(half as u64, &header, 1), Ok(messages.get(half..half + 1).unwrap_or_default()));
    }
    let ahead = dkg_engine::epoch::Header { height: chain.prefix().position + 1, ..header };
    assert!(chain.messages(0, &ahead, 1).is_err());
}
