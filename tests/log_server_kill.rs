//! A log server killed at any moment: what it has acknowledged is there, where it said, and nothing is there twice.
//!
//! `DKG_LOG_KILLS` makes it longer, `DKG_LOG_SEED` repeats the choices of an earlier use. At which instruction the process
//! is hit is up to the machine.
#![cfg(all(feature = "log-http", feature = "log-server"))]

mod folder;
mod log_server_room;
mod log_support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dkg_engine::chain::log::{
    ChainConfig, ChainSpec, FileLog, LogError, LogHost, LogServer, LogServerConfig, Payload, Quota, Schedule,
    SignedEntry,
};
use dkg_engine::epoch::View;
use folder::Folder;
use log_server_room::{ANY_PORT, Pen, access, wait_until};
use log_support::{N, SCHEDULE, T, spec};
use parking_lot::RwLock;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};

const CHILD: &str = "DKG_LOG_SERVER_CHILD";
/// The most views that the members tick.
const MOST: u64 = 1000;

fn config() -> Arc<ChainConfig> {
    // One epoch: the posts' quota is never anew.
    let schedule = Schedule { views_in_epoch: 100_000, ..SCHEDULE };
    Arc::new(ChainConfig::new(ChainSpec { schedule, ..spec() }).unwrap())
}

/// What the writers write in turn: the first one every view's ticks of as many members as make it final, so that all of them
/// say something new; the second as many posts of the other members as they may.
fn writers(config: &ChainConfig) -> [Vec<(usize, Payload)>; 2] {
    let ticks = (1..=MOST).flat_map(|view| (0..=T).map(move |author| (author, Payload::Tick(View(view)))));
    let posts = (0..Quota::per_epoch(config.committee().size()).posts)
        .flat_map(|number| (T + 1..N).map(move |author| (author, Payload::Post(number.to_string()))));
    [ticks.collect(), posts.collect()]
}

/// The entries of one member that were acknowledged, each with its position.
type Told = Vec<(u64, Vec<u8>)>;

/// The process that is killed: serves the log that the environment names, and tells where.
#[test]
fn child_that_serves_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let config = config();
    let log = FileLog::open(Path::new(&path), config.identity()).unwrap();
    let server = LogServer::start(ANY_PORT, log, config, LogServerConfig::default()).unwrap();
    println!("\nserving {}", server.local_addr());
    std::io::stdout().flush().unwrap();
    // Until whoever has started it is gone, if not killed before.
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn start(path: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_serves_until_it_is_killed", "--nocapture"])
        .env(CHILD, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("serving ").map(str::to_owned));
    (child, format!("http://{}", address.expect("the child serves")))
}

#[test]
fn no_acknowledged_entry_is_lost_moved_or_there_twice_whenever_the_server_is_killed() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().expect("a number"));
    let seed = number("DKG_LOG_SEED").unwrap_or_else(|| SysRng.try_next_u64().unwrap());
    println!("DKG_LOG_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let config = config();
    let folder = Folder::new();
    let path = folder.path().join("log");
    drop(FileLog::create(&path, config.identity()).unwrap());

    let place = RwLock::new(String::new());
    let (acknowledged, cut_off, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let write = |entries: Vec<(usize, Payload)>| {
        let mut pens: Vec<Pen> = (0..N).map(|author| Pen::of(&config, author)).collect();
        let mut told = vec![Told::new(); N];
        for (author, payload) in entries {
            if done.load(Ordering::SeqCst) {
                break;
            }
            let entry = pens[author].write(payload);
            // Every entry again and again until somebody says that it is there.
            let position = loop {
                let endpoint = place.read().clone();
                match access(&config, vec![endpoint]).append(&entry) {
                    Ok(position) => break position,
                    Err(LogError::Unavailable(_)) => drop(cut_off.fetch_add(1, Ordering::SeqCst)),
                    Err(error) => panic!("member {author}: {error}"),
                }
            };
            told[author].push((position, entry));
            acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        told
    };
    let told: Vec<Vec<Told>> = std::thread::scope(|scope| {
        let (mut child, endpoint) = start(&path);
        *place.write() = endpoint;
        let threads: Vec<_> = writers(&config).into_iter().map(|entries| scope.spawn(move || write(entries))).collect();
        for _ in 0..number("DKG_LOG_KILLS").unwrap_or(12) {
            let enough = acknowledged.load(Ordering::SeqCst) + random.random_range(1..60);
            let all = writers(&config).iter().map(Vec::len).sum();
            wait_until("enough is written", || acknowledged.load(Ordering::SeqCst) >= enough.min(all));
            child.kill().unwrap();
            child.wait().unwrap();
            let endpoint;
            (child, endpoint) = start(&path);
            *place.write() = endpoint;
        }
        done.store(true, Ordering::SeqCst);
        let told = threads.into_iter().map(|writer| writer.join().unwrap()).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        told
    });
    assert!(cut_off.into_inner() > 0, "no append was ever hit");

    let log = FileLog::open(&path, config.identity()).unwrap().reader().read(0, usize::MAX).unwrap();
    for (position, entry) in told.iter().flatten().flatten() {
        assert_eq!(log[usize::try_from(*position).unwrap()], *entry, "position {position}");
    }
    let by = |author: usize| {
        log.iter().filter(move |entry| usize::from(SignedEntry::decode(entry).unwrap().entry().author) == author)
    };
    for author in 0..N {
        let written = told.iter().flat_map(|entries| &entries[author]);
        assert!(by(author).eq(written.map(|(_, entry)| entry)), "member {author}: each once, in its order");
    }
}
