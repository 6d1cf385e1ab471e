//! The host's network, whiteboard clients and observer, as the engine's threads see them: none of them panics, and each is
//! shut down once.

use std::sync::Arc;

use super::event::{EngineEvent, Observer};
use crate::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use crate::committee::{MAX_MEMBERS, NodeId};
use crate::envelope::PrivateMessage;
use crate::epoch::{Header, InstanceId};
use crate::fence::{Fenced, HostPanic, say};
use crate::network::{Network, NetworkError};

/// A whiteboard client; a panic is a try that failed.
pub(super) struct HostClient(Fenced<dyn DkgContractClient>);

impl HostClient {
    /// All of a host's, in its order.
    pub(super) fn all(clients: Vec<Arc<dyn DkgContractClient>>) -> Arc<[Self]> {
        clients.into_iter().map(|client| HostClient(Fenced::new(client, "DkgContractClient destructor"))).collect()
    }

    pub(super) fn broadcast(&self, content: &str) -> Result<(), ClientError> {
        let sent = self.0.call("DkgContractClient::broadcast", |client| client.broadcast(content));
        sent.unwrap_or_else(|panic| Err(unavailable(&panic)))
    }

    pub(super) fn read(&self, from: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError> {
        let page = self.0.call("DkgContractClient::read_broadcast", |client| client.read_broadcast(from, as_of, limit));
        page.unwrap_or_else(|panic| Err(unavailable(&panic)))
    }

    pub(super) fn submit(&self, instance: &InstanceId, result: &DkgResult) -> Result<(), ClientError> {
        let sent = self.0.call("DkgContractClient::submit_result", |client| client.submit_result(instance, result));
        sent.unwrap_or_else(|panic| Err(unavailable(&panic)))
    }

    pub(super) fn shutdown(&self) {
        self.0.shut_down("DkgContractClient::shutdown", |client| client.shutdown());
    }
}

fn unavailable(panic: &HostPanic) -> ClientError {
    ClientError::Unavailable(panic.to_string())
}

/// A network; a panic is a send that failed.
pub(super) struct HostNetwork(Fenced<dyn Network>);

impl HostNetwork {
    pub(super) fn new(network: Arc<dyn Network>) -> Self {
        HostNetwork(Fenced::new(network, "Network destructor"))
    }

    pub(super) fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        let sent = self.0.call("Network::send", |network| network.send(to, message));
        sent.unwrap_or_else(|panic| Err(NetworkError::Unreachable(*to, panic.to_string())))
    }

    /// At least one, and one for each peer where it cannot say.
    pub(super) fn calls_at_once(&self) -> usize {
        let asked = self.0.call("Network::calls_at_once", |network| network.calls_at_once().max(1));
        asked.unwrap_or_else(|panic| {
            say(log::Level::Error, &panic);
            MAX_MEMBERS
        })
    }

    pub(super) fn shutdown(&self) {
        self.0.shut_down("Network::shutdown", |network| network.shutdown());
    }
}

/// An observer; what it makes of an event is its own affair.
pub(super) struct HostObserver(Fenced<dyn Observer>);

impl HostObserver {
    pub(super) fn new(observer: Arc<dyn Observer>) -> Self {
        HostObserver(Fenced::new(observer, "Observer destructor"))
    }

    pub(super) fn notify(&self, event: &EngineEvent) {
        self.0.call_promptly("Observer::notify", |observer| observer.notify(event));
    }
}
