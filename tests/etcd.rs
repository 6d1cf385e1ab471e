//! A log in an etcd cluster: one member and three, killed, cut off, tampered with.
#![cfg(feature = "etcd")]

mod etcd_room;
mod folder;
mod hostile_room;
mod install;
mod log_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dkg_engine::SecretBytes;
use dkg_engine::chain::log::{
    Entry, EtcdLog, EtcdLogConfig, EtcdLogin, LogError, LogHost, MAX_ENTRY_BYTES, Payload, Prefix,
};
use dkg_engine::epoch::View;
use dkg_engine::hex;
use etcd_room::{Cluster, PATIENCE, wait_for};
use hostile_room::{Act, Committee, Exchange, Mood, Proxy};
use log_support::{config, index, network_key};
use rand::TryRng;
use rand::rngs::SysRng;
use serde_json::json;
use sha3::{Digest, Sha3_256};

const PREFIX: &str = "dkg/test/";

fn way(endpoints: &[String]) -> EtcdLogConfig {
    EtcdLogConfig::new(endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(), PREFIX.into())
}

fn access(cluster: &Cluster) -> EtcdLog {
    EtcdLog::new(way(&cluster.endpoints()))
}

/// An entry of this member.
fn entry(author: usize, sequence: u64) -> Vec<u8> {
    let seen = Prefix::genesis(config().identity());
    let entry = Entry { author: index(author), sequence, payload: Payload::Tick(View(sequence)), seen };
    entry.sign(config().identity(), &network_key(author)).unwrap()
}

/// The key that an entry has in etcd, in base64.
fn key_of(author: usize, entry: &[u8]) -> String {
    STANDARD.encode(format!("{PREFIX}m{author}/{}", hex::encode(&Sha3_256::digest(entry))))
}

/// Appends, as often as it takes.
fn append(log: &EtcdLog, entry: &[u8]) -> u64 {
    wait_for("an append", || match log.append(entry) {
        Ok(position) => Some(position),
        Err(LogError::Unavailable(_)) => None,
        Err(error) => panic!("{error}"),
    })
}

fn read_all(log: &EtcdLog) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let more = wait_for("a read", || match log.read(all.len() as u64, 100) {
            Ok(more) => Some(more),
            Err(LogError::Unavailable(_)) => None,
            Err(error) => panic!("{error}"),
        });
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

#[test]
fn entries_have_one_order_for_everybody_and_an_append_that_is_repeated_finds_its_own() {
    let cluster = Cluster::new(1);
    let (one, two) = (access(&cluster), access(&cluster));
    assert_eq!(one.read(0, 9), Ok(vec![]));
    for sequence in 0..5 {
        assert_eq!(one.append(&entry(0, sequence)), Ok(2 * sequence));
        assert_eq!(two.append(&entry(1, sequence)), Ok(2 * sequence + 1));
    }
    let expected: Vec<_> = (0..5).flat_map(|sequence| [entry(0, sequence), entry(1, sequence)]).collect();
    assert_eq!(two.append(&entry(0, 3)), Ok(6), "it stands there already");
    for log in [&one, &two, &access(&cluster)] {
        assert_eq!(read_all(log), expected);
        assert_eq!(log.read(3, 2), Ok(expected[3..5].to_vec()));
        assert_eq!(log.read(10, 9), Ok(vec![]));
        assert_eq!(log.read(99, 9), Ok(vec![]));
    }
    let from_the_middle = access(&cluster).read(7, 9).unwrap();
    assert!(!from_the_middle.is_empty() && expected[7..].starts_with(&from_the_middle), "by who knows nothing yet");
    assert_eq!(one.append(&[0; MAX_ENTRY_BYTES + 1]), Err(LogError::TooLong(MAX_ENTRY_BYTES + 1)));
    let long = vec![7; MAX_ENTRY_BYTES];
    assert_eq!(one.append(&long), Ok(10));
    two.wait(10, PATIENCE).unwrap();
    assert!(two.read(10, 1) == Ok(vec![long]));
}

#[test]
fn a_wait_ends_with_an_entry_and_with_a_shutdown_and_so_does_everything_else() {
    let cluster = Cluster::new(1);
    let (writer, reader) = (access(&cluster), Arc::new(access(&cluster)));
    let waiting = |from| {
        let reader = Arc::clone(&reader);
        std::thread::spawn(move || reader.wait(from, Duration::MAX))
    };
    let first = waiting(0);
    assert_eq!(writer.append(&entry(0, 0)), Ok(0));
    assert_eq!(first.join().unwrap(), Ok(()));
    assert_eq!(reader.read(0, 9), Ok(vec![entry(0, 0)]));
    assert_eq!(reader.wait(1, Duration::ZERO), Ok(()));
    let second = waiting(1);
    reader.shutdown();
    assert_eq!(second.join().unwrap(), Err(LogError::ShutDown));
    assert_eq!(reader.append(&entry(0, 1)), Err(LogError::ShutDown));
    assert_eq!(reader.read(0, 1), Err(LogError::ShutDown));
    assert_eq!(writer.append(&entry(0, 1)), Ok(1), "the others go on");
}

#[test]
fn a_call_to_a_cluster_that_does_not_answer_ends_with_a_shutdown() {
    let cluster = Cluster::new(1);
    let log = Arc::new(access(&cluster));
    log.append(&entry(0, 0)).unwrap();
    cluster.freeze(0, true);
    let call = {
        let log = Arc::clone(&log);
        std::thread::spawn(move || log.append(&entry(0, 1)))
    };
    let started = Instant::now();
    log.shutdown();
    assert_eq!(call.join().unwrap(), Err(LogError::ShutDown));
    assert!(started.elapsed() < PATIENCE);
    cluster.freeze(0, false);
}

#[test]
fn what_is_overwritten_or_deleted_later_still_counts_with_what_it_was_for_who_comes_later() {
    let cluster = Cluster::new(1);
    let log = access(&cluster);
    let entries: Vec<_> = (0..6).map(|sequence| entry(0, sequence)).collect();
    for entry in &entries {
        log.append(entry).unwrap();
    }
    let overwritten = json!({ "key": key_of(0, &entries[1]), "value": STANDARD.encode("a lie") });
    cluster.ask(0, "/v3/kv/put", &overwritten).unwrap();
    cluster.ask(0, "/v3/kv/deleterange", &json!({ "key": key_of(0, &entries[4]) })).unwrap();
    log.append(&entry(1, 0)).unwrap();
    let expected: Vec<_> = entries.into_iter().chain([entry(1, 0)]).collect();
    let newcomer = access(&cluster);
    assert_eq!((read_all(&log), read_all(&newcomer)), (expected.clone(), expected));
    assert_eq!(newcomer.status().unwrap().tampered, 2);
}

#[test]
fn a_compacted_history_is_read_as_far_as_it_is_whole_and_an_overwritten_entry_in_it_is_named() {
    let cluster = Cluster::new(1);
    let log = access(&cluster);
    let entries: Vec<_> = (0..5).map(|sequence| entry(0, sequence)).collect();
    for entry in &entries {
        log.append(entry).unwrap();
    }
    let revision = |log: &EtcdLog| log.status().unwrap().revision.to_string();
    cluster.ask(0, "/v3/kv/compaction", &json!({ "revision": revision(&log) })).unwrap();
    assert_eq!(read_all(&access(&cluster)), entries, "nothing was overwritten");
    log.append(&entry(1, 0)).unwrap();
    assert_eq!(read_all(&access(&cluster)).len(), 6, "and it goes on");

    let lie = json!({ "key": key_of(0, &entries[2]), "value": STANDARD.encode("a lie") });
    cluster.ask(0, "/v3/kv/put", &lie).unwrap();
    log.append(&entry(1, 1)).unwrap();
    cluster.ask(0, "/v3/kv/compaction", &json!({ "revision": revision(&log) })).unwrap();
    let error = access(&cluster).read(0, 99).unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, LogError::Unavailable(_)) && told.contains("position 2") && told.contains("m0/"), "{told}");
    assert_eq!(log.read(5, 9).unwrap(), [entry(1, 0), entry(1, 1)], "who had read it goes on");
}

#[test]
fn nothing_acknowledged_is_lost_when_leaders_are_killed_and_brought_back_and_all_read_one_order() {
    const EACH: u64 = 40;
    let mut cluster = Cluster::new(3);
    let writers: Vec<_> = (0..3)
        .map(|author| {
            let log = access(&cluster);
            std::thread::spawn(move || {
                let mut written = Vec::new();
                for sequence in 0..EACH {
                    let entry = entry(author, sequence);
                    written.push((append(&log, &entry), entry));
                }
                written
            })
        })
        .collect();
    let watcher = access(&cluster);
    for round in 1..=3_u64 {
        // A third of the work later, the leader dies.
        wait_for("entries", || {
            (watcher.status().map_or(0, |status| status.position) >= round * EACH / 2).then_some(())
        });
        let leader = wait_for("a leader", || cluster.leader());
        if round == 2 {
            cluster.freeze(leader, true);
            wait_for("another leader", || cluster.leader().filter(|other| *other != leader));
            cluster.freeze(leader, false);
        } else {
            cluster.kill(leader);
            wait_for("another leader", || cluster.leader());
            cluster.start(leader);
        }
    }
    let written: Vec<Vec<(u64, Vec<u8>)>> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let order = read_all(&watcher);
    assert_eq!(order.len() as u64, 3 * EACH);
    for entries in &written {
        assert!(entries.is_sorted_by_key(|(position, _)| *position), "a writer's own order");
        for (position, entry) in entries {
            assert_eq!(&order[usize::try_from(*position).unwrap()], entry);
        }
    }
    for endpoint in cluster.endpoints() {
        let alone = EtcdLog::new(way(std::slice::from_ref(&endpoint)));
        assert_eq!(read_all(&alone), order, "{endpoint}");
    }
}

#[test]
fn with_two_of_three_members_down_an_append_is_unavailable_and_says_where_it_was_tried() {
    let mut cluster = Cluster::new(3);
    let log = access(&cluster);
    append(&log, &entry(0, 0));
    cluster.kill(1);
    cluster.kill(2);
    let error = log.append(&entry(0, 1)).unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, LogError::Unavailable(_)), "{told}");
    assert!(cluster.endpoints().iter().all(|endpoint| told.contains(endpoint)), "{told}");
    cluster.start(1);
    append(&log, &entry(0, 1));
    assert_eq!(read_all(&log), [entry(0, 0), entry(0, 1)]);
}

#[test]
fn a_member_with_a_user_of_its_own_writes_under_its_own_part_and_gets_a_new_token_when_the_old_one_is_lost() {
    let mut cluster = Cluster::new(1);
    let user = |name: &str, password: &str| {
        cluster.ask(0, "/v3/auth/user/add", &json!({ "name": name, "password": password })).unwrap();
        cluster.ask(0, "/v3/auth/role/add", &json!({ "name": name })).unwrap();
        cluster.ask(0, "/v3/auth/user/grant", &json!({ "user": name, "role": name })).unwrap();
    };
    let grant = |role: &str, kind: &str, from: &str, to: &str| {
        let perm = json!({ "permType": kind, "key": STANDARD.encode(from), "range_end": STANDARD.encode(to) });
        cluster.ask(0, "/v3/auth/role/grant", &json!({ "name": role, "perm": perm })).unwrap();
    };
    user("root", "root's");
    user("member-0", "open sesame");
    grant("member-0", "WRITE", "dkg/test/m0/", "dkg/test/m00");
    grant("member-0", "READ", "dkg/test/", "dkg/test0");
    cluster.ask(0, "/v3/auth/enable", &json!({})).unwrap();

    let login = |password: &str| {
        let password = SecretBytes::new(password.as_bytes().to_vec());
        let login = Some(EtcdLogin { user: "member-0".to_owned(), password: Arc::new(move || Ok(password.clone())) });
        EtcdLog::new(EtcdLogConfig { login, ..way(&cluster.endpoints()) })
    };
    let log = login("open sesame");
    assert_eq!(log.append(&entry(0, 0)), Ok(0));
    assert!(matches!(log.append(&entry(1, 0)), Err(LogError::Unavailable(text)) if text.contains("member-0")));
    let wrong = login("open says me").append(&entry(0, 1)).unwrap_err();
    let told = wrong.to_string();
    assert!(matches!(wrong, LogError::Unavailable(_)) && told.contains("member-0"), "{told}");
    assert!(!told.contains("says me"), "{told}");
    assert!(matches!(access(&cluster).read(0, 9), Err(LogError::Unavailable(_))), "nobody is let in without a name");
    // Tokens are lost with the process.
    cluster.kill(0);
    cluster.start(0);
    assert_eq!(append(&log, &entry(0, 1)), 1);
    assert_eq!(read_all(&log), [entry(0, 0), entry(0, 1)]);
}

#[test]
fn users_roles_and_passwords_may_change_while_a_member_uses_the_log() {
    let cluster = Cluster::new(1);
    let root = |path: &str, body: serde_json::Value| {
        let endpoint = &cluster.endpoints()[0];
        let login = json!({ "name": "root", "password": "root's" });
        let ask = |path: &str, token: &str, body: &serde_json::Value| {
            let request = ureq::post(format!("{endpoint}{path}"));
            let request = if token.is_empty() { request } else { request.header("Authorization", token) };
            request.send(body.to_string()).unwrap().body_mut().read_to_string().unwrap()
        };
        let token: serde_json::Value = serde_json::from_str(&ask("/v3/auth/authenticate", "", &login)).unwrap();
        ask(path, token["token"].as_str().unwrap(), &body);
    };
    cluster.ask(0, "/v3/auth/user/add", &json!({ "name": "root", "password": "root's" })).unwrap();
    cluster.ask(0, "/v3/auth/role/add", &json!({ "name": "root" })).unwrap();
    cluster.ask(0, "/v3/auth/user/grant", &json!({ "user": "root", "role": "root" })).unwrap();
    cluster.ask(0, "/v3/auth/user/add", &json!({ "name": "member", "password": "first" })).unwrap();
    cluster.ask(0, "/v3/auth/role/add", &json!({ "name": "member" })).unwrap();
    let all = json!({
        "permType": "READWRITE", "key": STANDARD.encode("dkg/test/"), "range_end": STANDARD.encode("dkg/test0")
    });
    cluster.ask(0, "/v3/auth/role/grant", &json!({ "name": "member", "perm": all })).unwrap();
    cluster.ask(0, "/v3/auth/user/grant", &json!({ "user": "member", "role": "member" })).unwrap();
    cluster.ask(0, "/v3/auth/enable", &json!({})).unwrap();

    let file = Arc::new(parking_lot::Mutex::new("first"));
    let read = Arc::clone(&file);
    let password = Arc::new(move || Ok(SecretBytes::new(read.lock().as_bytes().to_vec())));
    let login = Some(EtcdLogin { user: "member".to_owned(), password });
    let log = EtcdLog::new(EtcdLogConfig { login, ..way(&cluster.endpoints()) });
    assert_eq!(log.append(&entry(0, 0)), Ok(0));
    // Any change makes all tokens old.
    root("/v3/auth/user/add", json!({ "name": "somebody", "password": "else" }));
    assert_eq!(log.append(&entry(0, 1)), Ok(1));
    // A role is away for a while.
    root("/v3/auth/user/revoke", json!({ "name": "member", "role": "member" }));
    assert!(matches!(log.append(&entry(0, 2)), Err(LogError::Unavailable(text)) if text.contains("needs the right")));
    root("/v3/auth/user/grant", json!({ "user": "member", "role": "member" }));
    assert_eq!(append(&log, &entry(0, 2)), 2);
    // The password is another one, and its file a moment later.
    root("/v3/auth/user/changepw", json!({ "name": "member", "password": "second" }));
    assert!(
        matches!(log.append(&entry(0, 3)), Err(LogError::Unavailable(text)) if text.contains("does not let member in"))
    );
    *file.lock() = "second";
    assert_eq!(append(&log, &entry(0, 3)), 3);
    assert_eq!(read_all(&log).len(), 4);
}

#[test]
fn a_value_that_is_too_long_keeps_its_place_and_is_the_same_for_everybody() {
    let cluster = Cluster::new(1);
    let (early, late) = (access(&cluster), access(&cluster));
    assert_eq!(append(&early, &entry(0, 0)), 0);
    for (key, size) in [("dkg/test/m1/long", MAX_ENTRY_BYTES + 1), ("dkg/test/longer", 1 << 20)] {
        let put = json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(vec![7; size]) });
        cluster.ask(0, "/v3/kv/put", &put).unwrap();
    }
    assert_eq!(append(&early, &entry(0, 1)), 3);
    let all = read_all(&early);
    assert_eq!((all.len(), &all[3]), (4, &entry(0, 1)));
    assert!(all.iter().all(|entry| entry.len() <= MAX_ENTRY_BYTES));
    assert_eq!(all[1], all[2]);
    assert_eq!(read_all(&late), all);
}

/// Reads until there is so much.
fn read_so_many(log: &EtcdLog, count: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < count {
        log.wait(all.len() as u64, PATIENCE).unwrap();
        all.extend(log.read(all.len() as u64, 100).unwrap());
    }
    all
}

#[test]
fn what_was_there_for_a_moment_only_counts_for_everybody_alike() {
    let cluster = Cluster::new(1);
    let (early, late) = (access(&cluster), access(&cluster));
    let put_and_delete = |key: &str| {
        let key = STANDARD.encode(key);
        cluster.ask(0, "/v3/kv/put", &json!({ "key": key, "value": STANDARD.encode("junk") })).unwrap();
        cluster.ask(0, "/v3/kv/deleterange", &json!({ "key": key })).unwrap();
    };
    assert_eq!(early.read(0, 9), Ok(vec![]), "it follows from now on");
    put_and_delete("dkg/test/m1/nothing is there now");
    assert_eq!((read_so_many(&early, 1), read_so_many(&late, 1)), (vec![b"junk".to_vec()], vec![b"junk".to_vec()]));
    assert_eq!(append(&early, &entry(0, 0)), 1);
    put_and_delete("dkg/test/m1/something is there now");
    assert_eq!(append(&late, &entry(0, 1)), 3);
    let all = read_so_many(&early, 4);
    assert_eq!((read_so_many(&late, 4), read_so_many(&access(&cluster), 4)), (all.clone(), all));
}

#[test]
fn keys_that_are_written_at_once_have_one_order_with_the_history_and_without() {
    let cluster = Cluster::new(1);
    let early = access(&cluster);
    append(&early, &entry(0, 0));
    let names: Vec<_> = (0..40).map(|number| format!("dkg/test/m1/{:02}", number * 27 % 40)).collect();
    let put = |name: &String| json!({ "request_put": { "key": STANDARD.encode(name), "value": STANDARD.encode(format!("{name} says")) } });
    cluster.ask(0, "/v3/kv/txn", &json!({ "success": names.iter().map(put).collect::<Vec<_>>() })).unwrap();
    assert_eq!(append(&early, &entry(0, 1)), 41);
    let all = read_so_many(&early, 42);
    assert!(all[1..41].is_sorted());
    let revision = early.status().unwrap().revision.to_string();
    assert_eq!(read_so_many(&access(&cluster), 42), all);
    cluster.ask(0, "/v3/kv/compaction", &json!({ "revision": revision })).unwrap();
    assert_eq!(read_so_many(&access(&cluster), 42), all);
}

#[test]
fn entries_that_are_kept_no_more_can_be_read_again_and_a_reader_may_come_late() {
    const PIECES: usize = 120;
    let cluster = Cluster::new(1);
    let reader = access(&cluster);
    assert_eq!(reader.read(0, 9), Ok(vec![]));
    for piece in 0..PIECES {
        let put = |number: usize| {
            let key = STANDARD.encode(format!("dkg/test/m1/{piece:03}/{number:03}"));
            json!({ "request_put": { "key": key, "value": STANDARD.encode(format!("{piece} {number}")) } })
        };
        cluster.ask(0, "/v3/kv/txn", &json!({ "success": (0..100).map(put).collect::<Vec<_>>() })).unwrap();
    }
    let all = read_so_many(&reader, 100 * PIECES);
    assert_eq!(all.iter().filter(|entry| entry.starts_with(b"7 ")).count(), 100);
    for from in [0, 150, 11_999, 5_000] {
        assert_eq!(
            reader.read(from, 50).unwrap(),
            all[usize::try_from(from).unwrap()..].iter().take(50).cloned().collect::<Vec<_>>()
        );
    }
    let writer = access(&cluster);
    assert_eq!(append(&writer, &entry(0, 0)), 100 * PIECES as u64, "who only writes waits for nobody to read");
    reader.distrust();
    assert_eq!(reader.read(11_000, 1).unwrap(), all[11_000..11_001]);
}

#[test]
fn what_answers_nonsense_is_unavailable_and_named() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().take(8) {
            use std::io::{Read, Write};
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"kvs\":7}");
        }
    });
    let log = EtcdLog::new(way(std::slice::from_ref(&endpoint)));
    let told = log.read(0, 9).unwrap_err();
    assert!(matches!(&told, LogError::Unavailable(text) if text.contains(&endpoint)), "{told}");
}

// A way to a cluster in every mood.

/// How long an answer may take in the tests of a hostile way.
const SHORT: Duration = Duration::from_millis(400);

/// A committee of five, each of which reaches the cluster through somebody of its own.
struct Hostile {
    cluster: Cluster,
    proxies: Vec<Proxy>,
    committee: Committee,
}

impl Hostile {
    fn new() -> Hostile {
        let cluster = Cluster::new(1);
        let address = cluster.endpoints()[0].strip_prefix("http://").unwrap().parse().unwrap();
        let proxies: Vec<_> = (0..log_support::N).map(|_| Proxy::new(address)).collect();
        let committee = Committee::new(&config(), |member| {
            let config = way(&[proxies[member].endpoint()]);
            Arc::new(EtcdLog::new(EtcdLogConfig { request_timeout: SHORT, ..config }))
        });
        let hostile = Hostile { cluster, proxies, committee };
        hostile.goes_on("at first");
        hostile
    }

    /// What is on the way to so many members is in this mood.
    fn set(&self, members: usize, mood: &Mood) {
        self.proxies[..members].iter().for_each(|proxy| proxy.set(Some(Arc::clone(mood))));
    }

    /// All is honest again, views go on, and every copy is the log.
    fn goes_on(&self, what: &str) {
        self.proxies.iter().for_each(|proxy| proxy.set(None));
        self.committee.goes_on(what, &|| read_all(&access(&self.cluster)));
    }
}

/// Numbers that look drawn.
struct Draw(std::sync::atomic::AtomicU64);

impl Draw {
    fn below(&self, limit: usize) -> usize {
        let next = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::SeqCst);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        usize::try_from((mixed ^ (mixed >> 27)) % limit.max(1) as u64).unwrap()
    }
}

/// A mood that changes the events of a watch.
fn events(change: impl Fn(&mut Vec<serde_json::Value>) + Send + Sync + 'static) -> Box<Act> {
    Box::new(move |said| {
        let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&said.body);
        let Ok(mut line) = parsed else { return said.honest() };
        let Some(events) = line["result"]["events"].as_array_mut() else { return said.honest() };
        change(events);
        said.with_body(format!("{line}\n").as_bytes())
    })
}

/// An answer to every call.
fn always(answer: &str) -> Box<Act> {
    let answer = answer.to_owned();
    Box::new(move |said| said.with_body(answer.as_bytes()))
}

/// The moods that keep from the log: name, and what it does.
fn silencing(seed: u64) -> Vec<(&'static str, Box<Act>)> {
    let draw = Draw(seed.into());
    let huge = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1_u64 << 50);
    let endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"result\":{\"events\":[".to_vec();
    vec![
        (
            "truncated",
            Box::new(move |said| {
                let whole = said.honest();
                whole[..draw.below(whole.len())].to_vec()
            }),
        ),
        ("closed", Box::new(|_| Vec::new())),
        ("no HTTP", Box::new(|_| b"no\r\n\r\n".to_vec())),
        ("huge", Box::new(move |_| [huge.as_bytes(), &[b' '; 3 << 20]].concat())),
        ("endless", Box::new(move |_| [&endless[..], &[b'1'; 4 << 20]].concat())),
        (
            "slow",
            Box::new(|said| {
                // Longer than anybody waits here; who hangs up before is not missed.
                std::thread::park_timeout(2 * SHORT);
                said.honest()
            }),
        ),
        ("empty", always("")),
        ("nothing in it", always("{}\n")),
        ("not what was asked for", always("[7]\n")),
        (
            "numbers that are none",
            always("{\"header\":{\"revision\":\"-7\"},\"result\":{\"events\":[{\"kv\":{\"mod_revision\":\"x\"}}]}}\n"),
        ),
        ("gone back", always("{\"header\":{\"revision\":\"1\"}}\n")),
        ("an error in the stream", always("{\"error\":{\"grpc_code\":14,\"message\":\"no leader\"}}\n")),
        ("cancelled", always("{\"result\":{\"canceled\":true,\"cancel_reason\":\"permission denied\"}}\n")),
        ("compacted", always("{\"result\":{\"canceled\":true,\"compact_revision\":\"1\"}}\n")),
        ("taken, and nowhere", always("{\"header\":{\"revision\":\"99999\"},\"succeeded\":true}\n")),
        (
            "another's",
            always(
                "{\"succeeded\":false,\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":\"a2V5\",\"version\":\"1\"}]}}]}\n",
            ),
        ),
    ]
}

/// The moods that show another log: name, and what it does.
fn lying(seed: u64) -> Vec<(&'static str, Box<Act>)> {
    let draws: Vec<_> = (0..4).map(|number| Draw((seed ^ number).into())).collect();
    let [flip, left_out, swapped, bit]: [Draw; 4] = draws.try_into().ok().unwrap();
    vec![
        (
            "one bit flipped",
            Box::new(move |said| {
                let mut body = said.body.clone();
                if !body.is_empty() {
                    let at = bit.below(8 * body.len());
                    body[at / 8] ^= 1 << (at % 8);
                }
                said.with_body(&body)
            }),
        ),
        (
            "another value",
            events(move |events| {
                let at = flip.below(events.len());
                events[at]["kv"]["value"] = json!(STANDARD.encode("something else"));
            }),
        ),
        (
            "an event left out",
            events(move |events| {
                events.remove(left_out.below(events.len()));
            }),
        ),
        (
            "two values swapped",
            events(move |events| {
                let (one, other) = (swapped.below(events.len()), swapped.below(events.len()));
                let value = events[one]["kv"]["value"].take();
                events[one]["kv"]["value"] = std::mem::replace(&mut events[other]["kv"]["value"], value);
            }),
        ),
        ("backwards", events(|events| events.reverse())),
        ("every event twice", events(|events| *events = [&events[..], events].concat())),
        ("all deleted", events(|events| events.iter_mut().for_each(|event| event["type"] = json!("DELETE")))),
    ]
}

fn seed() -> u64 {
    let seed = match std::env::var("HOSTILE_SEED") {
        Ok(seed) => seed.parse().expect("HOSTILE_SEED is a number"),
        Err(_) => SysRng.try_next_u64().unwrap(),
    };
    println!("HOSTILE_SEED={seed}");
    seed
}

#[test]
fn no_mood_of_a_cluster_ends_a_member_or_damages_a_copy() {
    let seed = seed();
    let hostile = Hostile::new();
    // Who lies alike to more than t members makes them vouch for the lie: that etcd is not protected against.
    let silencing = silencing(seed).into_iter().map(|(what, act)| (log_support::N, what, act));
    let lying = lying(seed).into_iter().map(|(what, act)| (log_support::T, what, act));
    for (members, what, act) in silencing.chain(lying) {
        let (final_before, copies_before) = (hostile.committee.vouched(), hostile.committee.copies());
        hostile.set(members, &Mood::from(act));
        (0..2).for_each(|_| hostile.committee.round());
        let copies = hostile.committee.copies().into_iter().zip(copies_before).zip(final_before);
        for ((copy, before), vouched) in copies {
            assert!(copy.starts_with(&before[..vouched]), "{what}: nothing final is given up");
        }
        hostile.goes_on(what);
    }
}

#[test]
fn no_status_of_a_cluster_ends_a_member_whatever_it_was_asked() {
    let hostile = Hostile::new();
    let texts = [
        "",
        "etcdserver: permission denied",
        "etcdserver: request is too large",
        "etcdserver: mvcc: database space exceeded",
    ];
    for path in ["/v3/kv/txn", "/v3/kv/range", "/v3/watch"] {
        let said = Arc::new(std::sync::atomic::AtomicU16::new(0));
        let count = Arc::clone(&said);
        let act: Box<Act> = Box::new(move |exchange: &Exchange| {
            if !exchange.asked.contains(path) {
                return exchange.honest();
            }
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let body = json!({ "message": texts[usize::from(number) % texts.len()] }).to_string();
            let head = format!("HTTP/1.1 {} So\r\nconnection: close\r\n", 400 + number % 200);
            format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        });
        hostile.set(log_support::N, &Mood::from(act));
        wait_for("each status", || {
            hostile.committee.round();
            (said.load(std::sync::atomic::Ordering::SeqCst) >= 200).then_some(())
        });
        hostile.goes_on(path);
    }
}
