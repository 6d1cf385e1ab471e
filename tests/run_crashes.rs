//! A member dies at every operation on its disk and before everything it does, in a whole run: it is started again on what
//! the disk has kept, and the run comes out as if nothing had happened.
#![cfg(feature = "file-store")]

mod disk;
mod folder;
mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use disk::{Disk, Image, Operation, apply, torn};
use dkg_engine::bls::{Index, PublicKey, Scalar};
use dkg_engine::chain::{BoardMessage, DkgResult};
use dkg_engine::committee::NodeId;
use dkg_engine::engine::{
    ControllerFactory, Core, Effect, EngineEvent, Input, PublicKeys, Randomness, RandomnessError, ReadRequest, Recalled,
};
use dkg_engine::envelope::{BroadcastMessage, PrivateKind, PrivateMessage};
use dkg_engine::epoch::{
    EpochCommit, EpochCounter, EpochPhase, EpochSetup, Header, ProtocolEvent, RunHistory, Snapshot, View,
};
use dkg_engine::network::{Delivery, Receipt};
use dkg_engine::protocol::{Broadcast, encode_complaint, encode_share};
use dkg_engine::store::seal::create_key_file;
use dkg_engine::store::{DkgState, FileStore, MemoryStore, Owner, SafeKey, Unlock};
use folder::Folder;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, RngExt, SeedableRng, TryRng};
use support::{committee, header, node_id, setup, staking_key};

const SIZE: usize = 3;
const EPOCH: EpochCounter = EpochCounter(1);
/// Views between two blocks.
const BLOCK: u64 = 5;
/// Up to so many unsynced operations, every subset of them is tried.
const EXHAUSTIVE: usize = 2;
/// How many subsets are tried where there are more.
const SAMPLES: usize = 4;
/// For so many first crashes, two second ones are tried.
const TWICE: usize = 15;

/// Where member 0 dies, counted from its last start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// At this operation on its disk.
    Operation(usize),
    /// Before it does this: sends, posts, reads, confirms, submits or reports.
    Effect(usize),
}

/// What the disk has of the operations since the last sync of their file, and of the one at which it died.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// All but the last.
    Before,
    /// All.
    After,
    /// All, the last in half.
    Torn,
    /// Some of those before the last, as this seed has it.
    Some(u64),
    /// Those of the bits.
    Only(usize),
}

#[derive(Clone, Copy, Debug)]
struct Crash {
    cut: Cut,
    kept: Kept,
}

/// What a message of member 0 is for: one thing is said one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Share(NodeId),
    Vector,
    Complaint(u8),
    Answer(u8),
    Result,
}

type Said = BTreeMap<Purpose, BTreeSet<Vec<u8>>>;

/// Secrets that every life draws anew.
struct Drawn(StdRng);

impl Drawn {
    fn of(member: usize, life: usize) -> Self {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&[member as u8, life as u8]);
        Drawn(StdRng::from_seed(seed))
    }
}

impl Randomness for Drawn {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

struct Member {
    core: Core,
    state: DkgState,
    events: VecDeque<ProtocolEvent>,
    /// What its senders have to send until it confirms it.
    private: VecDeque<(NodeId, PrivateMessage)>,
    pages: VecDeque<Input>,
    keys: Option<PublicKeys>,
}

/// One life of member 0, as far as its disk and its deeds go.
struct Life {
    disk: Disk,
    /// What was on the disk when it began.
    found: Image,
    effects: usize,
}

/// Member 0 has died.
struct Dead;

struct World<'a> {
    room: &'a Room,
    faulty: bool,
    setup: EpochSetup,
    members: Vec<Member>,
    board: Vec<BoardMessage>,
    head: Header,
    ends: Vec<Header>,
    begun: bool,
    commit: Option<EpochCommit>,
    results: Vec<DkgResult>,
    said: Said,
    life: Life,
    lives: usize,
    /// The life whose secrets the first one has.
    first_life: usize,
    crashes: VecDeque<Crash>,
    problems: Vec<EngineEvent>,
}

/// How a run came out.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    keys: PublicKeys,
    share: PublicKey,
    said: Said,
}

/// What all runs share: a store that has just been made.
struct Room {
    _folder: Folder,
    unlock: Unlock,
    fresh: Image,
}

fn owner() -> Owner {
    Owner { chain_id: "test".into(), member: node_id(0) }
}

impl Room {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path().join("key");
        create_key_file(&path).unwrap();
        let (unlock, disk) = (Unlock::KeyFile(path), Disk::default());
        let (database, witness) = disk.files();
        drop(FileStore::create_on(Path::new("the store"), database, witness, &owner(), &unlock).unwrap());
        Room { _folder: folder, unlock, fresh: disk.image() }
    }

    /// A run with these crashes; also member 0's last life in it.
    fn run(&self, faulty: bool, first_life: usize, crashes: &[Crash]) -> (Outcome, Life) {
        let member = |number| Member {
            core: core(number, 0),
            state: DkgState::new(Arc::new(MemoryStore::new())),
            events: VecDeque::new(),
            private: VecDeque::new(),
            pages: VecDeque::new(),
            keys: None,
        };
        let world = World {
            room: self,
            faulty,
            setup: setup(&committee(SIZE), EPOCH.0, View(3)),
            members: (0..SIZE).map(member).collect(),
            board: Vec::new(),
            head: header(0, 0),
            ends: Vec::new(),
            begun: false,
            commit: None,
            results: Vec::new(),
            said: Said::new(),
            life: Life { disk: Disk::default(), found: self.fresh.clone(), effects: 0 },
            lives: 0,
            first_life,
            crashes: crashes.iter().copied().collect(),
            problems: Vec::new(),
        };
        world.run()
    }
}

fn core(member: usize, life: usize) -> Core {
    let factory = ControllerFactory::new(node_id(member), staking_key(member));
    Core::new(factory, 10, Box::new(Drawn::of(member, life)))
}

impl Life {
    /// The image that the crash leaves.
    fn left(&self, kept: Kept) -> Image {
        let (mut image, pending) = pending(&self.found, &self.disk.done());
        let last = self.disk.refused();
        let keep = |image: &mut Image, which: &mut dyn FnMut(usize) -> bool| {
            let all = pending.iter().enumerate().filter(|(number, _)| which(*number));
            all.for_each(|(_, operation)| apply(image, operation));
        };
        match kept {
            Kept::Some(seed) => {
                let mut random = StdRng::seed_from_u64(seed);
                keep(&mut image, &mut |_| random.random());
            }
            Kept::Only(bits) => keep(&mut image, &mut |number| bits >> number & 1 == 1),
            Kept::Before | Kept::After | Kept::Torn => {
                keep(&mut image, &mut |_| true);
                let last = match kept {
                    Kept::After => last,
                    Kept::Torn => last.as_ref().and_then(torn),
                    _ => None,
                };
                last.iter().for_each(|operation| apply(&mut image, operation));
            }
        }
        image
    }
}

/// What is durable, and the operations since the last sync of their file.
fn pending(found: &Image, done: &[Operation]) -> (Image, Vec<Operation>) {
    let (mut durable, mut pending) = (found.clone(), Vec::<Operation>::new());
    let of = |operation: &Operation| match operation {
        Operation::Write { file, .. } | Operation::Resize { file, .. } | Operation::Sync { file } => *file,
    };
    for operation in done {
        if let Operation::Sync { file } = operation {
            pending.iter().filter(|operation| of(operation) == *file).for_each(|done| apply(&mut durable, done));
            pending.retain(|operation| of(operation) != *file);
        } else {
            pending.push(operation.clone());
        }
    }
    (durable, pending)
}

impl World<'_> {
    fn run(mut self) -> (Outcome, Life) {
        for number in 1..SIZE {
            let recalled =
                Recalled::for_start(&self.members[number].state, &node_id(number), &self.snapshot()).unwrap();
            let start = Input::Start(Box::new(self.snapshot()), recalled);
            self.step(number, start).unwrap_or_else(|Dead| unreachable!());
        }
        let fresh = self.room.fresh.clone();
        self.live(fresh);
        let setup = self.setup.clone();
        self.head = header(setup.first_view.0, 0);
        self.begun = true;
        let current = EpochCounter(0);
        self.tell(ProtocolEvent::EpochSetupPhaseStarted { current, first: self.head, setup: setup.clone() });
        for (phase, last) in setup.phase_final_views.into_iter().enumerate() {
            while self.head.view < last {
                if self.faulty && phase == 1 && self.head.view.0 + BLOCK >= last.0 {
                    self.accuse_falsely();
                }
                self.block(last);
            }
        }
        let commit = self.agreed();
        self.commit = Some(commit.clone());
        self.tell(ProtocolEvent::EpochCommittedPhaseStarted { current, first: self.head, commit: commit.clone() });
        self.block(View(u64::MAX));
        while !self.crashes.is_empty() {
            // It dies while it is stopped in good order.
            self.members[0].state = DkgState::new(Arc::new(MemoryStore::new()));
            assert!(self.life.disk.refused().is_some(), "it has not died where it should");
            let left = self.bury();
            self.live(left);
            self.settle_down();
        }
        self.outcome(commit)
    }

    /// Member 2 complains about member 0, so late that the answer comes in the phase after.
    fn accuse_falsely(&mut self) {
        let complaint = BroadcastMessage::sign(encode_complaint(index(0)), &self.setup.instance, &staking_key(2));
        self.board.push(BoardMessage { node_id: node_id(2), content: complaint.to_json() });
    }

    fn outcome(self, commit: EpochCommit) -> (Outcome, Life) {
        assert_eq!(self.problems, []);
        let keys = self.members[1].keys.clone().expect("keys");
        assert_eq!(self.members[2].keys.as_ref(), Some(&keys));
        assert_eq!((&keys.group_key, &keys.key_shares), (&commit.group_key, &commit.key_shares));
        let mut shares = self.members.iter().map(|member| match member.state.safe_key(EPOCH).unwrap() {
            SafeKey::Key(key) => {
                key.self_test(&commit.key_shares[usize::from(key.index())]).unwrap();
                key.public_key()
            }
            _ => panic!("a member has no key"),
        });
        let share = shares.next().unwrap();
        assert_eq!(shares.count(), SIZE - 1);
        for (purpose, ways) in &self.said {
            assert_eq!(ways.len(), 1, "{purpose:?} was said in {} ways", ways.len());
        }
        let accused = |poster, about| {
            let complaint = encode_complaint(index(about));
            let of = |post: &&BoardMessage| post.node_id == node_id(poster);
            let mut posts =
                self.board.iter().filter(of).map(|post| BroadcastMessage::from_json(&post.content).unwrap());
            posts.any(|post| post.data == complaint)
        };
        assert!(!accused(1, 0), "member 1 complains about the one that was down");
        assert_eq!([accused(2, 0), accused(0, 2)], [self.faulty; 2]);
        (Outcome { keys, share, said: self.said }, self.life)
    }

    fn snapshot(&self) -> Snapshot {
        let phase = match &self.commit {
            Some(commit) => EpochPhase::Committed(commit.clone()),
            None if self.begun => EpochPhase::Setup(self.setup.clone()),
            None => EpochPhase::Staking,
        };
        let run = self.begun.then(|| RunHistory { setup: self.setup.clone(), ends: self.ends.clone() });
        Snapshot { run, ..Snapshot::new(EpochCounter(0), self.head, phase) }
    }

    /// Starts member 0 on this disk, again and again until it lives.
    fn live(&mut self, mut found: Image) {
        loop {
            let disk = Disk::with(found.clone());
            if let Some(Crash { cut: Cut::Operation(operation), .. }) = self.crashes.front() {
                disk.break_after(*operation);
            }
            self.life = Life { disk, found, effects: 0 };
            self.members[0].events.clear();
            self.members[0].pages.clear();
            self.members[0].core = core(0, self.first_life + self.lives);
            self.lives += 1;
            match self.start() {
                Ok(()) => return,
                Err(Dead) => found = self.bury(),
            }
        }
    }

    fn start(&mut self) -> Result<(), Dead> {
        let (database, witness) = self.life.disk.files();
        let store = FileStore::open_on(Path::new("the store"), database, witness, &owner(), &self.room.unlock);
        let store = store.map_err(|error| self.died(&error))?;
        self.members[0].state = DkgState::new(Arc::new(store));
        let recalled = Recalled::for_start(&self.members[0].state, &node_id(0), &self.snapshot());
        let recalled = recalled.map_err(|error| self.died(&error))?;
        self.step(0, Input::Start(Box::new(self.snapshot()), recalled))
    }

    /// Nothing but its disk stops member 0.
    fn died(&self, error: &dyn std::error::Error) -> Dead {
        assert!(self.life.disk.refused().is_some(), "{error}");
        Dead
    }

    /// What the dead member leaves on its disk.
    fn bury(&mut self) -> Image {
        // Of what the process would do on its way out, nothing reaches the disk.
        self.life.disk.break_after(0);
        let Some(Crash { kept, .. }) = self.crashes.pop_front() else { unreachable!("it dies of a crash only") };
        let left = self.life.left(kept);
        self.members[0].state = DkgState::new(Arc::new(MemoryStore::new()));
        left
    }

    fn tell(&mut self, event: ProtocolEvent) {
        for member in &mut self.members {
            member.events.push_back(event.clone());
        }
        self.settle_down();
    }

    /// The next block, not later than `last`.
    fn block(&mut self, last: View) {
        let view = (self.head.view.0 + BLOCK).min(last.0);
        self.head = header(view, self.board.len() as u64);
        if self.setup.phase_final_views.contains(&self.head.view) {
            self.ends.push(self.head);
        }
        self.tell(ProtocolEvent::BlockFinalized(self.head));
    }

    /// Everybody works, in turn, until nothing waits.
    fn settle_down(&mut self) {
        let mut idle = 0;
        for number in (0..SIZE).cycle() {
            idle = match self.turn(number) {
                Ok(true) => 0,
                Ok(false) => idle + 1,
                Err(Dead) => {
                    let left = self.bury();
                    self.live(left);
                    0
                }
            };
            if idle == SIZE {
                return;
            }
        }
    }

    /// Whether there was something to do.
    fn turn(&mut self, number: usize) -> Result<bool, Dead> {
        let member = &mut self.members[number];
        if let Some(event) = member.events.pop_front() {
            let recalled = Recalled::for_event(&member.state, &node_id(number), &event);
            let recalled = recalled.map_err(|error| self.died(&error))?;
            self.step(number, Input::Event(Box::new(event), recalled))?;
        } else if let Some((from, message)) = member.private.front().cloned().filter(|_| member.core.wants_private()) {
            // It is sent until it is confirmed.
            self.step(number, Input::Private(Delivery { from, message, receipt: Receipt::none() }))?;
        } else if let Some(page) = member.pages.pop_front() {
            self.step(number, page)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn step(&mut self, number: usize, input: Input) -> Result<(), Dead> {
        let step = self.members[number].core.step(input).expect("nothing that others do stops a node");
        let effects = step.persist(&self.members[number].state);
        let effects = if number == 0 { effects.map_err(|error| self.died(&error))? } else { effects.unwrap() };
        for effect in effects {
            if number == 0 {
                if self.crashes.front().is_some_and(|crash| crash.cut == Cut::Effect(self.life.effects)) {
                    return Err(Dead);
                }
                self.life.effects += 1;
                self.remember(&effect);
            }
            self.carry_out(number, effect);
        }
        // A store that goes on after its disk has failed keeps nothing of what it says it keeps.
        if number == 0 && self.life.disk.refused().is_some() { Err(Dead) } else { Ok(()) }
    }

    /// Notes what member 0 says.
    fn remember(&mut self, effect: &Effect) {
        let (purpose, bytes) = match effect {
            Effect::SendPrivate { to, message } if message.kind == PrivateKind::Protocol => {
                (Purpose::Share(*to), message.data.expose().to_vec())
            }
            Effect::Post { content, .. } => {
                let data = BroadcastMessage::from_json(content).unwrap().data;
                let purpose = match Broadcast::parse(&data) {
                    Broadcast::Vector(_) => Purpose::Vector,
                    Broadcast::Complaint(body) => Purpose::Complaint(body[0]),
                    Broadcast::Answer(body) => Purpose::Answer(body[0]),
                    other => panic!("{other:?}"),
                };
                (purpose, content.as_bytes().to_vec())
            }
            Effect::Submit { result, .. } => (Purpose::Result, format!("{result:?}").into_bytes()),
            _ => return,
        };
        self.said.entry(purpose).or_default().insert(bytes);
    }

    fn carry_out(&mut self, number: usize, effect: Effect) {
        match effect {
            Effect::Confirm(_) => {
                self.members[number].private.pop_front();
            }
            Effect::SendPrivate { to, mut message } => {
                let receiver = (0..SIZE).find(|number| node_id(*number) == to).unwrap();
                if self.faulty && (number, receiver) == (2, 0) && message.kind == PrivateKind::Protocol {
                    let share = Scalar::from_be_bytes(&message.data.expose()[1..]).unwrap();
                    let mut twice = share.clone();
                    twice += &share;
                    message.data = encode_share(&twice);
                }
                self.members[receiver].private.push_back((node_id(number), message));
            }
            Effect::Post { content, .. } => self.board.push(BoardMessage { node_id: node_id(number), content }),
            Effect::Read(ReadRequest { id: read, from_index, as_of, .. }) => {
                let messages = self.board[from_index as usize..as_of.height as usize].to_vec();
                self.members[number].pages.push_back(Input::Page { read, messages, last: true });
            }
            Effect::Compute { id, task } => {
                let result = task.run();
                self.members[number].pages.push_back(Input::Computed { id, result });
            }
            Effect::Submit { result, .. } => self.results.push(result),
            Effect::EndRun(_) | Effect::SelfTest { .. } => {}
            Effect::Report(EngineEvent::RunEnded(report)) => {
                assert_eq!(report.qualified.len(), SIZE);
                assert_eq!(report.share, Ok(()));
                self.members[number].keys = report.keys.ok();
            }
            Effect::Report(
                problem @ (EngineEvent::SatOut { .. }
                | EngineEvent::DealtElsewhere { .. }
                | EngineEvent::Disqualified { .. }
                | EngineEvent::PostDropped { .. }
                | EngineEvent::KeyFailed { .. }),
            ) => self.problems.push(problem),
            Effect::Report(_) => {}
        }
    }

    /// What the chain commits.
    fn agreed(&self) -> EpochCommit {
        assert!(self.results.len() >= SIZE, "somebody has not submitted a result");
        assert!(self.results.iter().all(|result| *result == self.results[0]));
        let DkgResult::Complete { group_key, key_shares, index_map } = &self.results[0] else { panic!("no result") };
        let key = |text: &String| PublicKey::from_flow_bytes(&dkg_engine::hex::decode(text).unwrap()).unwrap();
        EpochCommit {
            epoch: EPOCH,
            group_key: key(group_key),
            key_shares: key_shares.iter().map(key).collect(),
            index_map: index_map.clone(),
        }
    }
}

fn index(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

/// Everything that can be left of a life which found `found` and went like this.
fn all_crashes(life: &Life, random: &mut StdRng) -> Vec<Crash> {
    let done = life.disk.done();
    let mut crashes = Vec::new();
    for (step, operation) in done.iter().enumerate() {
        let mut add = |kept| crashes.push(Crash { cut: Cut::Operation(step), kept });
        match operation {
            Operation::Write { .. } => [Kept::Before, Kept::Torn].into_iter().for_each(&mut add),
            Operation::Resize { .. } => add(Kept::Before),
            Operation::Sync { .. } => {
                [Kept::Before, Kept::After].into_iter().for_each(&mut add);
                let (_, pending) = pending(&life.found, &done[..step]);
                if pending.len() <= EXHAUSTIVE {
                    // All of them is as before.
                    (0..(1 << pending.len()) - 1).map(Kept::Only).for_each(&mut add);
                } else {
                    add(Kept::Only(0));
                    (0..SAMPLES).map(|_| Kept::Some(random.random())).for_each(&mut add);
                }
            }
        }
    }
    // What is not synced when something is done may be lost.
    crashes.extend((0..life.effects).map(|effect| Crash { cut: Cut::Effect(effect), kept: Kept::Only(0) }));
    crashes
}

/// All came out as in one of the runs without a crash: the one with the dealing that was kept. Which life had drawn it.
fn check(expected: &[Outcome], outcome: &Outcome) -> usize {
    let same = expected.iter().position(|expected| expected.keys == outcome.keys);
    let life = same.expect("other keys than without a crash");
    assert_eq!(outcome, &expected[life]);
    life
}

fn seed() -> u64 {
    let seed = std::env::var("CRASH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| SysRng.try_next_u64().unwrap());
    println!("CRASH_SEED={seed}");
    seed
}

/// Says on the way out of a failed run how to have it again.
struct Case<'a>(&'a [Crash]);

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the run with {:?}", self.0);
        }
    }
}

fn dies_everywhere(faulty: bool) {
    let mut random = StdRng::seed_from_u64(seed());
    let room = Room::new();
    let expected: Vec<Outcome> = (0..2).map(|life| room.run(faulty, life, &[]).0).collect();
    let (_, life) = room.run(faulty, 0, &[]);
    let crashes = all_crashes(&life, &mut random);
    let mut dealt_by = [0; 2];
    for crash in &crashes {
        let case = [*crash];
        let _case = Case(&case);
        dealt_by[check(&expected, &room.run(faulty, 0, &case).0)] += 1;
    }
    println!("{} crashes of {} operations and {} effects", crashes.len(), life.disk.steps(), life.effects);
    // Most in the middle of the run, and some before the dealing was durable.
    let [first, second] = dealt_by;
    assert!(first > 100 && second > 5, "{dealt_by:?}");
}

#[test]
fn a_member_that_dies_at_any_operation_of_a_run_comes_out_of_it_with_the_same_keys() {
    dies_everywhere(false);
}

#[test]
fn a_member_that_dies_at_any_operation_of_a_run_with_complaints_comes_out_of_it_with_the_same_keys() {
    dies_everywhere(true);
}

#[test]
fn a_member_that_dies_twice_in_a_run_comes_out_of_it_with_the_same_keys() {
    let mut random = StdRng::seed_from_u64(seed());
    let room = Room::new();
    for faulty in [false, true] {
        let expected: Vec<Outcome> = (0..3).map(|life| room.run(faulty, life, &[]).0).collect();
        let firsts = all_crashes(&room.run(faulty, 0, &[]).1, &mut random);
        for _ in 0..TWICE {
            let first = firsts[random.random_range(0..firsts.len())];
            // How the second life goes shows where it can end.
            let (_, second_life) = room.run(faulty, 0, &[first]);
            let seconds = all_crashes(&second_life, &mut random);
            for _ in 0..2 {
                let case = [first, seconds[random.random_range(0..seconds.len())]];
                let _case = Case(&case);
                check(&expected, &room.run(faulty, 0, &case).0);
            }
        }
    }
}
