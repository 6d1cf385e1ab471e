//! What every host of a log does, whatever it keeps the log in.
#![cfg(all(feature = "log-http", feature = "log-server"))]

mod folder;
mod log_server_room;
mod log_support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dkg_engine::chain::log::{FileLog, LogError, LogHost, MAX_ENTRY_BYTES, MemoryLog};
use folder::Folder;
use log_server_room::{Pen, Room};
use log_support::{N, config};

/// A new log, as a way to more accesses to it.
struct Host {
    name: &'static str,
    reader: Box<dyn Fn() -> Arc<dyn LogHost>>,
    _folder: Option<Folder>,
}

/// One empty log of each kind.
fn hosts() -> [Host; 3] {
    let memory = MemoryLog::new();
    let folder = Folder::new();
    let file = FileLog::create(&folder.path().join("log"), config().identity()).unwrap();
    let room = Room::new();
    [
        Host { name: "memory", reader: Box::new(move || Arc::new(memory.reader())), _folder: None },
        Host { name: "file", reader: Box::new(move || Arc::new(file.reader())), _folder: Some(folder) },
        Host { name: "http", reader: Box::new(move || Arc::new(room.access())), _folder: None },
    ]
}

/// What one has written, with the positions it was told.
type Written = Vec<(u64, Vec<u8>)>;

fn pen(author: usize) -> Pen {
    Pen::of(&config(), author)
}

#[test]
fn entries_are_read_in_the_order_of_their_positions() {
    for host in hosts() {
        let (one, two) = ((host.reader)(), (host.reader)());
        let [a, b, c] = [pen(0).post("a"), pen(1).post("b"), pen(2).post("")];
        assert_eq!(one.append(&a), Ok(0), "{}", host.name);
        assert_eq!(two.append(&b), Ok(1));
        assert_eq!(one.append(&c), Ok(2));
        assert_eq!(two.read(0, 2), Ok(vec![a, b.clone()]));
        assert_eq!(two.read(0, 0), Ok(vec![]));
        assert_eq!(one.read(1, 9), Ok(vec![b, c.clone()]));
        assert_eq!(one.read(3, 9), Ok(vec![]));
        assert_eq!(one.read(u64::MAX, 9), Ok(vec![]));
        assert_eq!(one.read(2, usize::MAX), Ok(vec![c]));
    }
}

#[test]
fn a_wait_ends_with_an_entry_and_with_a_shutdown() {
    for host in hosts() {
        let (writer, reader) = ((host.reader)(), (host.reader)());
        let waiting = |from| {
            let reader = Arc::clone(&reader);
            std::thread::spawn(move || reader.wait(from, Duration::MAX))
        };
        let [x, y] = [pen(0).post("x"), pen(1).post("y")];
        let first = waiting(0);
        writer.append(&x).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()), "{}", host.name);
        assert_eq!(reader.wait(1, Duration::ZERO), Ok(()));
        let second = waiting(1);
        reader.shutdown();
        assert_eq!(second.join().unwrap(), Err(LogError::ShutDown));
        assert_eq!(reader.append(&y), Err(LogError::ShutDown));
        assert_eq!(reader.read(0, 1), Err(LogError::ShutDown));
        assert_eq!(reader.wait(0, Duration::MAX), Err(LogError::ShutDown));
        assert_eq!(writer.append(&y), Ok(1), "the others go on");
        assert_eq!((host.reader)().read(0, 9), Ok(vec![x, y]), "and who comes new");
    }
}

#[test]
fn an_entry_that_no_replica_would_take_is_refused() {
    let short = pen(0).post("").len();
    let longest = pen(0).post(&"x".repeat(MAX_ENTRY_BYTES - short));
    assert_eq!(longest.len(), MAX_ENTRY_BYTES);
    for host in hosts() {
        let access = (host.reader)();
        assert_eq!(
            access.append(&[0; MAX_ENTRY_BYTES + 1]),
            Err(LogError::TooLong(MAX_ENTRY_BYTES + 1)),
            "{}",
            host.name
        );
        assert_eq!(access.append(&longest), Ok(0));
        assert_eq!(access.read(0, 1), Ok(vec![longest.clone()]));
    }
}

#[test]
fn of_many_who_append_at_once_each_gets_the_position_of_its_own_entries_in_its_own_order() {
    const EACH: usize = 20;
    for host in hosts() {
        let write = |writer: usize| {
            let (access, mut pen) = ((host.reader)(), pen(writer));
            std::thread::spawn(move || {
                let entries: Vec<_> = (0..EACH).map(|number| pen.post(&number.to_string())).collect();
                entries.into_iter().map(|entry| (access.append(&entry).unwrap(), entry)).collect()
            })
        };
        let threads: Vec<std::thread::JoinHandle<Written>> = (0..N).map(write).collect();
        let written: Vec<Written> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let log = (host.reader)().read(0, 999).unwrap();
        assert_eq!(log.len(), N * EACH, "{}", host.name);
        for entries in &written {
            assert!(entries.is_sorted_by_key(|(position, _)| *position));
            for (position, entry) in entries {
                assert_eq!(log[usize::try_from(*position).unwrap()], *entry);
            }
        }
        let all: BTreeSet<u64> = written.into_iter().flatten().map(|(position, _)| position).collect();
        assert_eq!(all.len(), log.len());
    }
}
