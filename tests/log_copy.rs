//! A member's own copy of the log: what it has read never changes, and a host that shows something else is found out.
#![cfg(feature = "log-file")]

mod folder;
mod log_support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dkg_engine::chain::log::{
    ChainNode, FileLog, Follower, LogChain, LogCopy, LogError, LogHost, OVERLAP, OVERLAP_AT_START, SystemClock,
};
use dkg_engine::epoch::{ProtocolEvent, ProtocolEvents, View};
use folder::Folder;
use log_support::{config, network_key};

/// How long a follower may take to stop before it is given up for running on.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host that can be made to lie, and that counts how often it is read.
#[derive(Default)]
struct Liar {
    entries: Mutex<Vec<Vec<u8>>>,
    /// Hands out at most so many at a time; 0: as many as asked for.
    stingy: usize,
    reads: AtomicUsize,
}

impl Liar {
    fn of(count: usize) -> Liar {
        Liar { entries: Mutex::new((0..count).map(entry).collect()), ..Liar::default() }
    }

    fn rewrite(&self, position: usize) {
        self.entries.lock().unwrap()[position] = b"something else".to_vec();
    }
}

fn entry(number: usize) -> Vec<u8> {
    format!("entry {number}").into_bytes()
}

impl LogHost for Liar {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        let mut entries = self.entries.lock().unwrap();
        entries.push(entry.to_vec());
        Ok(entries.len() as u64 - 1)
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let limit = if self.stingy == 0 { limit } else { limit.min(self.stingy) };
        let entries = self.entries.lock().unwrap();
        Ok(entries.iter().skip(usize::try_from(from).unwrap()).take(limit).cloned().collect())
    }

    fn wait(&self, _: u64, _: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

struct Scene {
    _folder: Folder,
    file: FileLog,
    host: Arc<Liar>,
}

impl Scene {
    fn new(host: Liar) -> Scene {
        let folder = Folder::new();
        let file = FileLog::create(&folder.path().join("log"), config().identity()).unwrap();
        Scene { _folder: folder, file, host: Arc::new(host) }
    }

    /// A process of the member.
    fn copy(&self) -> LogCopy {
        LogCopy::new(&self.file, self.host.clone())
    }
}

/// All there is to read.
fn read_all(copy: &LogCopy) -> Result<Vec<Vec<u8>>, LogError> {
    let mut all = Vec::new();
    loop {
        let more = copy.read(all.len() as u64, 300)?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}

#[test]
fn what_the_host_has_is_read_in_order_and_once() {
    for stingy in [0, 1, 7] {
        let scene = Scene::new(Liar { stingy, ..Liar::of(1500) });
        let copy = scene.copy();
        let expected: Vec<_> = (0..1500).map(entry).collect();
        assert_eq!(read_all(&copy).unwrap(), expected);
        assert_eq!(copy.append(&entry(1500)), Ok(1500));
        assert_eq!(copy.read(1500, 9), Ok(vec![entry(1500)]));
        assert_eq!(scene.file.len(), 1501);
        let reads = scene.host.reads.load(Ordering::SeqCst);
        assert_eq!(copy.read(0, 1500).unwrap(), expected);
        assert_eq!(scene.host.reads.load(Ordering::SeqCst), reads, "from the copy");
    }
}

#[test]
fn a_copy_that_is_behind_the_host_goes_on_where_it_ended() {
    let scene = Scene::new(Liar::of(10));
    assert_eq!(read_all(&scene.copy()).unwrap().len(), 10);
    for number in 10..20 {
        scene.host.append(&entry(number)).unwrap();
    }
    assert_eq!(read_all(&scene.copy()).unwrap(), (0..20).map(entry).collect::<Vec<_>>());
}

#[test]
fn a_rewritten_entry_is_found_at_the_next_read_or_the_next_start_with_its_position() {
    let count = usize::try_from(OVERLAP_AT_START).unwrap() + 400;
    let overlap = usize::try_from(OVERLAP).unwrap();
    let changed = |positions: &[usize]| {
        let scene = Scene::new(Liar::of(count));
        let running = scene.copy();
        read_all(&running).unwrap();
        positions.iter().for_each(|position| scene.host.rewrite(*position));
        scene.host.append(b"news").unwrap();
        let found = (read_all(&running).err(), read_all(&scene.copy()).err());
        assert!(found.0.is_none() || scene.file.len() == count as u64, "nothing of it is taken");
        found
    };
    let rewritten = |position: usize| Some(LogError::Rewritten(position as u64));
    assert_eq!(changed(&[count - 1]), (rewritten(count - 1), rewritten(count - 1)));
    assert_eq!(changed(&[count - overlap]), (rewritten(count - overlap), rewritten(count - overlap)));
    assert_eq!(changed(&[count - overlap - 1]), (None, rewritten(count - overlap - 1)));
    assert_eq!(changed(&[3, count - 1]), (rewritten(3), rewritten(3)), "the first that differs");
    assert_eq!(changed(&[count - 1000, 700]).1, rewritten(count - 1000));
    assert_eq!(changed(&[3]), (None, None), "what is further back is for the members' signatures to tell");
}

#[test]
fn a_host_that_has_lost_entries_is_found_out() {
    let scene = Scene::new(Liar::of(10));
    let running = scene.copy();
    read_all(&running).unwrap();
    scene.host.entries.lock().unwrap().truncate(8);
    let lost = LogError::Lost { host_has: 8, we_have: 10 };
    assert_eq!(running.read(10, 9), Err(lost.clone()));
    scene.host.entries.lock().unwrap().clear();
    assert!(matches!(scene.copy().read(10, 9), Err(LogError::Lost { we_have: 10, .. })));
    assert_eq!(running.read(0, 99).unwrap().len(), 10, "what was read is still there");
}

struct Deaf;

impl ProtocolEvents for Deaf {
    fn on_event(&self, _: ProtocolEvent) {}
}

#[test]
fn a_follower_waits_while_its_host_shows_another_log_and_goes_on_after() {
    let scene = Scene::new(Liar::of(10));
    let node = ChainNode::new(LogChain::new(config()), Arc::new(scene.copy()), network_key(0), 0).unwrap();
    node.catch_up().unwrap();
    scene.host.rewrite(8);
    let idle = || View(0);
    let follower = Follower::start(&node, Arc::new(SystemClock), Arc::new(idle), Arc::new(Deaf), 1).unwrap();
    let wait_until = |what: &str, ready: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            assert_eq!(follower.failure(), None);
            assert!(Instant::now() < deadline, "still not: {what}");
            std::thread::yield_now();
        }
    };
    let reads = scene.host.reads.load(Ordering::SeqCst);
    wait_until("it asks again", &|| scene.host.reads.load(Ordering::SeqCst) >= reads + 4);
    assert_eq!(scene.file.len(), 10, "nothing is taken from who shows another log");
    scene.host.append(&entry(10)).unwrap();
    scene.host.entries.lock().unwrap()[8] = entry(8);
    wait_until("it goes on", &|| scene.file.len() == 11);
    assert_eq!(follower.stop(), Ok(()));
}
