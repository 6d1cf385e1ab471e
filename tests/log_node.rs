//! One member's side of the log chain: when it ticks, where the log is kept, and the thread that follows it.
#![cfg(feature = "log-chain")]

mod log_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dkg_engine::chain::log::{
    AppendError, ChainNode, Clock, Entry, FollowError, Follower, LogChain, LogError, LogHost, MAX_ENTRY_BYTES,
    MAX_TICK_WAIT, MemoryLog, MemoryLogReader, NodeError, PREFIX_WINDOW, Pace, Payload, Prefix, SignedEntry, Situation,
    Ticker, TickerStep,
};
use dkg_engine::chain::{ClientError, DkgContractClient, DkgResult};
use dkg_engine::envelope::MAX_POST_BYTES;
use dkg_engine::epoch::{EpochCounter, Header, InstanceId, ProtocolEvent, ProtocolEvents, View};
use log_support::*;
use parking_lot::Mutex;

const GENESIS: u64 = 1_000_000;
const IDLE: View = View(u64::MAX);

fn ticker(seed: u64) -> Ticker {
    Ticker::new(config(), seed)
}

/// The member has ticked what is final, and its engine is done with it; no run is on.
fn at(now_ms: u64, finalized: u64) -> Situation {
    let finalized = View(finalized);
    Situation { now_ms, steady_ms: now_ms, finalized, paced: false, ticked: finalized, caught_up: finalized }
}

/// The same while a run is on.
fn in_run(now_ms: u64, finalized: u64) -> Situation {
    Situation { paced: true, ..at(now_ms, finalized) }
}

/// A member's entry.
fn tick(world: &mut World, view: View) -> Vec<u8> {
    let entry = world.entry(0, Payload::Tick(view));
    world.sign(&entry)
}

/// The first moment from `from` on at which this ticker ticks, and what.
fn first_tick(ticker: &mut Ticker, from: Situation) -> Option<(u64, View)> {
    (0..1000).find_map(|passed| {
        let now = Situation { now_ms: from.now_ms + passed, steady_ms: from.steady_ms + passed, ..from };
        match ticker.step(now) {
            TickerStep::Tick(view) => Some((now.now_ms, view)),
            TickerStep::Wait(_) => None,
        }
    })
}

// When a member ticks.

#[test]
fn a_member_ticks_a_view_a_quarter_of_a_view_late_at_most_and_not_all_at_once() {
    let moments: std::collections::BTreeSet<_> = (0..20)
        .map(|seed| {
            let (now, view) = first_tick(&mut ticker(seed), at(GENESIS, 0)).unwrap();
            assert_eq!(view, View(1));
            assert!((GENESIS + 100..=GENESIS + 125).contains(&now), "{now}");
            now
        })
        .collect();
    assert!(moments.len() > 10, "{moments:?}");
}

#[test]
fn a_member_waits_exactly_until_its_next_tick_is_due() {
    let mut ticker = ticker(1);
    let mut now = GENESIS;
    while let TickerStep::Wait(wait) = ticker.step(at(now, 0)) {
        assert!(wait <= MAX_TICK_WAIT && now < GENESIS + 125);
        now += u64::try_from(wait.as_millis()).unwrap();
    }
    assert!(now <= GENESIS + 125);
    assert!(matches!(ticker.step(at(now - 1, 0)), TickerStep::Wait(_)));
}

#[test]
fn a_member_says_nothing_about_a_view_that_is_final() {
    let (now, view) = first_tick(&mut ticker(1), at(GENESIS + 100, 1)).unwrap();
    assert_eq!(view, View(2));
    assert!(now >= GENESIS + 200);
}

#[test]
fn a_member_ticks_a_view_once_and_again_only_if_the_tick_is_lost_for_a_view() {
    let mut ticker = ticker(1);
    let (now, view) = first_tick(&mut ticker, at(GENESIS + 100, 0)).unwrap();
    ticker.sent(view, now);
    let (again, _) = first_tick(&mut ticker, at(now, 0)).unwrap();
    assert_eq!(again, now + 100);
    let in_the_log = Situation { ticked: View(1), ..at(again, 0) };
    assert_eq!(first_tick(&mut ticker, in_the_log), None, "the others have not ticked it");
}

#[test]
fn a_member_does_not_vouch_for_time_before_it_has_done_its_own_work() {
    let mut ticker = ticker(1);
    let late = at(GENESIS + 450, 3);
    assert!(matches!(ticker.step(Situation { caught_up: View(2), ..late }), TickerStep::Wait(_)));
    assert_eq!(ticker.step(late), TickerStep::Tick(View(4)));
}

#[test]
fn missed_views_are_passed_over_and_a_run_begins_late_or_not_at_all() {
    // Runs take the views 5 to 16 of an epoch of 20 and may begin 8 views late, then in the view before the next one's.
    for (clock, finalized, ticks) in [
        (4, 1, 4),
        (5, 1, 5),
        (16, 1, 5),
        (17, 1, 17),
        (19, 16, 19),
        (22, 16, 22),
        (36, 18, 25),
        (38, 18, 38),
        (8, 6, 8),
        (20 * 1000, 3, 20 * 1000),
    ] {
        let now = at(GENESIS + clock * 100 + 25, finalized);
        assert_eq!(ticker(1).step(now), TickerStep::Tick(View(ticks)), "view {clock}, {finalized} final");
    }
    let mut world = World::new();
    for finalized in [2, 4, 20 + 4, 40 + 17, 60] {
        world.jump(finalized);
        let TickerStep::Tick(furthest) = ticker(1).step(at(u64::MAX, finalized)) else { panic!("it waits") };
        assert!(furthest.0 > 100_000);
        assert_eq!(
            world.replica.clone().apply(&tick(&mut world, furthest)).unwrap().skipped,
            None,
            "a replica takes it"
        );
    }
}

#[test]
fn while_a_run_is_on_a_view_takes_its_time_whatever_the_clock_says() {
    // The clock is hours ahead of the chain, and was set forward besides.
    let mut ticker = ticker(1);
    let begins = in_run(GENESIS + 10_000_000, 5);
    let (first, view) = first_tick(&mut ticker, begins).unwrap();
    assert!(view == View(6) && (100..=125).contains(&(first - begins.now_ms)), "{first}");
    // Final at once; seen 40 ms late, which is made up for.
    let seen = Situation { now_ms: u64::MAX / 2, ..in_run(first + 40, 6) };
    let (second, view) = first_tick(&mut ticker, seen).unwrap();
    let second = second - seen.now_ms + seen.steady_ms;
    assert!(view == View(7) && (200..=225).contains(&(second - begins.now_ms)), "{second}");
    // A phase begins: nothing is made up for.
    let seen = in_run(second + 40, 7);
    let (third, _) = first_tick(&mut ticker, seen).unwrap();
    assert!((100..=125).contains(&(third - seen.now_ms)), "{third}");
}

#[test]
fn a_clock_before_genesis_or_at_its_end_is_no_trouble() {
    assert!(matches!(ticker(1).step(at(0, 0)), TickerStep::Wait(_)));
    assert!(matches!(ticker(1).step(at(u64::MAX, u64::MAX)), TickerStep::Wait(_)));
    assert!(matches!(ticker(1).step(in_run(u64::MAX, u64::MAX)), TickerStep::Wait(_)));
}

// A log in memory.

#[test]
fn what_all_readers_have_read_is_forgotten_and_no_more() {
    let log = MemoryLog::new();
    let (one, two) = (log.reader(), log.reader());
    for _ in 0..5 {
        one.append(b"x").unwrap();
    }
    one.read(5, 1).unwrap();
    assert_eq!(log.kept(), 5, "the other has read nothing");
    two.read(3, 1).unwrap();
    assert_eq!(log.kept(), 2);
    assert_eq!(two.read(2, 1), Err(LogError::Forgotten { asked: 2, first: 3 }));
    drop(two);
    assert_eq!(log.kept(), 0, "who is gone keeps nothing");
    let late = log.reader();
    assert_eq!(late.append(b"y"), Ok(5));
}

#[test]
fn a_reader_that_does_not_read_fills_the_log_and_is_told_of() {
    let log = MemoryLog::new();
    let (busy, _lazy) = (log.reader(), log.reader());
    let entry = vec![0; MAX_ENTRY_BYTES];
    let refused = (0..10_000).find_map(|_| busy.append(&entry).err());
    assert_eq!(refused, Some(LogError::Full(0)));
    assert_eq!(busy.append(&[0; MAX_ENTRY_BYTES + 1]), Err(LogError::TooLong(MAX_ENTRY_BYTES + 1)));
}

// A member.

fn member(log: &MemoryLog, position: usize) -> ChainNode {
    started(log, position, 1)
}

/// A member at its `start`th start.
fn started(log: &MemoryLog, position: usize, start: u64) -> ChainNode {
    ChainNode::new(LogChain::new(config()), Arc::new(log.reader()), network_key(position), start).unwrap()
}

/// Members that make a view final by hand, and while a run is on every view before it.
fn finalize(members: &[ChainNode], view: u64) {
    let finalized = || members[0].replica().lock().header().view;
    while finalized() < View(view) {
        let paced = members[0].replica().lock().is_paced();
        let next = if paced { View(finalized().0 + 1) } else { View(view) };
        for member in &members[..=T] {
            member.author().append(Payload::Tick(next)).unwrap();
        }
        for member in members {
            member.catch_up().unwrap();
        }
    }
}

#[test]
fn a_key_outside_the_committee_file_is_no_member() {
    let key = network_key(N);
    let public = key.verifying_key().to_bytes();
    let node = ChainNode::new(LogChain::new(config()), Arc::new(MemoryLog::new().reader()), key, 1);
    assert_eq!(node.map(drop).unwrap_err(), NodeError::NotAMember(public));
}

#[test]
fn what_one_member_posts_all_read_as_of_the_same_block() {
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    finalize(&members, 5);
    members[3].board().broadcast("{}").unwrap();
    finalize(&members, 6);
    let block = members[0].replica().lock().header();
    members[4].board().broadcast("too late for this block").unwrap();
    for member in &members {
        let read = member.board().read_broadcast(0, &block, 10).unwrap();
        assert_eq!(read.iter().map(|m| (m.node_id, m.content.as_str())).collect::<Vec<_>>(), [(node(3), "{}")]);
    }
}

#[test]
fn a_post_that_stands_on_the_board_already_is_not_made_again_even_if_no_block_has_it() {
    let log = MemoryLog::new();
    let _keeps_it_all = log.reader();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    finalize(&members, 5);
    members[3].board().broadcast("said before it went down").unwrap();
    // The same member, started again: it cannot know from any block what it has said after the last.
    let again = started(&log, 3, 2);
    again.catch_up().unwrap();
    again.board().broadcast("said before it went down").unwrap();
    again.board().broadcast("not said before").unwrap();
    members[4].catch_up().unwrap();
    members[4].board().broadcast("said before it went down").unwrap();
    finalize(&members, 6);
    let block = members[0].replica().lock().header();
    let read = members[0].board().read_broadcast(0, &block, 10).unwrap();
    let said: Vec<_> = read.iter().map(|post| (post.node_id, post.content.as_str())).collect();
    let (first, second) = ("said before it went down", "not said before");
    assert_eq!(said, [(node(3), first), (node(3), second), (node(4), first)], "others may say the same");
}

#[test]
fn a_block_that_the_member_has_not_read_is_unavailable_and_a_foreign_one_refused() {
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    finalize(&members, 5);
    let block = members[0].replica().lock().header();
    let read = |block| members[0].board().read_broadcast(0, &block, 10);
    let ahead = Header { height: block.height + 1, ..block };
    assert!(matches!(read(ahead), Err(ClientError::Unavailable(_))));
    assert!(matches!(read(Header { id: [7; 32], ..block }), Err(ClientError::Refused(_))));
}

#[test]
fn what_every_replica_would_skip_is_refused_at_once() {
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    let board = members[0].board();
    let refused = |outcome| matches!(outcome, Err(ClientError::Refused(_)));
    assert!(refused(board.broadcast("no run is going on")));
    assert!(refused(board.submit_result(&run(), &DkgResult::Empty)));
    finalize(&members, 5);
    assert!(refused(board.broadcast("")));
    assert!(refused(board.broadcast(&"x".repeat(MAX_POST_BYTES + 1))));
    assert_eq!(board.broadcast(&"x".repeat(MAX_POST_BYTES)), Ok(()));
    while members[0].author().append(Payload::Post("x".into())).is_ok() {
        members[0].catch_up().unwrap();
    }
    assert_eq!(
        members[0].author().append(Payload::Post("x".into())),
        Err(AppendError::OverQuota(members[0].author().index()))
    );
    assert!(members[0].replica().lock().faults(index(0)).next().is_none(), "nothing was skipped");
}

/// The first run on the chain of these tests.
fn run() -> InstanceId {
    InstanceId::new(config().chain_id(), EpochCounter(1))
}

#[test]
fn a_result_of_another_run_is_refused_at_once() {
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    finalize(&members, 5);
    let other = InstanceId::new(config().chain_id(), EpochCounter(2));
    let outcome = members[0].board().submit_result(&other, &result(0));
    assert!(matches!(outcome, Err(ClientError::Refused(_))), "{outcome:?}");
}

#[test]
fn a_result_submitted_again_is_no_error_and_another_one_is() {
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    finalize(&members, 5);
    members[0].board().submit_result(&run(), &result(0)).unwrap();
    members[0].catch_up().unwrap();
    assert_eq!(members[0].board().submit_result(&run(), &result(0)), Ok(()));
    assert!(matches!(members[0].board().submit_result(&run(), &result(1)), Err(ClientError::Refused(_))));
    for member in &members[1..4] {
        member.board().submit_result(&run(), &result(0)).unwrap();
    }
    finalize(&members, 13);
    assert_eq!(members[4].board().submit_result(&run(), &result(0)), Ok(()), "taken until the epoch ends");
    members[4].catch_up().unwrap();
    assert_eq!(members[4].replica().lock().contract().submissions().count(), N);
}

#[test]
fn what_was_under_way_when_a_member_went_down_does_not_displace_what_it_says_now() {
    let (log, elsewhere) = (MemoryLog::new(), MemoryLog::new());
    let keeper = log.reader();
    // The first process writes to a host that passes entries on late; when it is replaced only one tick has arrived.
    let delayed = elsewhere.reader();
    let first = started(&elsewhere, 0, 1);
    for view in [1, 2] {
        first.author().append(Payload::Tick(View(view))).unwrap();
        first.catch_up().unwrap();
    }
    let under_way = delayed.read(0, 2).unwrap();
    keeper.append(&under_way[0]).unwrap();
    let others: Vec<_> = (1..=T).map(|i| member(&log, i)).collect();
    let others_tick = |view| {
        for other in &others {
            other.author().append(Payload::Tick(View(view))).unwrap();
        }
    };
    others_tick(1);
    let second = started(&log, 0, 2);
    second.catch_up().unwrap();
    keeper.append(&under_way[1]).unwrap();
    others.iter().for_each(|other| other.catch_up().unwrap());
    others_tick(2);
    second.author().append(Payload::Tick(View(3))).unwrap();
    second.catch_up().unwrap();
    let replica = second.replica().lock();
    assert_eq!(replica.last_tick(index(0)), View(3));
    assert!(replica.faults(index(0)).next().is_none());
}

#[test]
fn a_member_whose_clock_was_set_back_goes_on_with_the_next_sequence_number() {
    let log = MemoryLog::new();
    let _keeper = log.reader();
    started(&log, 0, 9).author().append(Payload::Tick(View(1))).unwrap();
    for other in 1..=T {
        member(&log, other).author().append(Payload::Tick(View(1))).unwrap();
    }
    let again = started(&log, 0, 3);
    again.catch_up().unwrap();
    again.author().append(Payload::Tick(View(2))).unwrap();
    again.catch_up().unwrap();
    assert_eq!(again.replica().lock().last_tick(index(0)), View(2));
}

#[test]
fn catching_up_beside_a_follower_applies_no_entry_twice() {
    let log = MemoryLog::new();
    let _keeper = log.reader();
    let node = member(&log, 0);
    let (follower, _events) = follow(&node, 0, Arc::new(|| IDLE));
    let mut end = Prefix::genesis(config().identity());
    let writer = log.reader();
    for number in 0..500u32 {
        writer.append(&number.to_le_bytes()).unwrap();
        end = end.extended(&number.to_le_bytes());
        node.catch_up().unwrap();
    }
    assert_eq!(node.replica().lock().prefix(), end);
    assert_eq!(follower.stop(), Ok(()));
}

// What a host does to an entry that it has taken.

/// What a host does, once, to an entry that it then says it has taken.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    /// Puts it behind so much that nobody remembers what its author had seen.
    Late,
    /// Puts it behind a later one of its author.
    Overtaken,
    Damaged,
    Lost,
}

/// An access whose next post is spoiled.
struct Spoiler {
    log: MemoryLogReader,
    spoil: Mutex<Option<Spoil>>,
    /// A later entry of the same author.
    later: Vec<u8>,
}

impl LogHost for Spoiler {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        let is_post = SignedEntry::decode(entry).is_ok_and(|entry| matches!(entry.entry().payload, Payload::Post(_)));
        let spoil = if is_post { self.spoil.lock().take() } else { None };
        match spoil {
            None => self.log.append(entry),
            Some(Spoil::Late) => {
                for _ in 0..=PREFIX_WINDOW {
                    self.log.append(b"x")?;
                }
                self.log.append(entry)
            }
            Some(Spoil::Overtaken) => {
                self.log.append(&self.later).unwrap();
                self.log.append(entry)
            }
            Some(Spoil::Damaged) => {
                let mut damaged = entry.to_vec();
                *damaged.last_mut().unwrap() ^= 1;
                self.log.append(&damaged)
            }
            // Somebody else's comes where it should have stood.
            Some(Spoil::Lost) => self.log.append(b"x"),
        }
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.log.read(from, limit)
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        self.log.wait(from, timeout)
    }

    fn shutdown(&self) {
        self.log.shutdown();
    }
}

#[test]
fn a_post_that_does_not_count_where_the_host_has_put_it_is_written_again() {
    for spoil in [Spoil::Late, Spoil::Overtaken, Spoil::Damaged, Spoil::Lost] {
        let log = MemoryLog::new();
        let _keeps_it_all = log.reader();
        let members: Vec<_> = (0..=T).map(|i| member(&log, i)).collect();
        finalize(&members, 5);
        let seen = members[0].replica().lock().prefix();
        let later = Entry { author: index(4), sequence: u64::MAX / 2, payload: Payload::Tick(View(6)), seen };
        let later = later.sign(config().identity(), &network_key(4)).unwrap();
        let access = Spoiler { log: log.reader(), spoil: Mutex::new(Some(spoil)), later };
        let node = ChainNode::new(LogChain::new(config()), Arc::new(access), network_key(4), 1).unwrap();
        node.catch_up().unwrap();
        node.board().broadcast("a vector").unwrap();
        node.board().broadcast("a vector").unwrap();
        let (follower, _events) = follow(&node, 0, Arc::new(|| IDLE));
        while node.replica().lock().contract().message_count() == 0 {
            assert_eq!(follower.failure(), None);
            std::thread::yield_now();
        }
        node.board().broadcast("a vector").unwrap();
        follower.stop().unwrap();
        members[0].catch_up().unwrap();
        let replica = members[0].replica().lock();
        assert_eq!(replica.contract().message_count(), 1, "{spoil:?}: once, and all members have it");
    }
}

// The thread.

/// A clock that stands still until it is set.
#[derive(Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn steady_ms(&self) -> u64 {
        self.now_ms()
    }
}

struct Events(crossbeam_channel::Sender<ProtocolEvent>);

impl ProtocolEvents for Events {
    fn on_event(&self, event: ProtocolEvent) {
        let _ = self.0.send(event);
    }
}

fn follow(
    node: &ChainNode,
    now_ms: u64,
    pace: Arc<dyn Pace>,
) -> (Follower, crossbeam_channel::Receiver<ProtocolEvent>) {
    follow_by(node, Arc::new(SetClock(AtomicU64::new(now_ms))), pace)
}

fn follow_by(
    node: &ChainNode,
    clock: Arc<SetClock>,
    pace: Arc<dyn Pace>,
) -> (Follower, crossbeam_channel::Receiver<ProtocolEvent>) {
    let (sender, events) = crossbeam_channel::unbounded();
    let seed = u64::from(node.author().index().byte());
    (Follower::start(node, clock, pace, Arc::new(Events(sender)), seed).unwrap(), events)
}

#[test]
fn members_with_clocks_make_time_pass_and_are_all_told_the_same() {
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    let now = GENESIS + 650;
    let followers: Vec<_> = members.iter().map(|node| follow(node, now, Arc::new(|| IDLE))).collect();
    let told: Vec<Vec<_>> = followers.iter().map(|(_, events)| events.iter().take(2).collect()).collect();
    assert!(matches!(
        told[0][..],
        [ProtocolEvent::EpochSetupPhaseStarted { .. }, ProtocolEvent::BlockFinalized(Header { view: View(5), .. })]
    ));
    assert!(told.iter().all(|events| *events == told[0]));
    for (follower, _) in followers {
        assert_eq!(follower.stop(), Ok(()));
    }
}

#[test]
fn who_writes_in_a_members_name_beside_it_is_found_out_and_an_earlier_life_is_not() {
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| started(&log, i, 2)).collect();
    let (earlier, twin) = (started(&log, 4, 0), started(&log, 4, 1));
    finalize(&members, 5);
    earlier.catch_up().unwrap();
    finalize(&members, 6);
    // Nobody's clock has come to a view that is not final.
    let followers: Vec<_> = [3, 4].map(|i| follow(&members[i], GENESIS, Arc::new(|| IDLE))).into();
    let read_to = |position: u64| {
        for member in &members[3..] {
            while member.replica().lock().prefix().position <= position {
                std::thread::yield_now();
            }
        }
    };
    // What was under way when an earlier life ended, and what this one says.
    earlier.author().append(Payload::Tick(View(8))).unwrap();
    read_to(members[4].author().append(Payload::Tick(View(9))).unwrap());
    assert_eq!(members[4].twin(), None);

    twin.catch_up().unwrap();
    let position = twin.author().append(Payload::Tick(View(10))).unwrap();
    // Followers look at an entry after they have applied it.
    read_to(members[3].author().append(Payload::Tick(View(9))).unwrap());
    let found = members[4].twin().unwrap();
    assert_eq!((found.position, found.kind), (position, "a tick"));
    let refused = members[4].author().append(Payload::Post("{}".to_owned()));
    assert_eq!(refused, Err(AppendError::RunsTwice(found)));
    assert_eq!((members[3].twin(), twin.twin()), (None, None), "who does not follow does not look");
    for (follower, _) in followers {
        assert_eq!(follower.stop(), Ok(()));
    }
}

#[test]
fn time_waits_for_more_than_a_minority_that_is_behind_with_its_work() {
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    let clock = Arc::new(SetClock(AtomicU64::new(GENESIS + 150)));
    let worked_off = Arc::new(AtomicU64::new(0));
    let looks: Arc<[AtomicU64; N]> = Arc::default();
    let followers: Vec<_> = (0..N)
        .map(|i| {
            let (worked_off, looks) = (Arc::clone(&worked_off), Arc::clone(&looks));
            let pace = move || {
                looks[i].fetch_add(1, Ordering::SeqCst);
                View(worked_off.load(Ordering::SeqCst))
            };
            follow_by(&members[i], clock.clone(), Arc::new(pace))
        })
        .collect();
    let next = || followers[0].1.iter().next().unwrap();
    assert!(matches!(next(), ProtocolEvent::BlockFinalized(block) if block.view == View(1)));
    clock.0.store(GENESIS + 350, Ordering::SeqCst);
    let before: Vec<_> = looks.iter().map(|looks| looks.load(Ordering::SeqCst)).collect();
    while looks.iter().zip(&before).any(|(looks, before)| looks.load(Ordering::SeqCst) < before + 3) {
        std::thread::yield_now();
    }
    assert!(
        members.iter().all(|member| member.replica().lock().header().view == View(1)),
        "they have looked, and wait"
    );
    worked_off.store(1, Ordering::SeqCst);
    assert!(matches!(next(), ProtocolEvent::BlockFinalized(block) if block.view == View(3)));
}

#[test]
fn a_follower_stops_while_it_waits_and_its_board_with_it() {
    let log = MemoryLog::new();
    let node = member(&log, 0);
    let (follower, _events) = follow(&node, 0, Arc::new(|| IDLE));
    assert_eq!(follower.failure(), None);
    assert_eq!(follower.stop(), Ok(()));
    assert_eq!(node.author().append(Payload::Tick(View(1))), Err(AppendError::Log(LogError::ShutDown)));
}

#[test]
fn a_board_that_is_shut_down_ends_its_follower() {
    let log = MemoryLog::new();
    let node = member(&log, 0);
    let (follower, events) = follow(&node, 0, Arc::new(|| IDLE));
    node.board().shutdown();
    assert!(events.recv().is_err(), "the thread is gone, and its sender with it");
    assert_eq!(follower.stop(), Ok(()));
}

#[test]
fn a_forked_log_ends_the_follower_and_silences_the_member() {
    let log = MemoryLog::new();
    let host = log.reader();
    let mut world = World::new();
    for author in 0..=T {
        host.append(&world.contradiction(author, 1)).unwrap();
    }
    let node = member(&log, 4);
    let (follower, events) = follow(&node, GENESIS + 150, Arc::new(|| IDLE));
    assert!(events.recv().is_err());
    let forked = node.replica().lock().forked().cloned().unwrap();
    assert_eq!(follower.stop(), Err(FollowError::Forked(forked.clone())));
    assert_eq!(node.author().append(Payload::Tick(View(1))), Err(AppendError::Forked(forked)));
    host.read(T as u64 + 1, 1).unwrap();
    assert_eq!(log.kept(), 0, "the host keeps nothing for it any more");
}

#[test]
fn a_panic_in_the_receiver_is_reported_and_not_passed_over() {
    struct Panics;
    impl ProtocolEvents for Panics {
        fn on_event(&self, _: ProtocolEvent) {
            panic!("as a test");
        }
    }
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    for member in &members[..=T] {
        member.author().append(Payload::Tick(View(1))).unwrap();
    }
    let clock = Arc::new(SetClock::default());
    let follower = Follower::start(&members[4], clock, Arc::new(|| IDLE), Arc::new(Panics), 0).unwrap();
    while follower.failure().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(follower.failure(), Some(FollowError::Panicked));
    assert_eq!(follower.stop(), Err(FollowError::Panicked));
}

#[test]
fn a_follower_can_be_dropped_by_the_receiver_of_its_events() {
    #[derive(Clone)]
    struct Drops {
        follower: Arc<Mutex<Option<Follower>>>,
        dropped: crossbeam_channel::Sender<()>,
    }
    impl ProtocolEvents for Drops {
        fn on_event(&self, _: ProtocolEvent) {
            drop(self.follower.lock().take());
            let _ = self.dropped.send(());
        }
    }
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|i| member(&log, i)).collect();
    for member in &members[..=T] {
        member.author().append(Payload::Tick(View(1))).unwrap();
    }
    let (dropped, told) = crossbeam_channel::unbounded();
    let receiver = Drops { follower: Arc::default(), dropped };
    {
        let mut follower = receiver.follower.lock();
        let clock = Arc::new(SetClock::default());
        *follower =
            Some(Follower::start(&members[4], clock, Arc::new(|| IDLE), Arc::new(receiver.clone()), 0).unwrap());
    }
    drop(receiver);
    assert_eq!(told.recv(), Ok(()), "dropping it has not panicked");
    assert!(told.recv().is_err(), "the thread has gone, and its receiver with it");
}
