//! The malicious members: one coalition that knows all its members' secrets and sees every broadcast first.
//!
//! Each member follows the protocol except for the attacks that it plays; attacks combine. What members say is signed with
//! their own keys: this is what insiders can do. The coalition decides *what* is said *when*; the world carries it out.

mod pens;
mod script;

use super::chance::{Draw, dice};
use super::dealing::{self, Dealing};
use super::fault::Fault;
use super::identity::identity;
use super::plan::{Part, Plan, VIEW_MS};
use crate::bls::Index;
use crate::chain::DkgResult;
use crate::envelope::{BroadcastMessage, PrivateMessage};
use crate::epoch::{EpochSetup, Header, InstanceId};
use crate::protocol::Broadcast;
use std::collections::{BTreeMap, BTreeSet};

pub(super) use pens::Pens;
use script::Script;

/// What a coalition has its members do.
pub(super) enum Act {
    Post(String),
    /// Somebody outside the committee posts.
    StrangerPosts(String),
    /// Somebody outside the committee sends.
    StrangerSends(usize, PrivateMessage),
    Send(usize, PrivateMessage),
    Submit(InstanceId, DkgResult),
    /// Time for something that was put off.
    Due(Deed),
}

/// Something put off until the coalition knows more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Vector,
}

/// One act of one member, at a time in ms.
pub(super) struct Planned {
    pub(super) at: u64,
    pub(super) member: usize,
    pub(super) fault: Option<Fault>,
    pub(super) act: Act,
}

pub(super) struct Coalition {
    plan: Plan,
    members: BTreeMap<usize, Script>,
    run: Option<Run>,
}

/// The run that is on.
struct Run {
    setup: EpochSetup,
    /// When each phase's last view begins.
    finals: [u64; 3],
    /// Honest dealers' vectors, as soon as they are on their way.
    vectors: BTreeMap<usize, Vec<u8>>,
    honest_result: Option<DkgResult>,
    ended: usize,
}

impl Coalition {
    pub(super) fn new(plan: &Plan) -> Self {
        Coalition { plan: plan.clone(), members: BTreeMap::new(), run: None }
    }

    /// A run begins.
    pub(super) fn setup(&mut self, setup: &EpochSetup, now: u64) -> Vec<Planned> {
        let finals = setup.phase_final_views.map(|view| view.0 * VIEW_MS);
        let run = Run { setup: setup.clone(), finals, vectors: BTreeMap::new(), honest_result: None, ended: 0 };
        self.members.clear();
        for &me in self.plan.malicious() {
            let Some(identity) = identity(me) else { continue };
            let faults: Vec<Part> = self.plan.faults_of(me, setup.epoch.0).copied().collect();
            let mut dice = dice(self.plan.seed(), Draw::Script, setup.epoch.0, me as u64);
            let pattern = faults.iter().find_map(|part| dealing::pattern(part.fault));
            let first = self.members.values().next().map(|script| &script.dealing);
            let dealing = Dealing::new(pattern, self.plan.size(), &mut dice, first);
            let script = Script {
                me,
                identity,
                faults,
                dice,
                dealing,
                vector_out: false,
                victims: BTreeMap::new(),
                complained: BTreeSet::new(),
                stolen: 0,
                submitted: false,
            };
            self.members.insert(me, script);
        }
        let mut planned = Vec::new();
        for script in self.members.values_mut() {
            script.open(&self.plan, &run, now, &mut planned);
        }
        self.run = Some(run);
        planned
    }

    /// Something that was put off is due.
    pub(super) fn due(&mut self, member: usize, deed: Deed, now: u64) -> Vec<Planned> {
        let mut planned = Vec::new();
        if let (Some(run), Some(script)) = (&self.run, self.members.get_mut(&member)) {
            match deed {
                Deed::Vector => script.post_vector(run, now, &mut planned),
            }
        }
        planned
    }

    /// A broadcast is on its way to the board: the coalition sees it before it stands there. `poster` is the member's place.
    pub(super) fn overhear(&mut self, poster: usize, content: &str, now: u64) -> Vec<Planned> {
        let mut planned = Vec::new();
        let Some(run) = &mut self.run else { return planned };
        let Ok(message) = BroadcastMessage::from_json(content) else { return planned };
        if message.dkg_instance_id != run.setup.instance.as_str() {
            return planned;
        }
        let honest = !self.plan.malicious().contains(&poster);
        match Broadcast::parse(&message.data) {
            Broadcast::Vector(body) if honest => {
                run.vectors.entry(poster).or_insert_with(|| body.to_vec());
            }
            Broadcast::Complaint([accused]) => {
                let accused = self.members.get_mut(&usize::from(*accused));
                if let (Some(accused), Some(complainer)) = (accused, Index::from_position(poster)) {
                    accused.complained.insert(complainer);
                }
            }
            _ => {}
        }
        let expected = self.plan.size() - self.plan.malicious().len();
        for script in self.members.values_mut() {
            if honest {
                script.steal(content, now, &mut planned);
            }
            if script.is_watching(run, expected) {
                script.post_vector(run, now, &mut planned);
            }
        }
        planned
    }

    /// An honest member submits its result.
    pub(super) fn overhear_result(&mut self, result: &DkgResult, now: u64) -> Vec<Planned> {
        let mut planned = Vec::new();
        let Some(run) = self.run.as_mut().filter(|_| *result != DkgResult::Empty) else { return planned };
        run.honest_result.get_or_insert_with(|| result.clone());
        for script in self.members.values_mut() {
            script.submit(run, now, &mut planned);
        }
        planned
    }

    /// A block has been finalized.
    pub(super) fn block(&mut self, block: &Header, now: u64) -> Vec<Planned> {
        let mut planned = Vec::new();
        let Some(run) = &mut self.run else { return planned };
        while run.setup.phase_final_views.get(run.ended).is_some_and(|last| block.view >= *last) {
            run.ended += 1;
            if run.ended == 2 {
                for script in self.members.values_mut() {
                    script.answer(&self.plan, run, now, &mut planned);
                }
            }
        }
        planned
    }
}

/// The name of every simulated chain.
pub(super) const CHAIN_ID: &str = "simulated";
