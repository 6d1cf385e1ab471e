//! `dkg local --data DIR` killed at any moment and started again: what was begun is finished, and nothing is made twice.
//!
//! `DKG_KILLS` and `DKG_KILL_EPOCHS` make it longer, `DKG_KILL_SEED` repeats the choices of an earlier use. At which
//! instruction a process is hit is up to the machine.
#![cfg(feature = "cli")]

mod folder;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dkg_engine::bls::{
    Index, Polynomial, ProvenPublicKey, PublicKey, RANDOM_BEACON_TAG, SecretKey, Signature, VectorEncoding,
};
use dkg_engine::chain::log::{
    ChainConfig, ChainEvent, ChainMember, ChainSpec, FileLog, LogChain, LogHost, LogPlace, Payload, Schedule,
    SignedEntry,
};
use dkg_engine::committee::NodeId;
use dkg_engine::envelope::BroadcastMessage;
use dkg_engine::epoch::{EpochCommit, EpochCounter, EpochPhase, ProtocolEvent};
use dkg_engine::hex;
use dkg_engine::store::{DkgState, FileStore, Owner, SafeKey, Unlock};
use folder::Folder;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};
use serde_json::Value;
use sha3::{Digest, Sha3_384};

/// A folder for one committee.
struct Place {
    _parent: Folder,
    dir: PathBuf,
}

impl Place {
    fn new() -> Self {
        let parent = Folder::new();
        Place { dir: parent.path().join("data"), _parent: parent }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dkg"));
        command.arg("local").arg("--data").arg(&self.dir).args(args).stdin(Stdio::null());
        command
    }

    /// Lets the command come to its end.
    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The runs that a command which exits with 0 reports.
    fn report(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["--json"], args].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text} {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str::<Value>(&text).unwrap()["runs"].as_array().unwrap().clone()
    }

    /// What a command says that is refused before it begins.
    fn refusal(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Kills the command when it has said so many lines and some time has passed; `true` if it was done before.
    fn kill(&self, args: &[&str], lines: usize, wait: Duration) -> bool {
        let mut child = self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let heard: Vec<String> = said.by_ref().take(lines).collect();
        // Which moment is hit is a matter of chance anyway; nothing is asserted about it.
        std::thread::sleep(wait);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_none_or(|code| code == 0), "{heard:?} {:?}", said.collect::<Vec<_>>());
        status.code().is_some()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join("committee").join(name)
    }

    /// The committee file, as the chain that it stands for.
    fn config(&self) -> Arc<ChainConfig> {
        let file: Value = serde_json::from_slice(&fs::read(self.file("committee.json")).unwrap()).unwrap();
        let number = |name: &str| file[name].as_u64().unwrap();
        let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
        let member = |member: &Value| ChainMember {
            node_id: member["node_id"].as_str().unwrap().parse().unwrap(),
            staking_key: ProvenPublicKey::vouched_for(
                PublicKey::from_flow_bytes(&bytes(&member["staking_key"])).unwrap(),
            ),
            network_key: bytes(&member["network_key"]).as_slice().try_into().unwrap(),
            address: None,
        };
        let spec = ChainSpec {
            chain_id: "local".into(),
            genesis_ms: number("genesis_ms"),
            view_ms: number("view_ms"),
            schedule: Schedule {
                views_in_epoch: number("views_in_epoch"),
                setup_first_view: number("setup_first_view"),
                views_per_phase: number("views_per_phase"),
                poll_step: number("poll_step"),
            },
            members: file["members"].as_array().unwrap().iter().map(member).collect(),
            vector_encoding: VectorEncoding::Uncompressed,
            log: LogPlace::Local,
        };
        Arc::new(ChainConfig::new(spec).unwrap())
    }

    /// Reads the log and the members' stores while nobody uses them.
    fn examine(&self) -> Examined {
        let config = self.config();
        let log = FileLog::open(&self.file("log"), config.identity()).unwrap();
        let mut replica = LogChain::new(Arc::clone(&config));
        let mut found = Examined::default();
        for bytes in log.reader().read(0, usize::MAX).unwrap() {
            let entry = SignedEntry::decode(&bytes).unwrap().into_entry();
            let applied = replica.apply(&bytes).unwrap();
            for event in applied.events {
                if let ChainEvent::Protocol(ProtocolEvent::EpochCommittedPhaseStarted { commit, .. }) = event {
                    found.commits.insert(commit.epoch, commit);
                }
            }
            if let Payload::Post(content) = entry.payload
                && applied.skipped.is_none()
                && let Ok(message) = BroadcastMessage::from_json(&content)
                && message.data.first() == Some(&1)
            {
                found.vectors.entry((message.dkg_instance_id, entry.author)).or_default().push(message.data);
            }
        }
        found.in_setup = matches!(replica.phase(), EpochPhase::Setup(_));
        for (index, member) in config.committee().iter() {
            let owner = Owner { chain_id: "local".into(), member: member.node_id };
            let store = FileStore::open(
                &self.file(&format!("member-{index}.store")),
                &owner,
                &Unlock::KeyFile(self.file("key")),
            );
            let state = DkgState::new(Arc::new(store.unwrap()));
            for epoch in found.commits.keys() {
                if let SafeKey::Key(key) = state.safe_key(*epoch).unwrap() {
                    found.keys.insert((*epoch, index), key.secret_key().public_key());
                }
            }
        }
        found
    }
}

/// What a killed committee leaves behind.
#[derive(Default)]
struct Examined {
    /// What the chain has agreed on.
    commits: BTreeMap<EpochCounter, EpochCommit>,
    /// All commitment vectors on the board, by run and dealer.
    vectors: BTreeMap<(String, Index), Vec<Vec<u8>>>,
    /// The public keys of what the members have committed.
    keys: BTreeMap<(EpochCounter, Index), PublicKey>,
    in_setup: bool,
}

impl Examined {
    /// Nothing was made twice, and nothing of what was there before is another or gone.
    fn check_after(&self, before: &Examined) {
        for (of, vectors) in &self.vectors {
            assert_eq!(vectors.len(), 1, "{of:?} has dealt more than once");
        }
        for (of, vectors) in &before.vectors {
            assert_eq!(self.vectors.get(of), Some(vectors), "{of:?}");
        }
        for (epoch, commit) in &before.commits {
            assert_eq!(self.commits.get(epoch), Some(commit), "epoch {epoch}");
        }
        for (of, key) in &before.keys {
            assert_eq!(self.keys.get(of), Some(key), "{of:?}");
        }
        for ((epoch, index), key) in &self.keys {
            assert_eq!(self.commits[epoch].key_shares[usize::from(*index)], *key, "epoch {epoch}, member {index}");
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn seed() -> u64 {
    let seed = setting("DKG_KILL_SEED", SysRng.try_next_u64().unwrap());
    println!("DKG_KILL_SEED={seed}");
    seed
}

#[test]
fn a_committee_killed_at_any_moment_finishes_every_run_with_the_keys_it_began_with() {
    let (kills, mut epochs) = (setting("DKG_KILLS", 8), setting("DKG_KILL_EPOCHS", 2));
    let mut random = StdRng::seed_from_u64(seed());
    let place = Place::new();
    let mut before = Examined::default();
    let (mut killed, mut in_setup) = (0, 0);
    // A view is 10 milliseconds, and an epoch has 73 of them.
    let share_of_an_epoch = 2 * 730 * epochs / kills;
    while killed < kills {
        // Some are killed while they read what there is, the others on their way.
        let lines = random.random_range(0..3);
        let wait = Duration::from_millis(random.random_range(0..share_of_an_epoch.clamp(50, 500)));
        if place.kill(&["--epochs", &epochs.to_string()], lines, wait) {
            epochs += 1;
            continue;
        }
        killed += 1;
        // The first may have been killed before there was a committee.
        if place.file("").exists() {
            let now = place.examine();
            now.check_after(&before);
            in_setup += u64::from(now.in_setup);
            before = now;
        }
    }
    let runs = place.report(&["--epochs", &epochs.to_string()]);
    let now = place.examine();
    now.check_after(&before);
    println!("{killed} kills, {in_setup} of them in the middle of a run, {epochs} epochs");

    assert_eq!(runs.len() as u64, epochs);
    for (run, epoch) in runs.iter().zip((1..).map(EpochCounter)) {
        assert_eq!(run["outcome"], "completed", "{run}");
        let commit = &now.commits[&epoch];
        let key = |value: &Value| PublicKey::from_flow_bytes(&hex::decode(value.as_str().unwrap()).unwrap()).unwrap();
        assert_eq!(key(&run["group_public_key_flow"]), commit.group_key);
        assert_eq!(
            run["public_key_shares_flow"].as_array().unwrap().iter().map(key).collect::<Vec<_>>(),
            commit.key_shares
        );
        let signature = hex::decode(run["signature"]["value"].as_str().unwrap()).unwrap();
        let message = run["signature"]["message"].as_str().unwrap().as_bytes();
        let signature = Signature::from_bytes(&signature).unwrap();
        assert!(commit.group_key.verify(message, &RANDOM_BEACON_TAG, &signature));
        for member in Index::all(5) {
            assert_eq!(run["members"][usize::from(member)]["state"], "key_committed");
            assert!(now.keys.contains_key(&(epoch, member)), "epoch {epoch}, member {member}");
            assert!(now.vectors.contains_key(&(format!("dkg-local-{epoch}"), member)));
        }
    }
}

#[test]
fn a_later_use_goes_on_with_more_epochs_and_reports_those_that_are_over_as_before() {
    let place = Place::new();
    let first = place.report(&["--epochs", "1", "--fault", "no-vector=1"]);
    let both = place.report(&["--epochs", "2", "--fault", "no-vector=1"]);
    let again = place.report(&["--epochs", "2", "--fault", "no-vector=1"]);
    assert_eq!((first.len(), both.len(), again.len()), (1, 2, 2));
    // All that a run came out with, from the log and the stores alone; but not how long it took, nor who was silent in it:
    // private shares leave no trace there.
    let lasting = |run: &Value| {
        let mut run = run.clone();
        run["elapsed_ms"] = Value::Null;
        for exposure in run["exposures"].as_array_mut().unwrap() {
            (exposure["silent"], exposure["left"]) = (Value::Null, Value::Null);
        }
        run
    };
    assert_eq!(lasting(&first[0]), lasting(&again[0]));
    assert_eq!(lasting(&both[0]), lasting(&again[0]));
    assert_eq!(lasting(&both[1]), lasting(&again[1]));
    assert!(again.iter().all(|run| run["elapsed_ms"] == Value::Null));
    assert_eq!(first[0]["disqualified"][0]["dealer"], 4);
}

#[test]
fn other_arguments_are_refused_with_the_name_of_what_differs() {
    let place = Place::new();
    let made = ["--nodes", "4", "--view-ms", "5", "--phase-views", "10", "--fault", "silent=1", "--seed", "2a"];
    place.report(&made);
    let cases: [(&[&str], &str); 6] = [
        (&["--nodes", "5", "--view-ms", "5", "--phase-views", "10", "--seed", "2a"], "--nodes was 4 and is now 5"),
        (&["--nodes", "4", "--phase-views", "10"], "--view-ms was 5 and is now 10"),
        (&["--nodes", "4", "--view-ms", "5"], "--phase-views was 10 and is now 20"),
        (&["--nodes", "4", "--view-ms", "5", "--phase-views", "10", "--seed", "2a"], "--fault was"),
        (&[&made[..8], &["--seed", "2b"]].concat(), "--seed is another one"),
        (&made[..8], "--seed is another one"),
    ];
    for (args, difference) in cases {
        let refusal = place.refusal(args);
        assert!(refusal.contains(difference) && refusal.contains("; use the same"), "{args:?}: {refusal}");
    }
    // What to sign and how to tell depends on nothing that is kept.
    assert_eq!(place.report(&[&made[..], &["--message", "another"]].concat())[0]["signature"]["message"], "another");
}

#[test]
fn two_processes_never_share_a_folder() {
    let place = Place::new();
    let mut child = place.command(&["--epochs", "1000"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    said.next().unwrap().unwrap();
    assert!(place.refusal(&["--epochs", "1000"]).contains("is in use; "));
    child.kill().unwrap();
    child.wait().unwrap();
    // A process that is gone holds nothing.
    place.report(&[]);
}

#[test]
fn a_creation_that_was_broken_off_is_begun_anew_and_a_folder_of_something_else_is_left_alone() {
    let place = Place::new();
    let unfinished = place.dir.join("committee.unfinished");
    fs::create_dir_all(unfinished.join("deep")).unwrap();
    for file in ["key", "log", "committee.json", "deep/file"] {
        fs::write(unfinished.join(file), "half").unwrap();
    }
    place.report(&[]);
    assert!(!unfinished.exists());

    let other = Place::new();
    fs::create_dir(&other.dir).unwrap();
    fs::write(other.dir.join("letter"), "dear").unwrap();
    assert!(other.refusal(&[]).contains("letter"));
    assert_eq!(fs::read_dir(&other.dir).unwrap().count(), 1, "nothing was written");
}

#[test]
fn a_committee_killed_while_it_is_made_is_made_by_the_next_use() {
    let mut random = StdRng::seed_from_u64(seed());
    let quick = ["--phase-views", "4", "--view-ms", "5"];
    let mut unfinished = 0;
    for _ in 0..8 {
        let place = Place::new();
        place.kill(&quick, 0, Duration::from_millis(random.random_range(0..200)));
        unfinished += u32::from(!place.file("").exists());
        place.report(&quick);
    }
    println!("{unfinished} of 8 were killed before there was a committee");
}

#[test]
fn what_is_missing_or_damaged_is_named_and_never_made_anew() {
    let place = Place::new();
    place.report(&[]);
    for name in ["committee.json", "identities.json", "key", "log", "member-3.store"] {
        let file = place.file(name);
        let aside = place.dir.join("aside");
        fs::rename(&file, &aside).unwrap();
        let refusal = place.refusal(&[]);
        assert!(refusal.contains(file.to_str().unwrap()), "{name} missing: {refusal}");
        assert!(!file.exists(), "{name}");
        fs::rename(&aside, &file).unwrap();
        let content = fs::read(&file).unwrap();
        fs::write(&file, &content[..content.len() / 2]).unwrap();
        let refusal = place.refusal(&[]);
        assert!(refusal.contains(file.to_str().unwrap()), "{name} cut off: {refusal}");
        fs::write(&file, &content).unwrap();
    }
    place.report(&[]);
    // Without its committee the folder is not a new one.
    fs::rename(place.dir.join("committee"), place.dir.join("elsewhere")).unwrap();
    assert!(place.refusal(&[]).contains("elsewhere"));
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_keys() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.report(&[]);
    for path in [place.dir.clone(), place.file(""), place.file("key"), place.file("identities.json")] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
}

/// What `--seed` makes of its bytes for a purpose.
fn from_seed(seed: &[u8], labels: &[&str]) -> [u8; 48] {
    let mut hasher = Sha3_384::new();
    for part in [b"dkg local", seed].into_iter().chain(labels.iter().map(|label| label.as_bytes())) {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The secrets of a seeded committee of `n`, by name.
fn secrets(seed: &[u8], n: usize, t: usize, epochs: u64) -> Vec<(String, Vec<u8>)> {
    let mut secrets = Vec::new();
    for number in 0..n {
        let of = |purpose| from_seed(seed, &[purpose, &number.to_string()]);
        let node_id = NodeId::new(of("node id")[..32].try_into().unwrap());
        let staking_seed = of("staking key");
        let staking_key = SecretKey::from_seed(&staking_seed).unwrap();
        secrets.push((format!("staking seed {number}"), staking_seed.to_vec()));
        secrets.push((format!("staking key {number}"), staking_key.scalar().to_be_bytes().to_vec()));
        secrets.push((format!("network key {number}"), of("network key")[..32].to_vec()));
        for epoch in 1..=epochs {
            let instance = format!("dkg-local-{epoch}");
            let dealing = from_seed(seed, &["dealing", &node_id.to_string(), &instance]);
            let polynomial = Polynomial::from_seed(&dealing, t).unwrap();
            secrets.push((format!("dealing seed {number} {instance}"), dealing.to_vec()));
            for coefficient in polynomial.coefficients() {
                secrets.push((format!("coefficient {number} {instance}"), coefficient.to_be_bytes().to_vec()));
            }
            for to in Index::all(n) {
                secrets.push((format!("share {number} {to} {instance}"), polynomial.share(to).to_be_bytes().to_vec()));
            }
        }
    }
    secrets
}

/// The ways in which bytes could stand in a file.
fn forms(bytes: &[u8]) -> [Vec<u8>; 5] {
    use base64::Engine;
    let hex = hex::encode(bytes);
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    // The last characters depend on what follows.
    let whole = &bytes[..bytes.len() / 3 * 3];
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(whole);
    [bytes.to_vec(), reversed, hex.to_uppercase().into_bytes(), hex.into_bytes(), base64.into_bytes()]
}

/// The files of a folder in which these bytes stand.
fn files_with(dir: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
            continue;
        }
        let content = fs::read(&path).unwrap();
        let holds = |form: &Vec<u8>| {
            let mut from = 0;
            while let Some(at) = content[from..].iter().position(|byte| *byte == form[0]) {
                if content[from + at..].starts_with(form) {
                    return true;
                }
                from += at + 1;
            }
            false
        };
        if forms(bytes).iter().any(holds) {
            found.push(path);
        }
    }
    found
}

#[test]
fn no_file_holds_a_secret_in_clear() {
    let seed = [0x2a; 8];
    let typed = hex::encode(&seed);
    let args = ["--nodes", "3", "--seed", &typed, "--epochs", "2"];
    let mut secrets = secrets(&seed, 3, 1, 2);
    secrets.push(("the seed".to_owned(), seed.to_vec()));
    let check = |place: &Place| {
        for (name, secret) in &secrets {
            assert_eq!(files_with(&place.dir, secret), Vec::<PathBuf>::new(), "{name}");
        }
    };
    // In the middle of a run, when the dealings and shares are there; a kill that comes too late for that does not count.
    let place = loop {
        let place = Place::new();
        if !place.kill(&args, 2, Duration::ZERO) && place.examine().in_setup {
            break place;
        }
    };
    check(&place);
    place.report(&args);
    check(&place);
    // The scan sees what there is.
    let node_id = &from_seed(&seed, &["node id", "0"])[..32];
    assert!(files_with(&place.dir, node_id).contains(&place.file("committee.json")));
    let staking = SecretKey::from_seed(&from_seed(&seed, &["staking key", "0"])).unwrap().public_key();
    assert!(files_with(&place.dir, &staking.to_flow_bytes()).contains(&place.file("committee.json")));
}
