//! Who of the other members is there, is who it should be, and at what time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::chain::log::{ChainConfig, Clock};
use crate::committee::Index;
use crate::network::tcp::{ProbeError, TcpNetwork};

/// How long a peer has for its answer.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// Another member, as far as it can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCheck {
    /// Its index.
    pub index: Index,
    /// Its node id.
    pub node_id: String,
    /// Where it should be.
    pub address: String,
    /// Whether it answers, is who it should be, and follows the same committee file, at about the same time.
    pub ok: bool,
    /// The version of its program, if it answers.
    pub version: Option<String>,
    /// How far its clock is ahead of ours, in milliseconds, give or take the way to it.
    pub clock_ms: Option<i64>,
    /// What is wrong.
    pub problem: Option<String>,
}

/// Asks all other members for a sign of life, all at the same time: none waits for another's.
pub(super) fn probe(
    network: &TcpNetwork,
    chain: &ChainConfig,
    addresses: &[Option<Address>],
    me: Index,
    clock: &dyn Clock,
) -> Vec<PeerCheck> {
    let others: Vec<Index> = Index::all(chain.committee().size()).filter(|index| *index != me).collect();
    let address = |index: Index| addresses.get(usize::from(index))?.as_ref();
    let ask_one = |index: &Index| probe_one(network, chain, address(*index)?, *index, clock);
    std::thread::scope(|scope| {
        let ask = |index| std::thread::Builder::new().spawn_scoped(scope, move || ask_one(index)).ok();
        let asked: Vec<_> = others.iter().filter_map(ask).collect();
        // A peer for which there is no thread, or whose thread panics, is not counted, which is seen.
        asked.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    })
}

fn probe_one(
    network: &TcpNetwork,
    chain: &ChainConfig,
    address: &Address,
    index: Index,
    clock: &dyn Clock,
) -> Option<PeerCheck> {
    let node_id = chain.committee().member(index)?.node_id;
    let mut peer = PeerCheck {
        index,
        node_id: node_id.to_string(),
        address: address.to_string(),
        ok: false,
        version: None,
        clock_ms: None,
        problem: None,
    };
    match network.probe(&node_id, PROBE_LIMIT) {
        Ok(answer) => {
            // By the middle of the way there and back.
            let ours = clock.now_ms().saturating_sub(answer.round_trip_ms / 2);
            let ahead = i64::try_from(answer.now_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(ours);
            peer.problem = if answer.chain != *chain.identity() {
                Some(ProbeError::OtherChain(answer.chain).to_string())
            } else {
                skew(ahead, chain)
            };
            (peer.version, peer.clock_ms) = (Some(answer.version), Some(ahead));
        }
        Err(error) => peer.problem = Some(error.to_string()),
    }
    peer.ok = peer.problem.is_none();
    Some(peer)
}

/// Clocks that are more than a view apart make views late, or early.
fn skew(ahead: i64, chain: &ChainConfig) -> Option<String> {
    let apart = ahead.unsigned_abs();
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    (apart > chain.view_ms())
        .then(|| format!("its clock is {apart} ms {direction} ours, more than a view: set the clocks"))
}
