//! A committee makes a threshold BLS12-381 key that nobody ever holds whole, epoch after epoch, on plain OS threads.
//!
//! `dkg-engine` is the distributed key generation of a Flow consensus node as a library: same wire format, same verdicts,
//! made to be embedded in any host that is not async. Up to `t` of `n` members may be malicious; any `t + 1` sign.
//!
//! # The house
//!
//! ```text
//!  host: events, blocks                    whiteboard (DkgContractClient)
//!        |                                   ^ posts         | pages, as of a block
//!        v                                   |               v
//!  +------------------------- engine ------------------------------------+
//!  |  reactor thread: Core::step(input) -> Step -> persist -> effects    |
//!  |     Controller (protocol) . Broker (envelopes) . Agenda (views)     |
//!  |  publisher . poller . dispatcher and senders (MessagingEngine)      |
//!  +---------------------------------------------------------------------+
//!        |                        |                          ^
//!        v                        v                          v
//!   store (DkgState)         protocol -> bls              Network
//! ```
//!
//! | room | what happens there |
//! | --- | --- |
//! | [`bls`] | scalars, points, polynomials, keys, signatures, threshold combination; the only room that knows blst |
//! | [`address`] | where members and logs are reached |
//! | [`protocol`] | Joint-Feldman with complaints as a pure state machine |
//! | [`committee`] | who takes part, in which order, with which threshold |
//! | [`epoch`] | what the chain tells a node |
//! | [`envelope`] | what protocol messages travel in |
//! | [`engine`] | one node's runs: the pure core, and the threads around it |
//! | [`chain`] | the whiteboard's contract, and a chain for members that have none |
//! | [`network`] | private channels between members: in memory, and over TLS |
//! | `http` (inside) | a bounded HTTP server on plain threads, for what is shown and taken over the web |
//! | [`store`] | the life of each epoch's key, and where it is kept |
//! | `node` (feature) | a whole member of a log chain, from a configuration file |
//! | `http` (inside) | a small bounded HTTP server, for what nodes and log servers show and take |
//! | `simulator` (feature) | whole committees in one thread, hostile runs from one number, small ones exhaustively |
//!
//! Everything that decides is a pure state machine; everything that waits is a thin thread around one. To embed the engine,
//! implement [`network::Network`], [`chain::DkgContractClient`] and [`store::Store`], hand your chain's events to a
//! [`engine::ReactorEngine`] and what your network receives to a [`engine::MessagingEngine`]; `examples/embed.rs` is a
//! whole host in under a hundred lines.
//!
//! # The protocol by itself
//!
//! ```
//! use dkg_engine::SecretBytes;
//! use dkg_engine::bls::{Index, RANDOM_BEACON_TAG, VectorEncoding, combine};
//! use dkg_engine::protocol::{OurShare, Output, Parameters, Participant};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (size, threshold) = (3, 1);
//! let fresh = [7; 32]; // A host draws this anew for every call.
//! let (mut members, mut board) = (Vec::new(), Vec::new());
//! let mut private = Vec::new();
//! for me in Index::all(size) {
//!     let seed = SecretBytes::new(vec![me.byte(); 32]); // And this from its operating system.
//!     let parameters = Parameters { size, threshold, me, encoding: VectorEncoding::Compressed };
//!     let (member, dealt) = Participant::start(parameters, &seed)?;
//!     members.push(member);
//!     for output in dealt {
//!         match output {
//!             Output::SendShare { to, message } => private.push((me, to, message)),
//!             Output::Broadcast(data) => board.push((me, data)),
//!             _ => {}
//!         }
//!     }
//! }
//! let mut keys = Vec::new();
//! for (me, mut member) in Index::all(size).zip(members) {
//!     for (from, _, message) in private.iter().filter(|(_, to, _)| *to == me) {
//!         member.take_private(*from, message.expose())?;
//!     }
//!     for (from, data) in &board {
//!         member.take_broadcast(*from, data)?; // In the same order for everybody, one's own included.
//!     }
//!     member.end_phase(&fresh)?; // Sharing: nobody has a reason to complain,
//!     member.end_phase(&fresh)?; // so there is nothing to answer.
//!     keys.push(member.finish(&fresh)?.0.result?);
//! }
//! let share = |member: usize| match &keys[member].share {
//!     OurShare::Held(secret) => Ok(secret.sign(b"round 1", &RANDOM_BEACON_TAG)),
//!     _ => Err("no share"),
//! };
//! let index = |member| Index::from_position(member).ok_or("no such member");
//! let signature = combine(size, threshold, &[(index(0)?, share(0)?), (index(2)?, share(2)?)])?;
//! assert!(keys[1].group_key.verify(b"round 1", &RANDOM_BEACON_TAG, &signature));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! `cli` (default) is the `dkg` command. `file-store` is a store in one sealed file. `log-chain` is the chain for members
//! that have none: `log-file` keeps its log in a file, `log-server` on a server for other machines, `log-http` and `etcd`
//! reach it there, `log-tls` lets these use TLS, and `committee-file`
//! reads what its members agree on. `tcp` are private channels between machines, and
//! `node` is all of this together, a whole member. `simulator` runs whole committees against everything that can go wrong.
//! `metrics` shows the health of the keys through the `metrics` facade. `eip2335` writes key shares as keystores for other
//! tools. Without default features the crate is the embeddable engine: 44 crates, no async runtime.

// `unsafe` is for the calls into blst alone.
#![deny(unsafe_code)]

#[forbid(unsafe_code)]
pub mod address;
pub mod bls;
#[forbid(unsafe_code)]
pub mod chain;
#[forbid(unsafe_code)]
pub mod committee;
#[cfg(any(feature = "tcp", feature = "log-http", feature = "etcd"))]
#[forbid(unsafe_code)]
mod dial;
#[forbid(unsafe_code)]
pub mod engine;
#[forbid(unsafe_code)]
pub mod envelope;
#[forbid(unsafe_code)]
pub mod epoch;
#[forbid(unsafe_code)]
mod fence;
pub mod hex;
#[cfg(feature = "http-server")]
#[cfg_attr(not(feature = "log-server"), allow(dead_code, unused_imports, reason = "what serves is another feature"))]
#[forbid(unsafe_code)]
pub(crate) mod http;
#[cfg(any(feature = "http-server", feature = "tcp"))]
#[forbid(unsafe_code)]
mod listen;
#[forbid(unsafe_code)]
pub mod network;
#[cfg(feature = "node")]
#[forbid(unsafe_code)]
pub mod node;
#[cfg(any(feature = "node", feature = "log-server"))]
#[forbid(unsafe_code)]
mod page;
#[forbid(unsafe_code)]
pub mod protocol;
#[forbid(unsafe_code)]
mod secret;
#[cfg(feature = "simulator")]
#[forbid(unsafe_code)]
pub mod simulator;
#[forbid(unsafe_code)]
pub mod store;
#[forbid(unsafe_code)]
mod sync;
#[forbid(unsafe_code)]
pub mod wire;

pub use secret::SecretBytes;
