//! One node's side of every run: the pure core that decides, and the threads that carry out.
//!
//! ```text
//!  host's chain                                        whiteboard
//!    | events, blocks                                   ^ post, submit   | pages, as of a block
//!    v                                                  |                v
//!  [ dkg-reactor ]  Core::step(input) -> Step -> [ dkg-publisher ]  [ dkg-poller ]
//!    ^       |         Step::persist(state) -> effects                   |
//!    |       |                                                           |
//!    |       +--> BrokerTunnel -> [ dkg-dispatch ] -> [ dkg-send, one a call ] -> Network
//!    ^       +----------- BrokerTunnel <- process() <-------------------- Network
//!    |
//!    +--> [ dkg-compute ]  curve work, on several cores for moments
//! ```
//!
//! # Which is which
//!
//! | name | what it is here |
//! | --- | --- |
//! | [`ReactorEngine`] | the reactor's thread and handle; the decisions are in [`Core`] |
//! | [`MessagingEngine`] | dispatcher, a lane and a thread for each call to a peer, and the inbound queue, for the node's life |
//! | [`Controller`], [`ControllerFactory`] | one run's protocol; made anew for each run |
//! | [`Broker`] | signs, verifies and numbers what one run says and hears |
//! | [`BrokerTunnel`] | joins the MessagingEngine to whatever run is on |
//! | [`DkgContractClient`](crate::chain::DkgContractClient) | the host's access to the whiteboard |
//! | [`DkgState`](crate::store::DkgState) | the key states, on the host's store |
//!
//! # What it does not promise
//!
//! Messages must arrive within the phase they belong to: the protocol is safe with up to `t` malicious members, but a
//! member cut off for a whole phase counts as one of them, and secrecy rests on it too: a share that an honest member has to
//! complain about becomes public, and `t` malicious members need no more than one. (So each peer has a lane of its own, and who
//! never answers holds up nothing else; [`EngineEvent::Exposed`] tells when it comes close.) A node that was stopped in the middle of a run goes on with it, as
//! far as it was up before each phase's end.

mod agenda;
mod broker;
mod computer;
mod controller;
mod core;
mod event;
mod held;
mod host;
mod inbound;
mod lifecycle;
mod mail;
mod messaging;
mod outbox;
mod poller;
mod publisher;
mod randomness;
mod reactor;
mod retry;
#[cfg(all(test, shuttle))]
mod schedules;
mod step;
mod task;
mod tunnel;
mod whiteboard;

pub use agenda::{Action, Agenda, CatchUp, Misplaced};
#[cfg(feature = "simulator")]
pub(crate) use broker::Verify;
pub use broker::{Broker, Opened, PostFault};
pub use controller::{Controller, ControllerFactory, REPORTS_PER_NODE, REQUESTS_PER_MEMBER, StartError};
pub use core::{Core, CoreError, DEFAULT_POLL_STEP, Standing};
pub use event::{EngineEvent, NoObserver, Observer, PublicKeys, RunReport};
pub use inbound::{FairQueue, INBOUND_LIMIT, INBOUND_LIMIT_PER_SENDER};
pub use lifecycle::{STOP_LIMIT, Signal, SpawnError, Stuck};
#[cfg(feature = "simulator")]
pub(crate) use mail::{Job, Outbound, PublisherInput};
pub use messaging::{InboundHandle, MessagingEngine, MessagingEngineConfig};
#[cfg(feature = "simulator")]
pub(crate) use outbox::Outbox;
pub use outbox::{OUTBOUND_LIMIT, OUTBOUND_LIMIT_PER_PEER};
#[cfg(feature = "simulator")]
pub(crate) use poller::Poller;
pub use poller::READ_PAGE;
pub use publisher::POST_LIMIT;
#[cfg(feature = "simulator")]
pub(crate) use publisher::{Publication, Publisher};
pub use randomness::{DEALING_SEED_BYTES, OsRandomness, Randomness, RandomnessError};
pub use reactor::{EngineError, EventHandle, PRIVATE_BATCH, REACTOR_INBOX, ReactorConfig, ReactorEngine, ReactorParts};
pub use retry::{FAILURES_BEFORE_NEXT, Failover, MAX_WAIT, RetryPolicy, WhiteboardConfig};
pub use step::{Effect, Input, ReadId, ReadRequest, Recalled, Step};
pub use task::{Task, TaskId, TaskResult};
pub use tunnel::BrokerTunnel;
