//! A committee of five whose way to its log leads through somebody in every mood. It is stepped by hand: what a follower's
//! thread would wait for is asked for at once.

#![allow(dead_code, reason = "no one test file uses all of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dkg_engine::chain::log::{
    AppendError, ChainConfig, ChainNode, FileLog, FollowError, LogChain, LogCopy, LogError, LogHost, Payload,
};
use dkg_engine::epoch::View;

use crate::folder::Folder;
use crate::log_support::{N, network_key};

/// How long views may take to go on with an honest host before they are given up for lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long somebody waits who cannot read on.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What becomes of an answer of the log's host: all its bytes, from the status line on, or nothing more than closing.
pub(crate) type Mood = Arc<Act>;
/// See [`Mood`].
pub(crate) type Act = dyn Fn(&Exchange) -> Vec<u8> + Send + Sync;

/// A request, and what the host answers; where the answer is a stream, one line of it after the other.
pub(crate) struct Exchange {
    /// The request's first line.
    pub(crate) asked: String,
    /// The answer's head, without the empty line behind it; nothing for all lines of a stream but the first.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether more follows, which says itself when it ends.
    pub(crate) streams: bool,
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
        match (self.streams, self.head.is_empty()) {
            (true, true) => body.to_vec(),
            (true, false) => [format!("{head}connection: close\r\n\r\n").as_bytes(), body].concat(),
            (false, _) => [format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat(),
        }
    }
}

/// Somebody on the way to a host.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    mood: Option<Mood>,
    /// The clients that a stream goes to.
    streaming: Vec<TcpStream>,
}

impl Proxy {
    /// In front of the host at this address. Its threads end with the process.
    pub(crate) fn new(upstream: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(State::default())));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Whoever hangs up ends its own exchange only.
                std::thread::spawn(move || drop(pass_on(stream, upstream, &shared)));
            }
        });
        Proxy { address, state }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it does this to every answer, nothing if `None`; streams are cut off first.
    pub(crate) fn set(&self, mood: Option<Mood>) {
        let mut state = self.state.lock().unwrap();
        state.mood = mood;
        for stream in state.streaming.drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn pass_on(mut client: TcpStream, upstream: SocketAddr, state: &Mutex<State>) -> std::io::Result<()> {
    let (head, body) = message(&mut client)?;
    let asked = head.lines().next().unwrap_or_default().to_owned();
    let lines = head.lines().filter(|line| !line.to_lowercase().starts_with("connection:"));
    let head: String = lines.map(|line| format!("{line}\r\n")).collect();
    let mut host = TcpStream::connect(upstream)?;
    host.write_all(&[format!("{head}connection: close\r\n\r\n").as_bytes(), &body].concat())?;
    if asked.starts_with("POST /v3/watch") {
        state.lock().unwrap().streaming.extend([client.try_clone()?, host.try_clone()?]);
        return pass_stream_on(&mut client, BufReader::new(host), asked, state);
    }
    let (head, body) = message(&mut host)?;
    answer(&mut client, &Exchange { asked, head, body, streams: false }, state)
}

fn answer(client: &mut TcpStream, exchange: &Exchange, state: &Mutex<State>) -> std::io::Result<()> {
    let mood = state.lock().unwrap().mood.clone();
    client.write_all(&mood.map_or_else(|| exchange.honest(), |mood| mood(exchange)))
}

/// Passes on a stream of lines, each in a chunk of its own.
fn pass_stream_on(
    client: &mut TcpStream,
    mut host: BufReader<TcpStream>,
    asked: String,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if host.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let lines = head.trim_end().lines().filter(|line| !line.to_lowercase().starts_with("transfer-encoding:"));
    let mut exchange =
        Exchange { asked, head: lines.collect::<Vec<_>>().join("\r\n"), body: Vec::new(), streams: true };
    loop {
        let mut size = String::new();
        host.read_line(&mut size)?;
        let Ok(size @ 1..) = usize::from_str_radix(size.trim(), 16) else { return Ok(()) };
        let mut chunk = vec![0; size + 2];
        host.read_exact(&mut chunk)?;
        exchange.body.extend_from_slice(&chunk[..size]);
        if exchange.body.ends_with(b"\n") {
            answer(client, &exchange, state)?;
            (exchange.head, exchange.body) = (String::new(), Vec::new());
        }
    }
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
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        let whole = chunks(stream, body)?;
        let lines = head.lines().filter(|line| !line.to_lowercase().starts_with("transfer-encoding:"));
        return Ok((lines.collect::<Vec<_>>().join("\r\n"), whole));
    }
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    while length.is_none_or(|length: usize| body.len() < length) && (length.is_some() || head.starts_with("HTTP")) {
        match stream.read(&mut piece)? {
            0 => break,
            length => body.extend_from_slice(&piece[..length]),
        }
    }
    Ok((head, body))
}

/// All chunks of a body that begins like this.
fn chunks(stream: &mut TcpStream, begun: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut from = BufReader::new(std::io::Cursor::new(begun).chain(stream));
    let mut whole = Vec::new();
    loop {
        let mut size = String::new();
        from.read_line(&mut size)?;
        let Ok(size @ 1..) = usize::from_str_radix(size.trim(), 16) else { return Ok(whole) };
        let mut chunk = vec![0; size + 2];
        from.read_exact(&mut chunk)?;
        whole.extend_from_slice(&chunk[..size]);
    }
}

/// One member: its own copy of the log, and its replica.
struct Member {
    _folder: Folder,
    config: Arc<ChainConfig>,
    position: usize,
    copy: FileLog,
    log: Arc<LogCopy>,
    node: Mutex<ChainNode>,
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
            let node = Mutex::new(begin(config, &log, position));
            Member { _folder: folder, config: Arc::clone(config), position, copy, log, node }
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
        self.members.iter().map(|member| member.node.lock().unwrap().replica().lock().header().view.0).min().unwrap()
    }

    /// What each has in its copy.
    pub(crate) fn copies(&self) -> Vec<Vec<Vec<u8>>> {
        self.members.iter().map(|member| member.copy.reader().read(0, 100_000).unwrap()).collect()
    }

    /// How much of each copy is final.
    pub(crate) fn vouched(&self) -> Vec<usize> {
        let vouched = |member: &Member| member.node.lock().unwrap().replica().lock().vouched();
        self.members.iter().map(|member| usize::try_from(vouched(member)).unwrap()).collect()
    }

    /// With an honest host, views go on, and all copies are the log that `truth` reads.
    pub(crate) fn goes_on(&self, what: &str, truth: &dyn Fn() -> Vec<Vec<u8>>) {
        let before = self
            .members
            .iter()
            .map(|member| member.node.lock().unwrap().replica().lock().header().view.0)
            .max()
            .unwrap();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
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

/// A member at the beginning of its life.
fn begin(config: &Arc<ChainConfig>, log: &Arc<LogCopy>, position: usize) -> ChainNode {
    let replica = LogChain::new(Arc::clone(config));
    ChainNode::new(replica, log.clone(), network_key(position), 1).unwrap()
}

impl Member {
    fn turn(&self) {
        let mut node = self.node.lock().unwrap();
        match node.catch_up() {
            Ok(()) => {}
            // Who cannot read on does not write either.
            Err(FollowError::Log(error)) if error.may_pass() => return std::thread::park_timeout(LOOK_AGAIN),
            // What was believed wrongly is given up, and a node begins anew with what is left.
            Err(FollowError::GaveUp { .. }) => {
                *node = begin(&self.config, &self.log, self.position);
                return;
            }
            Err(error) => panic!("a follower would end: {error}"),
        }
        let (next, position) = {
            let replica = node.replica().lock();
            (View(replica.header().view.0 + 1), replica.prefix().position)
        };
        match node.author().append(Payload::Tick(next)) {
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
