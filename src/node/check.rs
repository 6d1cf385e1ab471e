//! The check before a ceremony: can this member do its part, and are the others there?
//!
//! Where the member's node does not run yet, the check listens in its place while it lasts, so that members who check at the
//! same time find each other. It appends at most one tick of view 0, which every member passes over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::life::{OffsetClock, tcp_config};
use super::{Answer, NodeConfig, NodeError, Request, Stage, admin_socket, ask, host};
use crate::chain::log::{
    AppendError, ChainConfig, ChainNode, Clock, CommitteeFile, FollowError, HttpLog, HttpLogConfig, LogChain, LogError,
    LogHost, LogPlace, Payload,
};
use crate::committee::Index;
use crate::epoch::View;
use crate::hex;
use crate::network::Network;
use crate::network::tcp::{ProbeError, TcpNetwork};
use crate::store::Unlock;

/// How long a peer has for its answer.
const PROBE_LIMIT: Duration = Duration::from_secs(3);
/// Peers that are asked at the same time.
const PROBES_AT_ONCE: usize = 32;
/// How long the check waits before it asks again who was missing.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long a check that has found everybody can still be found by others, who may be in the middle of asking.
const LINGER: Duration = Duration::from_secs(6);
/// What is written to see whether the disk takes it.
const DISK_TEST_BYTES: usize = 1 << 20;

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckItem {
    /// What.
    pub what: String,
    /// Whether it is in order.
    pub ok: bool,
    /// What was found, or what to do.
    pub detail: String,
}

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

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Whether everything is in order.
    pub ok: bool,
    /// The hash of the committee file, to be compared.
    pub committee: String,
    /// This member's index.
    pub index: Index,
    /// What was looked at here.
    pub items: Vec<CheckItem>,
    /// The other members.
    pub peers: Vec<PeerCheck>,
    /// Those of them that are not as they should be.
    pub missing: Vec<Index>,
}

/// Checks everything; asks again who was missing until all are there or `wait` is over.
///
/// # Errors
/// Configuration, committee file or identity cannot be read: there is nothing to check then.
pub fn check(config: &NodeConfig, unlock: &Unlock, wait: Duration) -> Result<Checked, NodeError> {
    let committee = CommitteeFile::read(&config.committee)?;
    let chain = committee.chain();
    let identity = Identity::open(&config.identity, unlock)?;
    let me = chain.committee().index_of(&identity.node_id).ok_or_else(|| NodeError::NotAMember {
        identity: config.identity.clone(),
        node: identity.node_id,
        committee: config.committee.clone(),
    })?;
    let clock = OffsetClock(config.clock_offset_ms);
    let deadline = Instant::now() + wait;
    let mut items = vec![disk(&config.data), genesis(chain, clock.now_ms())];
    let socket = admin_socket(&config.data);
    let peers = loop {
        if let Ok(Answer::Probed(_)) = ask(&socket, &Request::Probe) {
            let peers = until(deadline, || match ask(&socket, &Request::Probe) {
                Ok(Answer::Probed(peers)) => peers,
                _ => Vec::new(),
            });
            items.push(item("node", running(&socket, deadline)));
            break peers;
        }
        match TcpNetwork::bind(tcp_config(config, chain, me, &identity)) {
            Ok(network) => {
                items.push(item("port", Ok(format!("listening at {}", network.local_addr()))));
                items.push(log(config, chain, &identity, &clock));
                let peers = until(deadline, || probe(&network, chain, me, &clock));
                if !wait.is_zero() {
                    // Others may still be looking for us.
                    std::thread::sleep(LINGER);
                }
                network.shutdown();
                break peers;
            }
            // It may be this member's own node, which is just starting.
            Err(_) if Instant::now() < deadline => std::thread::sleep(ASK_AGAIN),
            Err(error) => {
                items.push(item("port", Err(error.to_string())));
                items.push(log(config, chain, &identity, &clock));
                break Vec::new();
            }
        }
    };
    let missing: Vec<Index> = peers.iter().filter(|peer| !peer.ok).map(|peer| peer.index).collect();
    let ok = items.iter().all(|item| item.ok) && missing.is_empty() && peers.len() + 1 == chain.committee().size();
    Ok(Checked { ok, committee: hex::encode(chain.identity()), index: me, items, peers, missing })
}

fn item(what: &str, found: Result<String, String>) -> CheckItem {
    let ok = found.is_ok();
    let (Ok(detail) | Err(detail)) = found;
    CheckItem { what: what.to_owned(), ok, detail }
}

/// What a node that runs says of itself, when it follows the chain, or when it is time to end.
fn running(socket: &Path, deadline: Instant) -> Result<String, String> {
    loop {
        let found = match ask(socket, &Request::Status) {
            Ok(Answer::Status(status)) => match (status.stage, status.trouble) {
                (Stage::Running, None) => {
                    Ok(format!("it runs, and has read {} entries of the log", status.chain.entries))
                }
                (_, Some(trouble)) => Err(trouble),
                (_, None) => Err("it runs, and does not follow the chain yet".to_owned()),
            },
            other => Err(format!("it does not answer as it should: {other:?}")),
        };
        if found.is_ok() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(ASK_AGAIN.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Asks until all answer as they should, or it is time to end. Who has answered once is there: it may have finished its own
/// check since.
fn until(deadline: Instant, mut ask: impl FnMut() -> Vec<PeerCheck>) -> Vec<PeerCheck> {
    let mut known: BTreeMap<Index, PeerCheck> = BTreeMap::new();
    loop {
        for peer in ask() {
            if !known.get(&peer.index).is_some_and(|before| before.ok) {
                known.insert(peer.index, peer);
            }
        }
        if Instant::now() >= deadline || (!known.is_empty() && known.values().all(|peer| peer.ok)) {
            return known.into_values().collect();
        }
        std::thread::sleep(ASK_AGAIN.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Asks all other members for a sign of life.
pub(super) fn probe(network: &TcpNetwork, chain: &ChainConfig, me: Index, clock: &dyn Clock) -> Vec<PeerCheck> {
    let others: Vec<Index> = Index::all(chain.committee().size()).filter(|index| *index != me).collect();
    let ask_one = |index: &Index| probe_one(network, chain, *index, clock);
    let mut checked = Vec::with_capacity(others.len());
    for some in others.chunks(PROBES_AT_ONCE) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|index| scope.spawn(move || ask_one(index))).collect();
            // A thread that panics has a peer that is not counted, which is seen.
            checked.extend(asked.into_iter().filter_map(|thread| thread.join().ok()).flatten());
        });
    }
    checked
}

fn probe_one(network: &TcpNetwork, chain: &ChainConfig, index: Index, clock: &dyn Clock) -> Option<PeerCheck> {
    let node_id = chain.committee().member(index)?.node_id;
    let mut peer = PeerCheck {
        index,
        node_id: node_id.to_string(),
        address: chain.address(index)?.to_owned(),
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

fn genesis(chain: &ChainConfig, now_ms: u64) -> CheckItem {
    let genesis = chain.begins_at(View(0));
    let found = if now_ms < genesis {
        format!("the first view begins in {} s", (genesis - now_ms).div_ceil(1000))
    } else {
        format!("by this clock it is view {}", chain.view_at(now_ms))
    };
    item("time", Ok(found))
}

/// Whether the folder of the data, or the one that it will be made in, can be written.
fn disk(data: &Path) -> CheckItem {
    let parent = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (folder, state) = if data.is_dir() { (data, "is there") } else { (parent, "will be made with --create") };
    let test = folder.join(".dkg-check");
    let started = Instant::now();
    let write = || {
        let mut file = File::create(&test)?;
        file.write_all(&vec![0; DISK_TEST_BYTES])?;
        file.sync_all()
    };
    let written = write();
    // Nothing was to be kept.
    let _ = fs::remove_file(&test);
    let took = started.elapsed().as_millis();
    let found = match written {
        Ok(()) => Ok(format!("{} {state}; a durable write took {took} ms", data.display())),
        Err(error) => Err(format!("{} cannot be written: {error}", folder.display())),
    };
    item("disk", found)
}

/// Whether the log can be read and written, and what time its host has.
fn log(config: &NodeConfig, chain: &Arc<ChainConfig>, identity: &Identity, clock: &dyn Clock) -> CheckItem {
    item("log", try_log(config, chain, identity, clock))
}

fn try_log(
    config: &NodeConfig,
    chain: &Arc<ChainConfig>,
    identity: &Identity,
    clock: &dyn Clock,
) -> Result<String, String> {
    let text = |error: LogError| error.to_string();
    let host: Arc<dyn LogHost> = host::connect(chain, &config.log).map_err(|error| error.to_string())?;
    let replica = LogChain::new(Arc::clone(chain));
    let node = ChainNode::new(replica, Arc::clone(&host), identity.network_key.clone(), clock.now_ms())
        .map_err(|error| error.to_string())?;
    node.catch_up().map_err(|error: FollowError| error.to_string())?;
    match node.author().append(Payload::Tick(View(0))) {
        Ok(_) | Err(AppendError::Log(LogError::NothingNew)) => {}
        Err(error) => return Err(format!("it can be read, but not written: {error}")),
    }
    let entries = node.replica().lock().prefix().position;
    let mut found = format!("{entries} entries, readable and writable");
    if let LogPlace::Http(_) = chain.log() {
        let endpoints = host::endpoints(chain, &config.log);
        let status = HttpLog::new(HttpLogConfig::new(endpoints, *chain.identity())).status().map_err(text)?;
        if let Some(failure) = status.failure {
            return Err(failure);
        }
        let ahead = i64::try_from(status.now_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(clock.now_ms());
        found =
            format!("{found}; {} runs version {}, its clock differs by {ahead} ms", status.endpoint, status.version);
    }
    Ok(found)
}
