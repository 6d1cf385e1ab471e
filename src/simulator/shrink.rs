//! From a run that breaks a rule to the smallest one that still does.

use std::collections::BTreeSet;

use super::plan::{Part, Plan};
use super::{Outcome, Rule, Simulated};

/// Runs that are tried at most to find a smaller one.
const MAX_TRIES: u32 = 300;

/// A run that breaks a rule, with nothing in it that could be left out.
pub struct Shrunk {
    /// What is left of the plan.
    pub plan: Plan,
    /// What came of it, with a timeline.
    pub outcome: Outcome,
    /// The plan's network, board and chain do nothing unexpected.
    pub quiet: bool,
}

/// Leaves out of a plan whatever the violation of `rule` does not need. `None` if the plan does not break the rule.
pub fn shrink(plan: &Plan, simulated: &Simulated, rule: Rule) -> Option<Shrunk> {
    let mut tries = 0;
    let mut breaks = |plan: &Plan| {
        tries += 1;
        tries <= MAX_TRIES && simulated.run(plan).violation.is_some_and(|violation| violation.rule == rule)
    };
    let mut best = plan.clone();
    if !breaks(&best) {
        return None;
    }
    if let Some(shorter) = (1..plan.epochs()).map(|epoch| best.clone().until(epoch)).find(|plan| breaks(plan)) {
        best = shorter;
    }
    let quiet = breaks(&best.clone().quiet());
    if quiet {
        best = best.quiet();
    }
    // Halves first, then quarters, at last one by one.
    let mut chunk = best.parts().len();
    while chunk > 0 {
        let mut from = 0;
        while from < best.parts().len() {
            let numbers = best.parts().iter().map(|part: &Part| part.number);
            let kept: BTreeSet<u64> = numbers
                .enumerate()
                .filter(|(place, _)| !(from..from + chunk).contains(place))
                .map(|(_, number)| number)
                .collect();
            let smaller = best.clone().keeping(&kept);
            if breaks(&smaller) {
                best = smaller;
            } else {
                from += chunk;
            }
        }
        chunk /= 2;
    }
    let outcome = Simulated { timeline: true, ..*simulated }.run(&best);
    Some(Shrunk { plan: best, outcome, quiet })
}
