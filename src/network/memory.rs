//! A network inside one process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::receipt::Hush;
use super::{Delivery, Inbound, Network, NetworkError, Receipt};
use crate::committee::NodeId;
use crate::envelope::PrivateMessage;
use crate::sync::Mutex;

/// How long a sender waits for the receiver's word. The message may still be taken after that; it is then sent twice.
pub const CONFIRM_LIMIT: Duration = Duration::from_secs(2);

/// Calls that all the nodes of one process may have under way at once, since each takes a thread. Up to 64 nodes have one for
/// every peer.
const CALLS_LIMIT: usize = 4096;

/// Joins nodes in one process. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    nodes: Arc<Mutex<BTreeMap<NodeId, Arc<dyn Inbound>>>>,
}

/// One node's access to a [`MemoryNetwork`].
pub struct MemoryPort {
    network: MemoryNetwork,
    me: NodeId,
    calls: Mutex<Calls>,
}

/// The calls in flight.
#[derive(Default)]
struct Calls {
    shut_down: bool,
    next: u64,
    waiting: BTreeMap<u64, Hush>,
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the node `me` sends through.
    pub fn port(&self, me: NodeId) -> MemoryPort {
        MemoryPort { network: self.clone(), me, calls: Mutex::new(Calls::default()) }
    }

    /// From now on messages to `node` are delivered here.
    pub fn attach(&self, node: NodeId, inbound: impl Inbound + 'static) {
        self.nodes.lock().insert(node, Arc::new(inbound));
    }
}

impl MemoryPort {
    /// Delivers one message without waiting for the receiver's word, which goes to `receipt`.
    ///
    /// # Errors
    /// The receiver is not running, or does not let the message in.
    pub fn post(&self, to: &NodeId, message: PrivateMessage, receipt: Receipt) -> Result<(), NetworkError> {
        let unreachable = |why: String| NetworkError::Unreachable(*to, why);
        let inbound = self.network.nodes.lock().get(to).cloned();
        let inbound = inbound.ok_or_else(|| unreachable("it is not running".into()))?;
        inbound.deliver(Delivery { from: self.me, message, receipt }).map_err(|error| unreachable(error.to_string()))
    }
}

impl Network for MemoryPort {
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        let (receipt, answer) = Receipt::awaited();
        let call = {
            let mut calls = self.calls.lock();
            if calls.shut_down {
                return Err(NetworkError::ShutDown);
            }
            calls.next = calls.next.wrapping_add(1);
            let call = calls.next;
            calls.waiting.insert(call, answer.hush());
            call
        };
        let taken = self.post(to, message.clone(), receipt).map(|()| answer.wait(CONFIRM_LIMIT));
        self.calls.lock().waiting.remove(&call);
        match taken {
            Ok(true) => Ok(()),
            Ok(false) => Err(NetworkError::Unreachable(*to, "it has not confirmed the message".into())),
            Err(error) => Err(error),
        }
    }

    fn calls_at_once(&self) -> usize {
        CALLS_LIMIT / self.network.nodes.lock().len().max(1)
    }

    fn shutdown(&self) {
        let mut calls = self.calls.lock();
        calls.shut_down = true;
        calls.waiting.values().for_each(Hush::hush);
    }
}
