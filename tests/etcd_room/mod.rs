//! Real etcd clusters on this machine, of Debian's `etcd-server`, which the tests install themselves where it is missing.
#![allow(dead_code, reason = "no one test file uses all of it")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::install::install;

/// How long anything here may take before it is given up for lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until something is there.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// A cluster, some of whose members run.
pub(crate) struct Cluster {
    folder: Folder,
    members: Vec<Member>,
}

struct Member {
    client: u16,
    peer: u16,
    child: Option<Child>,
}

/// Ports that are free now; nobody else asks for them in the moment until they are used.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

impl Cluster {
    /// A cluster of so many members, all of which run and have found each other.
    pub(crate) fn new(count: usize) -> Cluster {
        install("etcd", "etcd-server");
        let ports = free_ports(2 * count);
        let members = ports.chunks(2).map(|pair| Member { client: pair[0], peer: pair[1], child: None }).collect();
        let mut cluster = Cluster { folder: Folder::new(), members };
        (0..count).for_each(|member| cluster.start(member));
        cluster.wait_until_healthy();
        cluster
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://127.0.0.1:{}", member.client)).collect()
    }

    /// Starts a member, new or with what it had.
    pub(crate) fn start(&mut self, number: usize) {
        let peers = self.members.iter().enumerate();
        let peers: Vec<_> =
            peers.map(|(number, member)| format!("s{number}=http://127.0.0.1:{}", member.peer)).collect();
        let member = &self.members[number];
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let output = File::options().create(true).append(true).open(self.folder.path().join(format!("s{number}.out")));
        let output = output.unwrap();
        let child = Command::new("etcd")
            .args(["--name", &format!("s{number}"), "--initial-cluster", &peers.join(",")])
            .args(["--data-dir", self.folder.path().join(format!("s{number}")).to_str().unwrap()])
            .args(["--listen-client-urls", &url(member.client), "--advertise-client-urls", &url(member.client)])
            .args(["--listen-peer-urls", &url(member.peer), "--initial-advertise-peer-urls", &url(member.peer)])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        self.members[number].child = Some(child);
    }

    /// Ends a member without a warning.
    pub(crate) fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.members[number].child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops a member where it stands, as a machine that is cut off, or lets it go on.
    pub(crate) fn freeze(&self, number: usize, frozen: bool) {
        let pid = self.members[number].child.as_ref().unwrap().id().to_string();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Asks a member something, as anybody can.
    pub(crate) fn ask(&self, number: usize, path: &str, body: &Value) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.members[number].client);
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().new_agent();
        agent.post(url).content_type("application/json").send(body.to_string()).ok()?.body_mut().read_json().ok()
    }

    /// How long a member's process has worked, in all its threads.
    pub(crate) fn processor_time(&self, number: usize) -> Duration {
        const TICKS_PER_SECOND: u64 = 100;
        let pid = self.members[number].child.as_ref().unwrap().id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
        Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS_PER_SECOND)
    }

    pub(crate) fn wait_until_healthy(&self) {
        wait_for("the cluster", || self.leader());
    }

    /// The member that leads now.
    pub(crate) fn leader(&self) -> Option<usize> {
        let up = self.members.iter().enumerate().filter(|(_, member)| member.child.is_some());
        up.map(|(number, _)| number).find(|number| {
            self.ask(*number, "/v3/maintenance/status", &json!({}))
                .is_some_and(|status| status["leader"].is_string() && status["leader"] == status["header"]["member_id"])
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for number in 0..self.members.len() {
                let said = fs::read_to_string(self.folder.path().join(format!("s{number}.out"))).unwrap_or_default();
                let last: Vec<_> = said.lines().rev().take(15).collect();
                eprintln!("== etcd member {number}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
        (0..self.members.len()).for_each(|number| self.kill(number));
    }
}
