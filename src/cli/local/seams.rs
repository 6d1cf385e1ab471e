//! The public seams of a node, with a [`Player`] in them: network, whiteboard, log and chain events of a faulty member.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;

use dkg_engine::SecretBytes;
use dkg_engine::chain::log::{ChainNode, Entry, LogHost, Payload};
use dkg_engine::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use dkg_engine::committee::{Committee, NodeId};
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::epoch::{EpochSetup, Header, InstanceId};
use dkg_engine::network::{Network, NetworkError};

use super::fault::Player;

/// Posts, log entries, and private messages to each member, that one flood is made of.
const FLOOD_MESSAGES: usize = 3000;

/// A faulty member's network and whiteboard: hands everything to its [`Player`] and carries out what comes back.
pub(super) struct Actor {
    /// Locked while the moves are carried out, so that what is decided first is on the board first. Nothing behind it
    /// blocks: board and network are in memory.
    player: Mutex<Player>,
    network: Arc<dyn Network>,
    board: Arc<dyn DkgContractClient>,
    committee: Arc<Committee>,
    /// Told when the flood begins.
    gates: Option<Sender<String>>,
}

impl Actor {
    pub(super) fn new(
        player: Player,
        network: Arc<dyn Network>,
        board: Arc<dyn DkgContractClient>,
        committee: Arc<Committee>,
        gates: Option<Sender<String>>,
    ) -> Self {
        Actor { player: Mutex::new(player), network, board, committee, gates }
    }

    /// A run begins.
    pub(super) fn begin(&self, setup: &EpochSetup) {
        self.player.lock().begin(setup);
    }

    /// Posts all of them. That the board refuses some is part of the play, and no news to the engine.
    fn post(&self, posts: impl IntoIterator<Item = String>) -> Result<(), ClientError> {
        let post = |post: String| match self.board.broadcast(&post) {
            Err(ClientError::Refused(reason)) => {
                log::debug!("a faulty member's post was refused: {reason}");
                Ok(())
            }
            result => result,
        };
        posts.into_iter().map(post).fold(Ok(()), Result::and)
    }

    fn check_gates(&self, player: &mut Player) {
        if let Some(gates) = &self.gates
            && let Some(instance) = player.opens_the_gates()
        {
            // Full while earlier floods are still going on: they are enough.
            let _ = gates.try_send(instance);
        }
    }
}

impl Network for Actor {
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        let Some(index) = self.committee.index_of(to) else { return self.network.send(to, message) };
        let outgoing = self.player.lock().send(index, message);
        if let Err(error) = self.post(outgoing.posts) {
            log::debug!("a faulty member's post was not taken: {error}");
        }
        if let Some(message) = outgoing.message {
            // Not under the lock: this may take as long as its receiver likes.
            self.network.send(to, &message)?;
            let mut player = self.player.lock();
            player.delivered(&message.dkg_instance_id);
            self.check_gates(&mut player);
        }
        Ok(())
    }

    fn calls_at_once(&self) -> usize {
        self.network.calls_at_once()
    }

    fn shutdown(&self) {
        self.network.shutdown();
    }
}

impl DkgContractClient for Actor {
    fn broadcast(&self, content: &str) -> Result<(), ClientError> {
        let mut player = self.player.lock();
        let posted = self.post(player.post(content));
        self.check_gates(&mut player);
        posted
    }

    fn read_broadcast(&self, from_index: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError> {
        let due = self.player.lock().reading(as_of.view);
        if let Err(error) = self.post(due) {
            log::debug!("a faulty member's post was not taken: {error}");
        }
        self.board.read_broadcast(from_index, as_of, limit)
    }

    fn submit_result(&self, instance: &InstanceId, result: &DkgResult) -> Result<(), ClientError> {
        if self.player.lock().submits() { self.board.submit_result(instance, result) } else { Ok(()) }
    }

    fn shutdown(&self) {
        self.board.shutdown();
    }
}

/// The thread of a member that floods: one burst each time the gates open.
pub(super) struct Flood {
    gates: Sender<String>,
    /// Dropped to end the thread.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where a flood goes.
pub(super) struct Targets {
    pub(super) network: Arc<dyn Network>,
    pub(super) board: Arc<dyn DkgContractClient>,
    pub(super) log: Arc<dyn LogHost>,
    pub(super) peers: Vec<NodeId>,
}

impl Flood {
    /// Starts the thread of the member that `node` belongs to; `key` signs its log entries.
    pub(super) fn start(node: &ChainNode, key: SigningKey, targets: Targets) -> io::Result<Flood> {
        let (gates, opened) = bounded::<String>(1);
        let (alive, closed) = bounded::<()>(0);
        let (author, replica) = (node.author().index(), node.replica());
        // The log as the member has found it: what vouches for more, and was not written by its own node, says that it runs twice.
        let (seen, chain) = {
            let replica = replica.lock();
            (replica.prefix(), *replica.config().identity())
        };
        let body = move || {
            let entry = |number| {
                // Over the member's quota, out of its sequence, or stale: every replica has to see that for itself.
                let payload = Payload::Post(junk(number));
                Entry { author, sequence: 0, payload, seen }.sign(&chain, &key).ok()
            };
            loop {
                select! {
                    recv(opened) -> instance => match instance {
                        Ok(instance) => targets.flood(&instance, &closed, entry),
                        Err(_) => return,
                    },
                    recv(closed) -> _ => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("dkg-flood-{author}")).spawn(body)?;
        Ok(Flood { gates, alive: Some(alive), thread: Some(thread) })
    }

    /// Where the name of a run opens the gates.
    pub(super) fn gates(&self) -> Sender<String> {
        self.gates.clone()
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&mut self) {
        drop(self.alive.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("a flooding thread has panicked");
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Targets {
    /// One burst. What is refused on the way is meant to be.
    fn flood(&self, instance: &str, closed: &Receiver<()>, entry: impl Fn(usize) -> Option<Vec<u8>>) {
        let share = PrivateMessage::protocol(SecretBytes::new(vec![0; 33]), instance);
        for number in 0..FLOOD_MESSAGES {
            if closed.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            let _ = self.board.broadcast(&junk(number));
            if let Some(entry) = entry(number) {
                let _ = self.log.append(&entry);
            }
            for peer in &self.peers {
                let _ = self.network.send(peer, &share);
            }
        }
    }
}

fn junk(number: usize) -> String {
    format!("flood {number}")
}
