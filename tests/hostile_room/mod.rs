//! A committee of five whose way to its log leads through somebody in every mood. It is stepped by hand: what a follower's
//! thread would wait for is asked for at once.

#![allow(dead_code, reason = "no one test file uses all of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dkg_engine::chain::log::{
    AppendError, ChainConfig, ChainNode, FileLog, FollowError, LogChain, LogCopy, LogError, LogHost, Payload,
};
use dkg_engine::epoch::View;

use crate::folder::Folder;
use crate::log_support::{N, network_key};

/// How often an honest host is asked until it is given up that views go on: more often than a host that has lost entries has
/// to say so.
const PATIENCE_ROUNDS: usize = 40;

/// What becomes of an answer of the log's host: all its bytes, from the status line on, or nothing more than closing.
pub(crate) type Mood = Arc<Act>;
/// See [`Mood`].
pub(crate) type Act = dyn Fn(&Exchange) -> Vec<u8> + Send + Sync;

/// A request, and what the host answers.
pub(crate) struct Exchange {
    /// The request's first line.
    pub(crate) asked: String,
    /// The answer's head, without the empty line behind it.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Exchange {
    /// The answer as it is.
    pub(crate) fn honest(&self) -> Vec<u8> {
        self.with_body(&self.body)
    }

    /// The answer with another body.
    pub(crate) fn with_body(&self, body: &[u8]) -> Vec<u8> {
        let lines = self.head.lines().filter(|line| !line.to_lowercase().starts_with("content-length:"));
        let head: String = lines.map(|line| format!("{line}\r\n")).collect();
        [format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
    }
}

/// Somebody on the way to a host.
pub(crate) struct Proxy {
    address: SocketAddr,
    mood: Arc<Mutex<Option<Mood>>>,
}

impl Proxy {
    /// In front of the host at this address. Its threads end with the process.
    pub(crate) fn new(upstream: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, mood) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(None::<Mood>)));
        let moods = Arc::clone(&mood);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let moods = Arc::clone(&moods);
                // Whoever hangs up ends its own exchange only.
                std::thread::spawn(move || drop(pass_on(stream, upstream, &moods)));
            }
        });
        Proxy { address, mood }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it does this to every answer; nothing if `None`.
    pub(crate) fn set(&self, mood: Option<Mood>) {
        *self.mood.lock().unwrap() = mood;
    }
}

fn pass_on(mut client: TcpStream, upstream: SocketAddr, moods: &Mutex<Option<Mood>>) -> std::io::Result<()> {
    let (head, body) = message(&mut client)?;
    let asked = head.lines().next().unwrap_or_default().to_owned();
    let lines = head.lines().filter(|line| !line.to_lowercase().starts_with("connection:"));
    let head: String = lines.map(|line| format!("{line}\r\n")).collect();
    let mut host = TcpStream::connect(upstream)?;
    host.write_all(&[format!("{head}connection: close\r\n\r\n").as_bytes(), &body].concat())?;
    let (head, body) = message(&mut host)?;
    let mood = moods.lock().unwrap().clone();
    let exchange = Exchange { asked, head, body };
    let answer = mood.map_or_else(|| exchange.honest(), |mood| mood(&exchange));
    client.write_all(&answer)
}

/// The head of a message, without the empty line behind it, and its body.
fn message(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(&piece[..length]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut body = bytes.split_off(end + 4);
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    while length.is_none_or(|length: usize| body.len() < length) && (length.is_some() || head.starts_with("HTTP")) {
        match stream.read(&mut piece)? {
            0 => break,
            length => body.extend_from_slice(&piece[..length]),
        }
    }
    Ok((head, body))
}

/// One member: its own copy of the log, and its replica.
struct Member {
    _folder: Folder,
    copy: FileLog,
    log: Arc<LogCopy>,
    node: ChainNode,
}

/// Five members.
pub(crate) struct Committee {
    members: Vec<Member>,
}

impl Committee {
    /// Each with an access of its own to the log's host.
    pub(crate) fn new(config: &Arc<ChainConfig>, access: impl Fn(usize) -> Arc<dyn LogHost>) -> Committee {
        let member = |position| {
            let folder = Folder::new();
            let copy = FileLog::create(&folder.path().join("log"), config.identity()).unwrap();
            let log = Arc::new(LogCopy::new(&copy, access(position)));
            let replica = LogChain::new(Arc::clone(config));
            let node = ChainNode::new(replica, log.clone(), network_key(position), 1).unwrap();
            Member { _folder: folder, copy, log, node }
        };
        Committee { members: (0..N).map(member).collect() }
    }

    /// Every member does once what a follower does, all at once: reads on, ticks, and waits for a moment. Panics if anything
    /// of that would end one.
    pub(crate) fn round(&self) {
        std::thread::scope(|scope| {
            for member in &self.members {
                scope.spawn(|| member.turn());
            }
        });
    }

    /// The last final view that all have seen.
    pub(crate) fn view(&self) -> u64 {
        self.members.iter().map(|member| member.node.replica().lock().header().view.0).min().unwrap()
    }

    /// What each has in its copy.
    pub(crate) fn copies(&self) -> Vec<Vec<Vec<u8>>> {
        self.members.iter().map(|member| member.copy.reader().read(0, 100_000).unwrap()).collect()
    }

    /// How much of each copy is final.
    pub(crate) fn vouched(&self) -> Vec<usize> {
        let vouched = |member: &Member| member.node.replica().lock().vouched();
        self.members.iter().map(|member| usize::try_from(vouched(member)).unwrap()).collect()
    }

    /// With an honest host, views go on, and all copies are the log that `truth` reads.
    pub(crate) fn goes_on(&self, what: &str, truth: &dyn Fn() -> Vec<Vec<u8>>) {
        let before = self.members.iter().map(|member| member.node.replica().lock().header().view.0).max().unwrap();
        for _ in 0..PATIENCE_ROUNDS {
            self.round();
            if self.view() <= before {
                continue;
            }
            let truth = truth();
            if self.copies().iter().all(|copy| *copy == truth[..copy.len().min(truth.len())]) {
                return;
            }
        }
        panic!("{what}: views do not go on from {before}, or a copy is damaged: {}", self.view());
    }
}

impl Member {
    fn turn(&self) {
        match self.node.catch_up() {
            Ok(()) => {}
            Err(FollowError::Log(error)) if error.may_pass() => {}
            Err(error) => panic!("a follower would end: {error}"),
        }
        let (next, position) = {
            let replica = self.node.replica().lock();
            (View(replica.header().view.0 + 1), replica.prefix().position)
        };
        match self.node.author().append(Payload::Tick(next)) {
            Ok(_) | Err(AppendError::Log(LogError::NothingNew)) => {}
            Err(AppendError::Log(error)) if error.may_pass() => {}
            Err(error) => panic!("a follower would end: {error}"),
        }
        match self.log.wait(position, Duration::from_millis(1)) {
            Ok(()) => {}
            Err(error) => assert!(error.may_pass(), "a follower would end: {error}"),
        }
    }
}
