//! A network inside one process.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Inbound, Network, NetworkError};
use crate::committee::NodeId;
use crate::envelope::PrivateMessage;
use crate::sync::Mutex;

/// Joins nodes in one process. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    nodes: Arc<Mutex<BTreeMap<NodeId, Arc<dyn Inbound>>>>,
}

/// One node's access to a [`MemoryNetwork`].
pub struct MemoryPort {
    network: MemoryNetwork,
    me: NodeId,
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the node `me` sends through.
    pub fn port(&self, me: NodeId) -> MemoryPort {
        MemoryPort { network: self.clone(), me }
    }

    /// From now on messages to `node` are delivered here.
    pub fn attach(&self, node: NodeId, inbound: impl Inbound + 'static) {
        self.nodes.lock().insert(node, Arc::new(inbound));
    }
}

impl Network for MemoryPort {
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        let inbound = self.network.nodes.lock().get(to).cloned();
        let unreachable = |why: String| NetworkError::Unreachable(*to, why);
        let inbound = inbound.ok_or_else(|| unreachable("it is not running".into()))?;
        inbound.deliver(self.me, message.clone()).map_err(|error| unreachable(error.to_string()))
    }
}
