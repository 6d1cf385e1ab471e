//! The inbound queue, the retry policy and the order of clients (spec section 7), which decide without threads or clocks.

mod cases;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use cases::cases;
use dkg_engine::SecretBytes;
use dkg_engine::committee::NodeId;
use dkg_engine::engine::{
    FAILURES_BEFORE_NEXT, Failover, FairQueue, INBOUND_LIMIT, INBOUND_LIMIT_PER_SENDER, MAX_WAIT, RetryPolicy,
};
use dkg_engine::envelope::{MAX_PRIVATE_BYTES, PrivateMessage};
use dkg_engine::network::{Delivery, InboundError, Receipt};
use proptest::prelude::*;
use support::node_id;

/// A message that says its number.
fn message(number: usize) -> PrivateMessage {
    let data = SecretBytes::new((number as u64).to_be_bytes().to_vec());
    PrivateMessage::protocol(data, "dkg-test-1")
}

fn delivery(from: NodeId, message: PrivateMessage) -> Delivery {
    Delivery { from, message, receipt: Receipt::none() }
}

fn number(message: &PrivateMessage) -> usize {
    u64::from_be_bytes(message.data.expose().try_into().unwrap()) as usize
}

/// What comes of a push.
type Pushed = Result<Option<Delivery>, (InboundError, Delivery)>;

fn taken(pushed: Pushed) {
    assert!(pushed.is_ok());
}

fn refused(pushed: Pushed) -> InboundError {
    pushed.err().expect("it is taken").0
}

fn pop_all(queue: &mut FairQueue) -> Vec<(NodeId, usize)> {
    std::iter::from_fn(|| queue.pop()).map(|waiting| (waiting.from, number(&waiting.message))).collect()
}

/// As full as the queue can be: 62 senders have all they may hold, one has 8.
fn full() -> FairQueue {
    let mut queue = FairQueue::new();
    for number in 0..INBOUND_LIMIT {
        taken(queue.push(delivery(node_id(number / INBOUND_LIMIT_PER_SENDER), message(number))));
    }
    assert_eq!(queue.len(), INBOUND_LIMIT);
    queue
}

#[test]
fn senders_are_served_in_turn_and_each_ones_messages_in_their_order() {
    let mut queue = FairQueue::new();
    for (sender, count) in [(1, 0), (1, 1), (1, 2), (3, 0), (2, 0), (2, 1)] {
        taken(queue.push(delivery(node_id(sender), message(count))));
    }
    let order = [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2)];
    assert_eq!(pop_all(&mut queue), order.map(|(sender, count)| (node_id(sender), count)));
    assert!(queue.is_empty());
}

#[test]
fn a_sender_that_comes_back_waits_for_its_turn() {
    let mut queue = FairQueue::new();
    taken(queue.push(delivery(node_id(1), message(0))));
    taken(queue.push(delivery(node_id(2), message(0))));
    assert_eq!(queue.pop().unwrap().from, node_id(1));
    taken(queue.push(delivery(node_id(1), message(1))));
    taken(queue.push(delivery(node_id(3), message(0))));
    let turns: Vec<NodeId> = pop_all(&mut queue).into_iter().map(|(from, _)| from).collect();
    assert_eq!(turns, [node_id(2), node_id(3), node_id(1)]);
}

#[test]
fn a_flooder_fills_only_its_own_share_of_the_queue() {
    let mut queue = FairQueue::new();
    for count in 0..INBOUND_LIMIT_PER_SENDER {
        taken(queue.push(delivery(node_id(9), message(count))));
    }
    for count in 0..5000 {
        let another = message(INBOUND_LIMIT_PER_SENDER + count);
        assert_eq!(refused(queue.push(delivery(node_id(9), another))), InboundError::SenderFull);
    }
    assert_eq!((queue.len(), queue.dropped()), (INBOUND_LIMIT_PER_SENDER, 5000));
    taken(queue.push(delivery(node_id(10), message(7))));
    let served = pop_all(&mut queue);
    assert_eq!(served[1], (node_id(10), 7), "served behind one message of the flooder's, not behind all");
    assert!(served.iter().filter(|(from, _)| *from == node_id(9)).map(|(_, count)| *count).is_sorted());
}

#[test]
fn a_full_queue_makes_room_for_a_newcomer_at_the_cost_of_one_that_holds_most() {
    let mut queue = full();
    taken(queue.push(delivery(node_id(200), message(1))));
    assert_eq!((queue.len(), queue.dropped()), (INBOUND_LIMIT, 1));
    let served = pop_all(&mut queue);
    assert!(served.contains(&(node_id(200), 1)));
    let held = |sender: usize| served.iter().filter(|(from, _)| *from == node_id(sender)).count();
    let losers = (0..62).filter(|sender| held(*sender) < INBOUND_LIMIT_PER_SENDER).count();
    assert_eq!((losers, held(62)), (1, 8));
}

#[test]
fn a_full_queue_moves_nobody_out_for_a_sender_that_holds_as_much() {
    let mut queue = FairQueue::new();
    for count in 0..4 {
        (0..250).for_each(|sender| taken(queue.push(delivery(node_id(sender), message(count)))));
    }
    assert_eq!(refused(queue.push(delivery(node_id(3), message(4)))), InboundError::Full);
    let before = queue.dropped();
    // Newcomers rise to what the others hold, and no further.
    let taken = (0..4).filter(|count| queue.push(delivery(node_id(251), message(*count))).is_ok()).count();
    assert_eq!((taken, queue.dropped() - before), (3, 4));
    assert_eq!(queue.len(), INBOUND_LIMIT);
}

#[test]
fn a_message_too_large_to_be_honest_is_refused() {
    let mut queue = FairQueue::new();
    let large = PrivateMessage { data: SecretBytes::new(vec![0; MAX_PRIVATE_BYTES + 1]), ..message(0) };
    assert_eq!(refused(queue.push(delivery(node_id(1), large))), InboundError::TooLarge);
    assert_eq!((queue.len(), queue.dropped()), (0, 1));
}

#[test]
fn the_third_client_is_tried_when_two_are_down() {
    let mut failover = Failover::new(3);
    let tried: Vec<usize> = (0..7)
        .map(|_| {
            let client = failover.current();
            failover.failed();
            client
        })
        .collect();
    assert_eq!(tried, [0, 0, 1, 1, 2, 2, 0], "round and round, each twice");
}

#[test]
fn the_client_that_worked_last_stays_preferred_until_it_fails_twice_in_a_row() {
    let mut failover = Failover::new(3);
    for _ in 0..2 * FAILURES_BEFORE_NEXT {
        failover.failed();
    }
    assert_eq!(failover.current(), 2);
    for _ in 0..10 {
        failover.succeeded();
        failover.failed();
        assert_eq!(failover.current(), 2, "one failure between successes");
    }
    failover.failed();
    assert_eq!(failover.current(), 0);
}

#[test]
fn a_single_client_is_asked_again_and_again() {
    for clients in [0, 1] {
        let mut failover = Failover::new(clients);
        for _ in 0..5 {
            assert_eq!(failover.current(), 0);
            failover.failed();
        }
    }
}

/// The specification's policy for private messages.
const SENDING: RetryPolicy =
    RetryPolicy { retries: Some(9), base_wait: Duration::from_secs(1), jitter_percent: 25, max_wait: MAX_WAIT };

#[test]
fn waits_double_from_the_first_and_end_after_the_named_number_of_retries() {
    let waits: Vec<Option<u64>> =
        (1..=12).map(|failures| SENDING.wait(failures, 1 << 63).map(|wait| wait.as_secs())).collect();
    let doubling = (0..9).map(|doublings| Some(1 << doublings)).chain([None, None, None]);
    assert_eq!(waits, Vec::from_iter(doubling));
    let all: Duration = (1..=9).filter_map(|failures| SENDING.wait(failures, 1 << 63)).sum();
    assert_eq!(all.as_secs(), 511, "about 8 minutes in all");
}

#[test]
fn jitter_reaches_a_quarter_either_way() {
    assert_eq!(SENDING.wait(3, 0), Some(Duration::from_secs(3)));
    let most = SENDING.wait(3, u64::MAX).unwrap();
    assert!(most > Duration::from_millis(4999) && most <= Duration::from_secs(5), "{most:?}");
}

#[test]
fn a_policy_without_a_number_never_gives_up_and_never_waits_longer_than_its_limit() {
    let max_wait = Duration::from_secs(16);
    let policy = RetryPolicy { retries: None, jitter_percent: 0, max_wait, ..SENDING };
    let waits: Vec<u64> = (1..=7).map(|failures| policy.wait(failures, 0).unwrap().as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16]);
    assert_eq!(policy.wait(u32::MAX, u64::MAX), Some(max_wait));
}

#[derive(Clone, Debug)]
enum Happening {
    /// This sender offers so many.
    Push(usize, usize),
    Pop(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0usize..120, 1usize..20).prop_map(|(sender, count)| Happening::Push(sender, count)),
        1 => (0usize..60).prop_map(Happening::Pop),
    ]
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn the_queue_keeps_its_limits_counts_what_it_drops_and_serves_each_sender_in_order(
        happenings in prop::collection::vec(happening(), 0..300)
    ) {
        let mut queue = FairQueue::new();
        let (mut offered, mut popped) = (0, 0);
        let mut last = BTreeMap::new();
        let mut served = |Delivery { from, message, .. }: Delivery| {
            let number = number(&message);
            last.insert(from, number).is_none_or(|before| before < number)
        };
        for happening in happenings {
            match happening {
                Happening::Push(sender, count) => {
                    for _ in 0..count {
                        offered += 1;
                        let _refused_or_not = queue.push(delivery(node_id(sender), message(offered)));
                        prop_assert!(queue.len() <= INBOUND_LIMIT);
                    }
                }
                Happening::Pop(count) => {
                    for message in (0..count).map_while(|_| queue.pop()) {
                        popped += 1;
                        prop_assert!(served(message));
                    }
                }
            }
            prop_assert_eq!(offered as u64, popped + queue.dropped() + queue.len() as u64);
        }
        let mut held = BTreeMap::new();
        let waiting = queue.len();
        for delivery in std::iter::from_fn(|| queue.pop()) {
            *held.entry(delivery.from).or_insert(0) += 1;
            prop_assert!(served(delivery));
        }
        prop_assert!(held.values().all(|held| *held <= INBOUND_LIMIT_PER_SENDER));
        prop_assert_eq!(held.values().sum::<usize>(), waiting);
    }

    #[test]
    fn every_wait_is_within_the_jitter_of_its_doubling(
        failures in 1u32..100,
        random: u64,
        base_millis in 0u64..5_000_000,
        jitter_percent in 0u32..150,
        max_millis in 0u64..2_000_000,
    ) {
        let max_wait = Duration::from_millis(max_millis);
        let base_wait = Duration::from_millis(base_millis);
        let policy = RetryPolicy { retries: None, base_wait, jitter_percent, max_wait };
        let doubled = u128::from(base_millis) << failures.saturating_sub(1).min(60);
        let middle = doubled.min(u128::from(max_millis)).min(MAX_WAIT.as_millis()) as f64 / 1000.0;
        let spread = middle * f64::from(jitter_percent.min(100)) / 100.0;
        let wait = policy.wait(failures, random).unwrap().as_secs_f64();
        prop_assert!((middle - spread - 1e-6..=middle + spread + 1e-6).contains(&wait), "{} of {}", wait, middle);
    }
}
