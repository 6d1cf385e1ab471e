//! A log in a file: what it keeps through crashes, and what it says when it cannot.
#![cfg(feature = "log-file")]

mod folder;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dkg_engine::chain::log::{FileLog, FileLogError, LogError, LogHost};
use folder::Folder;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};

const CHAIN: [u8; 32] = [7; 32];

/// Another one in each use; `DKG_LOG_SEED` repeats an earlier one.
fn seed() -> u64 {
    let seed = match std::env::var("DKG_LOG_SEED") {
        Ok(seed) => seed.parse().expect("DKG_LOG_SEED is a number"),
        Err(_) => SysRng.try_next_u64().unwrap(),
    };
    println!("DKG_LOG_SEED={seed}");
    seed
}

fn place() -> (Folder, PathBuf) {
    let folder = Folder::new();
    let path = folder.path().join("log");
    (folder, path)
}

/// A log with these entries, closed.
fn written(path: &Path, entries: &[&[u8]]) {
    let log = FileLog::create(path, &CHAIN).unwrap();
    let access = log.reader();
    for (position, entry) in (0..).zip(entries) {
        assert_eq!(access.append(entry), Ok(position));
    }
}

fn all(log: &FileLog) -> Result<Vec<Vec<u8>>, LogError> {
    log.reader().read(0, usize::MAX)
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let (_folder, path) = place();
    written(&path, &[b"a", b"", b"c"]);
    let log = FileLog::open(&path, &CHAIN).unwrap();
    assert_eq!((log.len(), log.is_empty()), (3, false));
    assert_eq!(all(&log), Ok(vec![b"a".to_vec(), vec![], b"c".to_vec()]));
    assert_eq!(log.reader().append(b"d"), Ok(3));
}

#[test]
fn what_cannot_be_opened_is_told_apart_and_left_as_it_is() {
    let (folder, path) = place();
    let open = |path: &Path, chain| FileLog::open(path, chain).map(drop).unwrap_err();
    let create = |path: &Path| FileLog::create(path, &CHAIN).map(drop).unwrap_err();
    assert_eq!(open(&path, &CHAIN), FileLogError::Missing(path.clone()));
    assert!(!path.exists());
    let log = FileLog::create(&path, &CHAIN).unwrap();
    log.reader().append(b"kept").unwrap();
    assert_eq!(open(&path, &CHAIN), FileLogError::InUse(path.clone()));
    assert_eq!(create(&path), FileLogError::Exists(path.clone()));
    drop(log);
    let other = FileLogError::OtherChain { file: path.clone(), found: CHAIN, expected: [8; 32] };
    assert_eq!(open(&path, &[8; 32]), other);
    assert_eq!(all(&FileLog::open(&path, &CHAIN).unwrap()), Ok(vec![b"kept".to_vec()]));

    for (name, content) in [("empty", &b""[..]), ("text", b"not a log"), ("long", &[0; 100_000])] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        assert!(matches!(open(&path, &CHAIN), FileLogError::Damaged { .. }), "{name}: {}", open(&path, &CHAIN));
        assert_eq!(fs::read(&path).unwrap(), content, "{name}");
    }
    assert!(matches!(open(folder.path(), &CHAIN), FileLogError::Damaged { .. }));
    let nowhere = folder.path().join("nowhere").join("log");
    assert!(matches!(create(&nowhere), FileLogError::Failed { .. }));
}

#[test]
fn every_error_names_the_file_and_what_to_do() {
    let file = PathBuf::from("some/log");
    let reason = || "so".to_owned();
    let errors = [
        FileLogError::Missing(file.clone()),
        FileLogError::Exists(file.clone()),
        FileLogError::InUse(file.clone()),
        FileLogError::OtherChain { file: file.clone(), found: [1; 32], expected: [2; 32] },
        FileLogError::DamagedEntry { file: file.clone(), position: 3, reason: "is missing" },
        FileLogError::Damaged { file: file.clone(), reason: reason() },
        FileLogError::ReadOnly { file: file.clone(), reason: reason() },
        FileLogError::Full { file: file.clone(), reason: reason() },
        FileLogError::Failed { file, reason: reason() },
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("some/log") && text.contains("; "), "{text}");
        let may_pass =
            matches!(error, FileLogError::ReadOnly { .. } | FileLogError::Full { .. } | FileLogError::Failed { .. });
        let expected = if may_pass { LogError::Disk(text) } else { LogError::Failed(text) };
        assert_eq!(LogError::from(error), expected);
    }
}

#[cfg(unix)]
#[test]
fn a_log_that_may_only_be_read_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = place();
    written(&path, &[b"a"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // The superuser may write whatever the permissions are.
    if fs::OpenOptions::new().write(true).open(&path).is_err() {
        assert!(matches!(FileLog::open(&path, &CHAIN).map(drop), Err(FileLogError::ReadOnly { .. })));
    }
}

#[cfg(unix)]
#[test]
fn a_log_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = place();
    drop(FileLog::create(&path, &CHAIN).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_full_log_takes_no_more_and_can_still_be_read() {
    let (_folder, path) = place();
    let log = FileLog::create(&path, &CHAIN).unwrap();
    log.limit(10);
    let access = log.reader();
    assert_eq!(access.append(b"12345678"), Ok(0));
    let full = access.append(b"901");
    assert!(matches!(&full, Err(LogError::Disk(text)) if text.contains("10 bytes")), "{full:?}");
    assert_eq!(access.append(b"90"), Ok(1));
    assert_eq!(all(&log), Ok(vec![b"12345678".to_vec(), b"90".to_vec()]));
    drop((access, log));
    let log = FileLog::open(&path, &CHAIN).unwrap();
    log.limit(10);
    assert!(log.reader().append(b"1").is_err(), "what was there before counts");
}

#[test]
fn a_creation_that_was_broken_off_is_begun_anew() {
    let (folder, path) = place();
    let unfinished = folder.path().join("log.unfinished");
    for half in [&b""[..], b"redb", &[0; 5000]] {
        fs::write(&unfinished, half).unwrap();
        assert_eq!(FileLog::open(&path, &CHAIN).map(drop), Err(FileLogError::Missing(path.clone())));
        FileLog::create(&path, &CHAIN).unwrap();
        assert!(!unfinished.exists());
        fs::remove_file(&path).unwrap();
    }
}

/// Forty entries that differ in content and length.
fn entries() -> Vec<Vec<u8>> {
    (0..40_u8).map(|number| vec![number; 150 + usize::from(number)]).collect()
}

/// What a log with these entries leaves on the disk: once killed, once closed.
fn images(path: &Path) -> [Vec<u8>; 2] {
    let log = FileLog::create(path, &CHAIN).unwrap();
    let access = log.reader();
    for entry in entries() {
        access.append(&entry).unwrap();
    }
    let killed = fs::read(path).unwrap();
    drop((access, log));
    [killed, fs::read(path).unwrap()]
}

#[test]
fn a_damaged_byte_is_an_error_and_never_another_log() {
    let (_folder, path) = place();
    let mut random = StdRng::seed_from_u64(seed());
    for (good, step) in images(&path).into_iter().zip([1, 7]) {
        // What says what the rest means, and a part of the rest.
        let header = 320;
        let rest = (0..40).map(|_| random.random_range(header..good.len()));
        let places: Vec<usize> = (0..header).step_by(step).chain(rest).collect();
        let mut told = 0;
        for place in places {
            let mut bad = good.clone();
            bad[place] ^= 1 << random.random_range(0..8);
            fs::write(&path, &bad).unwrap();
            match FileLog::open(&path, &CHAIN) {
                Ok(log) => assert_eq!(all(&log), Ok(entries()), "byte {place}"),
                Err(_) => told += 1,
            }
        }
        assert!(told > 0, "no damage was found");
    }
}

#[test]
fn a_damaged_entry_is_named_by_its_position() {
    let (_folder, path) = place();
    let [_, good] = images(&path);
    for (position, entry) in (0..).zip(&entries()) {
        let mut bad = good.clone();
        // There may be old copies of its page.
        for place in (0..good.len() - entry.len()).filter(|place| good[*place..].starts_with(entry)) {
            bad[place + entry.len() / 2] ^= 0x80;
        }
        fs::write(&path, &bad).unwrap();
        let error = FileLog::open(&path, &CHAIN).map(drop).unwrap_err();
        assert!(matches!(error, FileLogError::DamagedEntry { position: named, .. } if named == position), "{error}");
    }
}

/// A file that was cut off, at any length.
#[test]
fn a_truncated_log_is_an_error_and_never_a_shorter_log() {
    let (_folder, path) = place();
    for good in images(&path) {
        for length in (0..good.len()).step_by(good.len() / 30) {
            fs::write(&path, &good[..length]).unwrap();
            if let Ok(log) = FileLog::open(&path, &CHAIN) {
                assert_eq!(all(&log), Ok(entries()), "{length}");
            }
        }
    }
}

const CHILD: &str = "DKG_TEST_LOG_FILE";

/// Not a test: what the process does that is killed. Tells which entry has been acknowledged where.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let log = FileLog::open(Path::new(&path), &CHAIN).unwrap();
    let append = |writer: u64| {
        let access = log.reader();
        std::thread::spawn(move || {
            for number in 0_u64.. {
                let entry = format!("{writer}-{}-{number}", std::process::id());
                let position = access.append(entry.as_bytes()).unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {position} {entry}").unwrap();
                out.flush().unwrap();
            }
        })
    };
    let writers: Vec<_> = (0..4).map(append).collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn what_was_acknowledged_outlives_every_kill_in_its_place() {
    let mut random = StdRng::seed_from_u64(seed());
    let (_folder, path) = place();
    written(&path, &[]);
    let mut acknowledged: Vec<(u64, String)> = Vec::new();
    let mut before: Vec<Vec<u8>> = Vec::new();
    for _ in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_appends_until_it_is_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut wanted = random.random_range(1..60);
        let mut take = |line: String| {
            let Some((_, told)) = line.split_once("acknowledged ") else { return false };
            let (position, entry) = told.split_once(' ').unwrap();
            acknowledged.push((position.parse().unwrap(), entry.to_owned()));
            true
        };
        while wanted > 0 {
            wanted -= i32::from(take(lines.next().unwrap().unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A line that was cut off has told nothing.
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        let whole = rest.len().saturating_sub(1);
        for line in rest.into_iter().take(whole) {
            take(line);
        }

        let log = FileLog::open(&path, &CHAIN).unwrap();
        let now = all(&log).unwrap();
        assert!(now.starts_with(&before), "what was read once is there for good");
        for (position, entry) in &acknowledged {
            assert_eq!(now[usize::try_from(*position).unwrap()], entry.as_bytes());
        }
        before = now;
    }
}
