//! Who did what when, for people.

use std::fmt;

use super::plan::VIEW_MS;
use crate::envelope::BroadcastMessage;
use crate::protocol::Broadcast;

/// The most moments that are kept of a run.
const MAX_MOMENTS: usize = 100_000;

/// What happened in a run, in order. Empty unless it was asked for.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    wanted: bool,
    moments: Vec<Moment>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When, in simulated ms.
    pub at_ms: u64,
    /// Who: a member's place in the committee (with an asterisk if it is malicious), or the chain.
    pub who: String,
    /// What.
    pub what: String,
}

impl Timeline {
    pub(super) fn new(wanted: bool) -> Self {
        Timeline { wanted, moments: Vec::new() }
    }

    pub(super) fn note(&mut self, at_ms: u64, who: &str, what: impl FnOnce() -> String) {
        if self.wanted && self.moments.len() < MAX_MOMENTS {
            self.moments.push(Moment { at_ms, who: who.to_owned(), what: what() });
        }
    }

    /// What happened.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Moment { at_ms, who, what } in &self.moments {
            writeln!(f, "{:>6}.{:02}  {who:>9}  {what}", at_ms / VIEW_MS, at_ms % VIEW_MS)?;
        }
        Ok(())
    }
}

/// A post in words.
pub(super) fn deed(content: &str) -> String {
    let Ok(message) = BroadcastMessage::from_json(content) else {
        return format!("posts {} bytes that are no envelope", content.len());
    };
    let run = &message.dkg_instance_id;
    match Broadcast::parse(&message.data) {
        Broadcast::Vector(body) => format!("posts a vector of {} bytes ({run:.40})", body.len()),
        Broadcast::Complaint([accused]) => format!("complains about dealer {accused} ({run:.40})"),
        Broadcast::Complaint(body) => format!("posts a complaint of {} bytes ({run:.40})", body.len()),
        Broadcast::Answer(body) => match body.first() {
            Some(to) => format!("answers member {to} ({run:.40})"),
            None => format!("posts an empty answer ({run:.40})"),
        },
        Broadcast::Empty => format!("broadcasts nothing ({run:.40})"),
        Broadcast::UnknownTag(tag) => format!("broadcasts a message with the tag {tag} ({run:.40})"),
    }
}
