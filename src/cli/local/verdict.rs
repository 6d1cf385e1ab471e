//! From what the members told to what is reported: did the run do what it is for?
//!
//! A member that was stopped after a run has told nothing of it in this life. Then the run's board speaks for it, and its
//! store says whether it came out with the key that the chain agreed on.

use std::time::Instant;

use dkg_engine::bls::{RANDOM_BEACON_TAG, combine};
use dkg_engine::committee::Index;
use dkg_engine::engine::{EngineEvent, RunReport};
use dkg_engine::epoch::{EpochCommit, EpochCounter, EpochSetup};
use dkg_engine::hex;
use dkg_engine::store::{KeyStatus, SafeKey};

use super::fault::behaviour;
use super::member::Member;
use super::report::{self, Disqualified, Outcome, Run, SignatureShare};
use super::witness::{Board, Observed};

/// What has been told of one run.
pub(super) struct Evidence {
    /// In order of index.
    members: Vec<MemberEvidence>,
    pub(super) begun: Option<Instant>,
    pub(super) setup: Option<EpochSetup>,
    pub(super) board: Option<Board>,
    /// What has been read there.
    observed: Option<Observed>,
    pub(super) commit: Option<EpochCommit>,
    /// How many have submitted what was committed.
    pub(super) matching: usize,
    /// As the witness saw the board at the end of the last phase it has ended.
    dealt: Vec<Index>,
    complaints: Vec<(Index, Index)>,
}

#[derive(Clone, Default)]
struct MemberEvidence {
    report: Option<Box<RunReport>>,
    settled: bool,
    sat_out: Option<String>,
}

/// What stays the same from run to run.
pub(super) struct Judge<'a> {
    pub(super) chain_id: &'a str,
    pub(super) n: usize,
    pub(super) t: usize,
    pub(super) message: &'a str,
    pub(super) members: &'a [Member],
}

impl Evidence {
    pub(super) fn new(size: usize) -> Self {
        Evidence {
            members: vec![MemberEvidence::default(); size],
            begun: None,
            setup: None,
            board: None,
            observed: None,
            commit: None,
            matching: 0,
            dealt: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Takes down what a member has told.
    pub(super) fn add(&mut self, member: Index, event: EngineEvent, is_witness: bool) {
        let Some(evidence) = self.members.get_mut(usize::from(member)) else { return };
        match event {
            EngineEvent::PhaseEnded { dealt, complaints, .. } if is_witness => {
                (self.dealt, self.complaints) = (dealt, complaints);
            }
            EngineEvent::RunEnded(report) => evidence.report = Some(report),
            EngineEvent::KeyCommitted { .. } | EngineEvent::KeyFailed { .. } => evidence.settled = true,
            EngineEvent::SatOut { reason, .. } => evidence.sat_out = Some(reason),
            _ => {}
        }
    }

    /// Takes down that a member's store has the end of its key's story.
    pub(super) fn settle(&mut self, member: Index) {
        if let Some(evidence) = self.members.get_mut(usize::from(member)) {
            evidence.settled = true;
        }
    }

    /// Judges the board, which takes as long as one member's own work, and lets go of it.
    pub(super) fn read_board(&mut self) {
        if let (Some(board), Some(setup)) = (self.board.take(), &self.setup) {
            match board.observe(setup) {
                Ok(observed) => self.observed = Some(observed),
                Err(error) => log::error!("the board of {} cannot be judged: {error}", setup.instance),
            }
        }
    }

    /// Whether all that counts stands on the board.
    pub(super) fn is_over(&self) -> bool {
        self.board.is_some() || self.observed.is_some()
    }

    fn has_told(&self, member: Index) -> bool {
        self.members.get(usize::from(member)).is_some_and(|told| told.report.is_some())
    }

    /// Whether the chain has agreed on keys, every member has compared its own, and all that can speak have submitted
    /// theirs.
    pub(super) fn is_complete(&self, speaking: usize) -> bool {
        self.commit.is_some() && self.matching >= speaking && self.members.iter().all(|member| member.settled)
    }
}

impl Judge<'_> {
    /// The report of one run; `broken` is what kept it from being carried to its end.
    pub(super) fn judge(&self, epoch: EpochCounter, mut evidence: Evidence, broken: Option<&str>) -> Run {
        let elapsed = evidence.begun.map(|begun| u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        if !self.honest().all(|member| evidence.has_told(member.index)) {
            evidence.read_board();
        }
        let evidence = &evidence;
        let observed = evidence.observed.as_ref();
        let verdicts = self.agreed(evidence, observed.map(|observed| &observed.report));
        let commit = evidence.commit.as_ref();
        let signature = commit.and_then(|commit| self.sign(epoch, commit));
        let failure = match (broken, &verdicts) {
            (Some(reason), _) => Some(reason.to_owned()),
            (None, Err(reason)) => Some(reason.clone()),
            (None, Ok(report)) => self.shortcoming(epoch, report, commit, signature.as_ref()),
        };
        let (dealt, complaints) = match observed {
            Some(observed) => (&observed.dealt, &observed.complaints),
            None => (&evidence.dealt, &evidence.complaints),
        };
        let (qualified, disqualified, exposures) = match verdicts {
            Ok(report) => (report.qualified.clone(), report.disqualified.as_slice(), report.exposures.clone()),
            Err(_) => (Vec::new(), [].as_slice(), Vec::new()),
        };
        Run {
            chain_id: self.chain_id.to_owned(),
            epoch: epoch.0,
            n: self.n,
            t: self.t,
            outcome: if failure.is_none() { Outcome::Completed } else { Outcome::Failed },
            failure,
            group_public_key: commit.map(|commit| hex::encode(&commit.group_key.to_standard_bytes())),
            group_public_key_flow: commit.map(|commit| hex::encode(&commit.group_key.to_flow_bytes())),
            public_key_shares_flow: commit
                .map(|commit| commit.key_shares.iter().map(|key| hex::encode(&key.to_flow_bytes())).collect())
                .unwrap_or_default(),
            qualified: qualified.into_iter().map(Index::byte).collect(),
            disqualified: disqualified
                .iter()
                .map(|(dealer, reason)| Disqualified { dealer: dealer.byte(), reason: reason.to_string() })
                .collect(),
            exposures,
            matching_submissions: evidence.matching,
            members: self.members.iter().map(|member| describe(member, epoch, dealt, complaints)).collect(),
            signature,
            elapsed_ms: elapsed,
        }
    }

    /// The one report of all honest members that have told, and of the board.
    fn agreed<'e>(&self, evidence: &'e Evidence, observed: Option<&'e RunReport>) -> Result<&'e RunReport, String> {
        let mut first = observed.map(|report| ("the board".to_owned(), report));
        for member in self.honest() {
            let told = evidence.members.get(usize::from(member.index));
            let sat_out = told.and_then(|told| told.sat_out.as_deref());
            let Some(report) = told.and_then(|told| told.report.as_deref()) else {
                if observed.is_some() && sat_out.is_none() {
                    // In an earlier life. Its store shows what it came out with.
                    continue;
                }
                let why = sat_out.unwrap_or("it has not come to its end");
                return Err(format!("honest member {} has no outcome: {why}", member.index));
            };
            let Some((other, before)) = &first else {
                first = Some((format!("honest member {}", member.index), report));
                continue;
            };
            let what = if (&before.qualified, &before.disqualified) != (&report.qualified, &report.disqualified) {
                "who is disqualified"
            } else if before.keys != report.keys {
                "the keys"
            } else {
                continue;
            };
            return Err(format!("{other} and honest member {} do not agree on {what}", member.index));
        }
        first.map(|(_, report)| report).ok_or_else(|| "there is no honest member".to_owned())
    }

    /// What is missing to a completed run, if anything is.
    fn shortcoming(
        &self,
        epoch: EpochCounter,
        report: &RunReport,
        commit: Option<&EpochCommit>,
        signature: Option<&report::Signature>,
    ) -> Option<String> {
        let keys = match &report.keys {
            Ok(keys) => keys,
            Err(reason) => return Some(reason.clone()),
        };
        let Some(commit) = commit else {
            return Some("the epoch ended before enough members had submitted the same result".to_owned());
        };
        if (keys.group_key, &keys.key_shares) != (commit.group_key, &commit.key_shares) {
            return Some("the chain agreed on other keys than the honest members came out with".to_owned());
        }
        for member in self.honest() {
            match member.state.record(epoch) {
                Ok(record) if record.status() == KeyStatus::KeyCommitted => {}
                Ok(record) => {
                    let why = record.failure().map(|why| format!(": {why}")).unwrap_or_default();
                    return Some(format!("honest member {} ended {}{why}", member.index, record.status()));
                }
                Err(error) => return Some(format!("member {}: {error}", member.index)),
            }
        }
        match signature {
            None => Some(format!("fewer than {} members hold a committed key, too few to sign", self.t + 1)),
            Some(signature) if !signature.valid => {
                Some("the signature made with the new shares does not verify under the group key".to_owned())
            }
            Some(_) => None,
        }
    }

    /// Signs the message with t+1 committed shares, those of honest members first.
    fn sign(&self, epoch: EpochCounter, commit: &EpochCommit) -> Option<report::Signature> {
        let message = self.message.as_bytes();
        let faulty = self.members.iter().filter(|member| member.fault.is_some());
        let mut shares: Vec<_> = self
            .honest()
            .chain(faulty)
            .filter_map(|member| match member.state.safe_key(epoch) {
                Ok(SafeKey::Key(key)) => Some((key.index(), key.secret_key().sign(message, &RANDOM_BEACON_TAG))),
                _ => None,
            })
            .take(self.t + 1)
            .collect();
        shares.sort_by_key(|(index, _)| *index);
        let signature = combine(self.n, self.t, &shares).ok()?;
        Some(report::Signature {
            message: self.message.to_owned(),
            tag: RANDOM_BEACON_TAG.as_str().to_owned(),
            signers: shares.iter().map(|(index, _)| index.byte()).collect(),
            shares: shares
                .iter()
                .map(|(index, share)| SignatureShare { index: index.byte(), value: hex::encode(&share.to_bytes()) })
                .collect(),
            value: hex::encode(&signature.to_bytes()),
            valid: commit.group_key.verify(message, &RANDOM_BEACON_TAG, &signature),
        })
    }

    fn honest(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.fault.is_none())
    }
}

fn describe(member: &Member, epoch: EpochCounter, dealt: &[Index], complaints: &[(Index, Index)]) -> report::Member {
    let state = member.state.record(epoch).map_or("failed", |record| record.status().name());
    report::Member {
        index: member.index.byte(),
        node_id: member.node_id.to_string(),
        behaviour: behaviour(member.fault),
        state,
        dealt: dealt.contains(&member.index),
        complaints: complaints.iter().filter(|(_, accused)| *accused == member.index).count(),
    }
}
