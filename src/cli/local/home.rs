//! Where a committee lives: its keys, its log and its members' stores.

use std::sync::Arc;
use std::time::Instant;

use dkg_engine::bls::VectorEncoding;
use dkg_engine::chain::log::{ChainConfig, ChainSpec, Clock, LogHost, LogPlace, MemoryLog, Schedule, SystemClock};
use dkg_engine::epoch::View;
use dkg_engine::node::identity::Identity;
use dkg_engine::store::{MemoryStore, Store};

use super::identity::Source;
use super::lock::Lock;

/// The name of the chain of every local committee.
pub(super) const CHAIN_ID: &str = "local";

/// A way to new accesses to a log.
pub(super) type Log = Box<dyn Fn() -> Arc<dyn LogHost>>;

/// What a committee consists of while nobody runs it.
pub(super) struct Home {
    pub(super) config: Arc<ChainConfig>,
    pub(super) source: Source,
    /// In order of index, like the stores.
    pub(super) identities: Vec<Identity>,
    pub(super) stores: Vec<Arc<dyn Store>>,
    pub(super) log: Log,
    /// Keeps other processes out, where there can be any.
    pub(super) lock: Option<Lock>,
}

impl Home {
    /// A new committee that is gone with the process.
    pub(super) fn in_memory(source: Source, size: usize, view_ms: u64, schedule: Schedule) -> Result<Home, String> {
        let identities = source.identities(size)?;
        let config = new_chain(&identities, SystemClock.now_ms(), view_ms, schedule)?;
        let stores = identities.iter().map(|_| Arc::new(MemoryStore::new()) as Arc<dyn Store>).collect();
        let log = MemoryLog::new();
        Ok(Home { config, source, identities, stores, log: Box::new(move || Arc::new(log.reader())), lock: None })
    }
}

/// The chain of these members.
pub(super) fn new_chain(
    identities: &[Identity],
    genesis_ms: u64,
    view_ms: u64,
    schedule: Schedule,
) -> Result<Arc<ChainConfig>, String> {
    let spec = ChainSpec {
        chain_id: CHAIN_ID.to_owned(),
        genesis_ms,
        view_ms,
        schedule,
        members: identities.iter().map(|identity| identity.public(None).proven()).collect::<Result<_, _>>()?,
        vector_encoding: VectorEncoding::Uncompressed,
        log: LogPlace::Local,
    };
    Ok(Arc::new(ChainConfig::new(spec).map_err(|error| error.to_string())?))
}

/// The time of a chain that stood still while nobody ran it: it goes on with the last view that was final. By the machine's
/// clock every member would say that whole epochs have passed.
pub(super) struct ChainTime {
    from_ms: u64,
    started: Instant,
}

impl ChainTime {
    /// Time goes on from the beginning of this view.
    pub(super) fn from(config: &ChainConfig, view: View) -> Self {
        ChainTime { from_ms: config.begins_at(view), started: Instant::now() }
    }
}

impl Clock for ChainTime {
    fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.from_ms.saturating_add(passed)
    }

    fn steady_ms(&self) -> u64 {
        SystemClock.steady_ms()
    }
}
