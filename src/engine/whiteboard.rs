//! The threads at the whiteboard: one reads, one posts, so that neither holds up the other.
//!
//! Each keeps its own choice of client and its own backoff, which the other's success ends. What is read next, when a try is due
//! and when it is given up is decided by [`Poller`] and [`Publisher`]; the threads wait and call the client.

use super::host::HostClient;
use super::lifecycle::{Desk, DeskInbox, Inbox, Mailbox, Received};
use super::mail::{PollerInput, PublisherInput, ReactorInput};
use super::poller::{Poller, READ_PAGE};
use super::publisher::{Publication, Publisher};
use super::retry::WhiteboardConfig;
use crate::sync::{now, random};

/// The poller's thread.
pub(super) fn poll(
    inbox: &DeskInbox<PollerInput>,
    clients: &[HostClient],
    config: WhiteboardConfig,
    reactor: &Mailbox<ReactorInput>,
    publisher: &Mailbox<PublisherInput>,
) {
    let mut poller = Poller::new(clients.len(), config);
    loop {
        match inbox.receive(poller.next_due()) {
            Received::Message(PollerInput::Read(request)) => poller.read(request, now()),
            Received::Message(PollerInput::Abandon) => poller.abandon(),
            Received::Woken => {}
            Received::Stopped => return,
        }
        if inbox.is_way_free() {
            poller.way_is_free();
        }
        let Some(call) = poller.due(now()) else { continue };
        let Some(client) = clients.get(call.client) else { continue };
        let result = client.read(call.from_index, &call.as_of, READ_PAGE);
        if inbox.is_stopped() {
            return;
        }
        if result.is_ok() {
            publisher.way_is_free();
        }
        let told = poller.tried(result, now(), random());
        if told.is_some_and(|input| reactor.send(ReactorInput::Answer(input)).is_err()) {
            return;
        }
    }
}

/// The publisher's thread.
pub(super) fn publish(
    inbox: &Inbox<PublisherInput>,
    clients: &[HostClient],
    config: WhiteboardConfig,
    poller: &Desk<PollerInput>,
) {
    let mut publisher = Publisher::new(clients.len(), config);
    loop {
        match inbox.receive(publisher.next_due(now())) {
            Received::Message(input) => publisher.take(input),
            Received::Woken => {}
            Received::Stopped => return,
        }
        if inbox.is_way_free() {
            publisher.way_is_free();
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
        if result.is_ok() {
            poller.way_is_free();
        }
        publisher.tried(result, now(), random());
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
    use crate::engine::lifecycle::{desk, inbox};
    use crate::engine::step::{Input, ReadId, ReadRequest};
    use crate::epoch::{Header, InstanceId, View};
    use crate::sync::{Receiver, Sender, bounded};

    /// A client whose reads return when they are let go.
    struct Hangs {
        called: Sender<()>,
        let_go: Receiver<()>,
    }

    impl DkgContractClient for Hangs {
        fn broadcast(&self, _: &str) -> Result<(), ClientError> {
            Ok(())
        }

        fn read_broadcast(&self, _: u64, _: &Header, _: usize) -> Result<Vec<BoardMessage>, ClientError> {
            let _ = (self.called.send(()), self.let_go.recv());
            Ok(Vec::new())
        }

        fn submit_result(&self, _: &InstanceId, _: &DkgResult) -> Result<(), ClientError> {
            Ok(())
        }
    }

    #[test]
    fn however_long_a_client_hangs_the_read_that_is_waited_for_is_made() {
        let ((called, is_called), (go, let_go)) = (bounded(16), bounded(1));
        let clients = HostClient::all(vec![Arc::new(Hangs { called, let_go })]);
        let (poller, poller_inbox) = desk();
        let (reactor, reactor_inbox) = inbox(8);
        let (publisher, _publisher_inbox) = inbox(1);
        let thread = crate::sync::thread::spawn(move || {
            poll(&poller_inbox, &clients, WhiteboardConfig::default(), &reactor, &publisher);
        });
        let as_of = Header { view: View(1), height: 1, id: [0; 32] };
        let read = |id| PollerInput::Read(ReadRequest { id: ReadId(id), from_index: 0, as_of, must_succeed: true });
        poller.put(read(0));
        is_called.recv().unwrap();
        for id in 1..=10_000 {
            poller.put(read(id));
        }
        drop(go);
        loop {
            match reactor_inbox.receive(None) {
                Received::Message(ReactorInput::Answer(Input::Page { read: ReadId(10_000), .. })) => break,
                Received::Stopped => panic!("the poller is gone"),
                _ => {}
            }
        }
        poller.stop();
        thread.join().unwrap();
    }
}
