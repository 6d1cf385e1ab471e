//! The node's links to the other members, and its clock, as its configuration has them.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::identity::Identity;
use super::{NodeConfig, NodeError};
use crate::chain::log::{ChainConfig, Clock, SystemClock};
use crate::committee::Index;
use crate::network::tcp::{TcpConfig, TcpError, TcpLimits, TcpNetwork, TcpPeer};

/// How long a node waits for an address that is taken.
const BIND_PATIENCE: Duration = Duration::from_secs(10);
/// How often it tries again meanwhile.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// The machine's clock, put right.
pub(super) struct OffsetClock(pub(super) i64);

impl Clock for OffsetClock {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms().saturating_add_signed(self.0)
    }

    fn steady_ms(&self) -> u64 {
        SystemClock.steady_ms()
    }
}

/// Listens; waits a while for an address that is taken, by a check that is just ending, say.
pub(super) fn bind(config: impl Fn() -> TcpConfig) -> Result<TcpNetwork, NodeError> {
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match TcpNetwork::bind(config()) {
            Err(TcpError::Listen(address, error))
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                log::warn!("cannot listen at {address} yet: {error}");
                std::thread::sleep(BIND_AGAIN);
            }
            bound => return bound.map_err(|error| NodeError::Network(Arc::new(error))),
        }
    }
}

pub(super) fn tcp_config(config: &NodeConfig, chain: &ChainConfig, me: Index, identity: &Identity) -> TcpConfig {
    let peer = |index: Index| {
        let node_id = chain.committee().member(index)?.node_id;
        let address = config.peers.get(&node_id).map(String::as_str).or(chain.address(index))?.to_owned();
        Some(TcpPeer { node_id, key: *chain.network_key(index)?, address })
    };
    let peers = Index::all(chain.committee().size()).filter(|index| *index != me).filter_map(peer).collect();
    let port = chain.address(me).and_then(|address| address.rsplit_once(':')?.1.parse().ok()).unwrap_or_default();
    let listen = config.listen.unwrap_or(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    TcpConfig {
        listen,
        me: identity.node_id,
        key: identity.network_key.clone(),
        chain: *chain.identity(),
        peers,
        clock_offset_ms: config.clock_offset_ms,
        limits: TcpLimits::default(),
    }
}
