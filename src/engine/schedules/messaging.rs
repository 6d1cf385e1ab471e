//! Dispatcher, lanes, calls and retries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{delivery, message, node, run};
use crate::committee::NodeId;
use crate::engine::{BrokerTunnel, MessagingEngine, MessagingEngineConfig};
use crate::envelope::PrivateMessage;
use crate::network::{InboundError, Network, NetworkError};
use crate::sync::explore::{Watched, choose, explore};
use crate::sync::thread;

/// Tries after the first, in these tests.
const RETRIES: u32 = 2;

/// A network on which each message fails as often as was said beforehand, or hangs until the shutdown.
#[derive(Default)]
struct Peers(Watched<Calls>);

#[derive(Default)]
struct Calls {
    /// How often each message is to fail before it gets through.
    failing: BTreeMap<u8, u32>,
    tries: BTreeMap<u8, u32>,
    delivered: Vec<u8>,
    hanging: bool,
    /// Peers that take messages and never answer.
    silent: Vec<NodeId>,
    /// How many calls at once are borne, if not one for every peer.
    most: Option<u32>,
    /// Calls that have not returned, by peer.
    under_way: BTreeMap<NodeId, u32>,
    shut_down: bool,
    /// The engine's stop has returned: nothing may come any more.
    over: bool,
}

impl Calls {
    /// Delivered, or tried as often as it may be.
    fn settled(&self, number: u8) -> bool {
        self.delivered.contains(&number) || self.tries.get(&number).is_some_and(|tries| *tries > RETRIES)
    }
}

impl Network for Peers {
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        let number = message.data.expose()[0];
        let through = self.0.update(|calls| {
            assert!(!calls.over, "a message was sent after the stop");
            assert!(!calls.delivered.contains(&number), "a message was delivered and sent again");
            let under_way = calls.under_way.entry(*to).or_default();
            *under_way += 1;
            assert_eq!(*under_way, 1, "two calls for one peer at once");
            let all: u32 = calls.under_way.values().sum();
            assert!(calls.most.is_none_or(|most| all <= most), "more calls at once than are borne");
            let tries = calls.tries.entry(number).or_default();
            *tries += 1;
            *tries > calls.failing.get(&number).copied().unwrap_or(0)
        });
        let hangs = |calls: &Calls| (calls.hanging || calls.silent.contains(to)) && !calls.shut_down;
        let through = through && self.0.wait(|calls| (!hangs(calls)).then_some(!calls.shut_down));
        self.0.update(|calls| {
            calls.under_way.insert(*to, 0);
            if through {
                calls.delivered.push(number);
            }
        });
        if through { Ok(()) } else { Err(NetworkError::Unreachable(*to, "as told".into())) }
    }

    fn calls_at_once(&self) -> usize {
        self.0.update(|calls| calls.most).map_or(usize::MAX, |most| most as usize)
    }

    fn shutdown(&self) {
        self.0.update(|calls| calls.shut_down = true);
    }
}

fn engine(retry_max: u32) -> (Arc<Peers>, BrokerTunnel, MessagingEngine) {
    engine_over(Arc::default(), retry_max)
}

fn engine_over(peers: Arc<Peers>, retry_max: u32) -> (Arc<Peers>, BrokerTunnel, MessagingEngine) {
    let tunnel = BrokerTunnel::new();
    let config = MessagingEngineConfig { retry_max, retry_base_wait: Duration::from_secs(1), retry_jitter_percent: 25 };
    let engine = MessagingEngine::new(peers.clone(), tunnel.clone(), config).unwrap();
    (peers, tunnel, engine)
}

#[test]
fn every_message_is_delivered_once_or_given_up_after_the_last_retry() {
    explore(3_000, || {
        let (peers, tunnel, engine) = engine(RETRIES);
        // From none to more failures than there are tries.
        let failing: BTreeMap<u8, u32> = (0..4).map(|number| (number, choose(RETRIES as usize + 3) as u32)).collect();
        peers.0.update(|calls| calls.failing = failing.clone());
        for number in failing.keys() {
            tunnel.send(node(*number), message(&run(1), usize::from(*number)));
        }
        peers.0.wait(|calls| failing.keys().all(|number| calls.settled(*number)).then_some(()));
        // Time goes by: two more retries.
        peers.0.update(|calls| calls.failing.insert(9, RETRIES));
        tunnel.send(node(9), message(&run(1), 9));
        peers.0.wait(|calls| calls.delivered.contains(&9).then_some(()));
        assert_eq!(engine.stop(), Ok(()));
        peers.0.update(|calls| {
            for (number, failing) in &failing {
                assert_eq!(calls.tries[number], (failing + 1).min(RETRIES + 1));
                assert_eq!(calls.delivered.contains(number), *failing <= RETRIES);
            }
        });
    });
}

#[test]
fn peers_that_never_answer_hold_up_no_message_to_the_others() {
    explore(2_000, || {
        let (peers, tunnel, engine) = engine(RETRIES);
        // As many as there are, but two; one of these fails at first. Each is sent more than one message.
        peers.0.update(|calls| {
            calls.silent = (0..4).map(node).collect();
            calls.failing = BTreeMap::from([(4, 1 + choose(2) as u32)]);
        });
        for number in 0..12 {
            tunnel.send(node(number % 6), message(&run(1), usize::from(number)));
        }
        peers.0.wait(|calls| [4, 5, 10, 11].iter().all(|number| calls.delivered.contains(number)).then_some(()));
        assert_eq!(engine.stop(), Ok(()));
        peers.0.update(|calls| assert_eq!(calls.delivered.len(), 4, "the silent have confirmed nothing"));
        drop(tunnel);
    });
}

#[test]
fn a_network_is_asked_for_no_more_at_once_than_it_bears_and_everything_gets_through() {
    explore(2_000, || {
        let peers = Arc::<Peers>::default();
        peers.0.update(|calls| {
            calls.most = Some(2);
            calls.failing = BTreeMap::from([(1, choose(2) as u32), (4, 1)]);
        });
        let (peers, tunnel, engine) = engine_over(peers, RETRIES);
        (0..6).for_each(|number| tunnel.send(node(number), message(&run(1), usize::from(number))));
        peers.0.wait(|calls| (calls.delivered.len() == 6).then_some(()));
        assert_eq!(engine.stop(), Ok(()));
        drop(tunnel);
    });
}

#[test]
fn when_a_run_has_ended_its_messages_are_let_go_of_and_the_next_runs_get_through() {
    explore(2_000, || {
        // Messages of the run that ends never get through.
        const ENDED: u8 = 5;
        let (peers, tunnel, engine) = engine(1_000);
        peers.0.update(|calls| {
            calls.failing = (0..ENDED).map(|number| (number, u32::MAX)).chain([(11, 4)]).collect();
        });
        (0..ENDED).for_each(|number| tunnel.send(node(number), message(&run(1), usize::from(number))));
        if choose(2) == 0 {
            peers.0.wait(|calls| (calls.tries.get(&0) > Some(&1)).then_some(()));
        }
        tunnel.end_run(run(1));
        tunnel.send(node(1), message(&run(2), 10));
        let tries = |calls: &Calls| (0..ENDED).filter_map(|number| calls.tries.get(&number)).sum::<u32>();
        let before = peers.0.wait(|calls| calls.delivered.contains(&10).then(|| tries(calls)));
        // Time goes by: four retries.
        tunnel.send(node(1), message(&run(2), 11));
        peers.0.wait(|calls| calls.delivered.contains(&11).then_some(()));
        assert_eq!(engine.stop(), Ok(()));
        // The dispatcher had heard of the end; but each lane may have had one of the messages under way.
        peers.0.update(|calls| assert!(tries(calls) - before <= u32::from(ENDED), "tried on after the run's end"));
    });
}

#[test]
fn a_stop_at_any_moment_ends_all_threads_and_nothing_is_sent_or_taken_after_it() {
    explore(3_000, || {
        let (peers, tunnel, engine) = engine(1_000);
        peers.0.update(|calls| {
            calls.failing = BTreeMap::from([(0, u32::MAX), (1, 1)]);
            calls.hanging = choose(3) == 0;
        });
        let engine = Arc::new(engine);
        let talking = thread::spawn({
            let tunnel = tunnel.clone();
            move || (0..5).for_each(|number| tunnel.send(node(1), message(&run(1), number)))
        });
        let hearing = thread::spawn({
            let engine = engine.clone();
            move || {
                for number in 0..3 {
                    let _taken_or_stopped = engine.process(delivery(2, message(&run(1), number)));
                }
            }
        });
        let stop = || {
            let (engine, peers) = (engine.clone(), peers.clone());
            thread::spawn(move || {
                assert_eq!(engine.stop(), Ok(()));
                peers.0.update(|calls| calls.over = true);
                assert_eq!(engine.process(delivery(2, message(&run(1), 3))), Err(InboundError::Stopped));
            })
        };
        for thread in [talking, hearing, stop(), stop()] {
            thread.join().unwrap();
        }
        tunnel.send(node(1), message(&run(1), 6));
        drop((engine, tunnel));
        assert_eq!(Arc::strong_count(&peers), 1, "a thread still has the network");
    });
}
