//! The pure core under every order of inputs that threads can bring about: proptest draws the schedule, the cores have no
//! thread.

mod cases;
mod support;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use cases::cases;
use dkg_engine::chain::{BoardMessage, DkgResult};
use dkg_engine::committee::NodeId;
use dkg_engine::engine::{
    ControllerFactory, Core, Effect, EngineEvent, Input, OsRandomness, ReadId, ReadRequest, Recalled, RunReport,
};
use dkg_engine::envelope::{BroadcastMessage, PrivateKind, PrivateMessage};
use dkg_engine::epoch::{EpochCounter, EpochSetup, Header, ProtocolEvent, View};
use dkg_engine::network::{Delivery, Receipt};
use dkg_engine::protocol::encode_answer;
use dkg_engine::store::{DkgState, KeyStatus, MemoryStore};
use dkg_engine::{SecretBytes, bls};
use proptest::prelude::*;
use support::{committee, header, node_id, setup, staking_key};

struct Node {
    id: NodeId,
    core: Core,
    state: DkgState,
    events: VecDeque<ProtocolEvent>,
    private: Vec<(NodeId, PrivateMessage)>,
    /// Answers to reads that are on their way.
    pages: VecDeque<Input>,
    reading: Option<ReadRequest>,
    /// The last read whose last page it has taken.
    finished: Option<ReadId>,
    /// The results of computations that have not been told yet.
    computed: VecDeque<Input>,
    ended: Vec<View>,
    report: Option<RunReport>,
}

struct World {
    nodes: Vec<Node>,
    board: Vec<BoardMessage>,
    submissions: Vec<DkgResult>,
    setup: EpochSetup,
    /// Shares that are lost on the way: (from, to).
    lost: BTreeSet<(usize, usize)>,
    /// Node 3 answers node 0's complaint before it has been made.
    early_answer: bool,
    /// This node's computing thread gets nowhere.
    slow: Option<usize>,
    /// What chance decides next.
    choices: Vec<u8>,
    next_choice: usize,
}

impl World {
    fn new(size: usize, choices: Vec<u8>, lost: BTreeSet<(usize, usize)>, early_answer: bool) -> World {
        let committee = committee(size);
        let node = |number| Node {
            id: node_id(number),
            core: Core::new(ControllerFactory::new(node_id(number), staking_key(number)), 10, Box::new(OsRandomness)),
            state: DkgState::new(Arc::new(MemoryStore::new())),
            events: VecDeque::new(),
            private: Vec::new(),
            pages: VecDeque::new(),
            reading: None,
            finished: None,
            computed: VecDeque::new(),
            ended: Vec::new(),
            report: None,
        };
        World {
            nodes: (0..size).map(node).collect(),
            board: Vec::new(),
            submissions: Vec::new(),
            setup: setup(&committee, 1, View(3)),
            lost,
            early_answer,
            slow: None,
            choices,
            next_choice: 0,
        }
    }

    fn choose(&mut self, among: usize) -> usize {
        let choice = self.choices.get(self.next_choice % self.choices.len().max(1)).copied().unwrap_or(0);
        self.next_choice += 1;
        (usize::from(choice) + self.next_choice / self.choices.len().max(1)) % among.max(1)
    }

    /// Lets every node work on what is waiting for it, in an order that chance decides, until nothing waits. What a node
    /// waits for comes in pieces, and private messages overtake each other and everything else.
    fn settle_down(&mut self) {
        loop {
            let busy: Vec<usize> = (0..self.nodes.len()).filter(|&number| self.has_work(number)).collect();
            if busy.is_empty() {
                return;
            }
            let number = busy[self.choose(busy.len())];
            let kind = self.choose(4);
            let slow = self.slow == Some(number);
            let node = &mut self.nodes[number];
            let input = match kind {
                0 if node.core.wants_private() && !node.private.is_empty() => {
                    let position = self.next_choice % node.private.len();
                    let (from, message) = node.private.remove(position);
                    Input::Private(Delivery { from, message, receipt: Receipt::none() })
                }
                1 if !node.pages.is_empty() => node.pages.pop_front().unwrap(),
                2 if !slow && !node.computed.is_empty() => node.computed.pop_front().unwrap(),
                _ => match node.events.pop_front() {
                    Some(event) => Input::Event(
                        Box::new(event.clone()),
                        Recalled::for_event(&node.state, &node.id, &event).unwrap(),
                    ),
                    None => continue,
                },
            };
            self.step(number, input);
        }
    }

    fn has_work(&self, number: usize) -> bool {
        let node = &self.nodes[number];
        let computed = !node.computed.is_empty() && self.slow != Some(number);
        let waits = !node.events.is_empty() || !node.pages.is_empty() || computed;
        waits || (node.core.wants_private() && !node.private.is_empty())
    }

    fn step(&mut self, number: usize, input: Input) {
        let reading_before = self.nodes[number].reading;
        if let Input::Page { read, last: true, .. } = &input
            && reading_before.is_some_and(|reading| reading.id == *read)
        {
            self.nodes[number].finished = Some(*read);
        }
        let step = self.nodes[number].core.step(input).expect("nothing that others do stops a node");
        let effects = step.persist(&self.nodes[number].state).unwrap();
        for effect in effects {
            match effect {
                Effect::Confirm(receipt) => receipt.confirm(),
                Effect::SelfTest { .. } => {}
                Effect::Compute { id, task } => {
                    assert!(self.nodes[number].computed.is_empty(), "two computations for one run");
                    let result = task.run();
                    self.nodes[number].computed.push_back(Input::Computed { id, result });
                }
                // In this world what is lost stays lost.
                Effect::SendPrivate { message, .. } if message.kind == PrivateKind::ShareRequest => {}
                Effect::SendPrivate { to, message } => {
                    let receiver = self.nodes.iter().position(|node| node.id == to).unwrap();
                    if !self.lost.contains(&(number, receiver)) {
                        let from = self.nodes[number].id;
                        self.nodes[receiver].private.push((from, message));
                    } else if self.early_answer && number == 3 {
                        let share = bls::Scalar::from_be_bytes(&message.data.expose()[1..]).unwrap();
                        let data = encode_answer(bls::Index::from_position(receiver).unwrap(), &share);
                        let signed = BroadcastMessage::sign(data, &self.setup.instance, &staking_key(3));
                        self.board.push(BoardMessage { node_id: node_id(3), content: signed.to_json() });
                    }
                }
                Effect::Post { content, .. } => {
                    // The early answerer never answers a second time.
                    let message = BroadcastMessage::from_json(&content).unwrap();
                    if !(self.early_answer && number == 3 && message.data[0] == 3) {
                        let node_id = self.nodes[number].id;
                        self.board.push(BoardMessage { node_id, content });
                    }
                }
                Effect::Read(request) => {
                    self.nodes[number].reading = Some(request);
                    self.answer(number, request);
                }
                Effect::Submit { result, .. } => self.submissions.push(result),
                Effect::EndRun(_) => self.nodes[number].reading = None,
                Effect::Report(EngineEvent::PhaseEnded { view, .. }) => {
                    // A phase ends after the last page of its final read, with nothing read and nothing computed in between.
                    let read = reading_before.expect("a phase ended without a read");
                    assert_eq!(self.nodes[number].finished, Some(read.id));
                    assert!(self.nodes[number].computed.is_empty());
                    assert!(read.must_succeed);
                    assert!(read.as_of.view >= view);
                    self.nodes[number].ended.push(view);
                }
                Effect::Report(EngineEvent::RunEnded(report)) => self.nodes[number].report = Some(*report),
                Effect::Report(_) => {}
            }
        }
    }

    /// The board's answer, in pages of chance's size, some of them preceded by answers to nobody's question.
    fn answer(&mut self, number: usize, request: ReadRequest) {
        let all: Vec<BoardMessage> = self.board[request.from_index as usize..request.as_of.height as usize].to_vec();
        let split = self.choose(all.len() + 1);
        let (first, rest) = all.split_at(split);
        let node = &mut self.nodes[number];
        let stale = ReadId(request.id.0.wrapping_sub(1));
        node.pages.push_back(Input::Page { read: stale, messages: rest.to_vec(), last: true });
        node.pages.push_back(Input::Page { read: request.id, messages: first.to_vec(), last: false });
        node.pages.push_back(Input::ReadGivenUp(stale));
        node.pages.push_back(Input::Page { read: request.id, messages: rest.to_vec(), last: true });
    }

    fn tell(&mut self, event: ProtocolEvent) {
        for node in &mut self.nodes {
            node.events.push_back(event.clone());
        }
    }

    fn finalize(&mut self, view: u64) -> Header {
        let block = header(view, self.board.len() as u64);
        self.tell(ProtocolEvent::BlockFinalized(block));
        block
    }

    fn run(&mut self) {
        let setup = self.setup.clone();
        self.tell(ProtocolEvent::EpochSetupPhaseStarted { current: EpochCounter(0), first: header(3, 0), setup });
        let mut view = 3;
        for last in self.setup.phase_final_views {
            // What members do in a phase reaches the board in that phase; how it interleaves with blocks is open.
            while view + 12 < last.0 {
                view += 1 + self.choose(11) as u64;
                self.finalize(view);
                if self.choose(2) == 0 {
                    self.settle_down();
                }
            }
            self.settle_down();
            view = last.0 + self.choose(3) as u64;
            self.finalize(view);
            if last != self.setup.phase_final_views[2] {
                self.settle_down();
            }
        }
        self.settle_down();
    }
}

proptest! {
    #![proptest_config(cases(24))]

    /// Final poll before transition, boundary decided by board position (R2, R3): whatever the order in which a node's
    /// threads bring it blocks, pages and private messages, no phase ends before its final read, all members agree, and
    /// shares that are lost are repaired.
    #[test]
    fn whatever_the_order_of_inputs_phases_end_after_their_final_read_and_all_members_agree(
        choices in prop::collection::vec(any::<u8>(), 16..200),
        lost in prop::collection::btree_set((0usize..4, 0usize..4), 0..2),
        early_answer in any::<bool>(),
    ) {
        let mut lost = lost;
        if early_answer {
            lost.insert((3, 0));
            lost.retain(|(from, to)| (*from, *to) == (3, 0) || *from != 3);
        }
        let mut world = World::new(4, choices, lost, early_answer);
        world.run();
        let reports: Vec<&RunReport> = world.nodes.iter().map(|node| node.report.as_ref().unwrap()).collect();
        for (node, report) in world.nodes.iter().zip(&reports) {
            prop_assert_eq!(node.ended.len(), 3);
            prop_assert_eq!(&report.qualified, &reports[0].qualified);
            prop_assert_eq!(report.keys.as_ref().unwrap(), reports[0].keys.as_ref().unwrap());
            prop_assert_eq!(&report.share, &Ok(()));
            let record = node.state.record(EpochCounter(1)).unwrap();
            prop_assert_eq!(record.status(), KeyStatus::Completed);
        }
        prop_assert_eq!(reports[0].qualified.len(), 4);
        prop_assert!(world.submissions.iter().all(|result| *result == world.submissions[0]));
    }

    /// Whatever comes in whatever order, a core neither panics nor stops.
    #[test]
    fn arbitrary_inputs_never_stop_a_node(
        inputs in prop::collection::vec((0u8..7, any::<u64>(), prop::collection::vec(any::<u8>(), 0..60)), 0..60)
    ) {
        let committee = committee(3);
        let state = DkgState::new(Arc::new(MemoryStore::new()));
        let mut core = Core::new(ControllerFactory::new(node_id(0), staking_key(0)), 10, Box::new(OsRandomness));
        for (kind, number, bytes) in inputs {
            let small = number % 8;
            let event = match kind {
                0 => Some(ProtocolEvent::BlockFinalized(header(number % 200, number))),
                1 => Some(ProtocolEvent::BlockFinalized(header(number, number))),
                2 => Some(ProtocolEvent::EpochSetupPhaseStarted {
                    current: EpochCounter(small),
                    first: header(number % 100, 0),
                    setup: setup(&committee, small + 1, View(number % 50)),
                }),
                _ => None,
            };
            let message = BoardMessage {
                node_id: node_id(small as usize),
                content: BroadcastMessage::sign(bytes.clone(), &setup(&committee, 1, View(0)).instance, &staking_key(small as usize)).to_json(),
            };
            let input = match (event, kind) {
                (Some(event), _) => Input::Event(Box::new(event.clone()), Recalled::for_event(&state, &node_id(0), &event).unwrap()),
                (None, 3 | 4) => Input::Page { read: ReadId(small), messages: vec![message], last: kind == 3 },
                (None, 5) => Input::ReadGivenUp(ReadId(small)),
                (None, _) => Input::Private(Delivery {
                    from: node_id(small as usize),
                    message: PrivateMessage::protocol(SecretBytes::new(bytes), format!("dkg-test-{}", small % 3)),
                    receipt: Receipt::none(),
                }),
            };
            let step = core.step(input);
            prop_assert!(step.is_ok());
            prop_assert!(step.unwrap().persist(&state).is_ok());
        }
    }
}

#[test]
fn while_a_computation_is_on_messages_and_pages_are_taken_and_no_phase_ends() {
    let mut world = World::new(4, vec![1, 2, 0, 3, 2, 1], BTreeSet::new(), false);
    let setup = world.setup.clone();
    let [phase_1, phase_2, phase_3] = setup.phase_final_views;
    world.tell(ProtocolEvent::EpochSetupPhaseStarted { current: EpochCounter(0), first: header(3, 0), setup });
    world.slow = Some(0);
    for view in [phase_1.0 - 10, phase_1.0, phase_2.0 - 10] {
        world.finalize(view);
        world.settle_down();
    }
    assert!(world.nodes[1..].iter().all(|node| node.ended == [phase_1]));
    let slow = &world.nodes[0];
    assert!(slow.private.is_empty(), "the shares have been taken");
    assert!(slow.pages.is_empty() && slow.finished.is_some(), "the board has been read");
    assert!(slow.ended.is_empty() && slow.core.worked_off() < phase_1);
    // It goes on where it was, and is not the worse for it.
    world.slow = None;
    world.settle_down();
    assert_eq!(world.nodes[0].ended, [phase_1]);
    for view in [phase_2.0, phase_3.0] {
        world.finalize(view);
        world.settle_down();
    }
    let reports: Vec<&RunReport> = world.nodes.iter().map(|node| node.report.as_ref().unwrap()).collect();
    assert!(reports.iter().all(|report| report.keys == reports[0].keys && report.share == Ok(())));
    assert_eq!(reports[0].qualified.len(), 4);
    assert_eq!(world.nodes[0].core.worked_off(), phase_3);
}

#[test]
fn what_was_computed_for_a_run_that_is_over_is_passed_over() {
    let mut world = World::new(4, (0..37).map(|place| place * 7 % 11).collect(), BTreeSet::new(), false);
    let first = world.setup.clone();
    let tell_setup = |world: &mut World, current, at, setup: EpochSetup| {
        let first = header(at, world.board.len() as u64);
        world.tell(ProtocolEvent::EpochSetupPhaseStarted { current: EpochCounter(current), first, setup });
        world.settle_down();
    };
    tell_setup(&mut world, 0, 3, first.clone());
    world.slow = Some(0);
    world.finalize(first.phase_final_views[0].0 - 10);
    world.settle_down();
    let late = world.nodes[0].computed.pop_front().expect("a computation is on");
    // The chain goes over to the next run. Its first computation may not be taken for the old one's.
    let committee = committee(4);
    let second = setup(&committee, 2, View(1003));
    world.setup = second.clone();
    world.board.clear();
    tell_setup(&mut world, 1, 1003, second.clone());
    world.finalize(second.phase_final_views[0].0 - 10);
    world.settle_down();
    world.step(0, late);
    world.finalize(second.phase_final_views[0].0);
    world.settle_down();
    assert!(world.nodes[0].ended.is_empty(), "the second run waits for its own computation");
    world.slow = None;
    world.settle_down();
    for view in &second.phase_final_views[1..] {
        world.finalize(view.0);
        world.settle_down();
    }
    assert!(world.nodes.iter().all(|node| node.report.as_ref().is_some_and(|report| report.share == Ok(()))));
}
