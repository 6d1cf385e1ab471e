//! The chains that nodes live on in a simulation.
//!
//! Both are made of the real parts: the whiteboard contract with its epochs, and for a log chain the members' replicas,
//! pens, tickers and followers over a log that the simulator hosts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::coalition::CHAIN_ID;
use crate::chain::contract::ContractError;
use crate::chain::log::{
    ChainConfig, ChainEvent, Clock, Epochs, LogError, LogHost, MAX_ENTRY_BYTES, ReadError, RunStart,
};
use crate::chain::{BoardMessage, DkgResult};
use crate::committee::NodeId;
use crate::epoch::{Header, InstanceId, Snapshot, View};

/// A chain with a whiteboard contract, which all nodes see alike, some later than others.
pub(super) struct ContractChain {
    epochs: Epochs,
    /// Calls that the contract has taken: the height of the next block.
    calls: u64,
    head: Header,
}

impl ContractChain {
    pub(super) fn new(config: &Arc<ChainConfig>) -> Self {
        let head = Header { view: View(0), height: 0, id: [0; 32] };
        ContractChain { epochs: Epochs::new(Arc::clone(config), RunStart::AtOrAfter), calls: 0, head }
    }

    pub(super) fn head(&self) -> Header {
        self.head
    }

    /// Calls that the contract has taken.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    fn block(&self, view: View) -> Header {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&view.0.to_be_bytes());
        id[8..16].copy_from_slice(&self.calls.to_be_bytes());
        Header { view, height: self.calls, id }
    }

    pub(super) fn finalize(&mut self, view: View) -> Vec<ChainEvent> {
        self.head = self.block(view);
        self.epochs.finalize(self.head)
    }

    pub(super) fn post(&mut self, node: NodeId, content: &str) -> Result<(), ContractError> {
        self.epochs.post(node, content.to_owned(), self.calls)?;
        self.calls += 1;
        Ok(())
    }

    /// Takes a result, if it is of the run that is on.
    pub(super) fn submit(
        &mut self,
        node: NodeId,
        instance: &InstanceId,
        result: &DkgResult,
    ) -> Result<Option<ChainEvent>, ContractError> {
        if *instance != InstanceId::new(CHAIN_ID, self.epochs.views().run_for) {
            return Err(ContractError::NotRunning);
        }
        if self.epochs.contract().submission_of(&node) == Some(result) {
            return Ok(None);
        }
        let here = self.block(self.head.view);
        let event = self.epochs.submit(node, result, here)?;
        self.calls += 1;
        Ok(event)
    }

    pub(super) fn messages(&self, from: u64, as_of: &Header, limit: usize) -> Result<&[BoardMessage], ReadError> {
        self.epochs.messages(from, as_of.height, limit)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.epochs.snapshot(self.head)
    }
}

/// The log of a log chain, as the host keeps it.
#[derive(Clone, Default)]
pub(super) struct HostedLog(Arc<Mutex<Vec<Vec<u8>>>>);

impl HostedLog {
    pub(super) fn append(&self, entry: &[u8]) {
        self.0.lock().push(entry.to_vec());
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub(super) fn entry(&self, position: usize) -> Option<Vec<u8>> {
        self.0.lock().get(position).cloned()
    }
}

/// One member's access to it.
pub(super) struct Access {
    pub(super) log: HostedLog,
    /// Calls fail for now.
    pub(super) stalled: AtomicBool,
}

impl LogHost for Access {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(LogError::TooLong(entry.len()));
        }
        if self.stalled.load(Ordering::Relaxed) {
            return Err(LogError::Unavailable("the host does not answer".into()));
        }
        let mut entries = self.log.0.lock();
        entries.push(entry.to_vec());
        Ok(entries.len() as u64 - 1)
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        if self.stalled.load(Ordering::Relaxed) {
            return Err(LogError::Unavailable("the host does not answer".into()));
        }
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        Ok(self.log.0.lock().iter().skip(from).take(limit).cloned().collect())
    }

    fn wait(&self, _: u64, _: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

/// A clock in simulated time, right or wrong.
pub(super) struct SimulatedClock {
    pub(super) now: Arc<AtomicU64>,
    pub(super) off_by: i64,
}

impl Clock for SimulatedClock {
    fn now_ms(&self) -> u64 {
        self.now.load(Ordering::Relaxed).saturating_add_signed(self.off_by)
    }

    fn steady_ms(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}
