//! What a search has found, and how it reads.

use std::fmt;
use std::time::Duration;

use super::{Faults, Faulty, Pages, Trace};

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Members.
    pub size: usize,
    /// Who was at fault.
    pub faults: Faults,
    /// In which phases members read the board once before the end.
    pub polls: [bool; 3],
    /// How pages were cut.
    pub pages: Pages,
    /// Boards with the sets of states members can be in: what the search has been through.
    pub states: usize,
    /// Ways from one of them to another.
    pub transitions: usize,
    /// States in which the last phase has ended.
    pub ends: usize,
    /// States of whole committees that those stand for.
    pub committees: u128,
    /// Different states of single members.
    pub member_states: usize,
    /// Steps of single members that were computed.
    pub member_steps: usize,
    /// How long it took.
    pub took: Duration,
    /// Everything has been searched.
    pub complete: bool,
    /// A run that breaks a rule.
    pub violation: Option<Trace>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut named = Vec::new();
        if let Some(Faulty { member, menu, posts }) = &self.faulty {
            named.push(format!("member {member} faulty ({menu:?}, up to {posts} posts)"));
        }
        named.extend(self.crash.map(|member| format!("member {member} crashes")));
        named.extend(self.cut_off.map(|member| format!("member {member} cut off")));
        f.write_str(if named.is_empty() { "nobody at fault" } else { "" })?;
        f.write_str(&named.join(", "))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            size,
            faults,
            polls,
            pages,
            states,
            transitions,
            ends,
            committees,
            member_states,
            member_steps,
            ..
        } = self;
        let how = match (&self.violation, self.complete) {
            (Some(_), _) => "A RULE IS BROKEN",
            (None, true) => "all",
            (None, false) => "NOT ALL",
        };
        let polls = polls.iter().filter(|polled| **polled).count();
        write!(
            f,
            "n = {size}, {faults}, {polls} phases polled, pages {pages:?}: {how}; {states} states, {transitions} transitions, {ends} ends, standing for \
             {committees} states of committees; {member_states} states and {member_steps} steps of members; {:.1} s",
            self.took.as_secs_f64()
        )?;
        match &self.violation {
            Some(trace) => write!(f, "\n{trace}"),
            None => Ok(()),
        }
    }
}
