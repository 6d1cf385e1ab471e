//! A flood of private messages cannot keep the chain's events from a node. In a process of its own, since it is the
//! process's logger that keeps the flood going: whenever the node says that it has dropped a message, the next is there.

mod support;

use std::sync::OnceLock;

use dkg_engine::SecretBytes;
use dkg_engine::engine::{EngineEvent, InboundHandle};
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::network::{Delivery, Inbound, Receipt};
use support::{World, node_id};

static FLOODED: OnceLock<InboundHandle> = OnceLock::new();

struct Flooder;

impl log::Log for Flooder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("dropped a private message") {
            flood();
        }
    }

    fn flush(&self) {}
}

/// One more message of a stranger.
fn flood() {
    if let Some(node) = FLOODED.get() {
        let data = SecretBytes::new(vec![0; 33]);
        let message = PrivateMessage::protocol(data, "dkg-test-1");
        node.deliver(Delivery { from: node_id(9), message, receipt: Receipt::none() }).ok();
    }
}

#[test]
fn private_messages_that_never_end_do_not_keep_the_chains_events_from_a_node() {
    log::set_logger(&Flooder).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let mut world = World::new(3);
    let run = world.begin(1, 3);
    FLOODED.get_or_init(|| world.nodes[0].messaging.inbound());
    flood();
    world.finalize(run.phase_final_views[0].0);
    world.nodes[0]
        .events
        .wait("the end of phase 1", |event| matches!(event, EngineEvent::PhaseEnded { .. }).then_some(()));
    assert_eq!(world.nodes[0].reactor.stop(), Ok(()));
}
