//! The node's links to the other members, and its clock, as its configuration has them.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::identity::Identity;
use super::{NodeConfig, NodeError};
use crate::address::Address;
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

/// Where each member is reached, in order of index: by the configuration, and else by the committee file.
///
/// # Errors
/// The configuration has an address of nobody in the committee, or two members would have the same.
pub(super) fn addresses(config: &NodeConfig, chain: &ChainConfig) -> Result<Vec<Option<Address>>, NodeError> {
    if let Some(unknown) = config.peers.keys().find(|peer| chain.committee().index_of(peer).is_none()) {
        return Err(NodeError::UnknownPeer(*unknown));
    }
    let mut owners = BTreeMap::new();
    let mut addresses = Vec::new();
    for (index, member) in chain.committee().iter() {
        let address = config.peers.get(&member.node_id).or(chain.address(index));
        if let Some(address) = address
            && let Some(other) = owners.insert(address, member.node_id)
        {
            return Err(NodeError::SameAddress(other, member.node_id));
        }
        addresses.push(address.cloned());
    }
    Ok(addresses)
}

pub(super) fn tcp_config(
    config: &NodeConfig,
    chain: &ChainConfig,
    addresses: &[Option<Address>],
    me: Index,
    identity: &Identity,
) -> TcpConfig {
    let address = |index: Index| addresses.get(usize::from(index))?.as_ref();
    let peer = |index: Index| {
        let node_id = chain.committee().member(index)?.node_id;
        Some(TcpPeer { node_id, key: *chain.network_key(index)?, address: address(index)?.clone() })
    };
    let peers = Index::all(chain.committee().size()).filter(|index| *index != me).filter_map(peer).collect();
    let port = address(me).map_or(0, Address::port);
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
