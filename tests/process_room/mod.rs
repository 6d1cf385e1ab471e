//! A committee of real processes on this machine: each member with files of its own, on an address of its own.
#![allow(dead_code, unused_imports, reason = "not every test asks for all of it")]

mod wires;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dkg_engine::node::signing::PublicResult;
use dkg_engine::node::{Answer, NodeConfig, Request, Status, admin_socket, ask};
use dkg_engine::store::HealthStatus;
use rand::TryRng;
use rand::rngs::SysRng;
use serde_json::Value;

use crate::folder::Folder;
use wires::Namespaces;
pub(crate) use wires::{Cut, Wires};

/// How long a test waits for what has to come, on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
/// How long it waits between two looks at another process.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long things take, in views.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) view_ms: u64,
    pub(crate) setup: u64,
    pub(crate) phase: u64,
    pub(crate) epoch: u64,
}

impl Pace {
    /// Runs of some seconds.
    pub(crate) const BRISK: Pace = Pace { view_ms: 100, setup: 10, phase: 30, epoch: 120 };
}

/// Where the log is.
#[derive(Clone)]
pub(crate) enum Log {
    Http,
    Etcd(Vec<String>),
}

/// A committee, some of whose members run.
pub(crate) struct Committee {
    folder: Folder,
    /// The first two numbers of this committee's addresses: all of 127.0.0.0/8 is this machine.
    net: [u8; 2],
    pub(crate) n: usize,
    node_ids: Vec<String>,
    log: Log,
    server: Option<Child>,
    nodes: Vec<Option<Child>>,
    /// What the processes are joined by, where it can be cut.
    wires: Option<Wires>,
    /// Options of the command itself, for every process.
    options: Vec<&'static str>,
}

/// The command, in this folder.
pub(crate) fn dkg(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dkg"))
        .args(args)
        .current_dir(folder)
        .env_remove("DKG_PASSPHRASE")
        .output()
        .unwrap()
}

/// What it prints, when all is well.
#[track_caller]
pub(crate) fn dkg_ok(folder: &Path, args: &[&str]) -> String {
    let output = dkg(folder, args);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "dkg {args:?}: {}\n{out}\n{err}", output.status);
    out
}

/// Waits until there is something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "waited in vain for {what}: {seen}"),
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

impl Committee {
    /// Makes everybody's keys and the committee file. Nobody runs yet; `wait` seconds from now the first view begins.
    pub(crate) fn new(n: usize, pace: Pace, log: Log, wait: u64) -> Committee {
        Committee::joined_by(None, n, pace, log, wait)
    }

    /// A committee with a log server, joined by wires that can be cut.
    pub(crate) fn with_wires(n: usize, pace: Pace, wait: u64) -> Committee {
        Committee::joined_by(Some(Wires::new(n)), n, pace, Log::Http, wait)
    }

    fn joined_by(wires: Option<Wires>, n: usize, pace: Pace, log: Log, wait: u64) -> Committee {
        let folder = Folder::new();
        let mut net = [0; 2];
        SysRng.try_fill_bytes(&mut net).unwrap();
        let mut committee = Committee {
            folder,
            net: [net[0] / 2 + 64, net[1]],
            n,
            node_ids: Vec::new(),
            log: log.clone(),
            server: None,
            nodes: (0..n).map(|_| None).collect(),
            wires,
            options: Vec::new(),
        };
        let path = committee.folder.path().to_owned();
        for member in 0..n {
            fs::create_dir(committee.home(member)).unwrap();
            let home = format!("m{member}");
            let made = dkg_ok(
                &path,
                &[
                    "keygen",
                    "--json",
                    "--identity",
                    &format!("{home}/identity.json"),
                    "--key-file",
                    &format!("{home}/node.key"),
                    "--address",
                    &format!("{}:7000", committee.ip(member)),
                    "--public",
                    &format!("{home}/member.toml"),
                ],
            );
            let made: Value = serde_json::from_str(&made).unwrap();
            committee.node_ids.push(made["node_id"].as_str().unwrap().to_owned());
        }
        let number = |number: u64| number.to_string();
        let mut args: Vec<String> = ["committee", "new", "--chain", "processes", "--genesis"].map(str::to_owned).into();
        args.push(format!("+{wait}s"));
        for (option, value) in [
            ("--view-ms", number(pace.view_ms)),
            ("--setup-view", number(pace.setup)),
            ("--phase-views", number(pace.phase)),
            ("--epoch-views", number(pace.epoch)),
        ] {
            args.extend([option.to_owned(), value]);
        }
        match &log {
            Log::Http => args.extend(["--log-http".to_owned(), format!("http://{}", committee.server_address())]),
            Log::Etcd(endpoints) => {
                args.extend(endpoints.iter().flat_map(|endpoint| ["--log-etcd".to_owned(), endpoint.clone()]));
            }
        }
        args.extend((0..n).map(|member| format!("m{member}/member.toml")));
        dkg_ok(&path, &args.iter().map(String::as_str).collect::<Vec<_>>());
        let addresses: Vec<_> = (0..n).map(|member| format!("{}:7000", committee.ip(member))).collect();
        let log = committee.server_address();
        if let Some(Wires::Proxies(proxies)) = &mut committee.wires {
            proxies.connect(&addresses, &log);
        }
        for member in 0..n {
            committee.configure(member, "");
        }
        committee
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn home(&self, member: usize) -> PathBuf {
        self.folder.path().join(format!("m{member}"))
    }

    pub(crate) fn ip(&self, member: usize) -> String {
        match self.wires {
            Some(Wires::Namespaces(_)) => Namespaces::ip(member),
            _ => format!("127.{}.{}.{}", self.net[0], self.net[1], member + 1),
        }
    }

    pub(crate) fn wires(&self) -> &Wires {
        self.wires.as_ref().expect("a committee with wires")
    }

    /// From now on processes are started with these options of the command.
    pub(crate) fn set_options(&mut self, options: &[&'static str]) {
        self.options = options.to_vec();
    }

    pub(crate) fn server_address(&self) -> String {
        if let Some(Wires::Namespaces(_)) = self.wires {
            return format!("{}:7500", Namespaces::log_ip());
        }
        format!("127.{}.{}.250:7500", self.net[0], self.net[1])
    }

    /// Writes a member's configuration, with these lines more.
    pub(crate) fn configure(&self, member: usize, more: &str) {
        let mut text = format!("listen = \"{}:7000\"\nstatus = \"{}:7080\"\n", self.ip(member), self.ip(member));
        text.push_str("committee = \"../committee.toml\"\nidentity = \"identity.json\"\ndata = \"data\"\nkey_file = \"node.key\"\n");
        text.push_str(more);
        if let Some(Wires::Proxies(proxies)) = &self.wires {
            text.push_str(&proxies.configuration(member, &self.node_ids));
        }
        fs::write(self.home(member).join("node.toml"), text).unwrap();
    }

    /// Starts the log server, and waits until it listens.
    pub(crate) fn start_log(&mut self) {
        if let Log::Etcd(_) = self.log {
            return;
        }
        let mut child = self
            .command("log-server", None)
            .args(["log", "serve", "--create", "--committee", "committee.toml"])
            .args(["--data", "log", "--listen", &self.server_address()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        first_line(&mut child, &self.path().join("log-server.out"));
        self.server = Some(child);
    }

    /// Ends the log server without a warning.
    pub(crate) fn kill_log(&mut self) {
        kill(self.server.take());
    }

    /// Starts a member, and waits until it listens.
    pub(crate) fn start(&mut self, member: usize) {
        let config = format!("m{member}/node.toml");
        let mut child = self
            .command(&format!("m{member}"), Some(member))
            .args(["node", "--create", "--config", &config])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        first_line(&mut child, &self.path().join(format!("m{member}.out")));
        self.nodes[member] = Some(child);
    }

    /// Ends a member without a warning.
    pub(crate) fn kill(&mut self, member: usize) {
        kill(self.nodes[member].take());
    }

    /// Asks a member to end, as an operator does, and returns whether it said that all was well.
    pub(crate) fn stop(&mut self, member: usize) -> bool {
        let mut child = self.nodes[member].take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        child.wait().unwrap().success()
    }

    /// A number that the system tells of a running member, or of the log server.
    pub(crate) fn vital(&self, member: Option<usize>, name: &str) -> u64 {
        let child = member.map_or(&self.server, |member| &self.nodes[member]).as_ref().expect("it runs");
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
    }

    pub(crate) fn is_up(&self, member: usize) -> bool {
        self.nodes[member].is_some()
    }

    /// The command where this member lives, or the log server, with what it complains of in a file.
    fn command(&self, name: &str, member: Option<usize>) -> Command {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join(format!("{name}.err")));
        let program = Path::new(env!("CARGO_BIN_EXE_dkg"));
        let mut command = match &self.wires {
            Some(Wires::Namespaces(namespaces)) => namespaces.command(member, program),
            _ => Command::new(program),
        };
        command.args(&self.options).current_dir(self.folder.path()).stderr(log.unwrap()).stdin(Stdio::null());
        command
    }

    /// What a member shows of itself.
    pub(crate) fn status(&self, member: usize) -> Result<Status, String> {
        let config = NodeConfig::read(&self.home(member).join("node.toml")).map_err(|error| error.to_string())?;
        match ask(&admin_socket(&config.data), &Request::Status) {
            Ok(Answer::Status(status)) => Ok(*status),
            other => Err(format!("{other:?}")),
        }
    }

    /// A member's node id.
    pub(crate) fn node_id(&self, member: usize) -> &str {
        &self.node_ids[member]
    }

    /// The members' indices in the committee, by their numbers here.
    pub(crate) fn index(&self, member: usize) -> usize {
        let mut sorted = self.node_ids.clone();
        sorted.sort();
        sorted.iter().position(|node_id| *node_id == self.node_ids[member]).unwrap()
    }

    /// Waits until every one of these members shows something.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, members: &[usize], shows: impl Fn(&Status) -> bool) {
        wait_for(what, || {
            let mut others = String::new();
            for &member in members {
                self.assert_alive(member);
                match self.status(member) {
                    Ok(status) if shows(&status) => {}
                    Ok(status) => {
                        let _ = write!(others, "\nmember {member}: {}", summary(&status));
                    }
                    Err(error) => {
                        let _ = write!(others, "\nmember {member}: {error}");
                    }
                }
            }
            if others.is_empty() { Ok(()) } else { Err(others) }
        });
    }

    /// No member ends by itself.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self, member: usize) {
        let Some(child) = &mut self.nodes[member] else { return };
        if let Some(status) = child.try_wait().unwrap() {
            let complaints = fs::read_to_string(self.folder.path().join(format!("m{member}.err"))).unwrap_or_default();
            panic!("member {member} has ended by itself: {status}\n{complaints}");
        }
    }

    /// What the processes have complained of lately.
    pub(crate) fn complaints(&self) -> String {
        const MUCH: usize = 8000;
        let mut all = String::new();
        for entry in fs::read_dir(self.folder.path()).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "err") {
                let text = fs::read(entry.path()).unwrap();
                let lately = String::from_utf8_lossy(&text[text.len().saturating_sub(MUCH)..]);
                let _ = writeln!(all, "== {}\n{lately}", entry.path().display());
            }
        }
        all
    }
}

impl Drop for Committee {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.complaints());
        }
        kill(self.server.take());
        self.nodes.iter_mut().for_each(|node| kill(node.take()));
    }
}

fn kill(child: Option<Child>) {
    if let Some(mut child) = child {
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// What a server in this committee answers to a plain request, head and body.
pub(crate) fn get(address: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Waits for the first line that a process prints; all that it prints goes into this file.
fn first_line(child: &mut Child, file: &Path) {
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "a process has ended before it was ready: {:?}", child.wait());
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(line.as_bytes()).unwrap();
    // The rest is read, too, or the process would wait for it.
    std::thread::spawn(move || std::io::copy(&mut out, &mut file));
}

/// Whether a node holds the confirmed key of the epoch it is in, and this epoch is not before `epoch`.
pub(crate) fn is_safe_in(epoch: u64) -> impl Fn(&Status) -> bool {
    move |status| {
        let safe = status.keys.as_ref().is_some_and(|keys| keys.current.status == HealthStatus::Safe);
        status.chain.epoch.counter >= epoch && safe
    }
}

/// All members that run tell the same public keys of every epoch.
pub(crate) fn assert_agreement(committee: &Committee, members: &[usize]) {
    let results: Vec<_> = members.iter().map(|member| committee.status(*member).unwrap().results).collect();
    for (one, other) in results.iter().flat_map(|one| results.iter().map(move |other| (one, other))) {
        for result in one {
            let theirs = other.iter().find(|theirs| theirs.epoch == result.epoch);
            assert!(theirs.is_none_or(|theirs| theirs == result), "epoch {} has two results", result.epoch);
        }
    }
}

/// Signs with these members' shares, combines and verifies, all by commands.
pub(crate) fn assert_signs(committee: &Committee, signers: &[usize], epoch: u64) {
    let path = committee.path();
    // A status has the keys of the present epoch and the next; the chain may be further already.
    let result = format!("m{}/data/results/{epoch}.json", signers[0]);
    let mut args = vec!["combine", "--result", &result, "--message", "round 1"];
    let names: Vec<String> = signers.iter().map(|signer| format!("share-{signer}.json")).collect();
    for (signer, name) in signers.iter().zip(&names) {
        let config = format!("m{signer}/node.toml");
        let share = dkg_ok(path, &["sign", "--config", &config, "--epoch", &epoch.to_string(), "--message", "round 1"]);
        fs::write(path.join(name), share).unwrap();
        args.push(name);
    }
    let config = format!("m{}/node.toml", signers[0]);
    // Somebody may be down: the exit code says so, and the answer is complete all the same.
    fs::write(path.join("status.json"), dkg(path, &["status", "--json", "--config", &config]).stdout).unwrap();
    let combined: Value = serde_json::from_str(&dkg_ok(path, &args)).unwrap();
    let result: PublicResult = serde_json::from_slice(&fs::read(path.join(&result)).unwrap()).unwrap();
    let signature = combined["signature"].as_str().unwrap();
    let verify = |message: &str| {
        let key = ["--group-key", &result.group_public_key];
        dkg(path, &[&["verify", "--signature", signature, "--message", message], &key[..]].concat()).status.success()
    };
    assert!(verify("round 1") && !verify("round 2"));
}

/// A status in one line.
pub(crate) fn summary(status: &Status) -> String {
    let keys = status.keys.as_ref().map(|keys| {
        let next = keys.next.as_ref().map(|next| format!("{} {} ({})", next.epoch, next.status, next.reason));
        format!("{} {} ({}), next {next:?}", keys.current.epoch, keys.current.status, keys.current.reason)
    });
    format!(
        "{}, {:?}, view {} of {}, epoch {} {}, missing {:?}, complaints {:?}, part '{}', keys {keys:?}",
        status.verdict.to_string().replace('\n', "; "),
        status.stage,
        status.chain.head.view,
        status.chain.clock.view,
        status.chain.epoch.counter,
        status.chain.epoch.phase.name(),
        status.chain.run.missing,
        status.chain.run.complaints,
        status.run_here.part,
    )
}
