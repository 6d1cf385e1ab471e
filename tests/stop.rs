//! A stopped engine leaves no thread behind, whatever it was doing. One test in a process of its own, since it counts the
//! process's threads. That `stop` returns `Ok` means that every thread ended within the stop limit, below a second.

mod support;

use std::sync::Arc;
use std::thread;

use dkg_engine::SecretBytes;
use dkg_engine::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use dkg_engine::committee::NodeId;
use dkg_engine::engine::{
    BrokerTunnel, ControllerFactory, MessagingEngine, MessagingEngineConfig, NoObserver, OsRandomness, REACTOR_INBOX,
    ReactorConfig, ReactorEngine, ReactorParts,
};
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::epoch::{EpochCounter, Header, InstanceId, ProtocolEvent, ProtocolEvents, View};
use dkg_engine::network::{Network, NetworkError};
use dkg_engine::store::{Change, DkgState, MemoryStore, RecordId, Store, StoreError};
use support::process::{assert_none_left, threads};
use support::{Watched, committee, header, node_id, setup, staking_key, staking_phase};

/// What a host's part does when it is called.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Works,
    Fails,
    /// Does not return before its shutdown.
    Hangs,
}

/// A network, whiteboard and store of one mood each, which tell what they are called for.
struct Host {
    network: Mood,
    reading: Mood,
    posting: Mood,
    /// A write to the store does not return before the whiteboard is shut down.
    store_waits: bool,
    inner: MemoryStore,
    calls: Watched<Calls>,
}

#[derive(Default)]
struct Calls {
    sent: usize,
    read: usize,
    posted: usize,
    stored: usize,
    shut_down: bool,
}

impl Host {
    fn new(network: Mood, reading: Mood, posting: Mood) -> Host {
        let calls = Watched::new(Calls::default());
        Host { network, reading, posting, store_waits: false, inner: MemoryStore::new(), calls }
    }

    fn act<E>(&self, mood: Mood, error: E) -> Result<(), E> {
        match mood {
            Mood::Works => Ok(()),
            Mood::Fails => Err(error),
            Mood::Hangs => {
                self.calls.wait("the shutdown", |calls| calls.shut_down.then_some(()));
                Err(error)
            }
        }
    }

    fn end(&self) {
        self.calls.update(|calls| calls.shut_down = true);
    }
}

fn unavailable() -> ClientError {
    ClientError::Unavailable("out of order".into())
}

impl DkgContractClient for Host {
    fn broadcast(&self, _: &str) -> Result<(), ClientError> {
        self.calls.update(|calls| calls.posted += 1);
        self.act(self.posting, unavailable())
    }

    fn read_broadcast(&self, _: u64, _: &Header, _: usize) -> Result<Vec<BoardMessage>, ClientError> {
        self.calls.update(|calls| calls.read += 1);
        self.act(self.reading, unavailable()).map(|()| Vec::new())
    }

    fn submit_result(&self, _: &InstanceId, _: &DkgResult) -> Result<(), ClientError> {
        self.act(self.posting, unavailable())
    }

    fn shutdown(&self) {
        self.end();
    }
}

impl Network for Host {
    fn send(&self, to: &NodeId, _: &PrivateMessage) -> Result<(), NetworkError> {
        self.calls.update(|calls| calls.sent += 1);
        self.act(self.network, NetworkError::Unreachable(*to, "out of order".into()))
    }

    fn shutdown(&self) {
        self.end();
    }
}

impl Store for Host {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        self.inner.read(id)
    }

    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        self.inner.list()
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.calls.update(|calls| calls.stored += 1);
        if self.store_waits {
            self.calls.wait("the shutdown", |calls| calls.shut_down.then_some(()));
        }
        self.inner.commit(changes)
    }
}

/// A node on this host, with the default waits: the first retry comes after a second, the next after two, …
fn node(host: &Arc<Host>) -> (ReactorEngine, MessagingEngine) {
    let tunnel = BrokerTunnel::new();
    let messaging = MessagingEngine::new(host.clone(), tunnel.clone(), MessagingEngineConfig::default()).unwrap();
    let reactor = ReactorEngine::new(ReactorParts {
        config: ReactorConfig::default(),
        snapshot: staking_phase(),
        state: DkgState::new(host.clone()),
        factory: ControllerFactory::new(node_id(0), staking_key(0)),
        clients: vec![host.clone()],
        tunnel,
        randomness: Box::new(OsRandomness),
        observer: Arc::new(NoObserver),
    })
    .unwrap();
    (reactor, messaging)
}

fn begin(reactor: &ReactorEngine) {
    let run = setup(&committee(5), 1, View(1));
    reactor.epoch_setup_phase_started(EpochCounter(0), header(1, 0), run);
    reactor.block_finalized(header(31, 0));
}

#[test]
fn no_thread_is_left_after_a_stop_in_any_state() {
    let before = threads();
    let check = |what: &str, host: Host, busy: &dyn Fn(&Calls) -> bool| {
        let host = Arc::new(host);
        let (reactor, messaging) = node(&host);
        begin(&reactor);
        host.calls.wait(what, |calls| busy(calls).then_some(()));
        assert_eq!(reactor.stop(), Ok(()), "{what}");
        assert_eq!(messaging.stop(), Ok(()), "{what}");
        assert_none_left(before, what);
        // Nothing it owned is locked or listening any more.
        drop((reactor, messaging));
        assert_eq!(Arc::strong_count(&host), 1, "{what}");
    };
    use Mood::{Fails, Hangs, Works};
    check("an idle wait", Host::new(Works, Works, Works), &|calls| calls.sent == 4 && calls.posted > 0);
    check("a sender's backoff", Host::new(Fails, Works, Works), &|calls| calls.sent == 4);
    check("a send that hangs", Host::new(Hangs, Works, Works), &|calls| calls.sent > 0);
    check("a reader's backoff", Host::new(Works, Fails, Works), &|calls| calls.read > 0);
    check("a read that hangs", Host::new(Works, Hangs, Works), &|calls| calls.read > 0);
    check("a publisher's backoff", Host::new(Works, Works, Fails), &|calls| calls.posted > 0);
    check("a post that hangs", Host::new(Works, Works, Hangs), &|calls| calls.posted > 0);
    check("everything hangs", Host::new(Hangs, Hangs, Hangs), &|calls| calls.sent > 0 && calls.read > 0);
    let half_done = Host { store_waits: true, ..Host::new(Works, Works, Works) };
    check("a step that is half done", half_done, &|calls| calls.stored > 0);

    // A full queue: the host's own thread is stuck in handing over events while the engine is in the store.
    let host = Arc::new(Host { store_waits: true, ..Host::new(Works, Works, Works) });
    let (reactor, messaging) = node(&host);
    begin(&reactor);
    let events = reactor.events();
    let feeding = Watched::new(0);
    thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            for view in 32..32 + 2 * REACTOR_INBOX as u64 {
                feeding.update(|count| *count += 1);
                events.on_event(ProtocolEvent::BlockFinalized(header(view, 0)));
            }
        });
        feeding.wait("a full queue", |count| (*count > REACTOR_INBOX - 1).then_some(()));
        assert_eq!(reactor.stop(), Ok(()));
        feeder.join().unwrap();
    });
    assert_eq!(messaging.stop(), Ok(()));
    assert_none_left(before, "a full queue");

    // Dropping is stopping.
    let host = Arc::new(Host::new(Hangs, Hangs, Hangs));
    let both = node(&host);
    begin(&both.0);
    host.calls.wait("a read", |calls| (calls.read > 0).then_some(()));
    drop(both);
    assert_none_left(before, "a drop");
    assert_eq!(Arc::strong_count(&host), 1);
}
