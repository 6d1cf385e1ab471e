//! How a rule came to be broken: the search again, along one path and with every member's steps written down.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use super::member::{Found, Halt, Move, StateId};
use super::world::{Committee, Step, Violation, World};
use crate::bls::Index;

/// A run that breaks a rule, step by step.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Which rule, and how.
    pub what: String,
    /// What happened, in order.
    pub steps: Vec<String>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))?;
        write!(f, "  => {}", self.what)
    }
}

/// What a member has done, the last first.
struct Path {
    before: Option<Rc<Path>>,
    /// After so many steps of the world.
    after: usize,
    step: Move,
}

type Paths = HashMap<StateId, Option<Rc<Path>>>;

/// Tells how `violation` comes about at the end of `script`.
pub(super) fn trace(committee: &mut Committee, script: &[Step], violation: Violation) -> Trace {
    let (what, targets, last) = match violation {
        Violation::Step(broken) => {
            let last = broken.by.map(|step| (broken.member, step));
            (format!("member {}: {}", broken.member, broken.what), vec![(broken.member, broken.state)], last)
        }
        Violation::States { what, states } => (what, states, None),
    };
    let mut told: Vec<(usize, Index, Move)> = Vec::new();
    for (member, state) in targets {
        let mut path = paths(committee, script, member, state);
        let mut steps = Vec::new();
        while let Some(step) = path {
            steps.push((step.after, member, step.step.clone()));
            path = step.before.clone();
        }
        told.extend(steps.into_iter().rev());
    }
    told.extend(last.map(|(member, step)| (script.len(), member, step)));
    // Stable: a member's own steps stay in their order.
    told.sort_by_key(|(after, ..)| *after);
    let mut told = told.into_iter().peekable();
    let mut steps = Vec::new();
    for after in 0..=script.len() {
        if let Some(step) = after.checked_sub(1).and_then(|before| script.get(before)) {
            steps.push(world_step(committee, script, after, *step));
        }
        while let Some((_, member, step)) = told.next_if(|(at, ..)| *at == after) {
            steps.push(format!("    member {member} {}", member_step(committee, member, &step)));
        }
    }
    Trace { what, steps }
}

/// How the member can come to `target` along the script.
fn paths(committee: &mut Committee, script: &[Step], member: Index, target: StateId) -> Option<Rc<Path>> {
    let mut world = World::new(committee.scene.size);
    let mut paths: Paths = HashMap::from([(0, None)]);
    let spread = |committee: &mut Committee, world: &World, paths: Paths, after: usize| -> (Paths, bool) {
        let mut start: Vec<StateId> = paths.keys().copied().collect();
        start.sort_unstable();
        let (found, halt) = committee.found(member, &start, world);
        let mut all = paths;
        for Found { state, from } in found {
            if let Some((from, step)) = from {
                let before = all.get(&from).cloned().flatten();
                all.insert(state, Some(Rc::new(Path { before, after, step })));
            }
        }
        (all, matches!(halt, Some(Halt::Broken(_))))
    };
    let mut broken;
    (paths, broken) = spread(committee, &world, paths, 0);
    for (position, step) in script.iter().enumerate() {
        if broken {
            break;
        }
        world = world.after(*step);
        let states: Vec<StateId> = paths.keys().copied().collect();
        match step {
            Step::Land { member: poster, post } if *poster == member => {
                let landed = committee.landed(member, &states, *post);
                paths = landed.into_iter().map(|(from, to)| (to, paths.get(&from).cloned().flatten())).collect();
            }
            Step::Land { .. } | Step::Offer { .. } => {}
            Step::Block => {
                let ready = committee.ready(member, &states, world.chain().blocks);
                paths = ready.into_iter().map(|state| (state, paths.get(&state).cloned().flatten())).collect();
                (paths, broken) = spread(committee, &world, paths, position + 1);
            }
        }
    }
    paths.get(&target).cloned().flatten()
}

fn world_step(committee: &Committee, script: &[Step], after: usize, step: Step) -> String {
    let before = script.iter().take(after);
    let label = |post| committee.posts.get(post).map_or("?", |post| post.label.as_str());
    match step {
        Step::Land { member, post } => format!("post: {} of member {member}", label(post)),
        Step::Offer { post, .. } => {
            let faulty = committee.scene.faults.faulty.as_ref().map(|faulty| faulty.member.to_string());
            format!("post: {} of faulty member {}", label(post), faulty.unwrap_or_default())
        }
        Step::Block => {
            let posts = before.clone().filter(|step| **step != Step::Block).count();
            let number = before.count() - posts;
            let block = u8::try_from(number).ok().and_then(|number| committee.scene.block(number));
            let what = match block {
                Some(block) if block.last => format!("the end of phase {}", block.phase + 1),
                Some(block) => format!("inside phase {}", block.phase + 1),
                None => String::new(),
            };
            format!("block {number}, {what}, covers {posts} posts")
        }
    }
}

fn member_step(committee: &Committee, member: Index, step: &Move) -> String {
    match step {
        Move::Private { from, variant } => {
            let private = committee.shares.get(usize::from(*from)).and_then(|to| to.get(usize::from(member)));
            let label = private.and_then(|variants| variants.get(usize::from(*variant))).map_or("?", |one| one.label);
            format!("takes in from member {from}: {label}")
        }
        Move::Block { number, .. } => format!("hears of block {number}"),
        Move::Page { posts, last } => {
            let end = if *last { ", the last" } else { "" };
            format!("reads a page of {} posts{end}", posts.len())
        }
        Move::GivenUp => "gives its read up".into(),
        Move::Crash => "crashes".into(),
        Move::Interrupted(step) => {
            format!("{}, and crashes when its store has the result", member_step(committee, member, step))
        }
        Move::Restart { number, .. } => format!("starts anew at block {number}"),
    }
}
