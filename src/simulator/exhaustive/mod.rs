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
//! Nobody lags by more than one block behind what it has to do. The faulty member posts so many times at most ([`Faulty`]),
//! nothing twice, and sends each member one private message at most. Members start together. A view is never skipped
//! and no more than one poll falls into a phase. The simulation has one epoch, and nothing is committed.

mod member;
mod scene;
mod trace;
mod world;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::memo::Memo;
use crate::bls::Index;
use member::Digest;
pub use trace::Trace;
use world::{Committee, Step, Stopped, World};

/// Blocks by which a member may be behind.
const LAG: u8 = 1;
/// States of one member that are kept at most: some 2 GB.
pub const MEMBER_STATE_LIMIT: usize = 400_000;
/// States of the search that are kept at most, unless a [`Search`] says less: some 2 GB.
pub const STATE_LIMIT: usize = 10_000_000;

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

/// Searches, breadth first: a violation comes with one of the shortest ways to it.
///
/// # Errors
/// See [`SearchError`].
pub fn search(search: &Search) -> Result<Report, SearchError> {
    let began = Instant::now();
    let _memo = Memo::keep();
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
            let mut known: HashMap<u128, ()> = HashMap::new();
            for (number, world) in layer {
                if began.elapsed() >= search.time_limit || self.came_from.len() >= search.state_limit.min(STATE_LIMIT) {
                    return Err(Stopped::Limit);
                }
                self.last = Some((number, None));
                for (step, to) in committee.next(&world, &mut |step| self.last = Some((number, Some(step))))? {
                    self.transitions += 1;
                    if known.insert(Digest::of(&to), ()).is_none() {
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

/// All that is worth searching for committees of `size`, the small searches first: nobody at fault; each member cut off;
/// each member crashing; each member faulty, with few posts between polls and with more where nobody polls; and each pair
/// of a faulty and a crashing member.
pub fn menu(size: usize) -> Vec<Search> {
    let members = || Index::all(size);
    let faulty = |member, menu, posts| Faults { faulty: Some(Faulty { member, menu, posts }), ..Faults::default() };
    let polled = |faults| Search { polls: [true, false, false], ..Search::new(size, faults) };
    let unpolled = |faults| Search { polls: [false; 3], ..Search::new(size, faults) };
    let mut menu = vec![Search::new(size, Faults::default())];
    menu.push(Search { pages: Pages::AnySplit, ..polled(Faults::default()) });
    menu.extend(members().map(|member| polled(Faults { cut_off: Some(member), ..Faults::default() })));
    menu.extend(members().map(|member| polled(Faults { crash: Some(member), ..Faults::default() })));
    menu.extend(members().map(|member| polled(faulty(member, Menu::Everything, 1))));
    menu.extend(members().map(|member| unpolled(faulty(member, Menu::Everything, 2))));
    menu.extend(members().map(|member| unpolled(faulty(member, Menu::Accusing, 3))));
    menu.extend(members().map(|member| unpolled(faulty(member, Menu::Answering, 3))));
    let pairs = members().flat_map(|one| members().filter(move |other| *other != one).map(move |other| (one, other)));
    menu.extend(pairs.map(|(one, other)| unpolled(Faults { crash: Some(other), ..faulty(one, Menu::Everything, 1) })));
    menu
}

/// Threads that search at the same time. Each keeps its own states, so the limits count once for each.
pub const SEARCHERS: usize = 2;

/// Makes several searches within `time`, and hands each report out as it comes. A search gets an equal share of the time
/// that is left when it begins, so that none takes it all.
///
/// # Errors
/// See [`SearchError`].
pub fn search_all(
    searches: &[Search],
    time: Duration,
    report: impl Fn(&Report) + Sync,
) -> Result<Vec<Report>, SearchError> {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let one_by_one = || -> Result<Vec<(usize, Report)>, SearchError> {
        let mut reports = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = searches.get(number) else { return Ok(reports) };
            let rounds = u32::try_from((searches.len() - number).div_ceil(SEARCHERS)).unwrap_or(u32::MAX);
            let share = time.saturating_sub(began.elapsed()) / rounds;
            let found = search(&Search { time_limit: share.min(one.time_limit), ..one.clone() })?;
            report(&found);
            reports.push((number, found));
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..SEARCHERS).map(|_| scope.spawn(one_by_one)).collect();
        searchers.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut reports = Vec::new();
    for result in results {
        match result {
            Ok(found) => reports.extend(found?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    reports.sort_by_key(|(number, _)| *number);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
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
