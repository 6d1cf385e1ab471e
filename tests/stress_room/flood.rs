//! Members that flood while their engines run as they should: private messages without end, garbage and enormous posts.
//!
//! Posts that the board takes have a quota, as on every chain that lives long; what is refused has none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use dkg_engine::SecretBytes;
use dkg_engine::bls::SecretKey;
use dkg_engine::committee::NodeId;
use dkg_engine::envelope::{BroadcastMessage, MAX_POST_BYTES, MAX_PRIVATE_BYTES, PrivateMessage};
use dkg_engine::epoch::{EpochCounter, InstanceId, View};
use dkg_engine::network::{MemoryPort, Receipt};
use parking_lot::Mutex;

use super::chain::Chain;

/// Short garbage that one member gets onto the board between two blocks.
const GARBAGE_POSTS: u32 = 6;
/// After that, one post of the greatest length, and an envelope that somebody else has signed every so many views; each
/// costs every member a pairing.
const FORGERY_VIEWS: u64 = 6;

/// A flooding member's thread. Dropping it ends it.
pub struct Flood {
    end: Arc<AtomicBool>,
    /// Messages that each receiver has taken into its queue.
    pub taken: Arc<BTreeMap<NodeId, AtomicU64>>,
    thread: Option<JoinHandle<()>>,
}

struct Flooder {
    chain: Arc<Chain>,
    me: NodeId,
    port: MemoryPort,
    last_shares: Arc<Mutex<BTreeMap<NodeId, PrivateMessage>>>,
    taken: Arc<BTreeMap<NodeId, AtomicU64>>,
    stranger: SecretKey,
    round: usize,
    /// How many posts the board has taken since this view.
    posted: (View, u32),
}

impl Flood {
    pub fn start(
        chain: &Arc<Chain>,
        me: NodeId,
        port: MemoryPort,
        last_shares: &Arc<Mutex<BTreeMap<NodeId, PrivateMessage>>>,
        receivers: impl Iterator<Item = NodeId>,
    ) -> Flood {
        let end = Arc::<AtomicBool>::default();
        let taken = Arc::new(receivers.map(|receiver| (receiver, AtomicU64::new(0))).collect());
        let mut flooder = Flooder {
            chain: Arc::clone(chain),
            me,
            port,
            last_shares: Arc::clone(last_shares),
            taken: Arc::clone(&taken),
            stranger: SecretKey::from_seed(&[0; 32]).unwrap(),
            round: 0,
            posted: (View(0), 0),
        };
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                flooder.send();
                flooder.post();
                thread::yield_now();
            }
        });
        Flood { end, taken, thread: Some(thread) }
    }

    pub fn taken_by(&self, receiver: &NodeId) -> u64 {
        self.taken.get(receiver).map_or(0, |count| count.load(Ordering::SeqCst))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking(), "a flood has broken off");
        }
    }
}

impl Flooder {
    /// A message to everybody who is flooded: a share that it has got before, one that is too large, one of no run. Who has
    /// not got the share of this run yet is left alone: the flood would keep it out.
    fn send(&mut self) {
        self.round += 1;
        let run = self.chain.run();
        for (receiver, taken) in &*self.taken {
            let repeated = self.last_shares.lock().get(receiver).cloned();
            let owed = |run: &InstanceId| repeated.as_ref().is_none_or(|last| last.dkg_instance_id != run.as_str());
            if run.as_ref().is_some_and(owed) {
                continue;
            }
            let message = match (self.round % 3, repeated) {
                (0, Some(share)) => share,
                (1, _) => junk(MAX_PRIVATE_BYTES + 1),
                _ => junk(33),
            };
            // A flood waits for no answer.
            if self.port.post(receiver, message, Receipt::none()).is_ok() {
                taken.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// A post that the board refuses, and another while it takes some.
    fn post(&mut self) {
        assert!(self.chain.post(self.me, &"x".repeat(MAX_POST_BYTES + 1)).is_err());
        let head = self.chain.head();
        if head != self.posted.0 {
            self.posted = (head, 0);
        }
        let content = match self.posted.1 {
            number if number < GARBAGE_POSTS => format!("garbage {number}"),
            GARBAGE_POSTS => "x".repeat(MAX_POST_BYTES),
            number if number == GARBAGE_POSTS + 1 && head.0.is_multiple_of(FORGERY_VIEWS) => self.forgery(),
            _ => return,
        };
        // Refused between the runs.
        if self.chain.post(self.me, &content).is_ok() {
            self.posted.1 += 1;
        }
    }

    fn forgery(&self) -> String {
        let run = self.chain.run().unwrap_or_else(|| InstanceId::new("stress", EpochCounter(0)));
        BroadcastMessage::sign(vec![9], &run, &self.stranger).to_json()
    }
}

fn junk(length: usize) -> PrivateMessage {
    PrivateMessage::protocol(SecretBytes::new(vec![0; length]), "dkg-stress-junk")
}
