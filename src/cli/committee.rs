//! `dkg committee`: puts a committee file together, shows and checks one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use dkg_engine::address::{Address, Endpoint};
use dkg_engine::bls::VectorEncoding;
use dkg_engine::chain::log::{ChainSpec, Clock, CommitteeFile, LogPlace, MemberFile, Schedule, SystemClock};
use dkg_engine::engine::DEFAULT_POLL_STEP;
use dkg_engine::epoch::View;
use dkg_engine::hex;
use dkg_engine::node::FileKind;

use super::keygen::write_new;
use super::outcome::{Failure, conclude, instead, write_json, wrong, wrong_with};

/// Epochs whose times are shown.
const SHOWN_EPOCHS: u64 = 2;

/// Put a committee file together, show one, or check one. All its members need the same file: compare the hash.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Put a committee file together from its members' public parts.
    New(Box<New>),
    /// Show who is in a committee, and what happens when.
    Show(Show),
    /// Check a committee file: every key, proof, address and number in it.
    Check(Check),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Vectors {
    /// Both coordinates of each point: longer, and quicker to read.
    Uncompressed,
    /// As on Flow.
    Compressed,
}

#[derive(Args)]
#[command(group(ArgGroup::new("log").required(true).args(["log_http", "log_etcd"])))]
struct New {
    /// The members' public parts, as `dkg keygen` writes them.
    #[arg(value_name = "MEMBER.toml", required = true)]
    members: Vec<PathBuf>,

    /// The committee file to write; there must not be one yet.
    #[arg(long, value_name = "FILE", default_value = "committee.toml")]
    out: PathBuf,

    /// The chain's name: letters, digits, '-', '_' and '.'. Another one for every committee.
    #[arg(long, value_name = "NAME")]
    chain: String,

    /// When the first view begins: a time like 2026-12-01T12:00:00Z, or a while from now like +10m.
    #[arg(long, value_name = "WHEN", default_value = "+10m", value_parser = parse_genesis)]
    genesis: Genesis,

    /// How long a view is, in milliseconds: several times as long as a message takes to everybody and back.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    view_ms: u64,

    /// How many views an epoch has. Each epoch makes the keys of the next.
    #[arg(long, value_name = "VIEWS", default_value_t = 3600)]
    epoch_views: u64,

    /// In which view of an epoch the run begins.
    #[arg(long, value_name = "VIEWS", default_value_t = 60)]
    setup_view: u64,

    /// How many views each of the three phases has.
    #[arg(long, value_name = "VIEWS", default_value_t = 120)]
    phase_views: u64,

    /// How many views lie between two reads of the board.
    #[arg(long, value_name = "VIEWS", default_value_t = DEFAULT_POLL_STEP)]
    poll_step: u64,

    /// How the members write their commitment vectors.
    #[arg(long, value_enum, default_value_t = Vectors::Uncompressed)]
    vectors: Vectors,

    /// The log is kept by a log server, at this address; several if it has several.
    #[arg(long, value_name = "URL")]
    log_http: Vec<Endpoint>,

    /// The log is kept by an etcd cluster: the address of each of its members.
    #[arg(long, value_name = "URL")]
    log_etcd: Vec<Endpoint>,

    /// What the keys in etcd begin with; dkg/NAME/ if not given.
    #[arg(long, value_name = "PREFIX", requires = "log_etcd")]
    etcd_prefix: Option<String>,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Show {
    /// The committee file.
    #[arg(value_name = "FILE", default_value = "committee.toml")]
    file: PathBuf,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Check {
    /// The committee file.
    #[arg(value_name = "FILE", default_value = "committee.toml")]
    file: PathBuf,

    /// Members' public parts that have to be in it, unchanged.
    #[arg(value_name = "MEMBER.toml")]
    members: Vec<PathBuf>,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

/// When the first view begins.
#[derive(Clone, Copy)]
enum Genesis {
    At(Timestamp),
    In(Duration),
}

fn parse_genesis(text: &str) -> Result<Genesis, String> {
    let Some(wait) = text.strip_prefix('+') else {
        return text.parse().map(Genesis::At).map_err(|error| format!("{error}; a time is like 2026-12-01T12:00:00Z"));
    };
    let (number, unit) = wait.split_at(wait.find(|c: char| !c.is_ascii_digit()).unwrap_or(wait.len()));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err("a while is a number and s, m, h or d, like +10m".to_owned()),
    };
    let number: u64 = number.parse().map_err(|error| format!("{error}: a while is like +10m"))?;
    Ok(Genesis::In(Duration::from_secs(number.saturating_mul(seconds))))
}

impl Genesis {
    fn ms(self) -> Result<u64, Failure> {
        match self {
            Genesis::In(wait) => {
                let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                // On the second, which is easier to read.
                Ok(SystemClock.now_ms().saturating_add(wait) / 1000 * 1000)
            }
            Genesis::At(time) => u64::try_from(time.as_millisecond())
                .map_err(|_| Failure::Usage("the first view cannot begin before 1970".to_owned())),
        }
    }
}

/// Runs the command.
pub(super) fn run(options: &Options) -> ExitCode {
    conclude(match &options.action {
        Action::New(new) => new.run(),
        Action::Show(show) => show.run(),
        Action::Check(check) => check.run(),
    })
}

/// The committee file of this name.
pub(super) fn committee(file: &Path) -> Result<CommitteeFile, Failure> {
    CommitteeFile::read(file).map_err(|error| instead(file, FileKind::Committee, &error))
}

fn member(file: &Path) -> Result<MemberFile, Failure> {
    MemberFile::read(file).map_err(|error| instead(file, FileKind::Member, &error))
}

impl New {
    fn run(&self) -> Result<bool, Failure> {
        let members: Vec<_> = self.members.iter().map(|file| member(file)).collect::<Result<_, _>>()?;
        let log = if self.log_etcd.is_empty() {
            LogPlace::Http(self.log_http.clone())
        } else {
            let prefix = self.etcd_prefix.clone().unwrap_or_else(|| format!("dkg/{}/", self.chain));
            LogPlace::Etcd { endpoints: self.log_etcd.clone(), prefix }
        };
        let genesis_ms = self.genesis.ms()?;
        if genesis_ms < SystemClock.now_ms() {
            eprintln!(
                "warning: the first view is over; whole epochs that are over have no run, and the chain goes on without them"
            );
        }
        let spec = ChainSpec {
            chain_id: self.chain.clone(),
            genesis_ms,
            view_ms: self.view_ms,
            schedule: Schedule {
                views_in_epoch: self.epoch_views,
                setup_first_view: self.setup_view,
                views_per_phase: self.phase_views,
                poll_step: self.poll_step,
            },
            members: Vec::new(),
            vector_encoding: match self.vectors {
                Vectors::Uncompressed => VectorEncoding::Uncompressed,
                Vectors::Compressed => VectorEncoding::Compressed,
            },
            log,
        };
        let committee = CommitteeFile::new(spec, members).map_err(wrong)?;
        write_new(&self.out, &committee.text()).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => wrong_with(&self.out)(
                &"there is a file already, and it is not overwritten; choose another name with --out",
            ),
            _ => wrong_with(&self.out)(&error),
        })?;
        let missed = committee.chain().view_at(SystemClock.now_ms()).0;
        if missed > 0 {
            eprintln!(
                "warning: --genesis is {missed} views ago; they are passed over, and the chain begins where the members' clocks \
                 are; give a time that is to come, such as +10m, unless that is what you want"
            );
        }
        tell(&self.out, &committee, self.json).map_err(wrong)?;
        Ok(true)
    }
}

impl Show {
    fn run(&self) -> Result<bool, Failure> {
        let committee = committee(&self.file)?;
        tell(&self.file, &committee, self.json).map_err(wrong)?;
        Ok(true)
    }
}

impl Check {
    fn run(&self) -> Result<bool, Failure> {
        let committee = committee(&self.file)?;
        let mut problems = Vec::new();
        for file in &self.members {
            let member = member(file)?;
            match committee.members().iter().find(|other| other.node_id == member.node_id) {
                None => problems.push(format!("{}: node {} is not in the committee", file.display(), member.node_id)),
                Some(other) if *other != member => problems.push(format!(
                    "{}: node {} is in the committee with {}",
                    file.display(),
                    member.node_id,
                    differences(other, &member)
                )),
                Some(_) => {}
            }
        }
        let checked = Checked {
            file: self.file.display().to_string(),
            hash: hex::encode(committee.chain().identity()),
            members: committee.members().len(),
            problems,
        };
        let mut out = io::stdout().lock();
        let written = if self.json {
            write_json(&mut out, &checked)
        } else {
            checked.problems.iter().try_for_each(|problem| writeln!(out, "{problem}")).and_then(|()| {
                writeln!(out, "{}: {} members, every key, proof and number in order", checked.file, checked.members)?;
                writeln!(out, "hash {}", checked.hash)
            })
        };
        written.map_err(wrong)?;
        Ok(checked.problems.is_empty())
    }
}

/// What two descriptions of one member disagree about.
fn differences(theirs: &MemberFile, ours: &MemberFile) -> String {
    let mut fields = Vec::new();
    let mut note = |name: &'static str, differs: bool| fields.extend(differs.then_some(name));
    note("another staking key", theirs.staking_key != ours.staking_key);
    note("another proof", theirs.staking_key_proof != ours.staking_key_proof);
    note("another network key", theirs.network_key != ours.network_key);
    note("another address", theirs.address != ours.address);
    fields.join(" and ")
}

#[derive(Serialize)]
struct Checked {
    file: String,
    hash: String,
    members: usize,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    file: String,
    hash: String,
    chain_id: String,
    genesis: String,
    genesis_ms: u64,
    view_ms: u64,
    n: usize,
    t: usize,
    log: Vec<String>,
    epochs: Vec<ShownEpoch>,
    members: Vec<ShownMember>,
}

/// When an epoch's run takes place.
#[derive(Serialize)]
struct ShownEpoch {
    epoch: u64,
    begins: String,
    run_begins: String,
    phases_end: [String; 3],
    ends: String,
}

#[derive(Serialize)]
struct ShownMember {
    index: usize,
    node_id: String,
    address: String,
    staking_key: String,
    network_key: String,
}

impl Shown {
    fn of(file: &std::path::Path, committee: &CommitteeFile) -> Shown {
        let chain = committee.chain();
        let at = |view: View| {
            let ms = i64::try_from(chain.begins_at(view)).unwrap_or(i64::MAX);
            Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX).to_string()
        };
        let after = |view: View| at(View(view.0.saturating_add(1)));
        let epochs = (0..SHOWN_EPOCHS).map(|epoch| {
            let views = chain.epoch_at(View(epoch.saturating_mul(chain.schedule().views_in_epoch)));
            ShownEpoch {
                epoch: views.epoch.0,
                begins: at(views.first),
                run_begins: at(views.setup_first),
                phases_end: views.phase_finals.map(at),
                ends: after(views.last),
            }
        });
        let members = committee.members().iter().enumerate().map(|(index, member)| ShownMember {
            index,
            node_id: member.node_id.to_string(),
            address: member.address.as_ref().map(Address::to_string).unwrap_or_default(),
            staking_key: hex::encode(&member.staking_key.to_flow_bytes()),
            network_key: hex::encode(member.network_key.as_bytes()),
        });
        Shown {
            file: file.display().to_string(),
            hash: hex::encode(chain.identity()),
            chain_id: chain.chain_id().to_owned(),
            genesis: at(View(0)),
            genesis_ms: chain.begins_at(View(0)),
            view_ms: chain.view_ms(),
            n: chain.committee().size(),
            t: chain.committee().threshold(),
            log: chain.log().endpoints().iter().map(Endpoint::to_string).collect(),
            epochs: epochs.collect(),
            members: members.collect(),
        }
    }
}

fn tell(file: &std::path::Path, committee: &CommitteeFile, json: bool) -> io::Result<()> {
    let shown = Shown::of(file, committee);
    let mut out = io::stdout().lock();
    if json {
        return write_json(&mut out, &shown);
    }
    let Shown { n, t, .. } = shown;
    writeln!(out, "file     {}", shown.file)?;
    writeln!(out, "hash     {}", shown.hash)?;
    writeln!(out, "chain    {}", shown.chain_id)?;
    writeln!(out, "members  {n}; up to {t} may fail or lie, any {} sign", t + 1)?;
    writeln!(out, "begins   {}, a view takes {} ms", shown.genesis, shown.view_ms)?;
    writeln!(
        out,
        "log      {}",
        if shown.log.is_empty() { "in one process".to_owned() } else { shown.log.join(", ") }
    )?;
    for epoch in &shown.epochs {
        let ShownEpoch { epoch, begins, run_begins, phases_end: [first, second, third], ends } = epoch;
        writeln!(out, "epoch {epoch}  {begins} to {ends}; run for epoch {} from {run_begins},", epoch + 1)?;
        writeln!(out, "         phases end {first}, {second}, {third}")?;
    }
    writeln!(out, "\n{:>5}  {:<64}  address", "index", "node id")?;
    shown
        .members
        .iter()
        .try_for_each(|member| writeln!(out, "{:>5}  {}  {}", member.index, member.node_id, member.address))
}
