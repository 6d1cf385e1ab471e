//! What a node shows of itself: the chain as everybody sees it, and what this node knows beside that. Plain copies, and no
//! secret. Its JSON is a contract with scripts and with the page.

use serde::{Deserialize, Serialize};

use super::diary::{RunNotes, Told};
use super::signing::PublicResult;
use super::verdict::{Verdict, is_silence};
use crate::chain::log::Overview;
use crate::committee::Index;
use crate::network::tcp::PeerStatus;
use crate::protocol::Exposure;
use crate::store::KeyHealth;

/// How far a node has come with its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It reads what it has missed of the log.
    #[default]
    Starting,
    /// It follows the chain.
    Running,
    /// It has seen that its member runs twice, and does nothing until it is started as the only one.
    Held,
    /// It has stopped, or is stopping.
    Stopped,
}

/// All that a node shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// How far the node has come.
    pub stage: Stage,
    /// How the node and its committee are, judged from all that is known.
    pub verdict: Verdict,
    /// This member's index.
    pub index: Index,
    /// This member's node id.
    pub node_id: String,
    /// The chain, as everybody sees it.
    #[serde(flatten)]
    pub chain: Overview,
    /// What this node's engine came to think of the run.
    pub run_here: RunNotes,
    /// The members as this node sees them, in order of index.
    pub seen: Vec<SeenMember>,
    /// Where this node's keys stand; absent before it runs.
    pub keys: Option<KeysStatus>,
    /// The public keys of the last epochs, of this one, and of the next if they are agreed on, in that order.
    pub results: Vec<PublicResult>,
    /// How the log is reached.
    pub log: LogStatus,
    /// Connections from others than members that were refused.
    pub strangers_refused: u64,
    /// What the engine has told, the newest last.
    pub events: Vec<Told>,
}

/// One member, as this node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeenMember {
    /// Its index.
    pub index: Index,
    /// Whether its share for this node is here; absent while no run goes on.
    pub share_received: Option<bool>,
    /// `qualified`, or why not; absent while undecided.
    pub verdict: Option<String>,
    /// How much of its secret has got out in this run, as far as that is close to being too much, or the run has ended.
    #[serde(default)]
    pub exposed: Option<Exposure>,
    /// How this node is joined to it; absent for itself.
    pub link: Option<PeerStatus>,
    /// For how many milliseconds nothing has been heard of it: no connection to it or from it, and no entry in the log; absent
    /// for this node itself, and before it follows the chain.
    #[serde(default)]
    pub silent_ms: Option<u64>,
    /// Whether that is so long that it counts as down.
    #[serde(default)]
    pub is_down: bool,
}

/// Where this node's keys stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysStatus {
    /// In the present epoch.
    pub current: KeyHealth,
    /// In the next one.
    pub next: Option<KeyHealth>,
}

/// How the log is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// `http` or `etcd`.
    pub kind: String,
    /// Where.
    pub endpoints: Vec<String>,
    /// Why it cannot be read at the moment, if so.
    #[serde(default)]
    pub reading: Option<String>,
    /// Why it cannot be written at the moment, if so.
    #[serde(default)]
    pub appending: Option<String>,
}

impl SeenMember {
    /// What is known of a member beside the board. `shares_from` is `None` while no run goes on here.
    pub(super) fn of(
        index: Index,
        me: Index,
        notes: &RunNotes,
        shares_from: Option<&[Index]>,
        link: Option<PeerStatus>,
        silent_ms: Option<u64>,
        view_ms: u64,
    ) -> Self {
        let verdict = match (notes.disqualified.get(&index), &notes.qualified) {
            (Some(reason), _) => Some(reason.clone()),
            (None, Some(qualified)) if qualified.contains(&index) => Some("qualified".to_owned()),
            (None, _) => None,
        };
        let share_received = shares_from.map(|from| index == me || from.contains(&index));
        let is_down = silent_ms.is_some_and(|silent| is_silence(silent, view_ms));
        SeenMember {
            index,
            share_received,
            verdict,
            exposed: notes.exposed.get(&index).copied(),
            link,
            silent_ms,
            is_down,
        }
    }
}
