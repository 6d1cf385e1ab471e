//! Small committees, exhaustively: every order of messages, blocks and pages, one crash, and everything that a faulty
//! member can choose from a bounded menu.
//!
//! Every node is the real [`Core`](crate::engine::Core) with the real protocol, real curve arithmetic and
//! [`DkgState`](crate::store::DkgState) on a store. Around it the search makes every choice that threads, network, board and
//! chain have, and goes down every one.
//!
//! # What there is to choose
//!
//! - Where every post lands: in which order, and on which side of each block. An honest member posts in its own order;
//!   its vector lands in phase 1, its complaints by the end of phase 2, its answers by the end of phase 3.
//! - What a member hears when: blocks, in their order; private messages, each at any time before its phase 1 ends; what it
//!   reads, in pages ([`Pages`]), any of them before or after the next block; and reads inside a phase may be given up.
//! - What the [`Faults`] are: a faulty member's private messages (right, wrong, none, or no share at all; to each member
//!   another) and its posts, any of its [`Menu`] at any place; a crash at any point, also between the store's commit and
//!   everything that waits for it, with or without a new start; a member that the network cuts off, whose messages come
//!   late or not at all.
//!
//! # What is checked, in every state
//!
//! - Agreement: all members that end their run, whoever they are, have the same qualified set, the same reasons for every
//!   disqualification, and the same keys.
//! - Correctness: the share in the store is the one that the public result calls for, and t + 1 of them sign.
//! - One message for each purpose, also across a new start, and none twice.
//! - No step fails, no transition of the key state is refused, every post is read once, and a phase ends in the step that
//!   takes in the last page of its final read, and no later.
//! - With at most t members at fault: no honest dealer is disqualified, every honest member comes out with a share, and no
//!   more than t shares of an honest dealer are public or known to the faulty member.
//!
//! # How it stays small
//!
//! *Equal states are one.* A member's state, with its store and whatever is on its way to it, is known by a digest of 128
//! bits, and a step of the same state is computed once.
//!
//! *Members share nothing but the board.* What a member does depends on its own past and on what the blocks cover; whatever
//! it does reaches the others through what lands. Its shares are no exception: they depend on its seed alone and can come
//! at any time, so they count as on their way from the start. And between two blocks nothing that lands is read. So what
//! members do by themselves commutes, and the states a committee can be in beside one board are all the ways of taking one
//! state from each member's set. The search keeps the sets instead of the combinations: what happens to members follows
//! at each block, and only what happens to the board is searched. [`Report::committees`] says how many combinations that
//! stands for. The choices of a crashed, faulty or cut-off member are its own, because the search is told beforehand which
//! member it is.
//!
//! # What it does not promise
//!
//! Each search has limits ([`MEMORY_LIMIT`], [`STATE_LIMIT`], its time): one that stops at them has shown nothing beyond,
//! and says so. Nobody lags by more than one block behind what it has to do. The faulty member posts so many times at most ([`Faulty`]),
//! nothing twice, and sends each member one private message at most. Members start together. A view is never skipped
//! and no more than one poll falls into a phase. The simulation has one epoch, and nothing is committed.

mod member;
mod menu;
mod report;
mod scene;
mod trace;
mod world;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::bls::Index;
use member::Digest;
pub use menu::{SEARCHERS, menu, search_all};
pub use report::Report;
pub use trace::Trace;
use world::{Committee, Step, Stopped, World};

/// Blocks by which a member may be behind.
const LAG: u8 = 1;
/// Bytes that one search takes at most, as far as that can be told from what it keeps.
pub const MEMORY_LIMIT: usize = 3 << 30;
/// States of one member that are kept at most.
pub const MEMBER_STATE_LIMIT: usize = 400_000;
/// States of the search that are kept at most, unless a [`Search`] says less.
pub const STATE_LIMIT: usize = 5_000_000;
/// What one of those takes, with how it was come to.
const STATE_BYTES: usize = 400;

/// What the faulty member may post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// Its vector, another one, an invalid one, and what is no broadcast at all.
    Dealing,
    /// Its vector, and a complaint about each other member.
    Accusing,
    /// Its vector, and right and wrong answers to each other member, asked for or not.
    Answering,
    /// All of that.
    Everything,
}

/// A member that does as it likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faulty {
    /// Which.
    pub member: Index,
    /// What it may post, each of it once.
    pub menu: Menu,
    /// How often it posts at most.
    pub posts: usize,
}

/// Which members are not as they should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Does as it likes.
    pub faulty: Option<Faulty>,
    /// Stops at any point, once, and may start anew.
    pub crash: Option<Index>,
    /// What it sends and what is sent to it comes late, or not at all.
    pub cut_off: Option<Index>,
}

/// How what a member reads can be cut into pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// All at once.
    Whole,
    /// Each post by itself.
    OneByOne,
    /// In every possible way.
    AnySplit,
}

/// Something that the world does wrong on purpose, to show that the search finds such a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The read at the end of a phase may come back empty, and its messages with the next read.
    LatePages,
    /// A member's own complaint counts before the board's order: an answer that stands before it is lost to that member.
    OwnComplaintFirst,
    /// A store loses what it has when its member stops.
    ForgetfulStore,
}

/// What to search.
#[derive(Clone, Debug)]
pub struct Search {
    /// Members.
    pub size: usize,
    /// Who is at fault.
    pub faults: Faults,
    /// In which phases members read the board once before the end.
    pub polls: [bool; 3],
    /// How pages are cut.
    pub pages: Pages,
    /// What is wrong with the world; nothing, unless the search itself is on trial.
    pub flaw: Option<Flaw>,
    /// When to stop.
    pub time_limit: Duration,
    /// How many states to keep, [`STATE_LIMIT`] at most.
    pub state_limit: usize,
}

impl Search {
    /// A search of all there is, with a poll in each phase and one page for each post.
    pub fn new(size: usize, faults: Faults) -> Search {
        let (time_limit, state_limit) = (Duration::MAX, STATE_LIMIT);
        Search { size, faults, polls: [true; 3], pages: Pages::OneByOne, flaw: None, time_limit, state_limit }
    }
}

/// Why there was nothing to search.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// No such committee.
    #[error("there is no committee of {0}, or none that this search can hold")]
    Committee(usize),
    /// A member at fault that is none.
    #[error("member {0} is to be at fault, and there is no such member")]
    Stranger(Index),
    /// A member does not even start.
    #[error("a member does not start: {0}")]
    Start(String),
}

/// Searches, breadth first: a violation comes with one of the shortest ways to it.
///
/// # Errors
/// See [`SearchError`].
pub fn search(search: &Search) -> Result<Report, SearchError> {
    let began = Instant::now();
    let mut committee = Committee::new(search)?;
    let mut course = Course { came_from: Vec::new(), transitions: 0, ends: 0, committees: 0, last: None };
    let stopped = course.run(&mut committee, search, began).err();
    let complete = stopped.is_none();
    let violation = match stopped {
        Some(Stopped::Violation(violation)) => {
            let script = course.script();
            Some(trace::trace(&mut committee, &script, violation))
        }
        _ => None,
    };
    Ok(Report {
        size: search.size,
        faults: search.faults.clone(),
        polls: search.polls,
        pages: search.pages,
        states: course.came_from.len(),
        transitions: course.transitions,
        ends: course.ends,
        committees: course.committees,
        member_states: committee.member_states(),
        member_steps: committee.member_steps(),
        took: began.elapsed(),
        complete,
        violation,
    })
}

/// How far a search has come.
struct Course {
    /// For each state, the one it was come to from, and how.
    came_from: Vec<Option<(u32, Step)>>,
    transitions: usize,
    ends: usize,
    committees: u128,
    /// The state that is being left, and how if that is known.
    last: Option<(u32, Option<Step>)>,
}

impl Course {
    fn run(&mut self, committee: &mut Committee, search: &Search, began: Instant) -> Result<(), Stopped> {
        let start = committee.start()?;
        self.visit(committee, &start, None);
        // Every step makes the board or the chain longer by one, so that a state can only be come to again within a layer.
        let mut layer = vec![(0u32, start)];
        while !layer.is_empty() {
            let mut next: Vec<(u32, World)> = Vec::new();
            let mut known: HashSet<u128> = HashSet::new();
            for (number, world) in layer {
                let states = self.came_from.len();
                if began.elapsed() >= search.time_limit
                    || states >= search.state_limit.min(STATE_LIMIT)
                    || committee.bytes() + states * STATE_BYTES >= MEMORY_LIMIT
                {
                    return Err(Stopped::Limit);
                }
                self.last = Some((number, None));
                for (step, to) in committee.next(&world, &mut |step| self.last = Some((number, Some(step))))? {
                    self.transitions += 1;
                    if known.insert(Digest::of(&to)) {
                        let number = self.visit(committee, &to, Some((number, step)));
                        next.push((number, to));
                    }
                }
            }
            layer = next;
        }
        Ok(())
    }

    fn visit(&mut self, committee: &Committee, world: &World, from: Option<(u32, Step)>) -> u32 {
        // STATE_LIMIT fits.
        let number = self.came_from.len() as u32;
        self.came_from.push(from);
        self.ends += usize::from(committee.is_end(world));
        self.committees = self.committees.saturating_add(committee.committees(world));
        number
    }

    /// The steps that led to where the search stopped.
    fn script(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some((state, step)) = self.last {
            steps.extend(step);
            let mut state = state;
            while let Some(Some((before, step))) = self.came_from.get(state as usize) {
                steps.push(*step);
                state = *before;
            }
        }
        steps.reverse();
        steps
    }
}
