//! The network as one member's MessagingEngine has it, and who has got whose share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use dkg_engine::committee::NodeId;
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::network::{MemoryPort, Network, NetworkError};
use parking_lot::Mutex;

use super::grave::Grave;
use crate::support::Watched;

/// Per run: (dealer, receiver) of every share that was taken.
pub type Shares = Arc<Watched<BTreeMap<String, BTreeSet<(NodeId, NodeId)>>>>;

pub struct Port {
    pub inner: MemoryPort,
    pub me: NodeId,
    pub shares: Shares,
    /// The last share for each peer: what a flooding member repeats.
    pub last: Arc<Mutex<BTreeMap<NodeId, PrivateMessage>>>,
    /// So many more messages get through; then the member is cut off.
    pub left: Arc<AtomicUsize>,
    pub grave: Arc<Grave>,
}

impl Network for Port {
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        self.grave.note("private message");
        if self.left.try_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            return Err(NetworkError::Unreachable(*to, "cut off".into()));
        }
        if let Err(error) = self.inner.send(to, message) {
            self.left.fetch_add(1, SeqCst);
            return Err(error);
        }
        self.last.lock().insert(*to, message.clone());
        let run = message.dkg_instance_id.clone();
        self.shares.update(|shares| shares.entry(run).or_default().insert((self.me, *to)));
        Ok(())
    }

    fn shutdown(&self) {
        self.inner.shutdown();
    }
}
