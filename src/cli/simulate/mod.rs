//! `dkg simulate`: hostile runs by the thousand, in one process and without a clock.
//!
//! Runs at random are numbered; a number is all it takes to see a run again. The work is shared among threads, one run at a time; what
//! they find comes to the main thread, which counts, and shrinks the first run that breaks a rule.

mod campaign;
mod exhaustive;
mod show;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::error::ErrorKind;
use indicatif::MultiProgress;

use dkg_engine::committee::{MAX_MEMBERS, MIN_MEMBERS};
use dkg_engine::engine::{OsRandomness, Randomness};
use dkg_engine::simulator::{Defect, Fault, FaultSet, Plan, RunNumber, Scope, Simulated, shrink};

use campaign::Campaign;
use show::{Broken, Summary};

/// Threads at most.
const MAX_THREADS: u16 = 256;

/// Run whole committees against malicious members, bad networks and crashes, and check that every promise holds.
#[derive(Args)]
#[command(after_help = faults_help())]
pub(super) struct Options {
    /// How many runs.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,

    /// Where all chance comes from; without it a fresh one is drawn, and printed.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// How many members a committee has, at least and at most.
    #[arg(long, value_name = "A..B", default_value = "3..7")]
    nodes: Sizes,

    /// What may go wrong: names separated by commas, `all` (but crashes) or `none`.
    #[arg(long, value_name = "LIST", default_value = "all")]
    faults: Faults,

    /// Kill members in the middle of what they do, too, and start them again.
    #[arg(long)]
    crashes: bool,

    /// Threads to run on; as many as the machine has cores if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_THREADS)))]
    threads: Option<u16>,

    /// Show one run from beginning to end, by the number that a simulation has printed.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["runs", "seed", "nodes", "faults", "crashes", "threads"])]
    replay: Option<RunNumber>,

    /// Of the replayed run, keep only the faults with these numbers (`none` for no fault at all).
    #[arg(long, value_name = "LIST", requires = "replay")]
    keep: Option<Kept>,

    /// Replay on a network, board and chain that never do anything unexpected.
    #[arg(long, requires = "replay")]
    calm: bool,

    /// Replay no epochs after this one.
    #[arg(long, value_name = "EPOCH", requires = "replay", value_parser = clap::value_parser!(u64).range(1..))]
    until: Option<u64>,

    /// Instead of runs at random, search a committee of this size exhaustively: every order of messages, blocks and pages,
    /// with members cut off, crashing or faulty.
    #[arg(long, value_name = "N", conflicts_with_all = ["runs", "seed", "nodes", "faults", "crashes", "threads", "replay", "defect"],
          value_parser = clap::value_parser!(u8).range(2..=8))]
    exhaustive: Option<u8>,

    /// How long to search.
    #[arg(long, value_name = "M", requires = "exhaustive", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: u64,

    /// Put a known defect into every member, to see it caught.
    #[arg(long, value_name = "DEFECT")]
    defect: Option<Defect>,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

fn faults_help() -> String {
    let list = |title: &str, names: Vec<(&str, &str)>| {
        let lines: Vec<String> = names.iter().map(|(name, what)| format!("  {name:<24} {what}")).collect();
        format!("{title}:\n{}", lines.join("\n"))
    };
    let faults = |malicious: bool| {
        let chosen = Fault::ALL.iter().filter(|fault| fault.is_malicious() == malicious);
        chosen.map(|fault| (fault.name(), fault.description())).collect()
    };
    let defects = Defect::ALL.iter().map(|defect| (defect.name(), defect.description())).collect();
    [
        list("Attacks of malicious members", faults(true)),
        list("Mishaps of honest members", faults(false)),
        list("Defects", defects),
    ]
    .join("\n\n")
}

/// `A..B`, both included, or one number.
#[derive(Clone, Copy)]
struct Sizes(u8, u8);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let size = |text: &str| {
            let size: usize = text.parse().map_err(|_| format!("'{text}' is not a number of members"))?;
            let byte = u8::try_from(size).ok().filter(|_| (MIN_MEMBERS..=MAX_MEMBERS).contains(&size));
            byte.ok_or_else(|| format!("a committee has {MIN_MEMBERS} to {MAX_MEMBERS} members, not {size}"))
        };
        let (least, most) = (size(least)?, size(most)?);
        if least > most {
            return Err(format!("{least} is more than {most}"));
        }
        Ok(Sizes(least, most))
    }
}

/// A list of faults.
#[derive(Clone, Copy)]
struct Faults(FaultSet);

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Faults(FaultSet::all())),
            "none" => Ok(Faults(FaultSet::NONE)),
            _ => {
                let faults = text.split(',').map(Fault::from_str).collect::<Result<FaultSet, _>>();
                faults.map(Faults).map_err(|error| format!("{error}; `dkg simulate --help` lists them"))
            }
        }
    }
}

/// A list of numbers.
#[derive(Clone)]
struct Kept(BTreeSet<u64>);

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Kept(BTreeSet::new()));
        }
        let number = |text: &str| text.parse().map_err(|_| format!("'{text}' is not the number of a fault"));
        text.split(',').map(number).collect::<Result<_, _>>().map(Kept)
    }
}

/// Runs the command.
pub(super) fn run(options: &Options, bars: &MultiProgress) -> ExitCode {
    let written = match (&options.replay, options.exhaustive) {
        (Some(number), _) => options.replay(number),
        (None, Some(size)) => {
            exhaustive::run(usize::from(size), Duration::from_secs(60 * options.minutes), options.json)
        }
        (None, None) => options.simulate(bars),
    };
    match written {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("the result could not be written: {error}");
            ExitCode::from(1)
        }
    }
}

impl Options {
    fn simulated(&self) -> Simulated {
        Simulated { defect: self.defect, timeline: false }
    }

    /// Shows one run; whether it breaks no rule.
    fn replay(&self, number: &RunNumber) -> std::io::Result<bool> {
        let mut plan = Plan::new(*number);
        if let Some(Kept(kept)) = &self.keep {
            plan = plan.keeping(kept);
        }
        if self.calm {
            plan = plan.quiet();
        }
        if let Some(epoch) = self.until {
            plan = plan.until(epoch);
        }
        let outcome = Simulated { timeline: true, ..self.simulated() }.run(&plan);
        let holds = outcome.violation.is_none();
        show::replay(&plan, &outcome, self.json)?;
        Ok(holds)
    }

    /// Runs them all; whether none breaks a rule.
    fn simulate(&self, bars: &MultiProgress) -> std::io::Result<bool> {
        let seed = self.seed.unwrap_or_else(fresh_seed);
        let Sizes(min_nodes, max_nodes) = self.nodes;
        let Faults(faults) = self.faults;
        let faults = if self.crashes { faults.with(Fault::Crash) } else { faults };
        let scope = Scope { min_nodes, max_nodes, faults };
        if !self.json {
            eprintln!("{} runs from seed {seed}", self.runs);
        }
        let threads = self.threads.map_or_else(cores, usize::from);
        let campaign = Campaign { scope, seed, runs: self.runs, threads, simulated: self.simulated() };
        let found = campaign.run(&show::Progress::new(bars, self.runs, self.json));
        let broken = found.broken.map(|(run, number, violation)| {
            let plan = Plan::new(number);
            let shrunk = shrink(&plan, &self.simulated(), violation.rule);
            Broken { run, number, violation, shrunk, defect: self.defect }
        });
        let holds = broken.is_none();
        let summary = Summary { seed, scope, coverage: found.coverage, elapsed: found.elapsed, broken };
        show::summary(&summary, self.json)?;
        Ok(holds)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(usize::from(MAX_THREADS)))
}

fn fresh_seed() -> u64 {
    let mut bytes = [0; 8];
    if let Err(error) = OsRandomness.fill(&mut bytes) {
        let error = clap::Error::raw(ErrorKind::Io, format!("{error}; give a --seed\n"));
        error.exit();
    }
    u64::from_le_bytes(bytes)
}
