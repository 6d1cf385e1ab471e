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
use super::kind::{committee_of, identity_of};
use super::links::{OffsetClock, addresses, tcp_config};
use super::probe::{PeerCheck, probe};
use super::{Answer, NodeConfig, NodeError, Request, Subject, admin_socket, ask, copies, folder, host};
use crate::chain::log::{
    AppendError, ChainConfig, ChainNode, Clock, FileLog, FileLogError, FollowError, HttpLog, LogChain, LogError,
    LogHost, LogPlace, Payload,
};
use crate::committee::Index;
use crate::epoch::View;
use crate::hex;
use crate::network::Network;
use crate::network::tcp::TcpNetwork;
use crate::store::Unlock;

/// How long the check waits before it asks again who was missing.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long a check that has found everybody can still be found by others, who may be in the middle of asking.
const LINGER: Duration = Duration::from_secs(6);
/// What is written to see whether the disk takes it.
const DISK_TEST_BYTES: usize = 1 << 20;
/// Where, in the folder of the data.
pub(super) const DISK_TEST: &str = ".dkg-check";

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
    let committee = committee_of(config)?;
    let chain = committee.chain();
    let identity = identity_of(config, unlock)?;
    let me = chain.committee().index_of(&identity.node_id).ok_or_else(|| NodeError::NotAMember {
        identity: config.identity.clone(),
        node: identity.node_id,
        committee: config.committee.clone(),
    })?;
    let addresses = addresses(config, chain)?;
    config.keep.epochs(chain)?;
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
            let ours = hex::encode(chain.identity());
            items.push(item("node", running(&socket, &config.committee, &ours, deadline)));
            items.push(item("copy", copy(config, chain, Some(&socket))));
            break peers;
        }
        match TcpNetwork::bind(tcp_config(config, chain, &addresses, me, &identity)) {
            Ok(network) => {
                items.push(item("port", Ok(format!("listening at {}", network.local_addr()))));
                items.push(log(config, chain, &identity, &clock));
                items.push(item("copy", copy(config, chain, None)));
                let peers = until(deadline, || probe(&network, chain, &addresses, me, &clock));
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
                items.push(item("copy", copy(config, chain, None)));
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
fn running(socket: &Path, file: &Path, ours: &str, deadline: Instant) -> Result<String, String> {
    loop {
        let found = match ask(socket, &Request::Status) {
            Ok(Answer::Status(status)) if status.chain.committee != ours => {
                let (theirs, file) = (status.chain.committee, file.display());
                return Err(format!(
                    "the node that runs follows another committee file, {theirs}, and {file} has the hash {ours}: if the file is \
                     right, restart the node; if not, bring back the one that the other members have"
                ));
            }
            Ok(Answer::Status(status)) => {
                let read = format!("it runs, and has read {} entries of the log", status.chain.entries);
                match status.verdict.findings.iter().find(|finding| stands_in_the_way(finding.about)) {
                    Some(finding) => Err(finding.to_string()),
                    None => Ok(read),
                }
            }
            other => Err(format!("it does not answer as it should: {other:?}")),
        };
        if found.is_ok() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(ASK_AGAIN.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Whether a ceremony cannot begin with it. The other members are asked one by one, and a run makes new keys.
fn stands_in_the_way(about: Subject) -> bool {
    match about {
        Subject::Node | Subject::Views | Subject::Clock | Subject::Log | Subject::Committee | Subject::Disk => true,
        Subject::Members | Subject::Keys | Subject::Exposure => false,
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
    let state = match folder::described(data) {
        Ok(state) => state,
        Err(problem) => return item("disk", Err(problem)),
    };
    let folder = if data.is_dir() { data } else { parent };
    let test = folder.join(DISK_TEST);
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

/// How the node's own copy of the log compares with what its host hands out; the node that runs at `socket` is asked for it.
fn copy(config: &NodeConfig, chain: &Arc<ChainConfig>, socket: Option<&Path>) -> Result<String, String> {
    let until = Instant::now() + copies::COMPARE_LIMIT;
    let host = host::connect(chain, &config.log, config.secrets).map_err(|error| error.to_string())?;
    let compared = match socket {
        Some(socket) => copies::compare(|from| copies::of_running(socket, from), &*host, chain, until),
        None => {
            let path = folder::log_file(&config.data);
            let file = match FileLog::open(&path, chain.identity()) {
                // Whether there should be one is what the look at the folder says.
                Err(FileLogError::Missing(_)) => return Ok("there is none yet".to_owned()),
                file => file.map_err(|error| format!("{error} (`dkg log adopt` takes another member's)"))?,
            };
            copies::compare(copies::of_file(&file, &host, chain, until)?, &*host, chain, until)
        }
    };
    host.shutdown();
    compared.map_err(|difference| difference.to_string())
}

fn try_log(
    config: &NodeConfig,
    chain: &Arc<ChainConfig>,
    identity: &Identity,
    clock: &dyn Clock,
) -> Result<String, String> {
    let text = |error: LogError| error.to_string();
    let host: Arc<dyn LogHost> =
        host::connect(chain, &config.log, config.secrets).map_err(|error| error.to_string())?;
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
        let config = host::http(chain, &config.log, config.secrets).map_err(|error| error.to_string())?;
        let status = HttpLog::new(config).status().map_err(text)?;
        if let Some(failure) = status.failure {
            return Err(failure);
        }
        let ahead = i64::try_from(status.now_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(clock.now_ms());
        found =
            format!("{found}; {} runs version {}, its clock differs by {ahead} ms", status.endpoint, status.version);
    }
    Ok(found)
}
