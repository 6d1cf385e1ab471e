//! What the engine's threads find in their inboxes.

use std::time::Instant;

use super::step::{Input, ReadRequest};
use crate::chain::DkgResult;
use crate::committee::NodeId;
use crate::envelope::PrivateMessage;
use crate::epoch::{InstanceId, ProtocolEvent};
use crate::network::NetworkError;

/// The reactor's.
pub(super) enum ReactorInput {
    Event(Box<ProtocolEvent>),
    /// What one of the threads that it commands has to say.
    Answer(Input),
}

/// The whiteboard poller's.
pub(super) enum PollerInput {
    Read(ReadRequest),
    /// The run has ended; what is being read is of no use.
    Abandon,
}

/// The whiteboard publisher's.
pub(crate) enum PublisherInput {
    Post { instance: InstanceId, content: String },
    Submit { instance: InstanceId, result: DkgResult },
    EndRun(InstanceId),
}

/// The message dispatcher's.
pub(super) enum DispatcherInput {
    Send(Outbound),
    EndRun(InstanceId),
    /// A call of the network has returned.
    Sent {
        job: Job,
        result: Result<(), NetworkError>,
    },
}

/// A message on its way out.
pub(crate) struct Outbound {
    pub(crate) to: NodeId,
    pub(crate) message: PrivateMessage,
}

/// A message under way, with its history.
pub(crate) struct Job {
    pub(crate) outbound: Outbound,
    pub(crate) failures: u32,
    pub(crate) due: Instant,
}
