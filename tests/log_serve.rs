//! `dkg log serve`: what it says, what it refuses, and how it stops.
#![cfg(feature = "cli")]

mod folder;
mod log_server_room;
mod log_support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use dkg_engine::bls::SecretKey;
use dkg_engine::chain::log::{ChainSpec, CommitteeFile, LogHost, LogPlace, MemberFile};
use dkg_engine::hex;
use folder::Folder;
use log_server_room::{Pen, access};
use log_support::{N, network_key, node, spec};
use serde_json::Value;

struct Place {
    folder: Folder,
    committee: CommitteeFile,
}

impl Place {
    fn new(log: LogPlace) -> Self {
        let member = |number: usize| {
            let staking_key = SecretKey::from_seed(&[u8::try_from(number + 1).unwrap(); 32]).unwrap();
            MemberFile {
                node_id: node(number),
                staking_key: staking_key.public_key(),
                staking_key_proof: staking_key.prove_possession(),
                network_key: network_key(number).verifying_key(),
                address: Some(format!("127.0.0.1:{}", 7001 + number).parse().unwrap()),
            }
        };
        let committee = CommitteeFile::new(ChainSpec { log, ..spec() }, (0..N).map(member).collect()).unwrap();
        let folder = Folder::new();
        fs::write(folder.path().join("committee.toml"), committee.text()).unwrap();
        Place { folder, committee }
    }

    fn served() -> Self {
        Place::new(LogPlace::Http(vec!["http://127.0.0.1:7500".parse().unwrap()]))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dkg"));
        command.args(["log", "serve", "--listen", "127.0.0.1:0", "--committee"]);
        command.arg(self.folder.path().join("committee.toml")).arg("--data").arg(self.data()).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// What a command says that cannot serve.
    fn refused(&self, args: &[&str]) -> String {
        let Output { status, stderr, .. } = self.command(args).output().unwrap();
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).unwrap()
    }

    /// A command that serves, with its first line.
    fn serve(&self, args: &[&str]) -> (Running, String) {
        let mut child = self.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        (Running { child, out }, line.trim_end().to_owned())
    }
}

struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Tells it to stop; what it says last.
    fn stop(mut self, signal: &str) -> String {
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
        let said = self.out.by_ref().lines().map(Result::unwrap).last().unwrap_or_default();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whatever a failed test leaves running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_serves_until_it_is_told_to_stop_and_goes_on_where_it_ended() {
    let place = Place::served();
    let chain = place.committee.chain();
    let mut pen = Pen::of(chain, 0);
    let (running, line) = place.serve(&["--create"]);
    let address = line.strip_prefix("listening on ").unwrap();
    assert_eq!(access(chain, vec![format!("http://{address}")]).append(&pen.post("x")), Ok(0));
    assert_eq!(running.stop("-TERM"), "stopped; the log has 1 entries");
    for (signal, position) in [("-INT", 1), ("-KILL", 2)] {
        let (running, line) = place.serve(&["--json"]);
        let told: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&told["event"], &told["entries"]), (&"listening".into(), &position.into()), "{line}");
        assert_eq!(told["chain"], hex::encode(chain.identity()));
        let log = access(chain, vec![format!("http://{}", told["address"].as_str().unwrap())]);
        assert_eq!(log.append(&pen.post("y")), Ok(position));
        if signal == "-INT" {
            assert_eq!(running.stop(signal), r#"{"event":"stopped","entries":2}"#);
        }
    }
}

#[test]
fn a_log_is_begun_when_told_to_and_never_anew() {
    let place = Place::served();
    let said = place.refused(&[]);
    assert!(said.contains("there is no log at") && said.contains("--create"), "{said}");
    assert!(!place.data().exists());
    drop(place.serve(&["--create"]));
    // Once more is no harm: whoever restarts it need not know.
    drop(place.serve(&["--create"]));
    fs::rename(place.data().join("log"), place.folder.path().join("elsewhere")).unwrap();
    for args in [&[][..], &["--create"]] {
        let said = place.refused(args);
        assert!(said.contains("put the file back where it was"), "{said}");
    }
    fs::rename(place.folder.path().join("elsewhere"), place.data().join("log")).unwrap();
    let (running, line) = place.serve(&[]);
    assert!(line.starts_with("listening on "), "{line}");
    let said = place.refused(&[]);
    assert!(said.contains("is in use"), "{said}");
    drop(running);
    // In a folder that is there it is begun if the folder is empty, and beside nobody's files.
    fs::remove_dir_all(place.data()).unwrap();
    fs::create_dir_all(place.data().join("lost+found")).unwrap();
    fs::write(place.data().join("notes.txt"), "mine").unwrap();
    let said = place.refused(&["--create"]);
    assert!(said.contains("notes.txt") && !place.data().join("log").exists(), "{said}");
    fs::remove_file(place.data().join("notes.txt")).unwrap();
    let (_running, line) = place.serve(&["--create"]);
    assert!(line.starts_with("listening on "), "{line}");
}

#[test]
fn what_it_cannot_serve_is_named() {
    let place = Place::new(LogPlace::Local);
    let said = place.refused(&["--create"]);
    assert!(said.contains("committee.toml") && said.contains("its kind is not \"http\""), "{said}");
    fs::write(place.folder.path().join("committee.toml"), "x").unwrap();
    assert!(place.refused(&["--create"]).contains("committee.toml"));
    let (place, other) = (Place::served(), Place::served());
    drop(place.serve(&["--create"]));
    let text = other.committee.text().replace("chain_id = \"test\"", "chain_id = \"other\"");
    fs::write(place.folder.path().join("committee.toml"), text).unwrap();
    let said = place.refused(&[]);
    assert!(said.contains("belongs to the chain"), "{said}");
}
