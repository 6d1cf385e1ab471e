//! The engine's parts under a scheduler: see [`crate::sync`]. Whole engines are in `tests/shuttle.rs`.

mod lifecycle;
mod messaging;
mod tunnel;
mod whiteboard;

use crate::committee::NodeId;
use crate::envelope::PrivateMessage;
use crate::epoch::{EpochCounter, Header, InstanceId, View};
use crate::network::{Delivery, Receipt};
use crate::secret::SecretBytes;

fn node(number: u8) -> NodeId {
    NodeId::new([number; 32])
}

fn run(epoch: u64) -> InstanceId {
    InstanceId::new("schedules", EpochCounter(epoch))
}

fn delivery(from: u8, message: PrivateMessage) -> Delivery {
    Delivery { from: node(from), message, receipt: Receipt::none() }
}

fn message(run: &InstanceId, number: usize) -> PrivateMessage {
    PrivateMessage::protocol(SecretBytes::new(vec![number as u8]), run.as_str())
}

/// A block that covers so many posts.
fn block(height: u64) -> Header {
    Header { view: View(height), height, id: [0; 32] }
}
