//! Nothing secret leaves a member but where it is sealed or sent over a link: a committee of real processes tells all
//! that it can tell, and its members' secrets are looked for in it.
//!
//! Looked for: private keys, dealing seeds, received shares, key shares and the keys that seal them; every 16 bytes of
//! each, as raw bytes, hex, base64 and lists of numbers, in both byte orders. Not looked for: what a run publishes by
//! its rules (a share that was complained about is answered in public; here nobody complains), and a process's memory.
#![cfg(feature = "cli")]

mod etcd_room;
mod folder;
mod install;
mod process_room;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use dkg_engine::epoch::EpochCounter;
use dkg_engine::hex;
use dkg_engine::node::identity::Identity;
use dkg_engine::node::{PhaseName, admin_socket, store_file};
use dkg_engine::store::{DkgState, FileStore, Owner, SafeKey, Unlock};
use etcd_room::Cluster;
use process_room::*;
use serde_json::json;

const N: usize = 4;
const ALL: [usize; N] = [0, 1, 2, 3];
/// Bytes of every secret but seeds, which are longer.
const SECRET_BYTES: usize = 32;
/// Bytes that are enough to tell where a secret shows.
const PART_BYTES: usize = 16;
/// Bytes by which a form is found before it is compared.
const PREFIX_BYTES: usize = 8;
/// Time enough in a phase to stop all members, one after the other.
const PACE: Pace = Pace { view_ms: 100, setup: 20, phase: 120, epoch: 420 };

/// Secrets by name, in all the forms in which they could show.
#[derive(Default)]
struct Finder {
    names: Vec<String>,
    /// By their first bytes: whose they are, and what else has to follow.
    forms: HashMap<[u8; PREFIX_BYTES], Vec<(usize, Vec<u8>)>>,
    /// The first two bytes of some form.
    begins: Vec<bool>,
}

impl Finder {
    fn add(&mut self, name: String, secret: &[u8]) {
        assert!(secret.len() >= SECRET_BYTES && secret.len().is_multiple_of(PART_BYTES), "{name}");
        self.begins.resize(1 << 16, false);
        let number = self.names.len();
        self.names.push(name);
        let backwards: Vec<u8> = secret.iter().rev().copied().collect();
        for bytes in [secret, &backwards[..]] {
            for part in bytes.chunks(PART_BYTES) {
                for form in forms(part) {
                    self.begins[usize::from(u16::from_be_bytes([form[0], form[1]]))] = true;
                    let (first, rest) = form.split_first_chunk().unwrap();
                    self.forms.entry(*first).or_default().push((number, rest.to_vec()));
                }
            }
        }
    }

    /// The names of the secrets that show in there.
    fn find(&self, text: &[u8]) -> Vec<&str> {
        let mut found = Vec::new();
        for (at, window) in text.windows(PREFIX_BYTES).enumerate() {
            if !self.begins[usize::from(u16::from_be_bytes([window[0], window[1]]))] {
                continue;
            }
            for (number, rest) in self.forms.get(window).into_iter().flatten() {
                if text[at + PREFIX_BYTES..].starts_with(rest) && !found.contains(&self.names[*number].as_str()) {
                    found.push(self.names[*number].as_str());
                }
            }
        }
        found
    }
}

/// The forms in which bytes could show.
fn forms(part: &[u8]) -> Vec<Vec<u8>> {
    let lower = hex::encode(part);
    let numbers = |between: &str| part.iter().map(u8::to_string).collect::<Vec<_>>().join(between).into_bytes();
    let mut forms =
        vec![part.to_vec(), lower.to_uppercase().into_bytes(), lower.into_bytes(), numbers(","), numbers(", ")];
    // In base64 it matters how many bytes stand before; what those have a share in is left out.
    for before in 0..3 {
        let padded = [&vec![0; before][..], part].concat();
        let (from, to) = ((8 * before).div_ceil(6), 8 * padded.len() / 6);
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            forms.push(text.as_bytes()[from..to].to_vec());
        }
    }
    forms
}

/// Everything that was told, by where.
#[derive(Default)]
struct Told(Vec<(String, Vec<u8>)>);

impl Told {
    fn add(&mut self, place: &str, what: impl Into<Vec<u8>>) {
        self.0.push((place.to_owned(), what.into()));
    }

    /// What a command prints.
    fn command(&mut self, folder: &Path, args: &[&str]) {
        let output = dkg(folder, args);
        self.add(&format!("stdout of {args:?}"), output.stdout);
        self.add(&format!("stderr of {args:?}"), output.stderr);
    }

    /// All files under a folder, and all folders in it.
    fn files(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => self.files(&path),
                kind if kind.is_file() => self.add(&path.display().to_string(), fs::read(&path).unwrap()),
                _ => {}
            }
        }
    }

    /// What there is to be seen of a running committee.
    fn committee(&mut self, committee: &Committee) {
        let status = |member| format!("{}:7080", committee.ip(member));
        let mut servers: Vec<_> = ALL.iter().map(|member| (status(*member), "/status.json")).collect();
        servers.push((committee.server_address(), "/v1/status"));
        for (address, also) in servers {
            for path in ["/", "/metrics", "/healthz", "/v1/entries?from=0", "/nothing", also] {
                self.add(&format!("{address}{path}"), get(&address, path).unwrap());
            }
        }
        for member in ALL {
            let config = format!("m{member}/node.toml");
            self.command(committee.path(), &["-vvv", "status", "--json", "--config", &config]);
            self.command(committee.path(), &["-vvv", "status", "--config", &config]);
            self.command(committee.path(), &["-vvv", "sign", "--epoch", "1", "--message", "m", "--config", &config]);
            self.command(committee.path(), &["-vvv", "sign", "--epoch", "7", "--message", "m", "--config", &config]);
            for request in ["\"status\"", "{\"sign\":{\"epoch\":1,\"message\":\"00\",\"tag\":\"t\"}}", "nonsense"] {
                let mut stream = UnixStream::connect(admin_socket(&committee.home(member).join("data"))).unwrap();
                writeln!(stream, "{request}").unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                self.add(&format!("member {member}'s answer to {request}"), answer);
            }
        }
    }

    /// Whether something that was told there holds this.
    fn holds(&self, place: &str, what: &str) -> bool {
        let holds = |text: &[u8]| String::from_utf8_lossy(text).contains(what);
        self.0.iter().any(|(told_at, text)| told_at.contains(place) && holds(text))
    }
}

fn unlock(committee: &Committee, member: usize) -> Unlock {
    Unlock::KeyFile(committee.home(member).join("node.key"))
}

/// The store of a member that does not run.
fn store(committee: &Committee, member: usize) -> DkgState {
    let identity = Identity::open(&committee.home(member).join("identity.json"), &unlock(committee, member)).unwrap();
    let owner = Owner { chain_id: "processes".to_owned(), member: identity.node_id };
    let file = store_file(&committee.home(member).join("data"));
    DkgState::new(Arc::new(FileStore::open(&file, &owner, &unlock(committee, member)).unwrap()))
}

/// What opens a member's files, and its private keys.
fn add_identity(finder: &mut Finder, name: &str, home: &Path) {
    let key_file = home.join("node.key");
    let key = hex::decode(fs::read_to_string(&key_file).unwrap().trim()).unwrap();
    finder.add(format!("{name}: key file"), &key);
    let identity = Identity::open(&home.join("identity.json"), &Unlock::KeyFile(key_file)).unwrap();
    let secrets = identity.secrets();
    finder.add(format!("{name}: staking key"), &secrets.expose()[..SECRET_BYTES]);
    finder.add(format!("{name}: network key"), &secrets.expose()[SECRET_BYTES..]);
}

#[test]
fn no_log_line_page_answer_metric_or_file_of_a_whole_run_of_processes_holds_a_secret() {
    let mut committee = Committee::new(N, PACE, Log::Http, 3);
    let mut told = Told::default();
    let mut finder = Finder::default();
    committee.set_options(&["-vvv"]);
    committee.start_log();
    ALL.iter().for_each(|member| committee.start(*member));
    // How keys are made, once more, to hear what is said meanwhile.
    let made = committee.path().join("made");
    fs::create_dir(&made).unwrap();
    let address = ["--address", "127.0.0.1:7000", "--public", "member.toml"];
    let files = ["--identity", "identity.json", "--key-file", "node.key"];
    told.command(&made, &[&["-vvv", "keygen"][..], &files, &address].concat());
    add_identity(&mut finder, "a new member", &made);
    ALL.iter().for_each(|member| add_identity(&mut finder, &format!("member {member}"), &committee.home(*member)));

    committee.wait_until("the run", &ALL, |status| status.chain.epoch.phase == PhaseName::Sharing);
    told.committee(&committee);
    committee.wait_until("the end of dealing", &ALL, |status| status.chain.epoch.phase == PhaseName::Complaining);
    told.committee(&committee);
    // Everybody's journal, while there is one; and everybody says what it says when it goes on with a run.
    for member in ALL {
        committee.kill(member);
        let journal = store(&committee, member).journal(EpochCounter(1)).unwrap().expect("a run goes on");
        finder.add(format!("member {member}: seed"), journal.dealing.seed().expect("it has dealt").expose());
        assert_eq!(journal.shares.len(), N - 1);
        for share in &journal.shares {
            // Behind a tag.
            finder.add(format!("member {member}: share of {}", share.dealer), &share.message.expose()[1..]);
        }
        committee.start(member);
    }
    committee.wait_until("the journals to be read again", &ALL, |status| status.run_here.part.contains("resumed"));
    told.files(committee.path());
    told.committee(&committee);
    committee.wait_until("the key of epoch 1", &ALL, is_safe_in(1));
    assert!(committee.status(0).unwrap().chain.run.complaints.is_empty(), "then some shares are public");
    told.committee(&committee);
    for member in ALL {
        committee.kill(member);
        let SafeKey::Key(key) = store(&committee, member).safe_key(EpochCounter(1)).unwrap() else { panic!("no key") };
        finder.add(format!("member {member}: key share"), &key.secret_key().scalar().to_be_bytes()[..]);
        committee.start(member);
    }
    committee.wait_until("the key again", &ALL, is_safe_in(1));
    ALL.iter().for_each(|member| assert!(committee.stop(*member)));
    told.files(committee.path());

    // It has heard what it was to hear, and it finds what is there.
    for (place, what) in [
        ("7080/", "<html"),
        ("7080/status.json", "\"share_received\":true"),
        ("7080/metrics", "dkg_"),
        ("7500/v1/status", "\"entries\""),
        ("m0.err", "TRACE"),
        ("m0.err", "DEBUG"),
        ("log-server.err", "DEBUG"),
        ("m0.out", "listening"),
        ("m0/data/store", ""),
        ("log", "processes"),
        ("answer to \"status\"", "node_id"),
        ("answer to {\"sign\"", "signed"),
        ("[\"-vvv\", \"keygen\"", "member.toml"),
    ] {
        assert!(told.holds(place, what), "{what:?} is nowhere in what was told at {place}");
    }
    let names = finder.names.len();
    assert_eq!(names, 3 + N * (3 + 1 + (N - 1) + 1));
    let (mut key_files, mut bytes) = (0, 0);
    for (place, text) in &told.0 {
        bytes += text.len();
        let mut found = finder.find(text);
        if place.ends_with("node.key") {
            // The only place where one of them belongs.
            assert!(matches!(found[..], [name] if name.ends_with("key file")), "{place} holds {found:?}");
            key_files += 1;
            found.clear();
        }
        assert!(found.is_empty(), "{place} holds {found:?}");
    }
    assert!(key_files > N);
    println!("{names} secrets, {} places, {bytes} bytes", told.0.len());
}

/// Whether a text holds what an etcd server makes its tokens of: letters, a dot, digits.
fn holds_token(text: &[u8]) -> bool {
    const LETTERS: usize = 16;
    text.windows(LETTERS + 2).any(|window| {
        let (letters, rest) = window.split_at(LETTERS);
        letters.iter().all(u8::is_ascii_alphabetic) && rest[0] == b'.' && rest[1].is_ascii_digit()
    })
}

#[test]
fn neither_the_password_for_an_etcd_cluster_nor_a_token_of_its_is_in_any_log_line_or_status() {
    const PASSWORD: &str = "correct horse battery staple 4711";
    let cluster = Cluster::new(1);
    let mut committee = Committee::new(3, PACE, Log::Etcd(cluster.endpoints()), 1);
    let everything =
        json!({ "permType": "READWRITE", "key": STANDARD.encode("\0"), "range_end": STANDARD.encode("\0") });
    for user in ["root", "member"] {
        cluster.ask(0, "/v3/auth/user/add", &json!({ "name": user, "password": PASSWORD })).unwrap();
        cluster.ask(0, "/v3/auth/role/add", &json!({ "name": user })).unwrap();
        cluster.ask(0, "/v3/auth/user/grant", &json!({ "user": user, "role": user })).unwrap();
    }
    cluster.ask(0, "/v3/auth/role/grant", &json!({ "name": "member", "perm": everything })).unwrap();
    cluster.ask(0, "/v3/auth/enable", &json!({})).unwrap();
    let login = json!({ "name": "member", "password": PASSWORD });
    let answer = cluster.ask(0, "/v3/auth/authenticate", &login).unwrap().to_string();
    assert!(holds_token(answer.as_bytes()), "this is what a token looks like: {answer}");

    let password = committee.home(0).join("etcd.password");
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    committee.configure(0, "[log]\nusername = \"member\"\npassword_file = \"etcd.password\"\n");
    committee.set_options(&["-vvv"]);
    committee.start(0);
    committee.wait_until("its own tick in the log", &[0], |status| status.chain.entries > 0);
    let mut told = Told::default();
    told.command(committee.path(), &["-vvv", "status", "--json", "--config", "m0/node.toml"]);
    told.add("the page", get(&format!("{}:7080", committee.ip(0)), "/status.json").unwrap());
    assert!(committee.stop(0));
    told.files(committee.path());
    assert!(told.holds("m0.err", "authenticate") && told.holds("m0.err", "TRACE"));
    for (place, text) in told.0.iter().filter(|(place, _)| !place.ends_with("etcd.password")) {
        let shown = String::from_utf8_lossy(text);
        for part in [&PASSWORD[..PART_BYTES], &PASSWORD[PART_BYTES..]] {
            assert!(
                !forms(part.as_bytes()).iter().any(|form| shown.contains(&*String::from_utf8_lossy(form))),
                "{place}"
            );
        }
        // Files are random enough to hold one by chance; what is said is not.
        assert!(place.contains("/data/") || !holds_token(text), "{place} holds a token");
    }
}

#[test]
fn a_secret_is_found_in_every_form_and_wherever_it_stands() {
    let secret: Vec<u8> = (0..32).map(|number| number * 7 + 3).collect();
    let mut finder = Finder::default();
    finder.add("it".to_owned(), &secret);
    let shows = |text: &str| finder.find(text.as_bytes()) == ["it"];
    let backwards: Vec<u8> = secret.iter().rev().copied().collect();
    for bytes in [&secret, &backwards] {
        assert!(shows(&format!("{bytes:?}")) && shows(&serde_json::to_string(bytes).unwrap()));
        assert!(shows(&format!("x{}", hex::encode(bytes))) && shows(&hex::encode(bytes).to_uppercase()));
        for before in 0..5 {
            let text = [&vec![9; before][..], bytes, b"and more"].concat();
            assert!(shows(&STANDARD_NO_PAD.encode(&text)) && shows(&URL_SAFE_NO_PAD.encode(&text)), "{before}");
            assert_eq!(finder.find(&text), ["it"]);
        }
    }
    assert!(shows(&hex::encode(&secret[..16])) && shows(&hex::encode(&secret[16..])));
    assert!(!shows("it") && !shows(&hex::encode(&secret[..15])));
}
