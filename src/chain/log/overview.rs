//! What there is to see of a chain, for people: one plain value, made from a replica. Everything in it is known to whoever
//! reads the log. Its JSON is a contract with scripts and with the pages that nodes and log servers show.

use serde::{Deserialize, Serialize};

use crate::chain::log::board::Board;
use crate::chain::log::{EpochViews, LogChain, Payload, SignedEntry};
use crate::committee::Index;
use crate::epoch::{EpochPhase, View};
use crate::hex;

/// How many of the log's last entries an overview shows.
pub const RECENT_ENTRIES: usize = 20;

/// What there is to see of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The chain's name.
    pub chain_id: String,
    /// The hash of the committee file, in hex.
    pub committee: String,
    /// Members.
    pub n: usize,
    /// The threshold: more than so many members finalize views and sign.
    pub t: usize,
    /// What time it is.
    pub clock: ClockOverview,
    /// The last finalized block.
    pub head: HeadOverview,
    /// The present epoch.
    pub epoch: EpochOverview,
    /// The run that makes the next epoch's keys, whether it has begun or not.
    pub run: RunOverview,
    /// In order of index.
    pub members: Vec<MemberOverview>,
    /// How many entries of the log have been read.
    pub entries: u64,
    /// How many of them named no member as their author.
    pub unattributed: u64,
    /// The latest ones, the newest last.
    pub recent: Vec<EntryOverview>,
}

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOverview {
    /// By the clock at hand, in milliseconds of Unix time.
    pub now_ms: u64,
    /// When view 0 begins, or began.
    pub genesis_ms: u64,
    /// How long a view is.
    pub view_ms: u64,
    /// The view by the clock at hand.
    pub view: u64,
    /// By how many views the chain is behind that clock; negative if it is ahead of it. A chain that keeps time is at most
    /// one or two behind.
    #[serde(default)]
    pub lag: i64,
}

/// A finalized block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadOverview {
    /// Its view.
    pub view: u64,
    /// Its position in the log.
    pub position: u64,
}

/// An epoch, in views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochOverview {
    /// Its number.
    pub counter: u64,
    /// Its first view.
    pub first: u64,
    /// The first view of its setup phase.
    pub setup_first: u64,
    /// The last views of the three phases of its run.
    pub phase_finals: [u64; 3],
    /// Its last view.
    pub last: u64,
    /// Where in it the chain stands.
    pub phase: PhaseName,
    /// Whether keys are in force in it.
    pub has_keys: bool,
}

/// Where in an epoch a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// Before the run.
    Staking,
    /// Phase 1: dealing.
    Sharing,
    /// Phase 2: complaints.
    Complaining,
    /// Phase 3: answers to complaints.
    Answering,
    /// After phase 3, while the members agree on the result.
    Settling,
    /// The next epoch's keys are agreed on.
    Committed,
}

impl PhaseName {
    /// The name as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            PhaseName::Staking => "staking",
            PhaseName::Sharing => "sharing",
            PhaseName::Complaining => "complaining",
            PhaseName::Answering => "answering",
            PhaseName::Settling => "settling",
            PhaseName::Committed => "committed",
        }
    }
}

/// The run that makes the next epoch's keys, as its board shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOverview {
    /// The epoch it makes keys for.
    pub epoch: u64,
    /// Its name.
    pub instance: String,
    /// Members that have not dealt, once it has begun.
    pub missing: Vec<Index>,
    /// (complainer, accused).
    pub complaints: Vec<(Index, Index)>,
    /// (accused, complainer).
    pub answers: Vec<(Index, Index)>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberOverview {
    /// Its index.
    pub index: Index,
    /// Its identity, in hex.
    pub node_id: String,
    /// Where it is reached.
    pub address: String,
    /// Whether its commitment vector is on the board.
    pub dealt: bool,
    /// How many complain about it.
    pub complaints: usize,
    /// How many complaints it has answered.
    pub answers: usize,
    /// `keys`, or `empty` if the run failed there; absent if it has submitted nothing.
    pub submitted: Option<String>,
    /// The last view that it has ticked. Who is slower than the others ticks seldom.
    pub last_tick: u64,
    /// Entries that it has signed and that every member skipped.
    pub faults: u64,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryOverview {
    /// Its place.
    pub position: u64,
    /// Whom it names as its author.
    pub author: Option<Index>,
    /// `tick`, `post`, `submit` or `malformed`.
    pub kind: String,
    /// More about it, in words.
    pub detail: String,
}

/// Makes overviews of one chain after another; remembers what it has read of the board.
#[derive(Debug, Default)]
pub struct Overviews {
    board: Board,
}

impl Overviews {
    /// The chain as it stands at `now_ms` (milliseconds of Unix time); `recent` are its latest entries with their positions.
    pub fn of(&mut self, chain: &LogChain, recent: &[(u64, Vec<u8>)], now_ms: u64) -> Overview {
        self.board.follow(chain);
        let board = &self.board;
        let (config, views, head) = (chain.config(), chain.epoch(), chain.header());
        let committee = config.committee();
        let begun = chain.phase() != EpochPhase::Staking;
        let missing = Index::all(committee.size()).filter(|index| begun && !board.dealt.contains(index));
        let members = committee.iter().map(|(index, member)| MemberOverview {
            index,
            node_id: member.node_id.to_string(),
            address: config.address(index).map(ToString::to_string).unwrap_or_default(),
            dealt: board.dealt.contains(&index),
            complaints: board.complaints.iter().filter(|(_, accused)| *accused == index).count(),
            answers: board.answers.iter().filter(|(accused, _)| *accused == index).count(),
            submitted: board.submitted.get(&index).map(|keys| if *keys { "keys" } else { "empty" }.to_owned()),
            last_tick: chain.last_tick(index).0,
            faults: chain.faults(index).filter(|(reason, _)| reason.is_proven()).map(|(_, count)| count).sum(),
        });
        Overview {
            chain_id: config.chain_id().to_owned(),
            committee: hex::encode(config.identity()),
            n: committee.size(),
            t: committee.threshold(),
            clock: ClockOverview {
                now_ms,
                genesis_ms: config.begins_at(View(0)),
                view_ms: config.view_ms(),
                view: config.view_at(now_ms).0,
                lag: lag(config.view_at(now_ms), head.view),
            },
            head: HeadOverview { view: head.view.0, position: head.height },
            epoch: EpochOverview {
                counter: views.epoch.0,
                first: views.first.0,
                setup_first: views.setup_first.0,
                phase_finals: views.phase_finals.map(|view| view.0),
                last: views.last.0,
                phase: phase_name(&chain.phase(), views, head.view),
                has_keys: chain.keys().is_some(),
            },
            run: RunOverview {
                epoch: views.run_for.0,
                instance: chain.run().to_string(),
                missing: missing.collect(),
                complaints: board.complaints.iter().copied().collect(),
                answers: board.answers.iter().copied().collect(),
            },
            members: members.collect(),
            entries: chain.prefix().position,
            unattributed: chain.unattributed(),
            recent: recent.iter().map(|(position, bytes)| entry(*position, bytes)).collect(),
        }
    }
}

/// How far the chain is behind a clock, in views; the furthest that can be named if it is further.
fn lag(clock: View, head: View) -> i64 {
    let apart = i64::try_from(clock.0.abs_diff(head.0)).unwrap_or(i64::MAX);
    if clock < head { -apart } else { apart }
}

fn phase_name(phase: &EpochPhase, views: &EpochViews, head: View) -> PhaseName {
    let [first, second, third] = views.phase_finals;
    match phase {
        EpochPhase::Staking => PhaseName::Staking,
        EpochPhase::Committed(_) => PhaseName::Committed,
        EpochPhase::Setup(_) if head < first => PhaseName::Sharing,
        EpochPhase::Setup(_) if head < second => PhaseName::Complaining,
        EpochPhase::Setup(_) if head < third => PhaseName::Answering,
        EpochPhase::Setup(_) => PhaseName::Settling,
    }
}

fn entry(position: u64, bytes: &[u8]) -> EntryOverview {
    let Ok(entry) = SignedEntry::decode(bytes).map(SignedEntry::into_entry) else {
        let detail = format!("{} bytes that are no entry", bytes.len());
        return EntryOverview { position, author: None, kind: "malformed".to_owned(), detail };
    };
    let (kind, detail) = match &entry.payload {
        Payload::Tick(view) => ("tick", format!("view {view}")),
        Payload::Post(content) => ("post", format!("{} bytes", content.len())),
        Payload::Submit { instance, .. } => ("submit", instance.to_string()),
    };
    EntryOverview { position, author: Some(entry.author), kind: kind.to_owned(), detail }
}
