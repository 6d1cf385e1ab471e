//! The threads at the whiteboard: one reads, one posts, so that neither holds up the other.
//!
//! Each keeps its own choice of client and its own backoff. What is read next, when a try is due and when it is given up is
//! decided by [`Poller`] and [`Publisher`]; the threads wait and call the client.

use super::host::HostClient;
use super::lifecycle::{Inbox, Mailbox, Received};
use super::mail::{PollerInput, PublisherInput, ReactorInput};
use super::poller::{Poller, READ_PAGE};
use super::publisher::{Publication, Publisher};
use super::retry::WhiteboardConfig;
use crate::sync::{now, random};

/// The poller's thread.
pub(super) fn poll(
    inbox: &Inbox<PollerInput>,
    clients: &[HostClient],
    config: WhiteboardConfig,
    reactor: &Mailbox<ReactorInput>,
) {
    let mut poller = Poller::new(clients.len(), config);
    loop {
        match inbox.receive(poller.next_due()) {
            Received::Message(PollerInput::Read(request)) => poller.read(request, now()),
            Received::Message(PollerInput::Abandon) => poller.abandon(),
            Received::Woken => {}
            Received::Stopped => return,
        }
        let Some(call) = poller.due(now()) else { continue };
        let Some(client) = clients.get(call.client) else { continue };
        let result = client.read(call.from_index, &call.as_of, READ_PAGE);
        if inbox.is_stopped() {
            return;
        }
        let told = poller.tried(result, now(), random());
        if told.is_some_and(|input| reactor.send(ReactorInput::Answer(input)).is_err()) {
            return;
        }
    }
}

/// The publisher's thread.
pub(super) fn publish(inbox: &Inbox<PublisherInput>, clients: &[HostClient], config: WhiteboardConfig) {
    let mut publisher = Publisher::new(clients.len(), config);
    loop {
        match inbox.receive(publisher.next_due(now())) {
            Received::Message(input) => publisher.take(input),
            Received::Woken => {}
            Received::Stopped => return,
        }
        let Some((client, instance, publication)) = publisher.due(now()) else { continue };
        let Some(client) = clients.get(client) else { continue };
        let result = match publication {
            Publication::Post(content) => client.broadcast(content),
            Publication::Submission(result) => client.submit(instance, result),
        };
        if inbox.is_stopped() {
            return;
        }
        publisher.tried(result, now(), random());
    }
}
