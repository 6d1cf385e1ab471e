//! The log server and its client: what members rely on, and what strangers cannot do.
#![cfg(all(feature = "log-http", feature = "log-server"))]

mod folder;
mod hostile_room;
mod log_server_room;
mod log_support;

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dkg_engine::chain::log::{
    ChainConfig, ChainNode, ChainSpec, FileLog, Follower, HttpLog, HttpLogConfig, LogChain, LogError, LogHost,
    LogServer, LogServerConfig, MAX_ENTRY_BYTES, MAX_JUMP_EPOCHS, PREFIX_WINDOW, Prefix, SystemClock,
};
use dkg_engine::epoch::{ProtocolEvent, ProtocolEvents, View};
use dkg_engine::hex;
use ed25519_dalek::SigningKey;
use hostile_room::{Act, Committee, Exchange, Mood, Proxy};
use log_server_room::{ANY_PORT, Pen, Raw, Room, access, append_request, nobody, wait_until};
use log_support::{N, SCHEDULE, config, network_key, spec};
use rand::TryRng;
use rand::rngs::SysRng;

fn refused(outcome: Result<u64, LogError>) -> String {
    match outcome {
        Err(LogError::Refused(text)) => text,
        other => panic!("{other:?} is no refusal"),
    }
}

fn unavailable<T: std::fmt::Debug>(outcome: Result<T, LogError>) -> String {
    match outcome {
        Err(LogError::Unavailable(text)) => text,
        other => panic!("{other:?} is not unavailable"),
    }
}

// Members.

struct Ignore;

impl ProtocolEvents for Ignore {
    fn on_event(&self, _: ProtocolEvent) {}
}

#[test]
fn members_on_a_log_server_make_time_pass_and_nothing_in_the_log_is_skipped_by_anybody() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let genesis_ms = u64::try_from(now.as_millis()).unwrap();
    let config = Arc::new(ChainConfig::new(ChainSpec { genesis_ms, view_ms: 50, ..spec() }).unwrap());
    let mut room = Room::with(Arc::clone(&config), LogServerConfig::default());
    let member = |position| {
        let log = Arc::new(room.access());
        ChainNode::new(LogChain::new(Arc::clone(&config)), log, network_key(position), 1).unwrap()
    };
    let members: Vec<_> = (0..N).map(member).collect();
    let idle = || View(u64::MAX);
    let start = |seed| Follower::start(&members[seed], Arc::new(SystemClock), Arc::new(idle), Arc::new(Ignore), 7);
    // One seed for all: their ticks cross as often as can be.
    let followers: Vec<_> = (0..N).map(|position| start(position).unwrap()).collect();
    let reach = |view| {
        wait_until("all have followed the log", || {
            followers.iter().for_each(|follower| assert_eq!(follower.failure(), None));
            members.iter().all(|member| member.replica().lock().header().view >= View(view))
        });
    };
    reach(8);
    room.restart();
    followers.into_iter().for_each(|follower| follower.stop().unwrap());
    let log = room.access().read(0, 1000).unwrap();
    let mut replica = LogChain::new(Arc::clone(&config));
    for entry in &log {
        assert_eq!(replica.apply(entry).unwrap().skipped, None);
    }
    assert!(replica.header().view >= View(8));
    assert_eq!(room.server().status().view, replica.header().view.0);
}

#[test]
fn a_tick_that_says_nothing_new_is_neither_taken_nor_an_error() {
    let room = Room::new();
    let (log, mut pen) = (room.access(), Pen::of(&room.config, 0));
    assert_eq!(log.append(&pen.tick(3)), Ok(0));
    assert_eq!(log.append(&pen.tick(3)), Err(LogError::NothingNew));
    assert_eq!(log.append(&pen.tick(2)), Err(LogError::NothingNew));
    assert_eq!(log.append(&pen.tick(4)), Err(LogError::NothingNew), "not before its last one is final");
    assert_eq!(room.log.len(), 1);
}

#[test]
fn an_entry_sent_twice_in_a_row_is_taken_once_also_over_a_restart() {
    let mut room = Room::new();
    let mut pen = Pen::of(&room.config, 0);
    let [first, second, other] = [pen.post("x"), pen.tick(1), Pen::of(&room.config, 1).tick(1)];
    for (entry, position) in [(&first, 0), (&first, 0), (&second, 1), (&other, 2), (&second, 1)] {
        assert_eq!(room.access().append(entry), Ok(position));
    }
    room.restart();
    assert_eq!(room.access().append(&second), Ok(1));
    assert!(refused(room.access().append(&first)).contains("repeated"), "not the last of its author's");
    assert_eq!(room.access().read(0, 9), Ok(vec![first, second, other]));
}

#[test]
fn of_many_who_send_the_same_entry_at_once_all_get_its_one_position() {
    const SENDERS: usize = 8;
    let room = Room::new();
    let mut pens: Vec<_> = (0..N).map(|author| Pen::of(&room.config, author)).collect();
    let entries: Vec<_> = (0..26 * N).map(|number| pens[number % N].post(&number.to_string())).collect();
    let together = Barrier::new(SENDERS);
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let mut raw = room.connect();
                let mut answers = Vec::new();
                for entry in &entries {
                    let request = append_request(room.config.identity(), entry);
                    let (most, last) = request.split_at(request.len() - 1);
                    raw.send(most);
                    together.wait();
                    raw.send(last);
                    answers.push(raw.answer());
                }
                for (position, answer) in answers.iter().enumerate() {
                    assert!(answer.ends_with(&format!("\r\n\r\n{position}\n")), "{answer}");
                }
            });
        }
    });
    assert_eq!(room.access().read(0, 999), Ok(entries));
}

#[test]
fn who_waits_for_an_entry_gets_it() {
    let room = Room::new();
    let mut raw = room.connect();
    raw.send(b"GET /v1/entries?from=0&wait_ms=10000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    wait_until("it waits", || room.server().status().polls == 1);
    let entry = Pen::of(&room.config, 0).tick(1);
    room.access().append(&entry).unwrap();
    let answer = raw.answer();
    assert!(answer.contains("dkg-end: 1\r\n"), "{answer}");
    assert!(answer.contains(&format!("content-length: {}\r\n", 4 + entry.len())), "{answer}");
}

#[test]
fn the_server_tells_about_itself() {
    let room = Room::new();
    for author in 0..3 {
        room.access().append(&Pen::of(&room.config, author).tick(4)).unwrap();
    }
    let status = room.access().status().unwrap();
    assert_eq!((status.position, status.endpoint, status.failure), (3, room.endpoint(), None));
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert!(status.now_ms > 1_700_000_000_000);
    let status = room.server().status();
    assert_eq!((status.entries, status.view, status.appends), (3, 4, 3));
    assert_eq!(status.ticks, [4, 4, 4, 0, 0]);
    assert_eq!((status.bytes, status.chain), (room.log.bytes(), hex::encode(room.config.identity())));
    let metrics = room.get("/metrics");
    for line in ["dkg_log_entries 3", "dkg_log_view 4", "dkg_log_append_seconds_count 3", "dkg_log_failed 0"] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    let page = room.get("/");
    assert!(page.contains("content-security-policy: default-src 'none'") && page.contains("<!doctype html>"), "{page}");
}

// What is not taken.

#[test]
fn what_every_replica_would_skip_is_refused_with_the_rule_and_counted() {
    let room = Room::new();
    let log = room.access();
    let mut pens: Vec<Pen> = (0..N).map(|author| Pen::of(&room.config, author)).collect();
    let check = |what: &str, entry: Vec<u8>, rule: &str, reason: &str| {
        let before = (room.log.len(), room.refused(reason));
        let text = refused(log.append(&entry));
        assert!(text.contains(rule), "{what}: {text}");
        assert_eq!((room.log.len(), room.refused(reason)), (before.0, before.1 + 1), "{what}");
    };
    check("garbage", vec![7; 300], "not a well-formed entry", "malformed");
    check("nothing", vec![], "not a well-formed entry", "malformed");
    let mut stranger = Pen::of(&room.config, 0);
    stranger.key = SigningKey::from_bytes(&[99; 32]);
    check("signed by a non-member", stranger.tick(1), "signature", "bad-signature");
    stranger.author = N;
    check("by a member that there is not", stranger.tick(1), "author is not a member", "unknown-author");
    let mut elsewhere = Pen::of(&room.config, 0);
    elsewhere.chain = [9; 32];
    check("of another chain", elsewhere.tick(1), "another chain", "bad-signature");
    check("too far", pens[0].tick(SCHEDULE.views_in_epoch * MAX_JUMP_EPOCHS + 1), "too far ahead", "tick-too-far");
    let old = pens[1].post("overtaken");
    log.append(&pens[1].post("first")).unwrap();
    check("overtaken", old, "repeated", "out-of-sequence");
    for number in 0..2 * N + 16 {
        log.append(&pens[2].post(&number.to_string())).unwrap();
    }
    check("over the quota", pens[2].post("one more"), "quota", "over-quota");
    let liar = &mut pens[3];
    liar.seen = Prefix { position: 0, hash: [1; 32] };
    check("of another log", liar.tick(1), "another log", "wrong-prefix");
}

#[test]
fn a_member_that_is_too_far_behind_is_to_read_on_and_say_it_again() {
    let mut room = Room::new();
    let slow = Pen::of(&room.config, 1).tick(1);
    // What another program put into the file counts too.
    std::thread::scope(|scope| {
        for _ in 0..64 {
            let log = room.log.reader();
            scope.spawn(move || (0..=PREFIX_WINDOW / 64).for_each(|_| assert!(log.append(b"x").is_ok())));
        }
    });
    room.restart();
    let text = unavailable(room.access().append(&slow));
    assert!(text.contains("too far behind"), "{text}");
}

#[test]
fn who_has_seen_another_log_is_told_so_and_gets_nothing_into_this_one() {
    let room = Room::new();
    for author in 0..N {
        let mut pen = Pen::of(&room.config, author);
        let honest = pen.seen;
        pen.seen.hash = [1; 32];
        for view in 1..4 {
            assert!(refused(room.access().append(&pen.tick(view))).contains("seen another log"));
        }
        pen.seen = honest;
        assert_eq!(room.access().append(&pen.post("what was seen since is this log")), Ok(author as u64));
    }
    assert_eq!((room.log.len(), room.refused("wrong-prefix")), (N as u64, 3 * N as u64));
}

#[test]
fn a_log_that_has_forked_before_is_shown_and_goes_no_further() {
    let mut room = Room::new();
    let entries: Vec<_> = (0..3)
        .map(|author| {
            let mut pen = Pen::of(&room.config, author);
            pen.seen.hash = [1; 32];
            pen.tick(1)
        })
        .collect();
    for entry in &entries {
        room.log.reader().append(entry).unwrap();
    }
    room.restart();
    let honest = Pen::of(&room.config, 4).tick(1);
    assert!(refused(room.access().append(&honest)).contains("forked"));
    assert_eq!(room.access().read(0, 9), Ok(entries), "all can see why");
}

#[test]
fn a_log_without_room_says_so_and_is_still_read() {
    let room = Room::new();
    let (log, mut pen) = (room.access(), Pen::of(&room.config, 0));
    let entry = pen.post("x");
    log.append(&entry).unwrap();
    room.log.limit(room.log.bytes());
    let text = unavailable(log.append(&pen.post("y")));
    assert!(text.contains("no room for the log"), "{text}");
    assert_eq!(log.read(0, 9), Ok(vec![entry]));
    room.log.limit(u64::MAX);
    assert_eq!(log.append(&pen.post("z")), Ok(1));
}

#[cfg(all(feature = "cli", target_os = "linux"))]
const NO_ROOM_CHILD: &str = "DKG_TEST_NO_ROOM";

/// Not a test by itself: what the process does whose files may not grow for a while.
#[cfg(all(feature = "cli", target_os = "linux"))]
#[test]
fn child_whose_disk_has_no_room_for_a_while() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if std::env::var_os(NO_ROOM_CHILD).is_none() {
        return;
    }
    let room = Room::new();
    let [mut one, mut two] = [0, 1].map(|author| Pen::of(&room.config, author));
    let [first, second, third] = [one.tick(1), one.post("x"), two.post("y")];
    assert_eq!(room.access().append(&first), Ok(0));
    let limit = getrlimit(Resource::Fsize);
    // Instead of an end of the process, an error.
    let _told = signal_hook::flag::register(25, Arc::default()).unwrap();
    setrlimit(Resource::Fsize, Rlimit { current: Some(4096), ..limit }).unwrap();
    for entry in [&second, &third, &second] {
        let text = unavailable(room.access().append(entry));
        assert!(text.contains(&room.path().display().to_string()), "{text}");
        assert!(room.server().status().failure.is_some());
    }
    setrlimit(Resource::Fsize, limit).unwrap();
    wait_until("it has recovered", || room.access().append(&second) == Ok(1));
    assert_eq!(room.access().append(&third), Ok(2));
    assert_eq!(room.server().status().failure, None);
    assert_eq!(room.access().read(0, 9), Ok(vec![first, second, third]));
    println!("recovered");
}

#[cfg(all(feature = "cli", target_os = "linux"))]
#[test]
fn a_log_server_goes_on_by_itself_when_its_disk_has_room_again() {
    // A process of its own, since all its files are short of room.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_whose_disk_has_no_room_for_a_while", "--nocapture"])
        .env(NO_ROOM_CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("recovered"), "{told}{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
fn the_log_of_another_chain_is_never_taken_for_ones_own() {
    let room = Room::new();
    let other = ChainConfig::new(ChainSpec { chain_id: "other".into(), ..spec() }).unwrap();
    let log = access(&other, vec![room.endpoint()]);
    let chain = hex::encode(room.config.identity());
    let text = format!("{}: it keeps the log of another chain, {chain}", room.endpoint());
    let other_chain = LogError::Unavailable(text);
    assert_eq!(log.append(&Pen::of(&other, 0).tick(1)), Err(other_chain.clone()));
    assert_eq!(log.read(0, 1), Err(other_chain.clone()));
    assert_eq!(log.wait(0, Duration::MAX), Err(other_chain.clone()));
    assert_eq!(log.status(), Err(other_chain));
    assert_eq!((room.log.len(), room.refused("other-chain")), (0, 6), "asked once more, as after any trouble");
}

// Endpoints.

#[test]
fn an_endpoint_that_is_dead_is_passed_over_and_the_one_that_worked_is_asked_first() {
    let room = Room::new();
    let accepted = || room.server().status().connections_accepted;
    let log = access(&room.config, vec![nobody(), room.endpoint(), nobody()]);
    let entry = Pen::of(&room.config, 0).tick(1);
    assert_eq!(log.append(&entry), Ok(0));
    assert_eq!(log.read(0, 1), Ok(vec![entry]));
    assert_eq!(log.status().unwrap().endpoint, room.endpoint());
    assert_eq!(accepted(), 1, "and the connection is kept");
    let text = unavailable(access(&room.config, vec![nobody(), nobody()]).read(0, 1));
    assert_eq!(text.matches("http://127.0.0.1:").count(), 3, "{text}");
}

#[test]
fn an_endpoint_that_failed_is_not_asked_again_while_another_works() {
    let room = Room::new();
    let flaky = TcpListener::bind(ANY_PORT).unwrap();
    let log = access(&room.config, vec![format!("http://{}", flaky.local_addr().unwrap()), room.endpoint()]);
    std::thread::scope(|scope| {
        // Once, and hangs up.
        scope.spawn(|| drop(flaky.accept().unwrap()));
        assert_eq!(log.read(0, 1), Ok(vec![]));
    });
    assert_eq!(log.read(0, 1), Ok(vec![]));
    flaky.set_nonblocking(true).unwrap();
    assert_eq!(flaky.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn an_endpoint_that_dies_or_hangs_is_left_for_the_next() {
    let (mut dying, room) = (Room::new(), Room::new());
    let hanging = TcpListener::bind(ANY_PORT).unwrap();
    let endpoints = [dying.endpoint(), format!("http://{}", hanging.local_addr().unwrap()), room.endpoint()];
    let request_timeout = Duration::from_millis(300);
    let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
    let config = HttpLogConfig::new(endpoints, *room.config.identity());
    let log = HttpLog::new(HttpLogConfig { request_timeout, ..config });
    let mut pen = Pen::of(&room.config, 0);
    let [first, second] = [pen.tick(1), pen.tick(2)];
    assert_eq!(log.append(&first), Ok(0));
    dying.stop();
    assert_eq!(log.append(&second), Ok(0));
    assert_eq!(room.log.reader().read(0, 9), Ok(vec![second]));
}

#[test]
fn what_one_endpoint_claims_is_asked_of_the_others() {
    let other = ChainConfig::new(ChainSpec { chain_id: "other".into(), ..spec() }).unwrap();
    let foreign = Room::with(Arc::new(other), LogServerConfig::default());
    let room = Room::new();
    let mut pen = Pen::of(&room.config, 0);
    let chain = hex::encode(room.config.identity());
    let head = format!("dkg-chain: {chain}\r\ndkg-end: 9\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    let claims: Vec<String> = [400, 401, 403, 404, 409, 413, 418, 500, 503]
        .map(|status| format!("HTTP/1.1 {status} Oh\r\n{head}"))
        .into_iter()
        .chain([format!("HTTP/1.1 409 Oh\r\ndkg-reason: forked\r\n{head}"), format!("HTTP/1.1 200 OK\r\n{head}")])
        .collect();
    for (number, claim) in (1..).zip(&claims) {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let liar = format!("http://{}", listener.local_addr().unwrap());
        let said = claim.clone();
        // Answers until nobody asks any more; what it is blocked in ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut raw = Raw(stream.unwrap());
                let _ = std::io::Read::read(&mut raw.0, &mut [0; 4096]);
                raw.send(said.as_bytes());
            }
        });
        let entry = pen.post(&number.to_string());
        let log = access(&room.config, vec![liar.clone(), foreign.endpoint(), room.endpoint()]);
        assert_eq!(log.read(number - 1, 1), Ok(Vec::new()), "{claim}");
        let log = access(&room.config, vec![liar, foreign.endpoint(), room.endpoint()]);
        assert_eq!(log.append(&entry), Ok(number - 1), "{claim}");
    }
}

#[test]
fn what_a_server_makes_up_is_not_believed() {
    let chain = hex::encode(config().identity());
    let head = |status: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\r\ndkg-chain: {chain}\r\ndkg-end: 5\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let ok = |body: &[u8]| [head("200 OK", body.len()).as_bytes(), body].concat();
    let too_long = u32::try_from(MAX_ENTRY_BYTES + 1).unwrap().to_le_bytes();
    let answers = [
        (ok(b"\x05\0\0\0abc"), "cut off"),
        (ok(b"\x01\0\0"), "cut off"),
        (ok(&too_long), "bytes, where"),
        (ok(b"\x01\0\0\0a\x01\0\0\0b\x01\0\0\0c"), "more than the 2 entries"),
        (ok(&vec![0; 3_000_000]), "larger than"),
        (ok(b""), "gives none"),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec(), "no log server"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: /\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "no log server",
        ),
        (head("500 Oh", 0).into_bytes(), ""),
        (head("200 OK", usize::MAX).into_bytes(), ""),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), ""),
        (vec![], ""),
    ];
    for (answer, expected) in answers {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let told = String::from_utf8_lossy(&answer[..answer.len().min(99)]).into_owned();
        let server = std::thread::spawn(move || {
            // Once, and once more.
            for _ in 0..2 {
                let mut raw = Raw(listener.accept().unwrap().0);
                let _ = std::io::Read::read(&mut raw.0, &mut [0; 4096]);
                raw.send(&answer);
            }
        });
        let text = unavailable(access(&config(), vec![endpoint]).read(0, 2));
        assert!(text.contains(expected), "{told}: {text}");
        server.join().unwrap();
    }
}

// Strangers.

#[test]
fn who_asks_under_a_foreign_name_gets_nothing_but_a_member_that_names_the_chain() {
    let room = Room::new();
    let chain = hex::encode(config().identity());
    for path in ["/", "/status.json", "/v1/status", "/metrics", "/v1/entries?from=0"] {
        let answer = room.ask(&format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("'evil.example' is none of them"), "{answer}");
        assert!(!answer.contains(&chain), "{answer}");
    }
    let member = format!("GET /v1/entries?from=0 HTTP/1.1\r\nhost: evil.example\r\ndkg-chain: {chain}\r\n\r\n");
    assert!(room.ask(&member).starts_with("HTTP/1.1 200 "));
}

#[test]
fn what_is_asked_wrongly_is_answered_in_words() {
    let room = Room::new();
    let starts = |request: &str, expected: &str| {
        let answer = room.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{request}: {answer}");
    };
    for (line, status) in [
        ("GET /nowhere", "404"),
        ("DELETE /v1/entries", "405"),
        ("GET /v1/entries?from=-1", "400"),
        ("GET /v1/entries?limit=18446744073709551616", "400"),
        ("GET /v1/entries?from=18446744073709551615&limit=18446744073709551615", "200"),
        ("OPTIONS *", "404"),
    ] {
        starts(&format!("{line} HTTP/1.1\r\nhost: localhost\r\n\r\n"), status);
    }
    starts("POST /v1/entries HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\nx", "400");
    starts("POST /v1/status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\nx", "405");
    starts("POST /v1/entries HTTP/1.1\r\nhost: localhost\r\ndkg-chain: y\r\ncontent-length: 1\r\n\r\nx", "409");
    starts("POST /v1/entries HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", "400");
    starts("ON/OFF\r\n\r\n", "400");
    starts("\u{16}\u{3}\u{1}\u{2}", "400");
    let counted = room.refused("not-http");
    assert!(counted >= 2, "{counted}");
    let mut pen = Pen::of(&room.config, 0);
    let two =
        [append_request(room.config.identity(), &pen.tick(1)), append_request(room.config.identity(), &pen.post("x"))];
    let mut raw = room.connect();
    raw.send(&two.concat());
    assert!(raw.answer().ends_with("\r\n\r\n0\n"));
    wait_until("the second of two requests sent at once is served", || room.log.len() == 2);
}

#[test]
fn giant_heads_and_bodies_are_cut_off() {
    let room = Room::new();
    let post = "POST /v1/entries HTTP/1.1\r\nhost: localhost\r\n";
    let giant = room.ask(&format!("{post}content-length: 10000000000\r\n\r\nabc"));
    assert!(giant.starts_with("HTTP/1.1 413"), "{giant}");
    let expecting = room.ask(&format!("{post}content-length: 10000000000\r\nexpect: 100-continue\r\n\r\n"));
    assert!(expecting.starts_with("HTTP/1.1 413"), "{expecting}");
    let long_head = room.ask(&format!("{post}x: {}", "y".repeat(9000)));
    assert!(long_head.starts_with("HTTP/1.1 431"), "{long_head}");
    for (start, more) in [
        (format!("{post}transfer-encoding: chunked\r\n\r\n"), "4000\r\n".to_owned() + &"x".repeat(0x4000) + "\r\n"),
        (format!("{post}transfer-encoding: chunked\r\n\r\n"), "0".repeat(10_000)),
        (post.to_owned(), format!("x: {}\r\n", "y".repeat(1000))),
    ] {
        let mut raw = room.connect();
        raw.send(start.as_bytes());
        // As much as it takes until it is cut off.
        let sent = (0..100_000).take_while(|_| std::io::Write::write_all(&mut raw.0, more.as_bytes()).is_ok()).count();
        assert!(sent < 100_000, "{start}");
    }
    assert_eq!(room.refused("not-http"), 6);
    assert_eq!(room.log.len(), 0);
}

#[test]
fn a_request_that_trickles_in_is_cut_off() {
    let room = Room::limited(|limits| limits.transfer = Duration::from_millis(20));
    let mut raw = room.connect();
    let request = append_request(room.config.identity(), &[0; 60_000]);
    // A byte at a time, and never the last: each comes in time, the whole does not.
    let mut bytes = request[..request.len() - 1].chunks(1);
    wait_until("it is cut off", || {
        raw.send(bytes.next().unwrap_or_default());
        room.refused("not-http") > 0
    });
    assert!(bytes.next().is_some(), "while there was more to come");
    let answer = raw.answer();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[test]
fn a_peer_over_its_rate_is_told_to_be_patient() {
    let room = Room::limited(|limits| (limits.requests_per_second, limits.burst) = (1, 3));
    let answers: Vec<_> = (0..9).map(|_| room.get("/v1/status")).collect();
    let told = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    assert!(told("HTTP/1.1 429 ") > 0 && told("HTTP/1.1 200 ") >= 3);
    assert_eq!(told("HTTP/1.1 429 ") as u64, room.refused("over-rate"));
    let text = unavailable(room.access().read(0, 1));
    assert!(text.contains("too many requests"), "{text}");
}

#[test]
fn who_waits_takes_no_room_from_who_appends_and_does_not_hold_up_a_stop() {
    let mut room = Room::limited(|limits| {
        (limits.max_connections, limits.max_polls, limits.max_polls_per_address) = (4, 9, 2);
    });
    let mut polls: Vec<Raw> = (0..2).map(|_| room.connect()).collect();
    for (number, raw) in polls.iter_mut().enumerate() {
        raw.send(b"GET /v1/entries?from=1&wait_ms=10000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
        wait_until("one more waits", || room.server().status().polls == number + 1);
    }
    let one_more = room.get("/v1/entries?from=1&wait_ms=10000");
    assert!(one_more.starts_with("HTTP/1.1 200"), "one too many is answered at once");
    assert_eq!(room.server().status().polls, 2);
    assert_eq!(room.access().append(&Pen::of(&room.config, 0).tick(1)), Ok(0));
    room.stop();
    for raw in &mut polls {
        let answer = raw.answer();
        assert!(answer.contains("503") && answer.contains("shut down"), "not waited out: {answer}");
    }
}

#[test]
fn thousands_of_connections_keep_no_member_out() {
    // As many as the system lets one process have, with what the server needs.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let files: usize = files.and_then(|files| files.parse().ok()).unwrap_or(1024);
    let room = Room::limited(|limits| (limits.max_connections, limits.max_connections_per_address) = (100, 80));
    let most = AtomicU64::new(0);
    let mut strangers: Vec<TcpStream> = Vec::new();
    let mut pen = Pen::of(&room.config, 0);
    let log = room.access();
    for number in 0..2000.min(files.saturating_sub(400)) {
        let mut raw = room.connect();
        match number % 3 {
            0 => {}
            1 => raw.send(b"GET / HTTP/1.1\r\n"),
            _ => raw.send(b"POST /v1/entries HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx"),
        }
        strangers.push(raw.0);
        if number % 100 == 99 {
            let view = u64::try_from(number).unwrap() / 100;
            assert_eq!(log.append(&pen.post(&view.to_string())), Ok(view));
        }
        most.fetch_max(room.server().status().connections as u64, Ordering::Relaxed);
    }
    assert_eq!(most.into_inner(), 80);
    wait_until("all are in, and most are out again", || {
        room.server().status().connections_displaced as usize >= strangers.len() - 80
    });
    let mut oldest = Raw(strangers.swap_remove(0));
    assert!(oldest.is_closed());
}

#[test]
fn a_server_whose_port_is_taken_says_so() {
    let room = Room::new();
    let folder = folder::Folder::new();
    let log = FileLog::create(&folder.path().join("log"), room.config.identity()).unwrap();
    let address = room.server().local_addr();
    let outcome = LogServer::start(address, log, Arc::clone(&room.config), LogServerConfig::default());
    let text = outcome.map(drop).unwrap_err().to_string();
    assert!(text.starts_with(&format!("cannot listen on {address}: ")), "{text}");
}

// A host in every mood.

/// Answers like a log server's, with this status and reason.
fn says(chain: &str, status: u16, reason: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} So\r\ndkg-chain: {chain}\r\ndkg-end: 7\r\ndkg-reason: {reason}\r\n");
    format!("{head}connection: close\r\ncontent-length: 2\r\n\r\nno").into_bytes()
}

/// Entries as they travel, one by one.
fn framed(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, _)) = body.split_first_chunk::<4>() {
        let (frame, rest) = body.split_at(4 + usize::try_from(u32::from_le_bytes(*length)).unwrap());
        frames.push(frame.to_vec());
        body = rest;
    }
    frames
}

/// The moods of one that is asked for entries and for their number, and given entries: name, and what it does. Each draws
/// from its own stream.
fn moods(chain: &str, other: &str, seed: u64) -> Vec<(&'static str, Mood)> {
    let draw = move || {
        let state = AtomicU64::new(seed);
        move |below: usize| {
            let next = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            usize::try_from((mixed ^ (mixed >> 27)) % below.max(1) as u64).unwrap()
        }
    };
    let mood = |mood: Box<Act>| -> Mood { Arc::from(mood) };
    let (own, foreign) = (chain.to_owned(), other.to_owned());
    let (cut, flip, pick, swap) = (draw(), draw(), draw(), draw());
    let empty = format!("HTTP/1.1 200 OK\r\ndkg-chain: {chain}\r\ndkg-end: 99\r\ncontent-length: 0\r\n\r\n");
    let huge =
        format!("HTTP/1.1 200 OK\r\ndkg-chain: {chain}\r\ndkg-end: 9\r\ncontent-length: {}\r\n\r\n", 1_u64 << 50);
    let endless = format!("HTTP/1.1 200 OK\r\ndkg-chain: {chain}\r\ndkg-end: 9\r\ntransfer-encoding: chunked\r\n\r\n");
    let endless = [endless.into_bytes(), b"10000\r\n".to_vec(), vec![0; 0x10000], b"\r\n".to_vec()].concat();
    vec![
        (
            "truncated",
            mood(Box::new(move |said| {
                let whole = said.honest();
                whole[..cut(whole.len())].to_vec()
            })),
        ),
        (
            "one bit flipped",
            mood(Box::new(move |said| {
                let mut body = said.body.clone();
                if !body.is_empty() {
                    let at = flip(8 * body.len());
                    body[at / 8] ^= 1 << (at % 8);
                }
                said.with_body(&body)
            })),
        ),
        (
            "backwards",
            mood(Box::new(|said| {
                if !said.asked.starts_with("GET") {
                    return said.honest();
                }
                said.with_body(&framed(&said.body).into_iter().rev().flatten().collect::<Vec<_>>())
            })),
        ),
        (
            "two entries swapped",
            mood(Box::new(move |said| {
                let mut frames = if said.asked.starts_with("GET") { framed(&said.body) } else { Vec::new() };
                if frames.len() < 2 {
                    return said.honest();
                }
                let at = swap(frames.len() - 1);
                frames.swap(at, at + 1);
                said.with_body(&frames.concat())
            })),
        ),
        (
            "an entry left out",
            mood(Box::new(move |said| {
                let mut frames = if said.asked.starts_with("GET") { framed(&said.body) } else { Vec::new() };
                if frames.is_empty() {
                    return said.honest();
                }
                frames.remove(pick(frames.len()));
                said.with_body(&frames.concat())
            })),
        ),
        (
            "nothing new any more",
            mood(Box::new(|said| if said.asked.starts_with("GET") { said.with_body(&[]) } else { said.honest() })),
        ),
        (
            "another chain",
            mood(Box::new(move |said| String::from_utf8_lossy(&said.honest()).replace(&own, &foreign).into_bytes())),
        ),
        (
            "taken, and thrown away",
            mood(Box::new(|said| if said.asked.starts_with("GET") { said.honest() } else { said.with_body(b"3") })),
        ),
        ("empty", mood(Box::new(move |_| empty.clone().into_bytes()))),
        ("closed", mood(Box::new(|_| Vec::new()))),
        ("huge", mood(Box::new(move |_| [huge.as_bytes(), &[0; 3 << 20]].concat()))),
        ("endless", mood(Box::new(move |_| endless.repeat(64)))),
        (
            "slow",
            mood(Box::new(|said| {
                // Longer than anybody waits here; who hangs up before is not missed.
                std::thread::park_timeout(2 * SHORT);
                said.honest()
            })),
        ),
    ]
}

/// How long an answer may take in the tests of a hostile host.
const SHORT: Duration = Duration::from_millis(400);

#[test]
fn no_mood_of_a_host_ends_a_member_or_damages_a_copy() {
    let seed = match std::env::var("HOSTILE_SEED") {
        Ok(seed) => seed.parse().expect("HOSTILE_SEED is a number"),
        Err(_) => SysRng.try_next_u64().unwrap(),
    };
    println!("HOSTILE_SEED={seed}");
    let room = Room::new();
    let proxy = Proxy::new(room.server().local_addr());
    let committee = Committee::new(&room.config, |_| {
        let config = HttpLogConfig::new(vec![proxy.endpoint().parse().unwrap()], *room.config.identity());
        Arc::new(HttpLog::new(HttpLogConfig { request_timeout: SHORT, ..config }))
    });
    let truth = || room.log.reader().read(0, 100_000).unwrap();
    committee.goes_on("at first", &truth);
    let chain = hex::encode(room.config.identity());
    for (number, (what, mood)) in (0..).zip(moods(&chain, &"ab".repeat(32), seed)) {
        let (final_before, copies_before) = (committee.vouched(), committee.copies());
        proxy.set(Some(mood));
        let rounds = if what == "slow" { 1 } else { 3 + (seed >> number) % 3 };
        (0..rounds).for_each(|_| committee.round());
        let copies = committee.copies().into_iter().zip(copies_before).zip(final_before);
        for ((copy, before), vouched) in copies {
            assert!(copy.starts_with(&before[..vouched]), "{what}: nothing final is given up");
        }
        proxy.set(None);
        committee.goes_on(what, &truth);
    }
}

#[test]
fn no_status_of_a_host_ends_a_member_whatever_it_was_asked() {
    let room = Room::new();
    let proxy = Proxy::new(room.server().local_addr());
    let committee = Committee::new(&room.config, |_| Arc::new(access(&room.config, vec![proxy.endpoint()])));
    let truth = || room.log.reader().read(0, 100_000).unwrap();
    let chain = hex::encode(room.config.identity());
    let reasons = ["", "forked", "stale-prefix", "old-tick", "out-of-sequence", "other-chain", "log-failed"];
    for from in (400..600).step_by(25) {
        for asked in ["GET", "POST"] {
            for status in from..from + 25 {
                let (chain, reason) = (chain.clone(), reasons[usize::from(status) % reasons.len()]);
                proxy.set(Some(Arc::new(move |said: &Exchange| {
                    if said.asked.starts_with(asked) { says(&chain, status, reason) } else { said.honest() }
                })));
                committee.round();
            }
        }
        proxy.set(None);
        committee.goes_on(&format!("statuses from {from} on"), &truth);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_shutdown_does_not_wait_for_a_connection_that_is_being_made() {
    let room = Room::new();
    // Nobody accepts: when its queue is full, who dials waits.
    let full = TcpListener::bind(ANY_PORT).unwrap();
    let address = full.local_addr().unwrap();
    let patience = Duration::from_millis(100);
    let queue: Vec<_> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&address, patience).ok()).take(10_000).collect();
    let endpoints = vec![format!("http://{address}").parse().unwrap()];
    let forever = Duration::from_secs(600);
    let config = HttpLogConfig::new(endpoints, *room.config.identity());
    let log = HttpLog::new(HttpLogConfig { connect_timeout: forever, request_timeout: forever, ..config });
    let dials = || {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        threads
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok())
            .any(|name| name == "dkg-dial\n")
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| log.read(0, 1));
        while !dials() && !reading.is_finished() {
            std::thread::yield_now();
        }
        log.shutdown();
        assert_eq!(reading.join().unwrap(), Err(LogError::ShutDown));
    });
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    drop(queue);
}
