//! One member's place: its store, and the lives of its engines one after another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dkg_engine::SecretBytes;
use dkg_engine::committee::NodeId;
use dkg_engine::engine::{
    BrokerTunnel, ControllerFactory, EngineError, EngineEvent, MessagingEngine, MessagingEngineConfig, OsRandomness,
    ReactorConfig, ReactorEngine, ReactorParts,
};
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::epoch::{EpochCounter, EpochPhase, View};
use dkg_engine::network::{Delivery, InboundError, MemoryNetwork, Receipt};
use dkg_engine::store::{DkgState, KeyStatus, MemoryStore};
use parking_lot::Mutex;

use super::chain::{Chain, Client, POLL_STEP};
use super::grave::{Diary, Grave, Ledger, Voice, Written};
use super::port::{Port, Shares};
use crate::support::{PATIENCE, Watched, config, node_id, staking_key};

/// A member that is down while others deal is up again before they give up.
const MESSAGING: MessagingEngineConfig =
    MessagingEngineConfig { retry_max: 14, retry_base_wait: Duration::from_millis(10), retry_jitter_percent: 25 };

/// More messages than a member sends.
const UNLIMITED: usize = usize::MAX / 2;

/// What all members share.
pub struct Room {
    pub chain: Arc<Chain>,
    pub network: MemoryNetwork,
    pub shares: Shares,
}

/// How a member's engines are stopped and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The whole member: first the ReactorEngine, then the MessagingEngine.
    Whole,
    /// The whole member, in the other order.
    WholeReversed,
    /// The ReactorEngine alone; the next one finds the same tunnel.
    Reactor,
}

/// What is asked of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// It returns within the engine's limit.
    Prompt,
    /// As that, or the engine says that it does not, and all ends a little later: in the middle of a run sixty members
    /// compute on few cores, and even a short step may take longer than the limit.
    Patient,
}

impl Haste {
    fn check<E: PartialEq + std::fmt::Debug>(self, stopped: &Result<(), E>, stuck: bool, id: NodeId) {
        assert!(stopped.is_ok() || self == Haste::Patient && stuck, "{id}: {stopped:?}");
    }
}

impl Stop {
    pub const ALL: [Stop; 3] = [Stop::Whole, Stop::WholeReversed, Stop::Reactor];
}

/// A MessagingEngine with its tunnel.
struct Mail {
    tunnel: BrokerTunnel,
    engine: Arc<MessagingEngine>,
    grave: Arc<Grave>,
}

/// A ReactorEngine.
struct Reactor {
    engine: ReactorEngine,
    grave: Arc<Grave>,
}

/// Engines that have been stopped, and not yet dropped: what ends has ended because of the stop.
enum Ended {
    /// With the view that it had come to.
    Reactor(Box<Reactor>, View),
    Mail(Mail),
}

pub struct Seat {
    pub id: NodeId,
    number: usize,
    pub room: Arc<Room>,
    store: Arc<MemoryStore>,
    pub written: Written,
    pub diary: Diary,
    /// The last share its engine has sent to each peer.
    pub last_shares: Arc<Mutex<BTreeMap<NodeId, PrivateMessage>>>,
    /// So many more private messages of its engine get through.
    left: Arc<AtomicUsize>,
    /// How many times a ReactorEngine has been started here.
    pub lives: usize,
    mail: Option<Mail>,
    reactor: Option<Reactor>,
    ended: Vec<Ended>,
}

impl Seat {
    /// A member whose engines run.
    pub fn new(room: &Arc<Room>, number: usize) -> Seat {
        let mut seat = Seat {
            id: node_id(number),
            number,
            room: Arc::clone(room),
            store: Arc::default(),
            written: Written::default(),
            diary: Arc::new(Watched::new(Vec::new())),
            last_shares: Arc::default(),
            left: Arc::new(AtomicUsize::new(UNLIMITED)),
            lives: 0,
            mail: None,
            reactor: None,
            ended: Vec::new(),
        };
        seat.start();
        seat
    }

    pub fn state(&self) -> DkgState {
        DkgState::new(self.store.clone())
    }

    pub fn is_up(&self) -> bool {
        self.reactor.is_some()
    }

    /// The latest view worked off by the engine that runs; `None` if none does.
    pub fn worked_off(&self) -> Option<View> {
        Some(self.reactor.as_ref()?.engine.events().worked_off())
    }

    /// Private messages refused or pushed out here so far.
    pub fn dropped(&self) -> u64 {
        let ended = self.ended.iter().filter_map(|ended| match ended {
            Ended::Mail(mail) => Some(mail),
            Ended::Reactor(..) => None,
        });
        ended.chain(&self.mail).map(|mail| mail.tunnel.dropped()).sum()
    }

    /// Cuts the member off when it has delivered so many more shares, until it is started anew.
    pub fn cut_off_after(&self, shares: usize) {
        self.left.store(shares, Ordering::SeqCst);
    }

    /// Starts what does not run. A run that this member has begun in an earlier life goes on.
    pub fn start(&mut self) {
        let (room, id, number) = (Arc::clone(&self.room), self.id, self.number);
        let (last, left) = (Arc::clone(&self.last_shares), Arc::clone(&self.left));
        left.store(UNLIMITED, Ordering::SeqCst);
        let mail = self.mail.get_or_insert_with(|| {
            let (tunnel, grave) = (BrokerTunnel::new(), Arc::<Grave>::default());
            let (inner, shares) = (room.network.port(id), Arc::clone(&room.shares));
            let port = Port { inner, me: id, shares, last, left, grave: Arc::clone(&grave) };
            let engine = MessagingEngine::new(Arc::new(port), tunnel.clone(), MESSAGING).unwrap();
            let engine = Arc::new(engine);
            room.network.attach(id, engine.inbound());
            Mail { tunnel, engine, grave }
        });
        let tunnel = mail.tunnel.clone();
        self.lives += 1;
        let life = self.lives;
        let grave = Arc::<Grave>::default();
        let state = DkgState::new(Arc::new(Ledger {
            store: Arc::clone(&self.store),
            written: Arc::clone(&self.written),
            grave: Arc::clone(&grave),
        }));
        let observer = Arc::new(Voice { life, diary: Arc::clone(&self.diary), grave: Arc::clone(&grave) });
        let client = Client::new(&room.chain, id, &grave);
        let (engine, phase) = room.chain.join(|snapshot| {
            let phase = snapshot.phase.clone();
            let engine = ReactorEngine::new(ReactorParts {
                config: ReactorConfig { poll_step: POLL_STEP, ..config() },
                snapshot,
                state,
                factory: ControllerFactory::new(id, staking_key(number)),
                clients: vec![client],
                tunnel,
                randomness: Box::new(OsRandomness),
                observer,
            })
            .unwrap();
            let events = engine.events();
            ((engine, phase), events)
        });
        assert_eq!(engine.ready().wait(), Ok(()), "{id}");
        self.reactor = Some(Reactor { engine, grave });
        if let EpochPhase::Setup(setup) = phase {
            self.assert_comes_to_terms_with(setup.epoch);
        }
    }

    /// Started inside a run's setup phase: it deals if it never has, and else goes on; too late for either, it sits out.
    fn assert_comes_to_terms_with(&self, epoch: EpochCounter) {
        let told = self.diary.wait("the diary", |diary| Some(diary.clone()));
        let about: Vec<_> = told.iter().filter(|(_, event)| event.epoch() == epoch).collect();
        let begun = |(_, event): &&&(usize, EngineEvent)| matches!(event, EngineEvent::RunStarted { .. });
        let here = |(_, event): &&&(usize, EngineEvent)| {
            use EngineEvent::{RunResumed, RunStarted, SatOut};
            matches!(event, RunStarted { .. } | RunResumed { .. } | SatOut { .. })
        };
        let this_life = || about.iter().filter(|(life, _)| *life == self.lives);
        assert_eq!(this_life().filter(here).count(), 1, "{}: {about:?}", self.id);
        assert!(about.iter().filter(begun).count() <= 1, "{} has dealt twice: {about:?}", self.id);
        let resumed = this_life().any(|(_, event)| matches!(event, EngineEvent::RunResumed { .. }));
        let begun_before = about.iter().filter(begun).any(|(life, _)| *life < self.lives);
        assert_eq!(resumed, begun_before, "{}: {about:?}", self.id);
    }

    /// Stops engines that run, whatever they are doing.
    pub fn stop(&mut self, how: Stop, haste: Haste) {
        match how {
            Stop::Reactor => self.stop_reactor(haste),
            Stop::Whole => {
                self.stop_reactor(haste);
                self.stop_mail(haste);
            }
            Stop::WholeReversed => {
                self.stop_mail(haste);
                self.stop_reactor(haste);
            }
        }
    }

    fn stop_reactor(&mut self, haste: Haste) {
        let Some(reactor) = self.reactor.take() else { return };
        let (engine, id) = (&reactor.engine, self.id);
        assert_eq!(engine.done().get(), None, "{id} has stopped by itself");
        let stopped = engine.stop();
        haste.check(&stopped, matches!(stopped, Err(EngineError::Stuck(_))), id);
        if stopped.is_ok() {
            assert_eq!(engine.done().get(), Some(Ok(())), "{id}");
            reactor.grave.close();
        }
        // Whoever is late ends all the same.
        let done = engine.done().wait_timeout(PATIENCE).expect("the engine's end");
        haste.check(&done, matches!(done, Err(EngineError::Stuck(_))), id);
        let view = engine.events().worked_off();
        self.ended.push(Ended::Reactor(Box::new(reactor), view));
    }

    fn stop_mail(&mut self, haste: Haste) {
        let Some(mail) = self.mail.take() else { return };
        let stopped = mail.engine.stop();
        haste.check(&stopped, stopped.is_err(), self.id);
        if stopped.is_ok() {
            mail.grave.close();
        }
        let message = PrivateMessage::protocol(SecretBytes::new(vec![0; 33]), "");
        assert_eq!(
            mail.engine.process(Delivery { from: self.id, message, receipt: Receipt::none() }),
            Err(InboundError::Stopped),
            "{}",
            self.id
        );
        self.ended.push(Ended::Mail(mail));
    }

    /// Nothing that was stopped has done anything since, whatever the chain and others have told it.
    pub fn assert_dead_are_silent(&self) {
        for ended in &self.ended {
            let grave = match ended {
                Ended::Reactor(reactor, view) => {
                    let Reactor { engine, grave } = &**reactor;
                    assert_eq!(engine.events().worked_off(), *view, "{} after its stop", self.id);
                    grave
                }
                Ended::Mail(mail) => &mail.grave,
            };
            assert_eq!(grave.heard(), Vec::<&str>::new(), "{} after its stop", self.id);
        }
    }

    pub fn status(&self, epoch: EpochCounter) -> KeyStatus {
        self.state().record(epoch).unwrap().status()
    }
}
