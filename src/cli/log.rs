//! `dkg log serve`: keeps the log of a committee for members on other machines. `dkg log adopt`: takes another member's copy.
//!
//! ```text
//! DIR/log        the log
//! DIR/log.made   says that there was one: a log that is gone is never begun anew
//! ```
//!
//! The first line on stdout says where it listens. Exit codes: 0 when it was told to stop, 1 where something is wrong with the
//! committee file, the log or the address, 2 for bad usage.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use dkg_engine::address::listening;
use dkg_engine::chain::log::{
    Adopted, ChainConfig, FileLog, FileLogError, LogPlace, LogServer, LogServerConfig, LogServerStatus, adopt,
};
use dkg_engine::hex;
use dkg_engine::node::log_file;
use dkg_engine::node::strangers;
use serde::Serialize;

use super::committee::committee;
use super::outcome::{Failure, conclude, configuration, write_json, wrong, wrong_with};
use super::signals::stop_flag;

/// How often it looks whether it is to stop.
const STOP_PERIOD: Duration = Duration::from_millis(100);
/// How often it says how it fares, when it is to.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// Keep the log of a committee for its members.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Serve(Serve),
    Adopt(Adopt),
}

/// Take another member's copy of the log in the place of this node's, as far as more than t members have vouched for it.
///
/// For a node whose copy is damaged or lost, or that follows another log than the others. The node must not run. The copy of
/// before stays beside the new one.
#[derive(Args)]
struct Adopt {
    /// The other member's copy: its `data/log`, copied while its node did not run.
    #[arg(value_name = "FILE")]
    from: PathBuf,

    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Serve the log until SIGTERM or SIGINT. What a member has been told is in the log survives any crash.
#[derive(Args)]
struct Serve {
    /// The committee file.
    #[arg(long, value_name = "FILE")]
    committee: PathBuf,

    /// The folder with the log.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Where to listen. Port 0 takes any free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7500", value_parser = listening)]
    listen: SocketAddr,

    /// Begin the log if the folder has never had one.
    #[arg(long)]
    create: bool,

    /// All requests come from a reverse proxy: one address may do what all together may.
    #[arg(long)]
    behind_proxy: bool,

    /// The most requests a second from one address.
    #[arg(long, value_name = "N", default_value_t = LogServerConfig::default().requests_per_second,
        value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_second: u32,

    /// A name under which browsers and collectors may ask for its page, status and metrics, beside addresses, localhost and the
    /// committee file's endpoints. May be given several times.
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,

    /// Say where it listens, and every ten seconds how it fares, as JSON objects, one a line.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(options: &Options) -> ExitCode {
    conclude(match &options.action {
        Action::Serve(serve) => serve.run().map(|()| true),
        Action::Adopt(adopt) => adopt.run().map(|()| true),
    })
}

/// What was taken, for programs.
#[derive(Serialize)]
struct Taken {
    entries: u64,
    left_out: u64,
    replaced: Option<String>,
}

impl Adopt {
    fn run(&self) -> Result<(), Failure> {
        let config = configuration(&self.config)?;
        let committee = committee(&config.committee)?;
        let chain = committee.chain();
        let other = FileLog::open(&self.from, chain.identity()).map_err(wrong)?;
        let Adopted { entries, left_out, replaced, damage } =
            adopt(&log_file(&config.data), &other.reader(), chain).map_err(wrong)?;
        let taken = Taken { entries, left_out, replaced: replaced.map(|path| path.display().to_string()) };
        self.tell(&taken, damage.as_deref()).map_err(wrong)
    }

    fn tell(&self, taken: &Taken, damage: Option<&str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            return write_json(&mut out, taken);
        }
        let Taken { entries, left_out, replaced } = taken;
        if let Some(damage) = damage {
            writeln!(out, "this node's own copy could not be read: {damage}")?;
        }
        writeln!(out, "taken: {entries} entries, all that more than t members have vouched for")?;
        writeln!(out, "left out: {left_out} more, which come from the log's host if they are there")?;
        replaced.iter().try_for_each(|path| writeln!(out, "the copy of before is {path}"))
    }
}

/// What happens, for programs.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event<'a> {
    Listening { address: SocketAddr, chain: String, entries: u64 },
    Status(&'a LogServerStatus),
    Stopped { entries: u64 },
}

impl Serve {
    fn run(&self) -> Result<(), Failure> {
        let stop = stop_flag()?;
        let committee = committee(&self.committee)?;
        let config = Arc::clone(committee.chain());
        if !matches!(config.log(), LogPlace::Http(_)) {
            let problem = "the members of this committee do not look for their log here: its kind is not \"http\"";
            return Err(wrong_with(&self.committee)(&problem));
        }
        let log = self.open(&config)?;
        let server = LogServer::start(self.listen, log.clone(), Arc::clone(&config), self.limits()).map_err(wrong)?;
        let (address, chain) = (server.local_addr(), hex::encode(config.identity()));
        self.tell(&Event::Listening { address, chain, entries: log.len() }, &format!("listening on {address}"));
        let mut told = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            std::thread::park_timeout(STOP_PERIOD);
            if self.json && told.elapsed() >= STATUS_PERIOD {
                self.tell(&Event::Status(&server.status()), "");
                told = Instant::now();
            }
        }
        server.stop();
        let entries = log.len();
        self.tell(&Event::Stopped { entries }, &format!("stopped; the log has {entries} entries"));
        Ok(())
    }

    fn limits(&self) -> LogServerConfig {
        let mut limits = LogServerConfig {
            requests_per_second: self.requests_per_second,
            burst: self.requests_per_second.saturating_mul(2),
            names: self.name.clone(),
            ..LogServerConfig::default()
        };
        if self.behind_proxy {
            limits.max_connections_per_address = limits.max_connections;
            limits.max_polls_per_address = limits.max_polls;
        }
        limits
    }

    /// Who started it may have stopped listening: that is no reason to stop serving.
    fn tell(&self, event: &Event<'_>, words: &str) {
        let mut out = io::stdout().lock();
        let _ = if self.json { write_json(&mut out, event) } else { writeln!(out, "{words}") };
        let _ = out.flush();
    }

    /// The log in the folder, or a new one if there never was one and it is to be begun.
    fn open(&self, config: &ChainConfig) -> Result<FileLog, Failure> {
        let (path, made) = (self.data.join("log"), self.data.join("log.made"));
        let exists = |path: &Path| path.try_exists().map_err(|error| wrong_with(path)(&error));
        let log = if exists(&path)? {
            FileLog::open(&path, config.identity()).map_err(wrong)?
        } else if exists(&made)? {
            return Err(wrong(FileLogError::Missing(path)));
        } else if !self.create {
            let path = path.display();
            return Err(wrong(format!(
                "there is no log at {path}; begin one with --create, or name the folder with it"
            )));
        } else {
            // What a start that was cut off has left is the log's own.
            let belongs = |name: &str| name.starts_with("log");
            let strangers = strangers(&self.data, "a log server's", belongs);
            if let Some(problem) = strangers.map_err(|error| wrong_with(&self.data)(&error))? {
                return Err(Failure::Wrong(problem));
            }
            fs::create_dir_all(&self.data).map_err(|error| wrong_with(&self.data)(&error))?;
            FileLog::create(&path, config.identity()).map_err(wrong)?
        };
        if !exists(&made)? {
            // After the log: one without the other is a log that has just been begun.
            let write = || {
                let mut file = File::create(&made)?;
                writeln!(file, "{}", hex::encode(config.identity()))?;
                file.sync_all()?;
                if cfg!(unix) { File::open(&self.data)?.sync_all() } else { Ok(()) }
            };
            write().map_err(|error: io::Error| wrong_with(&made)(&error))?;
        }
        Ok(log)
    }
}
