//! Whole committees in one thread, under a seed that decides everything.
//!
//! A run of the simulator is a committee of the same cores that the engines' threads run, with stores, links, a whiteboard
//! and a chain that are as unkind as they may be: messages come late, twice, in any order or never, clients lag and fail,
//! clocks are wrong, nodes are killed in the middle of a step and started again, and malicious members play attacks from a
//! [catalogue](Fault). After every step and at the end the [rules](Rule) are checked: what the protocol promises with at
//! most `t` members at fault, and what has to hold with any number.
//!
//! ```
//! use dkg_engine::simulator::{FaultSet, Plan, RunNumber, Scope, Simulated};
//!
//! let scope = Scope { min_nodes: 3, max_nodes: 5, faults: FaultSet::all() };
//! let number = RunNumber::new(scope, 7, 0).expect("a possible scope");
//! let outcome = Simulated::default().run(&Plan::new(number));
//! assert_eq!(outcome.violation, None, "run {number}");
//! ```
//!
//! # What it does not promise
//!
//! It searches at random: what it has not found may be there. It is the cores that are tried here, with the pure parts
//! around them; the threads are not.

mod audit;
mod chain;
mod chance;
mod coalition;
mod coverage;
mod dealing;
mod defect;
mod disk;
pub mod exhaustive;
mod fault;
mod identity;
mod mail;
mod node;
mod plan;
mod shrink;
mod tap;
mod timeline;
mod verified;
mod watch;
mod world;

use std::collections::BTreeSet;

pub use coverage::Coverage;
pub use defect::{Defect, UnknownDefect};
pub use fault::{Fault, FaultSet, UnknownFault};
pub use plan::{ChainKind, NumberError, Part, Plan, RunNumber, Scope};
pub use shrink::{Shrunk, shrink};
pub use tap::LogTap;
pub use timeline::{Moment, Timeline};
pub use watch::{Ending, Leak, Rule, Violation};

use world::World;

/// How a plan is lived through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Simulated {
    /// Put this defect back into every node.
    pub defect: Option<Defect>,
    /// Keep a timeline.
    pub timeline: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// How the run for each epoch ended.
    pub endings: Vec<(u64, Ending)>,
    /// What was hit on the way: (kind, name).
    pub marks: BTreeSet<(&'static str, String)>,
    /// How many shares of each dealer got out.
    pub leaks: Vec<Leak>,
    /// What happened, if a timeline was asked for.
    pub timeline: Timeline,
}

impl Simulated {
    /// Lives through a plan.
    pub fn run(&self, plan: &Plan) -> Outcome {
        match World::new(plan, self) {
            Ok(world) => world.run(),
            Err(what) => Outcome {
                violation: Some(Violation { rule: Rule::Resilience, what }),
                endings: Vec::new(),
                marks: BTreeSet::new(),
                leaks: Vec::new(),
                timeline: Timeline::default(),
            },
        }
    }
}
