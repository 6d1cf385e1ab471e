//! What every host of a log does, whatever it keeps the log in.
#![cfg(feature = "log-file")]

mod folder;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dkg_engine::chain::log::{FileLog, LogError, LogHost, MAX_ENTRY_BYTES, MemoryLog};
use folder::Folder;

/// A new log, as a way to more accesses to it.
struct Host {
    name: &'static str,
    reader: Box<dyn Fn() -> Arc<dyn LogHost>>,
    _folder: Option<Folder>,
}

/// One empty log of each kind.
fn hosts() -> [Host; 2] {
    let memory = MemoryLog::new();
    let folder = Folder::new();
    let file = FileLog::create(&folder.path().join("log"), &[7; 32]).unwrap();
    [
        Host { name: "memory", reader: Box::new(move || Arc::new(memory.reader())), _folder: None },
        Host { name: "file", reader: Box::new(move || Arc::new(file.reader())), _folder: Some(folder) },
    ]
}

#[test]
fn entries_are_read_in_the_order_of_their_positions() {
    for host in hosts() {
        let (one, two) = ((host.reader)(), (host.reader)());
        assert_eq!(one.append(b"a"), Ok(0), "{}", host.name);
        assert_eq!(two.append(b"b"), Ok(1));
        assert_eq!(one.append(b""), Ok(2));
        assert_eq!(two.read(0, 2), Ok(vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(two.read(0, 0), Ok(vec![]));
        assert_eq!(one.read(1, 9), Ok(vec![b"b".to_vec(), vec![]]));
        assert_eq!(one.read(3, 9), Ok(vec![]));
        assert_eq!(one.read(u64::MAX, 9), Ok(vec![]));
        assert_eq!(one.read(2, usize::MAX), Ok(vec![vec![]]));
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
        let first = waiting(0);
        writer.append(b"x").unwrap();
        assert_eq!(first.join().unwrap(), Ok(()), "{}", host.name);
        assert_eq!(reader.wait(1, Duration::ZERO), Ok(()));
        let second = waiting(1);
        reader.shutdown();
        assert_eq!(second.join().unwrap(), Err(LogError::ShutDown));
        assert_eq!(reader.append(b"y"), Err(LogError::ShutDown));
        assert_eq!(reader.read(0, 1), Err(LogError::ShutDown));
        assert_eq!(writer.append(b"y"), Ok(1), "the others go on");
        assert_eq!((host.reader)().read(0, 9), Ok(vec![b"x".to_vec(), b"y".to_vec()]), "and who comes new");
    }
}

#[test]
fn an_entry_that_no_replica_would_take_is_refused() {
    for host in hosts() {
        let access = (host.reader)();
        assert_eq!(
            access.append(&[0; MAX_ENTRY_BYTES + 1]),
            Err(LogError::TooLong(MAX_ENTRY_BYTES + 1)),
            "{}",
            host.name
        );
        assert_eq!(access.append(&[0; MAX_ENTRY_BYTES]), Ok(0));
    }
}

#[test]
fn of_many_who_append_at_once_each_gets_the_position_of_its_own_entries_in_its_own_order() {
    const WRITERS: u8 = 8;
    const EACH: u8 = 20;
    for host in hosts() {
        let write = |writer: u8| {
            let access = (host.reader)();
            std::thread::spawn(move || (0..EACH).map(|number| access.append(&[writer, number]).unwrap()).collect())
        };
        let threads: Vec<std::thread::JoinHandle<Vec<u64>>> = (0..WRITERS).map(write).collect();
        let positions: Vec<Vec<u64>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let log = (host.reader)().read(0, 999).unwrap();
        assert_eq!(log.len(), usize::from(WRITERS) * usize::from(EACH), "{}", host.name);
        for (writer, positions) in (0..WRITERS).zip(&positions) {
            assert!(positions.is_sorted());
            for (number, position) in (0..EACH).zip(positions) {
                assert_eq!(log[usize::try_from(*position).unwrap()], [writer, number]);
            }
        }
        let all: BTreeSet<u64> = positions.into_iter().flatten().collect();
        assert_eq!(all.len(), log.len());
    }
}
