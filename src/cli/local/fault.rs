//! What faulty members do, decided without threads: an honest engine's words go in, what really leaves comes out.
//!
//! A faulty member is a real member with a [`Player`] between its engine and the world. Whatever it says is signed with its
//! own keys: this is what an insider can do, not what an outsider can try.

use std::str::FromStr;
use std::sync::Arc;

use dkg_engine::SecretBytes;
use dkg_engine::bls::{Scalar, SecretKey};
use dkg_engine::committee::{Committee, Index};
use dkg_engine::envelope::{BroadcastMessage, PrivateMessage};
use dkg_engine::epoch::{EpochCounter, EpochSetup, InstanceId, View};
use dkg_engine::protocol::{Broadcast, encode_answer, encode_complaint, encode_vector};

/// The ways to be faulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// Says nothing in the run: no posts, no private messages, no result. Its clock goes on ticking for the chain.
    Silent,
    /// Deals shares without a commitment vector.
    NoVector,
    /// Posts a vector with a point that does not decode.
    BadVector,
    /// Posts its vector when phase 1 is over.
    LateVector,
    /// Keeps the shares of up to t members back, then answers their complaints.
    WithholdShare,
    /// Sends up to t members a wrong share, then answers their complaints.
    BadShare,
    /// Keeps a share back and leaves the complaint unanswered.
    Unanswered,
    /// Keeps a share back and answers the complaint with a wrong one.
    BadAnswer,
    /// Complains about up to t members whose shares were good.
    FalseComplaint,
    /// Keeps a share back and answers the complaint before it is made: the attack that splits the reference.
    EarlyAnswer,
    /// Surrounds its vector with posts that are no broadcasts of the run.
    GarbagePost,
    /// Floods the board, the log and every member with thousands of messages.
    Flood,
}

impl FaultKind {
    /// All of them.
    const ALL: [FaultKind; 12] = [
        FaultKind::Silent,
        FaultKind::NoVector,
        FaultKind::BadVector,
        FaultKind::LateVector,
        FaultKind::WithholdShare,
        FaultKind::BadShare,
        FaultKind::Unanswered,
        FaultKind::BadAnswer,
        FaultKind::FalseComplaint,
        FaultKind::EarlyAnswer,
        FaultKind::GarbagePost,
        FaultKind::Flood,
    ];

    /// All names, for help and errors.
    pub(super) fn names() -> String {
        FaultKind::ALL.map(FaultKind::name).join(", ")
    }

    /// The name, as on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            FaultKind::Silent => "silent",
            FaultKind::NoVector => "no-vector",
            FaultKind::BadVector => "bad-vector",
            FaultKind::LateVector => "late-vector",
            FaultKind::WithholdShare => "withhold-share",
            FaultKind::BadShare => "bad-share",
            FaultKind::Unanswered => "unanswered",
            FaultKind::BadAnswer => "bad-answer",
            FaultKind::FalseComplaint => "false-complaint",
            FaultKind::EarlyAnswer => "early-answer",
            FaultKind::GarbagePost => "garbage-post",
            FaultKind::Flood => "flood",
        }
    }

    /// How many of the honest members it wrongs, of at most `t`. Never more than `t` complaints: a dealer with more is out
    /// before it has shown what it does next.
    fn victims(self, t: usize) -> usize {
        match self {
            FaultKind::WithholdShare | FaultKind::BadShare | FaultKind::FalseComplaint => t,
            FaultKind::Unanswered | FaultKind::BadAnswer | FaultKind::EarlyAnswer => 1,
            _ => 0,
        }
    }
}

/// What a member does, by name.
pub(super) fn behaviour(fault: Option<FaultKind>) -> &'static str {
    fault.map_or("honest", FaultKind::name)
}

/// `KIND=COUNT`: so many members play this fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultCount {
    pub(super) kind: FaultKind,
    pub(super) count: usize,
}

impl FromStr for FaultCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, count) = text.split_once('=').ok_or("it has the form KIND=COUNT")?;
        let known = FaultKind::ALL.into_iter().find(|known| known.name() == kind);
        Ok(FaultCount {
            kind: known.ok_or_else(|| format!("the kinds are {}", FaultKind::names()))?,
            count: count.parse().map_err(|_| format!("'{count}' is not a number of members"))?,
        })
    }
}

/// What becomes of a private message.
#[derive(Default)]
pub(super) struct Outgoing {
    /// What the receiver gets, if anything.
    pub(super) message: Option<PrivateMessage>,
    /// What the board gets on this occasion.
    pub(super) posts: Vec<String>,
}

/// Decides what really leaves one faulty member.
pub(super) struct Player {
    kind: FaultKind,
    staking_key: SecretKey,
    /// The members it wrongs.
    victims: Vec<Index>,
    run: Option<Script>,
}

/// How far the play has come in one run.
struct Script {
    instance: InstanceId,
    committee: Arc<Committee>,
    /// A run by another name, of the same length.
    foreign: InstanceId,
    phase_1_ends: View,
    /// The vector is on the board.
    vector_out: bool,
    /// The vector, kept back.
    held_vector: Option<String>,
    /// The answer, kept until the vector is out.
    early_answer: Option<String>,
    /// How many members have got their share.
    delivered: usize,
    flooded: bool,
}

impl Player {
    /// A member that plays `kind`, with these honest members around it.
    pub(super) fn new(kind: FaultKind, staking_key: SecretKey, honest: &[Index], t: usize) -> Self {
        Player { kind, staking_key, victims: honest.iter().take(kind.victims(t)).copied().collect(), run: None }
    }

    /// A run begins.
    pub(super) fn begin(&mut self, setup: &EpochSetup) {
        self.run = Some(Script {
            instance: setup.instance.clone(),
            committee: Arc::clone(&setup.committee),
            foreign: InstanceId::new("elsewhere", EpochCounter(setup.epoch.0)),
            phase_1_ends: setup.phase_final_views[0],
            vector_out: false,
            held_vector: None,
            early_answer: None,
            delivered: 0,
            flooded: false,
        });
    }

    /// The engine wants to post `content`: what is posted in its place.
    pub(super) fn post(&mut self, content: &str) -> Vec<String> {
        if self.kind == FaultKind::Silent {
            return Vec::new();
        }
        let untouched = || vec![content.to_owned()];
        let Ok(message) = BroadcastMessage::from_json(content) else { return untouched() };
        let Some(run) = self.run.as_mut().filter(|run| run.instance.as_str() == message.dkg_instance_id) else {
            return untouched();
        };
        let sign = |data: Vec<u8>| BroadcastMessage::sign(data, &run.instance, &self.staking_key).to_json();
        match (self.kind, Broadcast::parse(&message.data)) {
            (FaultKind::NoVector, Broadcast::Vector(_)) => Vec::new(),
            (FaultKind::BadVector, Broadcast::Vector(points)) => vec![sign(encode_vector(&undecodable(points)))],
            (FaultKind::LateVector, Broadcast::Vector(_)) => {
                run.held_vector = Some(content.to_owned());
                Vec::new()
            }
            (FaultKind::FalseComplaint, Broadcast::Vector(_)) => {
                let complaints = self.victims.iter().map(|victim| sign(encode_complaint(*victim)));
                untouched().into_iter().chain(complaints).collect()
            }
            (FaultKind::EarlyAnswer, Broadcast::Vector(_)) => {
                run.vector_out = true;
                untouched().into_iter().chain(run.early_answer.take()).collect()
            }
            (FaultKind::GarbagePost, Broadcast::Vector(_)) => {
                let garbage = garbage(&message, &run.foreign, &self.staking_key);
                garbage.iter().cloned().chain(untouched()).chain(garbage.iter().cloned()).collect()
            }
            (FaultKind::Flood, Broadcast::Vector(_)) => {
                run.vector_out = true;
                untouched()
            }
            (FaultKind::Unanswered | FaultKind::EarlyAnswer, Broadcast::Answer(_)) => Vec::new(),
            (FaultKind::BadAnswer, Broadcast::Answer(_)) => vec![sign(with_last_bit_flipped(&message.data))],
            _ => untouched(),
        }
    }

    /// Whether the engine's result is submitted.
    pub(super) fn submits(&self) -> bool {
        self.kind != FaultKind::Silent
    }

    /// The engine wants to send `message`, which is a share: what is sent in its place.
    pub(super) fn send(&mut self, to: Index, message: &PrivateMessage) -> Outgoing {
        let untouched = || Outgoing { message: Some(message.clone()), posts: Vec::new() };
        if self.kind == FaultKind::Silent {
            return Outgoing::default();
        }
        let Some(run) = self.run.as_mut().filter(|run| run.instance.as_str() == message.dkg_instance_id) else {
            return untouched();
        };
        if !self.victims.contains(&to) {
            return untouched();
        }
        match self.kind {
            FaultKind::WithholdShare | FaultKind::Unanswered | FaultKind::BadAnswer => Outgoing::default(),
            FaultKind::BadShare => {
                let data = SecretBytes::new(with_last_bit_flipped(message.data.expose()));
                Outgoing { message: Some(PrivateMessage { data, ..message.clone() }), posts: Vec::new() }
            }
            FaultKind::EarlyAnswer => {
                let share = message.data.expose().get(1..).and_then(|bytes| Scalar::from_be_bytes(bytes).ok());
                let answer = share.map(|share| {
                    BroadcastMessage::sign(encode_answer(to, &share), &run.instance, &self.staking_key).to_json()
                });
                // Right behind the vector, whichever of the two is ready first.
                if run.vector_out {
                    Outgoing { message: None, posts: answer.into_iter().collect() }
                } else {
                    run.early_answer = answer;
                    Outgoing::default()
                }
            }
            _ => untouched(),
        }
    }

    /// A member has got its share.
    pub(super) fn delivered(&mut self, instance: &str) {
        if let Some(run) = self.run.as_mut().filter(|run| run.instance.as_str() == instance) {
            run.delivered += 1;
        }
    }

    /// The engine reads the board as of a block of this view: what is posted now.
    pub(super) fn reading(&mut self, as_of: View) -> Option<String> {
        let run = self.run.as_mut()?;
        if as_of >= run.phase_1_ends { run.held_vector.take() } else { None }
    }

    /// The run to flood, when it is time. The member's own vector and shares go first: what keeps those from arriving is
    /// another fault.
    pub(super) fn opens_the_gates(&mut self) -> Option<String> {
        let run = self.run.as_mut().filter(|_| self.kind == FaultKind::Flood)?;
        if run.flooded || !run.vector_out || run.delivered + 1 < run.committee.size() {
            return None;
        }
        run.flooded = true;
        Some(run.instance.to_string())
    }
}

/// The vector with a last point whose coordinates are beyond the field.
fn undecodable(points: &[u8]) -> Vec<u8> {
    let kept = points.len().saturating_sub(48);
    points.iter().take(kept).copied().chain(std::iter::repeat_n(0xff, points.len() - kept)).collect()
}

fn with_last_bit_flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}

/// Posts that are passed over by everybody, each for a reason of its own. None is a broadcast of this run: those, however
/// senseless, would be judged by the protocol.
fn garbage(vector: &BroadcastMessage, foreign: &InstanceId, key: &SecretKey) -> Vec<String> {
    let mut unsigned = vector.clone();
    unsigned.data.push(0);
    vec![
        String::new(),
        "not JSON".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"Data":"%","DKGInstanceID":"%","Signature":"%"}"#.to_owned(),
        BroadcastMessage::sign(vector.data.clone(), foreign, key).to_json(),
        unsigned.to_json(),
        "x".repeat(1 << 14),
    ]
}
