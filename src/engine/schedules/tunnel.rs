//! The BrokerTunnel between a flood of private messages and a reactor that has events to see to.

use super::{block, delivery, message, run};
use crate::engine::BrokerTunnel;
use crate::engine::lifecycle::{Received, inbox};
use crate::engine::mail::ReactorInput;
use crate::epoch::ProtocolEvent;
use crate::network::Delivery;
use crate::sync::explore::explore;
use crate::sync::thread;

#[test]
fn every_message_and_every_event_arrives_however_they_crowd() {
    explore(3_000, || {
        const FLOODERS: usize = 3;
        const EACH: usize = 4;
        const EVENTS: u64 = 3;
        let tunnel = BrokerTunnel::new();
        let (mailbox, inbox) = inbox(1);
        let flooder = |flooder| {
            let tunnel = tunnel.clone();
            thread::spawn(move || {
                for number in 0..EACH {
                    assert_eq!(tunnel.arrived(delivery(flooder as u8, message(&run(1), number))), Ok(()));
                }
            })
        };
        let flooders: Vec<_> = (0..FLOODERS).map(flooder).collect();
        // Some messages have come before there is a reactor.
        tunnel.connect_reactor(mailbox.clone());
        let host = thread::spawn(move || {
            for view in 0..EVENTS {
                let event = ReactorInput::Event(Box::new(ProtocolEvent::BlockFinalized(block(view))));
                assert_eq!(mailbox.send(event), Ok(()));
            }
        });
        let (mut messages, mut events) = ([0; FLOODERS], 0);
        loop {
            while let Some(Delivery { from, message, .. }) = tunnel.take() {
                let next = &mut messages[usize::from(from.as_bytes()[0])];
                assert_eq!(usize::from(message.data.expose()[0]), *next);
                *next += 1;
            }
            if messages == [EACH; FLOODERS] && events == EVENTS {
                break;
            }
            match inbox.receive(None) {
                Received::Message(ReactorInput::Event(event)) => {
                    assert_eq!(*event, ProtocolEvent::BlockFinalized(block(events)));
                    events += 1;
                }
                Received::Woken => {}
                _ => panic!("nobody has sent or stopped that"),
            }
        }
        for thread in flooders.into_iter().chain([host]) {
            thread.join().unwrap();
        }
    });
}
