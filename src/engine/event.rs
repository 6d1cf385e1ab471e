//! What a node tells its host about its runs.

use std::fmt;

use crate::bls::{Index, PublicKey};
use crate::committee::NodeId;
use crate::epoch::{EpochCounter, View};
use crate::protocol::{Disqualification, Exposure, Phase, Remark};

use super::broker::PostFault;

/// How a run ended on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// The epoch the run made keys for.
    pub epoch: EpochCounter,
    /// The dealers in the key.
    pub qualified: Vec<Index>,
    /// The dealers that are not, and why.
    pub disqualified: Vec<(Index, Disqualification)>,
    /// How much of each qualified dealer's secret has got out, in order of index.
    pub exposures: Vec<Exposure>,
    /// The public result, or why there is none.
    pub keys: Result<PublicKeys, String>,
    /// Whether we came out with a private share that matches, and if not, why.
    pub share: Result<(), String>,
}

/// The public part of a run's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// The group public key.
    pub group_key: PublicKey,
    /// One public key share per member, in order of index.
    pub key_shares: Vec<PublicKey>,
    /// Members whose key share is the identity: they cannot sign.
    pub identity_shares: Vec<Index>,
}

/// Something a host may want to show, count or act on. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// We take part in a run.
    RunStarted {
        /// The epoch it makes keys for.
        epoch: EpochCounter,
        /// Our index.
        index: Index,
        /// Members.
        size: usize,
        /// The threshold `t`.
        threshold: usize,
    },
    /// We go on with a run that this node was stopped in. What has happened in it so far is told once more.
    RunResumed {
        /// The epoch it makes keys for.
        epoch: EpochCounter,
        /// Our index.
        index: Index,
        /// How many of its phases are over by now.
        phases_over: usize,
        /// The dealers whose shares we have kept.
        shares_from: Vec<Index>,
    },
    /// Another dealing in our name stands on the board than the one we hold. We deal nothing in this run, and take part as a
    /// receiver only.
    DealtElsewhere {
        /// The epoch the run makes keys for.
        epoch: EpochCounter,
    },
    /// We do not take part in a run.
    SatOut {
        /// The epoch it makes keys for.
        epoch: EpochCounter,
        /// Why, and what to do about it.
        reason: String,
    },
    /// The host has said something that contradicts what it had said before; that stands, and this was not taken.
    Contradicted {
        /// The epoch whose keys it is about.
        epoch: EpochCounter,
        /// What contradicts what.
        what: String,
    },
    /// A phase has ended; everything the board held for it has been taken in.
    PhaseEnded {
        /// The epoch the run makes keys for.
        epoch: EpochCounter,
        /// The phase that has ended.
        phase: Phase,
        /// The view of the block that ended it.
        view: View,
        /// Dealers whose vector stands on the board.
        dealt: Vec<Index>,
        /// Complaints on the board: (complainer, accused). Those about a dealer that is out may be missing.
        complaints: Vec<(Index, Index)>,
    },
    /// A dealer is out.
    Disqualified {
        /// The epoch the run makes keys for.
        epoch: EpochCounter,
        /// The dealer.
        dealer: Index,
        /// Why.
        reason: Disqualification,
    },
    /// The secret of a dealer that is not out is about to become public, or may be known to members that keep silent: honest
    /// members complain about it, since its shares did not reach them in phase 1. Told again only when it has become worse.
    Exposed {
        /// The epoch the run makes keys for.
        epoch: EpochCounter,
        /// Who, and how close it is.
        exposure: Exposure,
    },
    /// A remark about a member; it excludes nobody.
    Flagged {
        /// The epoch the run makes keys for.
        epoch: EpochCounter,
        /// The member.
        member: Index,
        /// What.
        remark: Remark,
    },
    /// A post that was passed over.
    PostDropped {
        /// The epoch the run makes keys for.
        epoch: EpochCounter,
        /// Who posted it.
        poster: NodeId,
        /// Why.
        fault: PostFault,
    },
    /// The run has ended on this node; its result is being submitted.
    RunEnded(Box<RunReport>),
    /// Our key is confirmed by the chain and safe to sign with.
    KeyCommitted {
        /// The epoch it serves.
        epoch: EpochCounter,
        /// Our index.
        index: Index,
        /// An earlier run's key, confirmed anew when the chain left fallback mode.
        recovered: bool,
    },
    /// There is no key for this epoch on this node.
    KeyFailed {
        /// The epoch.
        epoch: EpochCounter,
        /// Why.
        reason: String,
    },
}

impl EngineEvent {
    /// How urgent it is, for a log.
    pub(super) fn level(&self) -> log::Level {
        match self {
            EngineEvent::Exposed { exposure, .. } if exposure.left == 0 => log::Level::Error,
            EngineEvent::Contradicted { .. } => log::Level::Error,
            EngineEvent::Exposed { .. } | EngineEvent::SatOut { .. } => log::Level::Warn,
            _ => log::Level::Info,
        }
    }

    /// The epoch whose keys the event is about.
    pub fn epoch(&self) -> EpochCounter {
        match self {
            EngineEvent::RunStarted { epoch, .. }
            | EngineEvent::RunResumed { epoch, .. }
            | EngineEvent::DealtElsewhere { epoch }
            | EngineEvent::SatOut { epoch, .. }
            | EngineEvent::Contradicted { epoch, .. }
            | EngineEvent::PhaseEnded { epoch, .. }
            | EngineEvent::Disqualified { epoch, .. }
            | EngineEvent::Exposed { epoch, .. }
            | EngineEvent::Flagged { epoch, .. }
            | EngineEvent::PostDropped { epoch, .. }
            | EngineEvent::KeyCommitted { epoch, .. }
            | EngineEvent::KeyFailed { epoch, .. } => *epoch,
            EngineEvent::RunEnded(report) => report.epoch,
        }
    }
}

/// Takes what a node has to tell. Called on the reactor's thread: return quickly.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn notify(&self, event: &EngineEvent);
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn notify(&self, _: &EngineEvent) {}
}

impl fmt::Display for EngineEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineEvent::RunStarted { epoch, index, size, threshold } => {
                write!(f, "epoch {epoch}: run started; we are member {index} of {size}, threshold {threshold}")
            }
            EngineEvent::RunResumed { epoch, index, phases_over, shares_from } => write!(
                f,
                "epoch {epoch}: run resumed; we are member {index}, {phases_over} of 3 phases are over, {} shares are kept",
                shares_from.len()
            ),
            EngineEvent::DealtElsewhere { epoch } => write!(
                f,
                "epoch {epoch}: another dealing in this node's name is on the board; it deals nothing in this run and only \
                 receives. Its store was lost or restored from an older copy, or a second node runs under its name"
            ),
            EngineEvent::SatOut { epoch, reason } => write!(f, "epoch {epoch}: not taking part: {reason}"),
            EngineEvent::Contradicted { epoch, what } => write!(
                f,
                "epoch {epoch}: the chain's events contradict each other, and the later one was not taken: {what}"
            ),
            EngineEvent::PhaseEnded { epoch, phase, view, dealt, complaints } => write!(
                f,
                "epoch {epoch}: {phase:?} ended at view {view}; {} dealt, {} complaints",
                dealt.len(),
                complaints.len()
            ),
            EngineEvent::Disqualified { epoch, dealer, reason } => {
                write!(f, "epoch {epoch}: dealer {dealer} is disqualified: {reason}")
            }
            EngineEvent::Exposed { epoch, exposure } => write!(
                f,
                "epoch {epoch}: {exposure}. Find out why private messages come late: the links between these members, or phases \
                 that are too short"
            ),
            EngineEvent::Flagged { epoch, member, remark } => write!(f, "epoch {epoch}: member {member}: {remark}"),
            EngineEvent::PostDropped { epoch, poster, fault } => {
                write!(f, "epoch {epoch}: passed over a post of {poster}: {fault}")
            }
            EngineEvent::RunEnded(report) => match (&report.keys, &report.share) {
                (Err(reason), _) => write!(f, "epoch {}: run failed: {reason}", report.epoch),
                (Ok(_), Err(reason)) => {
                    write!(f, "epoch {}: run ended without a share of ours: {reason}", report.epoch)
                }
                (Ok(keys), Ok(())) => {
                    write!(f, "epoch {}: run ended; share stored, result submitted", report.epoch)?;
                    match keys.identity_shares.as_slice() {
                        [] => Ok(()),
                        members => write!(f, "; members {members:?} have the identity as key share and cannot sign"),
                    }
                }
            },
            EngineEvent::KeyCommitted { epoch, index, recovered } => {
                let how = if *recovered { ", recovered from an earlier run" } else { "" };
                write!(f, "epoch {epoch}: our key (index {index}) is committed{how}")
            }
            EngineEvent::KeyFailed { epoch, reason } => write!(f, "epoch {epoch}: no key on this node: {reason}"),
        }
    }
}
