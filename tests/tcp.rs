//! Private channels over TCP between members that keep the rules, and what they say about those that are not there, or not
//! who they should be.
#![cfg(feature = "tcp")]

mod support;
mod tcp_support;

use std::net::TcpListener;
use std::time::Duration;

use dkg_engine::network::tcp::{ProbeError, TcpConfig, TcpError, TcpLimits, TcpNetwork};
use dkg_engine::network::{InboundError, Network, NetworkError};
use ed25519_dalek::VerifyingKey;
use support::{PATIENCE, node_id};
use tcp_support::*;

/// Why a message did not get through.
fn why(result: Result<(), NetworkError>, to: usize) -> String {
    match result {
        Err(NetworkError::Unreachable(node, why)) if node == node_id(to) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_send_each_other_messages_and_the_receiver_knows_who_sent_them() {
    let machines = Machines::new(3);
    let members: Vec<_> = (0..3).map(|number| machines.member(number)).collect();
    for (from, (network, _)) in members.iter().enumerate() {
        for to in (0..3).filter(|to| *to != from) {
            network.send(&node_id(to), &message(&format!("{from} to {to}"))).unwrap();
        }
    }
    for (number, (network, mailbox)) in members.iter().enumerate() {
        let mut delivered = mailbox.delivered();
        delivered.sort();
        let others = (0..3).filter(|other| *other != number);
        let expected: Vec<_> = others.map(|from| (node_id(from), format!("{from} to {number}"))).collect();
        assert_eq!(delivered, expected);
        for peer in network.peers() {
            assert!(peer.inbound && peer.outbound && peer.last_error.is_none(), "{peer:?}");
            assert_eq!((peer.sent, peer.received, peer.refused), (1, 1, 0));
        }
        assert_eq!(network.strangers_refused(), 0);
    }
}

#[test]
fn a_message_is_confirmed_when_its_receipt_is_and_not_before() {
    let machines = Machines::new(3);
    let (alice, _) = machines.member(0);
    let (_bob, mailbox) = machines.member(1);
    let (_carol, _) = machines.member(2);
    mailbox.hold();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| alice.send(&node_id(1), &message("a share")));
        mailbox.wait(1);
        // Time enough for a word that would come too early.
        (0..20).for_each(|_| alice.send(&node_id(2), &message("to somebody else")).unwrap());
        assert!(!sending.is_finished(), "nothing is durable yet");
        assert_eq!(status(&alice, 1).sent, 0);
        mailbox.held().into_iter().for_each(|delivery| delivery.receipt.confirm());
        assert_eq!(sending.join().unwrap(), Ok(()));
    });
    assert_eq!(status(&alice, 1).sent, 1);
}

#[test]
fn a_receipt_that_is_dropped_or_never_settled_leaves_the_message_unconfirmed_and_the_link_alive() {
    let machines = Machines::new(2);
    let (alice, _) = machines.member(0);
    let limits = TcpLimits { confirm: Duration::from_millis(50), ..limits() };
    let bob = machines.start(1, machines.config(1, limits));
    let mailbox = Mailbox::new();
    bob.attach(mailbox.clone());
    mailbox.hold();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| alice.send(&node_id(1), &message("dropped")));
        mailbox.wait(1);
        drop(mailbox.held());
        assert_eq!(why(sending.join().unwrap(), 1), "it has not confirmed the message");
    });
    assert_eq!(why(alice.send(&node_id(1), &message("kept waiting")), 1), "it has not confirmed the message");
    // The word for it comes too late, and is not taken for the word on another.
    mailbox.held().into_iter().for_each(|delivery| delivery.receipt.confirm());
    assert!(status(&alice, 1).outbound);
    assert_eq!(why(alice.send(&node_id(1), &message("another")), 1), "it has not confirmed the message");
    assert_eq!((status(&alice, 1).sent, status(&bob, 0).received), (0, 0));
}

#[test]
fn without_an_engine_messages_are_refused_and_probes_answered() {
    let machines = Machines::new(2);
    let (alice, _) = machines.member(0);
    let bob = machines.start(1, machines.config(1, limits()));
    assert_eq!(why(alice.send(&node_id(1), &message("early")), 1), "its engine has not started yet");
    let answer = alice.probe(&node_id(1), PATIENCE).unwrap();
    assert_eq!((answer.chain, answer.version.as_str()), (CHAIN, env!("CARGO_PKG_VERSION")));
    assert!(answer.now_ms > 1_700_000_000_000);
    let mailbox = Mailbox::new();
    bob.attach(mailbox.clone());
    alice.send(&node_id(1), &message("now")).unwrap();
    assert_eq!(mailbox.delivered(), [(node_id(0), "now".to_owned())]);
}

#[test]
fn what_the_receivers_engine_does_not_let_in_is_told_to_the_sender_and_counted() {
    struct Full;
    impl dkg_engine::network::Inbound for Full {
        fn deliver(&self, _: dkg_engine::network::Delivery) -> Result<(), InboundError> {
            Err(InboundError::SenderFull)
        }
    }
    let machines = Machines::new(2);
    let (alice, _) = machines.member(0);
    let bob = machines.start(1, machines.config(1, limits()));
    bob.attach(Full);
    assert_eq!(why(alice.send(&node_id(1), &message("much")), 1), InboundError::SenderFull.to_string());
    assert_eq!(status(&bob, 0).refused, 1);
    let huge = message(&"x".repeat(dkg_engine::envelope::MAX_PRIVATE_BYTES + 1));
    assert!(why(alice.send(&node_id(1), &huge), 1).contains("larger"));
    assert_eq!(status(&bob, 0).refused, 1, "it was not even sent");
}

#[test]
fn the_longest_message_gets_through() {
    let machines = Machines::new(2);
    let (alice, _) = machines.member(0);
    let (_bob, mailbox) = machines.member(1);
    let mut longest = message(&"x".repeat(dkg_engine::envelope::MAX_PRIVATE_BYTES));
    longest.dkg_instance_id = "y".repeat(dkg_engine::envelope::MAX_INSTANCE_BYTES);
    alice.send(&node_id(1), &longest).unwrap();
    assert_eq!(mailbox.delivered()[0].1.len(), dkg_engine::envelope::MAX_PRIVATE_BYTES);
}

#[test]
fn it_works_over_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        return; // This machine has none.
    }
    let machines = Machines::new(2);
    let (alice, _) = machines.member(0);
    let bob = machines.start(1, TcpConfig { listen: "[::1]:0".parse().unwrap(), ..machines.config(1, limits()) });
    assert!(bob.local_addr().is_ipv6());
    let mailbox = Mailbox::new();
    bob.attach(mailbox.clone());
    alice.send(&node_id(1), &message("six")).unwrap();
    assert_eq!(mailbox.delivered(), [(node_id(0), "six".to_owned())]);
}

// Who is not there.

#[test]
fn a_member_that_is_started_again_elsewhere_is_reached_again_and_so_is_one_whose_connections_were_cut() {
    let machines = Machines::new(2);
    let (alice, _) = machines.member(0);
    let (bob, _) = machines.member(1);
    alice.send(&node_id(1), &message("one")).unwrap();
    drop(bob);
    machines.relays[1].lead(None);
    assert!(!why(alice.send(&node_id(1), &message("lost")), 1).is_empty());
    let (_bob, mailbox) = machines.member(1);
    eventually("the message to get through", || alice.send(&node_id(1), &message("two")).is_ok());
    machines.relays[1].cut();
    // The kept connection is dead, which is found out by using it, and made up for at once.
    alice.send(&node_id(1), &message("three")).unwrap();
    let texts: Vec<_> = mailbox.delivered().into_iter().map(|(_, text)| text).collect();
    assert_eq!((texts.first().unwrap().as_str(), texts.last().unwrap().as_str()), ("two", "three"));
    assert_eq!(status(&alice, 1).last_error, None);
}

#[test]
fn a_member_is_started_again_at_once_at_the_same_port() {
    let machines = Machines::new(2);
    let (alice, _) = machines.member(0);
    let (bob, _) = machines.member(1);
    alice.send(&node_id(1), &message("one")).unwrap();
    let listen = bob.local_addr();
    drop(bob);
    let bob = machines.start(1, TcpConfig { listen, ..machines.config(1, limits()) });
    bob.attach(Mailbox::new());
    eventually("the message to get through", || alice.send(&node_id(1), &message("two")).is_ok());
}

#[test]
fn a_peer_that_could_not_be_reached_fails_at_once_for_a_while_but_a_probe_dials_it_and_its_coming_ends_the_wait() {
    let machines = Machines::new(2);
    let hour = Duration::from_secs(3600);
    let alice = machines.start(0, machines.config(0, TcpLimits { redial: hour, max_redial: hour, ..limits() }));
    let first = why(alice.send(&node_id(1), &message("one")), 1);
    let (bob, mailbox) = machines.member(1);
    assert_eq!(why(alice.send(&node_id(1), &message("two")), 1), first, "the last error is repeated");
    assert_eq!(status(&alice, 1).last_error, Some(first));
    alice.probe(&node_id(1), PATIENCE).unwrap();
    alice.send(&node_id(1), &message("three")).unwrap();
    assert_eq!(mailbox.delivered().len(), 1);
    // Again, and this time the peer shows up by itself.
    machines.relays[1].lead(None);
    machines.relays[1].cut();
    eventually("the loss of the connection", || alice.send(&node_id(1), &message("lost")).is_err());
    machines.relays[1].lead(Some(bob.local_addr()));
    assert!(alice.send(&node_id(1), &message("lost")).is_err());
    alice.attach(Mailbox::new());
    bob.send(&node_id(0), &message("here I am")).unwrap();
    alice.send(&node_id(1), &message("four")).unwrap();
}

#[test]
fn a_peer_is_dialled_before_there_is_a_message_for_it_and_again_when_it_is_lost() {
    let machines = Machines::new(2);
    let alice = machines.start(0, machines.config(0, TcpLimits { keep_connected: true, ..limits() }));
    eventually("an error", || status(&alice, 1).last_error.is_some());
    let (bob, _) = machines.member(1);
    eventually("the connection", || status(&alice, 1).outbound && status(&bob, 0).inbound);
    assert_eq!(status(&alice, 1).last_error, None);
    assert!(!status(&alice, 1).inbound && !status(&bob, 0).outbound);
    drop(bob);
    machines.relays[1].lead(None);
    eventually("the loss to be noticed", || !status(&alice, 1).outbound && status(&alice, 1).last_error.is_some());
    let (bob, _) = machines.member(1);
    eventually("the connection", || status(&alice, 1).outbound && status(&bob, 0).inbound);
}

#[test]
fn a_peer_that_takes_as_long_as_it_likes_holds_up_no_other_while_it_is_dialled() {
    // Members 1 and 2 let themselves be connected to, and never say a word; they may take an hour for it.
    let machines = Machines::new(4);
    let mute = TcpListener::bind(LOCALHOST).unwrap();
    machines.relays[1..3].iter().for_each(|relay| relay.lead(Some(mute.local_addr().unwrap())));
    let (carol, mailbox) = machines.member(3);
    let hour = Duration::from_secs(3600);
    let patient = TcpLimits { handshake: hour, send: hour, keep_connected: true, ..limits() };
    let alice = machines.start(0, machines.config(0, patient));
    eventually("the connection", || status(&alice, 3).outbound && status(&carol, 0).inbound);
    alice.send(&node_id(3), &message("at once")).unwrap();
    assert_eq!(mailbox.wait(1).len(), 1);
    assert!(!status(&alice, 1).outbound && !status(&alice, 2).outbound);
    assert!(alice.probe(&node_id(1), Duration::ZERO).is_err(), "somebody is still dialling it");
}

#[test]
fn a_half_open_connection_is_found_out_by_both_ends_and_replaced() {
    let machines = Machines::new(2);
    let (ping, answer) = (Duration::from_millis(1), Duration::from_millis(300));
    let alice = machines.start(0, machines.config(0, TcpLimits { ping, answer, ..limits() }));
    let (bob, mailbox) = machines.member(1);
    alice.send(&node_id(1), &message("one")).unwrap();
    machines.relays[1].freeze();
    eventually("the dialler to find out", || !status(&alice, 1).outbound);
    assert_eq!(status(&alice, 1).last_error.as_deref(), Some("a sign of life took too long"));
    assert!(status(&bob, 0).inbound, "nobody has told the other end");
    eventually("the message to get through", || alice.send(&node_id(1), &message("two")).is_ok());
    assert_eq!(mailbox.delivered().len(), 2);
    assert!(status(&bob, 0).inbound);

    // A member that answers, and is not heard of again.
    let patient = TcpLimits { idle: Duration::from_millis(200), ..limits() };
    let carol = machines.start(1, machines.config(1, patient));
    eventually("the message to reach the engine that is not there", || {
        machines.relays[1].cut();
        alice.send(&node_id(1), &message("three")).is_err_and(|error| error.to_string().contains("not started"))
    });
    machines.relays[1].freeze();
    eventually("the other end to find out", || !status(&carol, 0).inbound);
    assert_eq!(status(&carol, 0).last_error.as_deref(), Some("a sign of life took too long"));
}

#[test]
fn an_idle_connection_stays_open_by_its_signs_of_life() {
    let machines = Machines::new(2);
    let (ping, idle) = (Duration::from_millis(1), Duration::from_secs(5));
    let alice = machines.start(0, machines.config(0, TcpLimits { ping, ..limits() }));
    let bob = machines.start(1, machines.config(1, TcpLimits { idle, ..limits() }));
    bob.attach(Mailbox::new());
    alice.send(&node_id(1), &message("one")).unwrap();
    let started = std::time::Instant::now();
    eventually("the time in which it would be closed to pass", || {
        assert!(status(&bob, 0).inbound && status(&alice, 1).outbound);
        started.elapsed() > idle + Duration::from_secs(1)
    });
}

// Who is not who they should be.

#[test]
fn somebody_else_at_a_members_address_is_not_talked_to() {
    let machines = Machines::new(3);
    let (alice, _) = machines.member(0);
    let (impostor, mailbox) = machines.member(2);
    // Another member, who is as good as a stranger at this address.
    machines.relays[1].lead(Some(impostor.local_addr()));
    let told = why(alice.send(&node_id(1), &message("for member 1 alone")), 1);
    assert!(told.contains("another network key than the committee file says"), "{told}");
    assert_eq!(alice.probe(&node_id(1), PATIENCE), Err(ProbeError::WrongKey));
    assert_eq!(mailbox.delivered(), []);
    eventually("the impostor to notice", || impostor.strangers_refused() >= 2);
    alice.send(&node_id(2), &message("harmless")).unwrap();
}

#[test]
fn a_stranger_with_another_key_is_refused_counted_and_told() {
    let machines = Machines::new(2);
    let (bob, mailbox) = machines.member(1);
    let stranger = TcpConfig { key: network_key(9), ..machines.config(0, limits()) };
    let stranger = TcpNetwork::bind(stranger).unwrap();
    let told = why(stranger.send(&node_id(1), &message("let me in")), 1);
    assert_eq!(told, ProbeError::KeyUnknown.to_string());
    eventually("the stranger to be counted", || bob.strangers_refused() == 1);
    assert!(!status(&bob, 0).inbound);
    let (alice, _) = machines.member(0);
    alice.send(&node_id(1), &message("the real one")).unwrap();
    assert_eq!(mailbox.delivered(), [(node_id(0), "the real one".to_owned())]);
    assert_eq!(bob.strangers_refused(), 1);
}

#[test]
fn members_of_two_chains_are_both_told_so() {
    let machines = Machines::new(2);
    let alice = machines.start(0, TcpConfig { chain: [8; 32], ..machines.config(0, limits()) });
    let (bob, mailbox) = machines.member(1);
    assert_eq!(alice.probe(&node_id(1), PATIENCE), Err(ProbeError::OtherChain(CHAIN)));
    let told = why(alice.send(&node_id(1), &message("for another chain")), 1);
    assert!(told.contains(&format!("follows another committee file, of identity {}", "07".repeat(32))), "{told}");
    assert_eq!(status(&alice, 1).last_error, Some(told));
    let theirs = ProbeError::OtherChain([8; 32]).to_string();
    eventually("the other end to show it", || status(&bob, 0).last_error.as_ref() == Some(&theirs));
    assert!(status(&bob, 0).refused >= 1);
    assert_eq!((mailbox.delivered(), bob.strangers_refused()), (vec![], 0));
}

#[test]
fn a_network_is_not_made_of_members_that_cannot_be_told_apart() {
    let machines = Machines::new(3);
    let with = |change: &dyn Fn(&mut TcpConfig)| {
        let mut config = machines.config(0, limits());
        change(&mut config);
        TcpNetwork::bind(config).map(drop).unwrap_err()
    };
    let twice = with(&|config| config.peers[2].node_id = node_id(1));
    assert!(matches!(twice, TcpError::DuplicatePeer(node) if node == node_id(1)));
    let key = with(&|config| config.peers[2].key = network_key(1).verifying_key());
    assert!(matches!(key, TcpError::DuplicateKey(a, b) if (a, b) == (node_id(1), node_id(2))));
    let ours = with(&|config| config.peers[2].key = network_key(0).verifying_key());
    assert!(matches!(ours, TcpError::DuplicateKey(a, b) if (a, b) == (node_id(0), node_id(2))));
    let weak = with(&|config| config.peers[1].key = VerifyingKey::from_bytes(&[0; 32]).unwrap());
    assert!(matches!(weak, TcpError::WeakKey(node) if node == node_id(1)));
    let (other, _) = machines.member(1);
    let taken = with(&|config| config.listen = other.local_addr());
    assert!(matches!(taken, TcpError::Listen(address, _) if address == other.local_addr()));
    assert_eq!(other.probe(&node_id(7), PATIENCE), Err(ProbeError::NotAPeer));
}
