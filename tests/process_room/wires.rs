//! The wires between a committee's processes, which a test can cut and mend without a word to anybody: what is sent
//! goes nowhere, as when a switch dies, and nothing is refused.
//!
//! Where the system lets us, every member lives in a network namespace of its own with two wires into one more: one to
//! the other members, one to the log server. Otherwise every pair of processes has a proxy between them that can hold
//! its breath. `DKG_WIRES=proxies` asks for the latter. Namespaces, their addresses and wires are gone when this is
//! dropped.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// What is cut of a member.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All of it: the other members, and the log.
    Everything,
    /// Its wire to the other members; it reaches the log.
    Peers,
}

/// The wires of one committee.
pub(crate) enum Wires {
    Namespaces(Namespaces),
    Proxies(Proxies),
}

impl Wires {
    /// Namespaces for `n` members and a log server, or proxies once the members are known.
    pub(crate) fn new(n: usize) -> Wires {
        let wanted = std::env::var("DKG_WIRES").unwrap_or_default();
        if wanted == "proxies" {
            return Wires::Proxies(Proxies::default());
        }
        match Namespaces::new(n) {
            Ok(namespaces) => Wires::Namespaces(namespaces),
            Err(error) => {
                println!("no network namespaces, so proxies it is: {error}");
                Wires::Proxies(Proxies::default())
            }
        }
    }

    pub(crate) fn cut(&self, member: usize, what: Cut) {
        self.set(member, what, true);
    }

    pub(crate) fn mend(&self, member: usize) {
        self.set(member, Cut::Everything, false);
    }

    fn set(&self, member: usize, what: Cut, cut: bool) {
        match self {
            Wires::Namespaces(namespaces) => namespaces.set(member, what, cut),
            Wires::Proxies(proxies) => proxies.set(member, what, cut),
        }
    }
}

/// A namespace for each member, and one that holds the log server and two switches.
pub(crate) struct Namespaces {
    name: String,
    n: usize,
}

impl Namespaces {
    fn new(n: usize) -> Result<Self, String> {
        let name = format!("dkg-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // From here on, what was made is removed.
        let made = Namespaces { name, n };
        let hub = made.hub();
        ip(&["netns", "add", &hub])?;
        for switch in ["peers", "log"] {
            ip(&["-n", &hub, "link", "add", switch, "type", "bridge"])?;
            ip(&["-n", &hub, "link", "set", switch, "up"])?;
        }
        ip(&["-n", &hub, "address", "add", &format!("{}/24", Self::log_ip()), "dev", "log"])?;
        for member in 0..n {
            let home = made.home(member);
            ip(&["netns", "add", &home])?;
            for (switch, address) in [("peers", Self::ip(member)), ("log", format!("10.2.0.{}", member + 1))] {
                let end = format!("{switch}{member}");
                ip(&["-n", &hub, "link", "add", &end, "type", "veth", "peer", "name", switch, "netns", &home])?;
                ip(&["-n", &hub, "link", "set", &end, "master", switch, "up"])?;
                ip(&["-n", &home, "address", "add", &format!("{address}/24"), "dev", switch])?;
                ip(&["-n", &home, "link", "set", switch, "up"])?;
            }
        }
        // Some systems make namespaces and let nobody in.
        ip(&["netns", "exec", &hub, "true"])?;
        Ok(made)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn home(&self, member: usize) -> String {
        format!("{}-m{member}", self.name)
    }

    pub(crate) fn ip(member: usize) -> String {
        format!("10.1.0.{}", member + 1)
    }

    pub(crate) fn log_ip() -> &'static str {
        "10.2.0.254"
    }

    /// Runs a program where this member lives, or the log server.
    pub(crate) fn command(&self, member: Option<usize>, program: &Path) -> Command {
        let place = member.map_or_else(|| self.hub(), |member| self.home(member));
        let mut command = Command::new("ip");
        // It becomes the program, under the same process id.
        command.args(["netns", "exec", &place]).arg(program);
        command
    }

    fn set(&self, member: usize, what: Cut, cut: bool) {
        let switches: &[&str] = if what == Cut::Peers { &["peers"] } else { &["peers", "log"] };
        for switch in switches {
            // The plug is pulled at the switch: the member's own end does not notice.
            let place: &[&str] = if cut { &["nomaster"] } else { &["master", switch] };
            let (hub, end) = (self.hub(), format!("{switch}{member}"));
            ip(&[&["-n", hub.as_str(), "link", "set", end.as_str()], place].concat()).unwrap();
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // With the last process in it, a namespace takes its wires with it.
        for name in (0..self.n).map(|member| self.home(member)).chain([self.hub()]) {
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("ip {}: {said}", args.join(" "))) }
}

/// A proxy from each member to each other, and to the log server.
#[derive(Default)]
pub(crate) struct Proxies(Vec<Proxy>);

struct Proxy {
    from: usize,
    /// `None` for the log server.
    to: Option<usize>,
    listens: SocketAddr,
    gate: Arc<Gate>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    over: bool,
}

impl Gate {
    fn change(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits while the wire is cut.
    fn pass(&self) -> io::Result<()> {
        let state = self.changed.wait_while(self.state.lock().unwrap(), |state| state.closed && !state.over).unwrap();
        if state.over { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Proxies {
    /// Proxies from everybody to everybody, who listen at these addresses.
    pub(crate) fn connect(&mut self, members: &[String], log: &str) {
        for from in 0..members.len() {
            let others = (0..members.len()).filter(|to| *to != from).map(|to| (Some(to), members[to].as_str()));
            self.0.extend(others.chain([(None, log)]).map(|(to, address)| Proxy::new(from, to, address.to_owned())));
        }
    }

    /// What a member's configuration says of them.
    pub(crate) fn configuration(&self, member: usize, node_ids: &[String]) -> String {
        let (mut log, mut peers) = (String::new(), "[peers]\n".to_owned());
        for proxy in self.0.iter().filter(|proxy| proxy.from == member) {
            let _ = match proxy.to {
                Some(to) => writeln!(peers, "{} = \"{}\"", node_ids[to], proxy.listens),
                None => writeln!(log, "[log]\nendpoints = [\"http://{}\"]", proxy.listens),
            };
        }
        log + &peers
    }

    fn set(&self, member: usize, what: Cut, cut: bool) {
        for proxy in &self.0 {
            let touched = match proxy.to {
                Some(to) => proxy.from == member || to == member,
                None => proxy.from == member && what == Cut::Everything,
            };
            if touched {
                proxy.gate.change(|state| state.closed = cut);
            }
        }
    }
}

impl Proxy {
    fn new(from: usize, to: Option<usize>, address: String) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listens = listener.local_addr().unwrap();
        let gate = Arc::<Gate>::default();
        let passed = Arc::clone(&gate);
        let thread = std::thread::spawn(move || {
            for near in listener.incoming() {
                if passed.state.lock().unwrap().over {
                    return;
                }
                let (near, gate, address) = (near.unwrap(), Arc::clone(&passed), address.clone());
                std::thread::spawn(move || join(&near, &address, &gate));
            }
        });
        Proxy { from, to, listens, gate, thread: Some(thread) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.gate.change(|state| state.over = true);
        let _ = TcpStream::connect(self.listens);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection through a proxy, both ways until both ends are done.
fn join(near: &TcpStream, address: &str, gate: &Gate) -> io::Result<()> {
    gate.pass()?;
    let far = TcpStream::connect(address)?;
    std::thread::scope(|scope| {
        scope.spawn(|| pump(near, &far, gate));
        pump(&far, near, gate)
    })
}

fn pump(mut from: &TcpStream, mut to: &TcpStream, gate: &Gate) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    let ended = loop {
        match from.read(&mut buffer).and_then(|count| gate.pass().map(|()| count)) {
            Ok(0) => break Ok(()),
            Ok(count) => match to.write_all(&buffer[..count]) {
                Ok(()) => {}
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    // An end that is cut off learns nothing of the other one's end either.
    let _ = gate.pass();
    let _ = to.shutdown(std::net::Shutdown::Write);
    let _ = from.shutdown(std::net::Shutdown::Read);
    ended
}
