//! The public keys of every epoch that this node has followed, kept for good: one small file each, so that what was signed long ago
//! can still be verified, and old shares combined.
//!
//! They are read off the chain, so nothing here has to survive a crash: what is missing is written again when the node goes
//! through its log at the next start.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::signing::PublicResult;
use crate::chain::log::LogChain;
use crate::epoch::{EpochCommit, EpochPhase};

/// The folder of results.
pub(super) struct Results {
    folder: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    /// The epochs that are there.
    written: BTreeSet<u64>,
    /// The last write has failed, and that was told.
    failing: bool,
}

impl Results {
    /// The results in this folder, which is made if it is not there.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut written = BTreeSet::new();
        for file in fs::read_dir(&folder)? {
            let file = file?;
            let name = file.file_name();
            let epoch = Path::new(&name).file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            // An empty one is what a crash has left of a write.
            if let (Some(epoch), true) = (epoch, file.metadata()?.len() > 0) {
                written.insert(epoch);
            }
        }
        Ok(Results { folder, known: Mutex::new(Known { written, failing: false }) })
    }

    /// Writes what the chain knows and this folder does not. What fails is told in the log, and tried again the next time.
    pub(super) fn note(&self, replica: &Mutex<LogChain>) {
        let mut known = self.known.lock();
        let (chain_id, new) = {
            let chain = replica.lock();
            let next = match chain.phase() {
                EpochPhase::Committed(commit) => Some(commit),
                EpochPhase::Staking | EpochPhase::Setup(_) => None,
            };
            let all = chain.past_keys().chain(chain.keys()).chain(&next);
            let new = all.filter(|commit| !known.written.contains(&commit.epoch.0)).cloned().collect::<Vec<_>>();
            (chain.config().chain_id().to_owned(), new)
        };
        for commit in new {
            let written = self.write(&chain_id, &commit);
            if let (Err(error), false) = (&written, known.failing) {
                let folder = self.folder.display();
                log::warn!("the public keys of epoch {} are not written to {folder} yet: {error}", commit.epoch);
            }
            known.failing = written.is_err();
            if written.is_ok() {
                known.written.insert(commit.epoch.0);
            }
        }
    }

    fn write(&self, chain_id: &str, commit: &EpochCommit) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&PublicResult::of(chain_id, commit)).map_err(io::Error::other)?;
        let file = self.folder.join(format!("{}.json", commit.epoch));
        let unfinished = self.folder.join(format!(".{}.unfinished", commit.epoch));
        fs::write(&unfinished, text + "\n")?;
        fs::rename(&unfinished, file)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::bls::{Index, ProvenPublicKey, PublicKey, SecretKey, VectorEncoding};
    use crate::chain::DkgResult;
    use crate::chain::log::{
        ChainConfig, ChainMember, ChainNode, ChainSpec, LogPlace, MemoryLog, PAST_KEYS, Payload, Schedule,
    };
    use crate::committee::NodeId;
    use crate::epoch::View;

    const SEEDS: [u8; 2] = [1, 2];

    fn public_key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&[seed; 32]).unwrap().public_key()
    }

    fn network_key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    /// A committee of two.
    pub(in crate::node) fn chain_config() -> Arc<ChainConfig> {
        let member = |seed| ChainMember {
            node_id: NodeId::new([seed; 32]),
            staking_key: ProvenPublicKey::vouched_for(public_key(seed)),
            network_key: network_key(seed).verifying_key(),
            address: None,
        };
        let spec = ChainSpec {
            chain_id: "results".into(),
            genesis_ms: 1_000_000,
            view_ms: 100,
            schedule: Schedule { views_in_epoch: 20, setup_first_view: 5, views_per_phase: 3, poll_step: 1 },
            members: SEEDS.map(member).into(),
            vector_encoding: VectorEncoding::Uncompressed,
            log: LogPlace::Local,
        };
        Arc::new(ChainConfig::new(spec).unwrap())
    }

    #[test]
    fn a_start_that_goes_through_many_epochs_keeps_the_public_keys_of_all() {
        let seeds = SEEDS;
        let config = chain_config();
        let log = MemoryLog::new();
        let node = |seed: u8| {
            let replica = LogChain::new(Arc::clone(&config));
            ChainNode::new(replica, Arc::new(log.reader()), network_key(seed), 1).unwrap()
        };
        let members = seeds.map(node);
        // It reads nothing before all is over.
        let late = node(1);
        let result = |epoch: u8| {
            let index_map: BTreeMap<_, _> =
                seeds.map(|seed| (NodeId::new([seed; 32]), Index::from_byte(seed - 1).unwrap())).into();
            DkgResult::complete(&public_key(epoch), &seeds.map(public_key), index_map)
        };
        let epochs = u8::try_from(PAST_KEYS).unwrap() * 2;
        let say = |payload: Payload| {
            for member in &members {
                member.author().append(payload.clone()).unwrap();
                members.iter().for_each(|member| member.catch_up().unwrap());
            }
        };
        for epoch in 0..epochs {
            // View by view in a run, and in one leap to the next.
            let last = View(u64::from(epoch) * 20 + 13);
            loop {
                let (view, paced) = {
                    let chain = members[0].replica().lock();
                    (chain.header().view, chain.is_paced())
                };
                match view {
                    view if view >= last => break,
                    View(view) if paced => say(Payload::Tick(View(view + 1))),
                    _ => say(Payload::Tick(View(last.0 - 8))),
                }
            }
            // In every third epoch there are none, and the ones before stay in force.
            if epoch % 3 != 2 {
                let instance = members[0].replica().lock().run();
                say(Payload::Submit { instance, result: result(epoch + 10) });
            }
        }
        let folder = std::env::temp_dir().join(format!("dkg-results-{}", std::process::id()));
        let results = Results::open(folder.clone()).unwrap();
        late.catch_up_noting(|| results.note(late.replica())).unwrap();
        let read = |epoch: u8| -> PublicResult {
            serde_json::from_slice(&fs::read(folder.join(format!("{epoch}.json"))).unwrap()).unwrap()
        };
        // The last epoch ended in fallback or with keys for the one after it.
        for epoch in 1..epochs {
            let made_in = if (epoch - 1) % 3 == 2 { epoch - 2 } else { epoch - 1 };
            let key = crate::hex::encode(&public_key(made_in + 10).to_standard_bytes());
            assert_eq!((read(epoch).epoch, read(epoch).group_public_key), (u64::from(epoch), key));
        }
        let there = Results::open(folder.clone()).unwrap().known.lock().written.len();
        fs::remove_dir_all(&folder).unwrap();
        assert!(there >= usize::from(epochs) - 1);
    }
}
