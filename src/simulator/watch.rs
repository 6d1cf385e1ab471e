//! What must hold, and the eyes that see when it does not.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::audit::{Posted, audit};
use super::fault::Fault;
use super::plan::{ChainKind, Part, Plan, VIEW_MS, bearable};
use crate::bls::{CombineError, Index, PublicKey, RANDOM_BEACON_TAG, combine};
use crate::chain::DkgResult;
use crate::committee::threshold;
use crate::engine::{
    EngineEvent, INBOUND_LIMIT, OUTBOUND_LIMIT, POST_LIMIT, REACTOR_INBOX, REPORTS_PER_NODE, RunReport, Verify,
};
use crate::envelope::{BroadcastMessage, PrivateKind, PrivateMessage};
use crate::epoch::{EpochCommit, EpochCounter, EpochSetup, Header, View};
use crate::hex;
use crate::protocol::{Broadcast, Disqualification};
use crate::store::{CommittedKey, DkgState, KeyStatus, SafeKey};

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Honest members that finish have the same qualified set, verdicts, group key and public shares.
    Agreement,
    /// Each share matches its public share; any `t + 1` sign, and `t` do not.
    Correctness,
    /// Of no honest dealer are more than `t` shares public or known to the malicious members.
    Secrecy,
    /// No secret appears in an event or in the log.
    Discretion,
    /// No honest member without a mishap is disqualified, or complained about by another.
    Fairness,
    /// With at most `t` members at fault, every other one ends with a committed key.
    Liveness,
    /// No node sends two different messages for one purpose.
    OneMessage,
    /// Every disqualification follows from the board, and everything there that calls for one has one.
    Evidence,
    /// An honest member's run ends with its result on the board, empty if it has failed.
    Submission,
    /// Queues stay within their limits, and runs end.
    Limits,
    /// Nothing that others do stops a node.
    Resilience,
    /// On a log chain with at most `t` malicious members no phase is shorter than its views.
    Synchrony,
}

impl Rule {
    /// The name, in one word.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Agreement => "agreement",
            Rule::Correctness => "correctness",
            Rule::Secrecy => "secrecy",
            Rule::Discretion => "discretion",
            Rule::Fairness => "fairness",
            Rule::Liveness => "liveness",
            Rule::OneMessage => "one-message",
            Rule::Evidence => "evidence",
            Rule::Submission => "submission",
            Rule::Limits => "limits",
            Rule::Resilience => "resilience",
            Rule::Synchrony => "synchrony",
        }
    }
}

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// By whom, and how.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.what)
    }
}

/// How many of one dealer's shares got out in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The epoch whose keys the run made.
    pub epoch: u64,
    /// The dealer's place in the committee.
    pub dealer: usize,
    /// It is honest.
    pub honest: bool,
    /// Shares that stand on the board.
    pub public: usize,
    /// Shares that the malicious members know, those included.
    pub known: usize,
    /// How many more may become known before its secret can be computed.
    pub margin: usize,
}

/// How one run ended, over all honest members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// The chain agreed on keys.
    Committed,
    /// It did not.
    Failed,
}

impl Ending {
    /// The name, in one word.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Committed => "committed",
            Ending::Failed => "failed",
        }
    }
}

/// What is known of one run.
struct File {
    setup: EpochSetup,
    cuts: [Option<u64>; 3],
    /// When its first view became final, and the last of each phase.
    reached: Vec<u64>,
    board: Vec<Posted>,
    reports: BTreeMap<usize, RunReport>,
    submitted: BTreeMap<usize, DkgResult>,
    commit: Option<EpochCommit>,
    over: bool,
    /// Honest members that something has happened to.
    unwell: BTreeSet<usize>,
    /// Members that were killed while it was on, and go on.
    killed: BTreeSet<usize>,
}

/// What an honest member has sent, by purpose.
type Sent = BTreeMap<(usize, String), Vec<u8>>;

/// What waits in a node.
pub(super) struct Queues {
    pub(super) inbound: usize,
    pub(super) outbound: usize,
    pub(super) posts: usize,
    pub(super) inbox: usize,
}

pub(super) struct Watch {
    plan: Plan,
    files: BTreeMap<u64, File>,
    sent: Sent,
    /// Remarks and dropped posts that a member has told of, by run.
    remarks: BTreeMap<(usize, u64), u32>,
    violation: Option<Violation>,
    /// A complaint that was not called for. What comes of it may be worse, and is then what is told.
    uncalled_for: Option<Violation>,
    pub(super) marks: BTreeSet<(&'static str, String)>,
}

thread_local! {
    /// What must not be written to the log by the simulation on this thread, and what was.
    static SECRETS: RefCell<Secrets> = const { RefCell::new(Secrets { forbidden: Vec::new(), told: None }) };
}

struct Secrets {
    forbidden: Vec<String>,
    told: Option<String>,
}

/// Looks a log line over for secrets of the simulation on this thread. For loggers: see [`LogTap`](super::LogTap).
pub(super) fn overheard(line: &fmt::Arguments<'_>) {
    SECRETS.with_borrow_mut(|secrets| {
        if !secrets.forbidden.is_empty() && secrets.told.is_none() {
            let line = line.to_string();
            if secrets.tells(&line) {
                secrets.told = Some(line);
            }
        }
    });
}

impl Secrets {
    fn tells(&self, text: &str) -> bool {
        self.forbidden.iter().any(|secret| text.contains(secret.as_str()))
    }

    /// A secret, in the ways in which it might be written.
    fn forbid(&mut self, secret: &[u8]) {
        self.forbidden.push(hex::encode(secret));
        self.forbidden.push(hex::encode(secret).to_uppercase());
        let numbers: Vec<String> = secret.iter().take(6).map(u8::to_string).collect();
        self.forbidden.push(numbers.join(", "));
    }
}

impl Watch {
    pub(super) fn new(plan: &Plan) -> Self {
        SECRETS.set(Secrets { forbidden: Vec::new(), told: None });
        Watch {
            plan: plan.clone(),
            files: BTreeMap::new(),
            sent: Sent::new(),
            remarks: BTreeMap::new(),
            violation: None,
            uncalled_for: None,
            marks: BTreeSet::new(),
        }
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(super) fn break_rule(&mut self, rule: Rule, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, what: what() });
        }
    }

    pub(super) fn mark(&mut self, kind: &'static str, name: impl Into<String>) {
        self.marks.insert((kind, name.into()));
    }

    // What the chain does.

    pub(super) fn setup(&mut self, setup: &EpochSetup) {
        let epoch = setup.epoch.0;
        // A clock that is wrong stays wrong.
        // And who is killed goes on: what counts is whether it is there when it matters.
        let unwell = |part: &&Part| {
            let lasting = !part.fault.is_malicious() && part.fault != Fault::Crash;
            lasting && (part.epoch == epoch || part.fault == Fault::WrongClock)
        };
        let unwell = self.plan.parts().iter().filter(unwell).map(|part| part.member).collect();
        let file = File {
            setup: setup.clone(),
            cuts: [None; 3],
            reached: Vec::new(),
            board: Vec::new(),
            reports: BTreeMap::new(),
            submitted: BTreeMap::new(),
            commit: None,
            over: false,
            unwell,
            killed: BTreeSet::new(),
        };
        self.files.insert(epoch, file);
    }

    /// The runs of which a phase or, with the chain now in this epoch, the epoch is over with this block.
    pub(super) fn ended_by(&self, block: &Header, now_in: EpochCounter) -> Vec<u64> {
        let ended = |(epoch, file): &(&u64, &File)| {
            let ends = |(cut, last): (&Option<u64>, &View)| cut.is_none() && block.view >= *last;
            **epoch <= now_in.0 || file.cuts.iter().zip(&file.setup.phase_final_views).any(ends)
        };
        self.files.iter().filter(|(_, file)| !file.over).filter(ended).map(|(epoch, _)| *epoch).collect()
    }

    pub(super) fn finalized(&mut self, block: &Header, now: u64) {
        let keeps_time =
            self.plan.chain() == ChainKind::Log && self.plan.malicious().len() <= threshold(self.plan.size());
        let mut short = None;
        for file in self.files.values_mut().filter(|file| !file.over && keeps_time) {
            let boundaries = [&[file.setup.first_view][..], &file.setup.phase_final_views].concat();
            for (number, view) in boundaries.iter().enumerate().skip(file.reached.len()) {
                if block.view < *view {
                    break;
                }
                if let (Some(since), Some(from)) = (file.reached.last(), number.checked_sub(1)) {
                    let least = (view.0 - boundaries.get(from).map_or(view.0, |from| from.0)) * VIEW_MS;
                    let took = now - since;
                    if took < least {
                        short = Some(format!(
                            "phase {number} of epoch {}'s run took {took} ms of {least}",
                            file.setup.epoch
                        ));
                    }
                }
                file.reached.push(now);
            }
        }
        if let Some(short) = short {
            self.break_rule(Rule::Synchrony, || short);
        }
        for file in self.files.values_mut().filter(|file| !file.over) {
            for (cut, last) in file.cuts.iter_mut().zip(&file.setup.phase_final_views) {
                if block.view >= *last {
                    cut.get_or_insert(block.height);
                }
            }
        }
    }

    pub(super) fn committed(&mut self, commit: &EpochCommit) {
        if let Some(file) = self.files.get_mut(&commit.epoch.0) {
            file.commit.get_or_insert_with(|| commit.clone());
        }
    }

    pub(super) fn epoch_over(&mut self, made_keys_for: EpochCounter) {
        for (epoch, file) in &mut self.files {
            file.over |= *epoch <= made_keys_for.0;
        }
    }

    pub(super) fn posted(&mut self, member: usize, content: &str, position: u64, honest: bool) {
        if let Some(file) = self.files.values_mut().last().filter(|file| !file.over) {
            file.board.push(Posted { member, content: content.to_owned(), position, honest });
        }
    }

    pub(super) fn submitted(&mut self, member: usize, result: &DkgResult) {
        if let Some(file) = self.files.values_mut().last().filter(|file| !file.over) {
            file.submitted.entry(member).or_insert_with(|| result.clone());
        }
    }

    /// Something was wrong with an honest member while this epoch's run was on.
    pub(super) fn unwell(&mut self, member: usize, epoch: u64) {
        if let Some(file) = self.files.get_mut(&epoch) {
            file.unwell.insert(member);
        }
    }

    /// A member was killed.
    pub(super) fn killed(&mut self, member: usize) {
        if let Some(file) = self.files.values_mut().last() {
            file.killed.insert(member);
        }
    }

    /// The run that is on.
    pub(super) fn current_run(&self) -> Option<u64> {
        self.files.iter().next_back().filter(|(_, file)| !file.over).map(|(epoch, _)| *epoch)
    }

    // What honest members do.

    pub(super) fn sends(&mut self, member: usize, to: usize, message: &PrivateMessage) {
        if message.kind == PrivateKind::ShareRequest {
            return self.mark("private share pull", "asked");
        }
        let data = message.data.expose();
        SECRETS.with_borrow_mut(|secrets| secrets.forbid(data.get(1..).unwrap_or_default()));
        self.once(member, format!("share for member {to} in {}", message.dkg_instance_id), data.to_vec());
    }

    pub(super) fn posts(&mut self, member: usize, content: &str) {
        let Ok(message) = BroadcastMessage::from_json(content) else {
            return self.break_rule(Rule::Resilience, || format!("member {member} posts what is no envelope"));
        };
        if let Broadcast::Complaint([accused]) = Broadcast::parse(&message.data) {
            self.check_complaint(member, usize::from(*accused));
        }
        let purpose = match Broadcast::parse(&message.data) {
            Broadcast::Vector(_) => "vector".to_owned(),
            Broadcast::Complaint(body) => format!("complaint about {body:?}"),
            Broadcast::Answer(body) => format!("answer to {:?}", body.first()),
            Broadcast::Empty | Broadcast::UnknownTag(_) => "nothing that there is".to_owned(),
        };
        self.once(member, format!("{purpose} in {}", message.dkg_instance_id), content.as_bytes().to_vec());
    }

    pub(super) fn submits(&mut self, member: usize, instance: &str, result: &DkgResult) {
        self.once(member, format!("result of {instance}"), format!("{result:?}").into_bytes());
    }

    fn once(&mut self, member: usize, purpose: String, bytes: Vec<u8>) {
        let what = format!("member {member} has sent two different messages: {purpose}");
        let before = self.sent.entry((member, purpose)).or_insert_with(|| bytes.clone());
        if *before != bytes {
            self.break_rule(Rule::OneMessage, || what);
        }
    }

    pub(super) fn told(&mut self, member: usize, event: &EngineEvent) {
        let leaked = SECRETS.with_borrow(|secrets| secrets.tells(&format!("{event}{event:?}")));
        if leaked {
            self.break_rule(Rule::Discretion, || format!("member {member} tells a share in an event"));
        }
        if matches!(event, EngineEvent::Flagged { .. } | EngineEvent::PostDropped { .. }) {
            let told = self.remarks.entry((member, event.epoch().0)).or_default();
            *told += 1;
            // One for each member, and one for all strangers.
            if *told > REPORTS_PER_NODE * (self.plan.size() as u32 + 1) {
                self.break_rule(Rule::Limits, || format!("member {member} makes remarks without end"));
            }
        }
        match event {
            EngineEvent::Disqualified { epoch, dealer, reason } => {
                self.mark("verdict", variant(reason));
                self.check_fair(epoch.0, usize::from(*dealer), reason, member);
            }
            EngineEvent::Flagged { remark, .. } => self.mark("remark", variant(remark)),
            EngineEvent::PostDropped { fault, .. } => self.mark("dropped post", variant(fault)),
            EngineEvent::Exposed { .. } => self.mark("event", "exposed"),
            EngineEvent::SatOut { .. } => self.mark("event", "sat-out"),
            EngineEvent::RunResumed { phases_over, .. } => {
                self.mark("event", format!("run-resumed-after-{phases_over}-phases"));
            }
            EngineEvent::DealtElsewhere { .. } => self.mark("event", "dealt-elsewhere"),
            EngineEvent::KeyCommitted { recovered: true, .. } => self.mark("event", "key-recovered"),
            EngineEvent::RunEnded(report) => self.ended(member, report),
            _ => {}
        }
    }

    /// While the network keeps its promises, no honest member has anything to complain of about another.
    fn check_complaint(&mut self, member: usize, accused: usize) {
        let Some(epoch) = self.current_run() else { return };
        let well = |member| !self.plan.malicious().contains(&member) && self.is_well(epoch, member);
        if well(member) && well(accused) && self.keeps_promises(epoch) && self.uncalled_for.is_none() {
            let what =
                format!("member {member} complains about the honest dealer {accused} in the run for epoch {epoch}");
            self.uncalled_for = Some(Violation { rule: Rule::Fairness, what });
        }
    }

    fn check_fair(&mut self, epoch: u64, dealer: usize, reason: &Disqualification, by: usize) {
        if !self.plan.malicious().contains(&dealer) && self.is_well(epoch, dealer) && self.keeps_promises(epoch) {
            self.break_rule(Rule::Fairness, || {
                format!("member {by} disqualifies the honest dealer {dealer} in the run for epoch {epoch}: {reason}")
            });
        }
    }

    fn ended(&mut self, member: usize, report: &RunReport) {
        let ending = match (&report.keys, &report.share) {
            (Err(_), _) => "failed",
            (Ok(_), Err(_)) => "without a share",
            (Ok(_), Ok(())) => "with a share",
        };
        self.mark("run ended", ending);
        let Some(file) = self.files.get_mut(&report.epoch.0) else { return };
        let other = file.reports.iter().next().map(|(other, report)| (*other, report.clone()));
        file.reports.entry(member).or_insert_with(|| report.clone());
        if let Some((other, theirs)) = other
            && (theirs.qualified != report.qualified
                || theirs.disqualified != report.disqualified
                || theirs.keys != report.keys)
        {
            self.break_rule(Rule::Agreement, || {
                format!(
                    "members {other} and {member} end the run for epoch {} differently: {} and {}",
                    report.epoch,
                    outcome(&theirs),
                    outcome(report)
                )
            });
        }
    }

    /// After each step of a node.
    pub(super) fn stepped(&mut self, member: usize, queues: &Queues) {
        let Queues { inbound, outbound, posts, inbox } = *queues;
        for (what, waiting, limit) in [
            ("private messages", inbound, INBOUND_LIMIT),
            ("messages on their way out", outbound, OUTBOUND_LIMIT),
            ("posts", posts, POST_LIMIT),
            ("events and pages", inbox, REACTOR_INBOX),
        ] {
            if waiting > limit {
                self.break_rule(Rule::Limits, || format!("{waiting} {what} wait at member {member}; {limit} may"));
            }
        }
        if let Some(line) = SECRETS.with_borrow_mut(|secrets| secrets.told.take()) {
            self.break_rule(Rule::Discretion, || format!("member {member} writes a share to the log: {line:.40}…"));
        }
    }

    // Who is to be trusted with what.

    fn is_well(&self, epoch: u64, member: usize) -> bool {
        self.files.get(&epoch).is_some_and(|file| !file.unwell.contains(&member))
    }

    /// The members whose clocks are wrong at any time. They count in every run: a tick stands for good, and time that has
    /// once been hurried is hurried for all that follows.
    fn wrong_clocks(&self) -> BTreeSet<usize> {
        let clock = |part: &&Part| matches!(part.fault, Fault::ClockTricks | Fault::WrongClock);
        self.plan.parts().iter().filter(clock).map(|part| part.member).collect()
    }

    /// Whether few enough members are at fault in this run for all promises to hold.
    fn keeps_promises(&self, epoch: u64) -> bool {
        let at_fault = |part: &&Part| part.epoch == epoch && part.fault.is_malicious();
        let at_fault = self.plan.parts().iter().filter(at_fault).map(|part| part.member).chain(self.wrong_clocks());
        let file = self.files.get(&epoch);
        let unwell = file.into_iter().flat_map(|file| file.unwell.iter().copied());
        // Members that are malicious in another run do nothing wrong in this one; but they check nobody, and say everything
        // once, also to who is down.
        let once = file.filter(|file| !file.killed.is_empty()).map(|_| self.plan.malicious().iter().copied());
        let faulty: BTreeSet<usize> = at_fault.chain(unwell).chain(once.into_iter().flatten()).collect();
        let bearable = bearable(self.plan.size());
        self.plan.malicious().len() <= bearable && faulty.len() <= bearable
    }

    // At the end.

    pub(super) fn finish(&mut self, states: &BTreeMap<usize, (DkgState, bool)>, verifier: &dyn Verify) -> Vec<Leak> {
        let epochs: Vec<u64> = self.files.keys().copied().collect();
        let mut leaks = Vec::new();
        for epoch in epochs {
            self.check_submissions(epoch);
            self.check_keys(epoch, states);
            leaks.extend(self.check_board(epoch, verifier));
        }
        if self.violation.as_ref().is_none_or(|violation| violation.rule != Rule::Secrecy) {
            self.violation = self.uncalled_for.take().or(self.violation.take());
        }
        leaks
    }

    pub(super) fn endings(&self) -> Vec<(u64, Ending)> {
        let ending = |file: &File| if file.commit.is_some() { Ending::Committed } else { Ending::Failed };
        self.files.iter().map(|(epoch, file)| (*epoch, ending(file))).collect()
    }

    fn check_submissions(&mut self, epoch: u64) {
        let Some(file) = self.files.get(&epoch).filter(|file| file.over) else { return };
        // Where time is hurried, the epoch may be over before a member has learned of its run's last view.
        let in_time = self.wrong_clocks().len() <= bearable(self.plan.size());
        let wrong = file.reports.iter().filter(|(member, _)| !file.unwell.contains(member)).find(|(member, report)| {
            let submitted = file.submitted.get(member);
            match (&report.keys, submitted) {
                // Who was killed before it could submit finds keys agreed on that its result adds nothing to.
                (_, None) => in_time && !(file.commit.is_some() && file.killed.contains(member)),
                (Ok(_), Some(result)) => *result == DkgResult::Empty,
                (Err(_), Some(result)) => *result != DkgResult::Empty,
            }
        });
        if let Some((member, report)) = wrong {
            let what =
                format!("the board has no fitting result of member {member} for epoch {epoch}: {}", outcome(report));
            self.break_rule(Rule::Submission, || what);
        }
    }

    fn check_keys(&mut self, epoch: u64, states: &BTreeMap<usize, (DkgState, bool)>) {
        let (live, size) = (self.keeps_promises(epoch), self.plan.size());
        let Some(file) = self.files.get(&epoch) else { return };
        if !file.over {
            // On a log chain time stands still while too few are there to tick.
            if live && (self.plan.chain() == ChainKind::Contract || file.killed.is_empty()) {
                self.break_rule(Rule::Liveness, || format!("the chain never gets beyond the run for epoch {epoch}"));
            }
            return;
        }
        let commit = file.commit.clone();
        let well: BTreeSet<usize> = states.keys().copied().filter(|member| !file.unwell.contains(member)).collect();
        if live && commit.is_none() {
            let reports: Vec<String> =
                file.reports.iter().map(|(member, report)| format!("{member}: {}", outcome(report))).collect();
            let what = format!("the chain has no keys for epoch {epoch}; members: {}", reports.join("; "));
            return self.break_rule(Rule::Liveness, || what);
        }
        let mut keys: Vec<CommittedKey> = Vec::new();
        for (member, (state, up)) in states {
            let (safe, status) = match state.record(EpochCounter(epoch)) {
                Ok(record) => (record.safe_key(), record.status()),
                Err(error) => {
                    return self
                        .break_rule(Rule::Resilience, || format!("member {member} cannot read its store: {error}"));
                }
            };
            match safe {
                SafeKey::Key(key) => keys.push(key),
                _ if live && well.contains(member) => {
                    return self.break_rule(Rule::Liveness, || {
                        format!("member {member} ends epoch {epoch} with its key {status}, not committed")
                    });
                }
                _ if commit.is_some() && status == KeyStatus::Completed && *up && well.contains(member) => {
                    return self.break_rule(Rule::Liveness, || {
                        format!("member {member} has a key for epoch {epoch} that it never compared with the chain's")
                    });
                }
                _ => {}
            }
        }
        let Some(commit) = commit else { return };
        let report = file_report(&self.files, epoch);
        // More than t who lie about it can have any keys agreed on.
        let few_lie = self.plan.malicious().len() <= threshold(size);
        if few_lie && report.is_some_and(|keys| keys != (commit.group_key, commit.key_shares.clone())) {
            return self.break_rule(Rule::Agreement, || {
                format!("the chain's keys for epoch {epoch} are not those that the honest members came out with")
            });
        }
        if let Err(what) = check_signing(&commit, &keys, size) {
            self.break_rule(Rule::Correctness, || format!("epoch {epoch}: {what}"));
        }
    }

    fn check_board(&mut self, epoch: u64, verifier: &dyn Verify) -> Vec<Leak> {
        let (n, t) = (self.plan.size(), threshold(self.plan.size()));
        let Some(file) = self.files.get(&epoch) else { return Vec::new() };
        let [Some(first), Some(second), Some(third)] = file.cuts else { return Vec::new() };
        let findings = audit(&file.setup, &file.board, &[first, second, third], verifier);
        let told = file.reports.iter().next().map(|(member, report)| (*member, report.disqualified.clone()));
        if let Some((member, verdicts)) = told {
            let verdicts: BTreeSet<usize> = verdicts.iter().map(|(dealer, _)| usize::from(*dealer)).collect();
            if verdicts != findings.disqualified {
                let found = findings.disqualified.clone();
                self.break_rule(Rule::Evidence, || {
                    format!(
                        "in the run for epoch {epoch} member {member} disqualifies {verdicts:?}, but the board calls for \
                         {found:?}"
                    )
                });
            }
        }
        let mut leaks = Vec::new();
        for (dealer, published) in findings.published.iter().enumerate() {
            let honest = !self.plan.malicious().contains(&dealer);
            let known = published.union(self.plan.malicious()).count();
            // Who is malicious in any run knows its share in this one.
            let unwell = self.files.get(&epoch).map_or(0, |file| file.unwell.len());
            let promised = self.is_well(epoch, dealer) && self.plan.malicious().len() + unwell <= bearable(n);
            if honest && (published.len() > t || promised && known > t) {
                self.break_rule(Rule::Secrecy, || {
                    format!(
                        "of the honest dealer {dealer} {} shares are public and {known} known in the run for epoch \
                         {epoch}; {t} may be",
                        published.len()
                    )
                });
            }
            leaks.push(Leak { epoch, dealer, honest, public: published.len(), known, margin: t.saturating_sub(known) });
        }
        leaks
    }
}

fn file_report(files: &BTreeMap<u64, File>, epoch: u64) -> Option<(PublicKey, Vec<PublicKey>)> {
    let keys = files.get(&epoch)?.reports.values().next()?.keys.as_ref().ok()?;
    Some((keys.group_key, keys.key_shares.clone()))
}

/// `t + 1` of the committed keys sign under the group key, and `t` do not.
fn check_signing(commit: &EpochCommit, keys: &[CommittedKey], n: usize) -> Result<(), String> {
    let t = threshold(n);
    for key in keys {
        let expected = commit.key_shares.get(usize::from(key.index()));
        if expected != Some(&key.public_key()) {
            return Err(format!("the share of member {} does not match its public share", key.index()));
        }
    }
    // Not all of these can be wrong if the first is right; the last ones are the most unlike it.
    let signers: Vec<&CommittedKey> = keys.iter().rev().take(t + 1).collect();
    if signers.len() <= t {
        return Ok(());
    }
    let message = b"simulated";
    let shares: Vec<_> =
        signers.iter().map(|key| (key.index(), key.secret_key().sign(message, &RANDOM_BEACON_TAG))).collect();
    let verify = |signature| commit.group_key.verify(message, &RANDOM_BEACON_TAG, &signature);
    match combine(n, t, &shares) {
        Ok(signature) if verify(signature) => {}
        Ok(_) => return Err(format!("{} shares make a signature that does not verify", t + 1)),
        Err(error) => return Err(format!("{} shares make no signature: {error}", t + 1)),
    }
    let too_few = &shares[..t];
    match combine(n, t, too_few) {
        Ok(_) => return Err(format!("{t} shares are taken for enough")),
        Err(CombineError::NotEnoughShares { .. }) => {}
        Err(error) => return Err(format!("{t} shares are refused for the wrong reason: {error}")),
    }
    // Nor by whoever does not ask how many are needed.
    if t > 1 && combine(n, t - 1, too_few).is_ok_and(verify) {
        return Err(format!("{t} shares make a signature that verifies"));
    }
    Ok(())
}

fn outcome(report: &RunReport) -> String {
    let out: Vec<String> = report.disqualified.iter().map(|(dealer, reason)| format!("{dealer} ({reason})")).collect();
    let keys = match &report.keys {
        Ok(keys) => format!("group key {}…", &hex::encode(&keys.group_key.to_flow_bytes())[..12]),
        Err(reason) => format!("no keys: {reason}"),
    };
    let qualified: Vec<String> = report.qualified.iter().map(Index::to_string).collect();
    format!("qualified [{}], disqualified [{}], {keys}", qualified.join(", "), out.join(", "))
}

/// The name of an enum's variant.
fn variant(value: &impl fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}
