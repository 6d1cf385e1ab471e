//! A log chain of five members (t = 2) whose log the tests write by hand.

#![allow(dead_code, reason = "no one test file uses all of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use dkg_engine::bls::{ProvenPublicKey, PublicKey, SecretKey, VectorEncoding};
use dkg_engine::chain::DkgResult;
use dkg_engine::chain::log::{
    Applied, ChainConfig, ChainEvent, ChainMember, ChainSpec, Entry, LogChain, LogPlace, Payload, Prefix, Schedule,
    Skip, SkipReason,
};
use dkg_engine::committee::{Index, NodeId};
use dkg_engine::epoch::View;
use ed25519_dalek::SigningKey;

/// How many members there are.
pub(crate) const N: usize = 5;
/// At most so many of them are malicious.
pub(crate) const T: usize = 2;

/// Epochs of 20 views; setup from view 5 on; phases end with views 7, 10 and 13.
pub(crate) const SCHEDULE: Schedule =
    Schedule { views_in_epoch: 20, setup_first_view: 5, views_per_phase: 3, poll_step: 1 };

pub(crate) fn index(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

/// Node ids ascend with the position, so a member's position is its index.
pub(crate) fn node(position: usize) -> NodeId {
    NodeId::new([u8::try_from(position).unwrap(); 32])
}

pub(crate) fn network_key(position: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(position + 1).unwrap(); 32])
}

pub(crate) fn public_key(seed: usize) -> PublicKey {
    SecretKey::from_seed(&[u8::try_from(seed + 1).unwrap(); 32]).unwrap().public_key()
}

pub(crate) fn spec() -> ChainSpec {
    let member = |position| ChainMember {
        node_id: node(position),
        staking_key: ProvenPublicKey::vouched_for(public_key(position)),
        network_key: network_key(position).verifying_key(),
        address: None,
    };
    ChainSpec {
        chain_id: "test".into(),
        genesis_ms: 1_000_000,
        view_ms: 100,
        schedule: SCHEDULE,
        members: (0..N).map(member).collect(),
        vector_encoding: VectorEncoding::Uncompressed,
        log: LogPlace::Local,
    }
}

pub(crate) fn config() -> Arc<ChainConfig> {
    Arc::new(ChainConfig::new(spec()).unwrap())
}

/// A result with real keys; another seed, other keys.
pub(crate) fn result(seed: usize) -> DkgResult {
    let shares: Vec<_> = (0..N).map(|i| public_key(seed + i)).collect();
    let index_map: BTreeMap<_, _> = (0..N).map(|i| (node(i), index(i))).collect();
    DkgResult::complete(&public_key(seed + N), &shares, index_map)
}

/// A log, and one replica of it.
pub(crate) struct World {
    pub(crate) replica: LogChain,
    pub(crate) log: Vec<Vec<u8>>,
    /// Everything that has happened.
    pub(crate) events: Vec<ChainEvent>,
    sequence: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        World::of(config())
    }

    pub(crate) fn of(config: Arc<ChainConfig>) -> Self {
        World { replica: LogChain::new(config), log: Vec::new(), events: Vec::new(), sequence: 0 }
    }

    /// An honest entry of this member at the log's present end.
    pub(crate) fn entry(&mut self, author: usize, payload: Payload) -> Entry {
        self.sequence += 1;
        Entry { author: index(author), sequence: self.sequence, payload, seen: self.replica.prefix() }
    }

    pub(crate) fn sign(&self, entry: &Entry) -> Vec<u8> {
        entry.sign(self.replica.config().identity(), &network_key(entry.author.into())).unwrap()
    }

    /// Appends bytes to the log.
    pub(crate) fn append(&mut self, bytes: Vec<u8>) -> Applied {
        let applied = self.replica.apply(&bytes).unwrap();
        self.log.push(bytes);
        self.events.extend(applied.events.iter().cloned());
        applied
    }

    pub(crate) fn say(&mut self, author: usize, payload: Payload) -> Applied {
        let entry = self.entry(author, payload);
        let bytes = self.sign(&entry);
        self.append(bytes)
    }

    pub(crate) fn tick(&mut self, author: usize, view: u64) -> Applied {
        self.say(author, Payload::Tick(View(view)))
    }

    pub(crate) fn post(&mut self, author: usize, content: &str) -> Applied {
        self.say(author, Payload::Post(content.into()))
    }

    pub(crate) fn submit(&mut self, author: usize, result: &DkgResult) -> Applied {
        let instance = self.replica.run();
        self.say(author, Payload::Submit { instance, result: result.clone() })
    }

    /// Makes a view final as members do whose clocks have reached it: their epoch's run is begun with its first view, and gone
    /// through view by view while it is on. What the last tick brought about.
    pub(crate) fn finalize(&mut self, view: u64) -> Vec<ChainEvent> {
        let mut events = Vec::new();
        while self.replica.header().view < View(view) {
            let head = self.replica.header().view.0;
            let begins = self.replica.config().epoch_at(View(view)).setup_first.0;
            let next = match self.replica.is_paced() {
                true => head + 1,
                false if (head + 1..view).contains(&begins) => begins,
                false => view,
            };
            events = self.jump(next);
        }
        events
    }

    /// Makes a view final whatever was before: `t + 1` members tick it. What the last of them brought about.
    pub(crate) fn jump(&mut self, view: u64) -> Vec<ChainEvent> {
        for author in 0..T {
            assert_eq!(self.tick(author, view).events, []);
        }
        self.tick(T, view).events
    }

    /// An entry that vouches for a log that is not this one.
    pub(crate) fn contradiction(&mut self, author: usize, view: u64) -> Vec<u8> {
        let mut entry = self.entry(author, Payload::Tick(View(view)));
        entry.seen = Prefix { hash: [7; 32], ..entry.seen };
        self.sign(&entry)
    }
}

/// Skipped for this reason, in the name of this member.
pub(crate) fn skipped(author: usize, reason: SkipReason) -> Applied {
    Applied { skipped: Some(Skip { author: Some(index(author)), reason }), events: Vec::new() }
}
