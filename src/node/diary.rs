//! What this node's engine has told, kept for whoever asks. Holds no secret, since the engine's events hold none.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::committee::Index;
use crate::engine::{EngineEvent, Observer};
use crate::epoch::EpochCounter;
use crate::protocol::Exposure;

/// Runs whose verdicts are remembered.
const RUNS_REMEMBERED: usize = 4;
/// Events that are remembered word for word.
const EVENTS_REMEMBERED: usize = 100;
/// The most characters of an event.
const MAX_EVENT_CHARS: usize = 1000;

/// What the engine said, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Milliseconds of Unix time.
    pub at_ms: u64,
    /// In words.
    pub what: String,
}

/// What this node came to think of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunNotes {
    /// How this node takes part, in words; empty if it has said nothing yet.
    pub part: String,
    /// Dealers that are out, and why.
    pub disqualified: BTreeMap<Index, String>,
    /// Dealers of whose secret shares have got out or are called for, and how much: those that are close to being public, and when
    /// the run has ended here, all.
    #[serde(default)]
    pub exposed: BTreeMap<Index, Exposure>,
    /// How many remarks there were about members; a remark excludes nobody.
    pub remarks: BTreeMap<Index, u64>,
    /// The dealers in the key, when the run has ended here.
    pub qualified: Option<Vec<Index>>,
    /// Whether it has ended here with a share of ours.
    pub has_share: Option<bool>,
    /// Why there is no key of the epoch on this node.
    pub failure: Option<String>,
}

/// The observer of a node's engine.
#[derive(Default)]
pub(super) struct Diary(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    runs: BTreeMap<EpochCounter, RunNotes>,
    events: VecDeque<Told>,
}

impl Diary {
    /// What is known of the run that makes this epoch's keys.
    pub(super) fn run(&self, epoch: EpochCounter) -> RunNotes {
        self.0.lock().runs.get(&epoch).cloned().unwrap_or_default()
    }

    /// The latest events, the newest last.
    pub(super) fn events(&self) -> Vec<Told> {
        self.0.lock().events.iter().cloned().collect()
    }

    /// Writes down what did not come from the engine.
    pub(super) fn note(&self, what: &str) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let events = &mut self.0.lock().events;
        if events.len() >= EVENTS_REMEMBERED {
            events.pop_front();
        }
        events.push_back(Told { at_ms, what: what.chars().take(MAX_EVENT_CHARS).collect() });
    }
}

impl Observer for Diary {
    fn notify(&self, event: &EngineEvent) {
        // A flood of bad posts makes a flood of these; they are counted.
        if !matches!(event, EngineEvent::PostDropped { .. } | EngineEvent::Flagged { .. }) {
            self.note(&event.to_string());
        }
        let mut pages = self.0.lock();
        let notes = pages.runs.entry(event.epoch()).or_default();
        match event {
            EngineEvent::RunStarted { .. } => notes.part = "taking part".to_owned(),
            EngineEvent::RunResumed { .. } => notes.part = "taking part, resumed after a restart".to_owned(),
            EngineEvent::DealtElsewhere { .. } => {
                notes.part = "receiving only: another dealing in this node's name is on the board".to_owned();
            }
            EngineEvent::SatOut { reason, .. } => notes.part = format!("not taking part: {reason}"),
            EngineEvent::Disqualified { dealer, reason, .. } => {
                notes.disqualified.insert(*dealer, reason.to_string());
            }
            EngineEvent::Exposed { exposure, .. } => {
                notes.exposed.insert(exposure.dealer, *exposure);
            }
            EngineEvent::Flagged { member, .. } => *notes.remarks.entry(*member).or_default() += 1,
            EngineEvent::RunEnded(report) => {
                notes.qualified = Some(report.qualified.clone());
                let public = report.exposures.iter().filter(|exposure| exposure.public > 0);
                notes.exposed = public.map(|exposure| (exposure.dealer, *exposure)).collect();
                notes.has_share = Some(report.keys.is_ok() && report.share.is_ok());
            }
            EngineEvent::KeyCommitted { .. } => notes.failure = None,
            EngineEvent::KeyFailed { reason, .. } => notes.failure = Some(reason.clone()),
            EngineEvent::PostDropped { .. } | EngineEvent::PhaseEnded { .. } | EngineEvent::Contradicted { .. } => {}
        }
        while pages.runs.len() > RUNS_REMEMBERED {
            pages.runs.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_got_out_of_a_secret_is_noted_for_the_status() {
        let diary = Diary::default();
        let (epoch, dealer) = (EpochCounter(3), Index::from_position(4).expect("an index"));
        let exposure = Exposure { dealer, public: 1, silent: 2, left: 1 };
        diary.notify(&EngineEvent::Exposed { epoch, exposure });
        assert_eq!(diary.run(epoch).exposed, BTreeMap::from([(dealer, exposure)]));
        let words = diary.events().pop().map(|told| told.what).unwrap_or_default();
        assert!(words.starts_with("epoch 3: member 4's secret is one answer from being public"), "{words}");
    }
}
