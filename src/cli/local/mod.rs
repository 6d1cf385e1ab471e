//! `dkg local`: a whole committee on this machine, every member with engine threads of its own.
//!
//! One log chain carries all members through one epoch after another. The main thread builds them, listens to what they
//! tell, and judges each run by it; the members talk to each other only through their log and their network.
//!
//! All of it is in memory, or, with `--data`, in a [folder]: then the command goes on where an earlier life of it ended,
//! wherever that was. The log says where the chain stands, each member's store what it has promised, and the chain's time
//! stands still in between.

mod fault;
mod folder;
mod home;
mod identity;
mod lock;
mod member;
mod report;
mod seams;
mod show;
mod verdict;
mod watch;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use indicatif::MultiProgress;

use dkg_engine::chain::log::{LogChain, Schedule};
use dkg_engine::committee::{Index, threshold};
use dkg_engine::engine::{DEFAULT_POLL_STEP, EventHandle};
use dkg_engine::epoch::{EpochCounter, View};
use dkg_engine::hex;
use dkg_engine::network::MemoryNetwork;

use fault::{FaultCount, FaultKind};
use folder::Wanted;
use home::{CHAIN_ID, ChainTime, Home};
use identity::Source;
use member::{Member, Surroundings};
use report::{Outcome, Report};
use show::Show;
use verdict::Judge;
use watch::Watch;
use witness::News;

/// Views of an epoch before its setup phase.
const STAKING_VIEWS: u64 = 3;
/// Views of an epoch after its third phase: to submit results and agree on one.
const SETTLING_VIEWS: u64 = 10;
/// What the members have told and nobody has heard yet; one who tells more waits.
const NEWS_LIMIT: usize = 1 << 16;
/// How often the members are looked after while nothing is told.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// A view that takes as long as so many should ends the command: something hangs. A slow machine makes views longer, but
/// every view is bounded work.
const STALL_VIEWS: u32 = 1000;
/// The least that is meant by that.
const STALL_AT_LEAST: Duration = Duration::from_secs(300);

/// Run a whole committee on this machine, and sign a message with the keys it makes.
#[derive(Args)]
pub(super) struct Options {
    /// How many members the committee has.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=254))]
    nodes: u8,

    /// How many epochs to run, one after another; each makes new keys. With --data, in all its uses together.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    epochs: u32,

    /// How long a view is, in milliseconds; a busy machine makes them longer.
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    view_ms: u64,

    /// How many views each of the three phases has.
    #[arg(long, value_name = "V", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    phase_views: u64,

    /// Make all keys and dealings from this, 1 to 64 bytes in hex. FOR TESTS ONLY: whoever knows it knows every secret.
    #[arg(long, value_name = "HEX", value_parser = parse_seed)]
    seed: Option<Seed>,

    // The last members are taken first.
    #[arg(long = "fault", value_name = "KIND=COUNT", help = format!(
        "Let so many members play a fault; repeatable. Kinds: {}", FaultKind::names()
    ))]
    faults: Vec<FaultCount>,

    /// Keep everything in this folder, so that the same command goes on where it was stopped, or killed.
    ///
    /// The folder holds all keys of the committee, sealed under a key file beside them: keep it where only you can read.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// What to sign with the new shares.
    #[arg(long, value_name = "TEXT", default_value = "made by many, held by none")]
    message: String,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

/// The bytes of `--seed`.
#[derive(Clone)]
struct Seed(Vec<u8>);

fn parse_seed(text: &str) -> Result<Seed, String> {
    match hex::decode(text) {
        Some(bytes) if (1..=64).contains(&bytes.len()) => Ok(Seed(bytes)),
        _ => Err("it has to be 1 to 64 bytes in hex, two digits each".to_owned()),
    }
}

/// Runs the command.
pub(super) fn run(options: &Options, bars: MultiProgress) -> ExitCode {
    let behaviours = options.behaviours().unwrap_or_else(|problem| {
        let error = super::Cli::command().error(ErrorKind::ValueValidation, problem);
        error.exit()
    });
    if options.seed.is_some() {
        eprintln!(
            "WARNING: --seed makes every key of this committee predictable. For tests only; protect nothing with it."
        );
    }
    let local = Local { options, behaviours };
    let home = match local.home() {
        Ok(home) => home,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let mut show = if options.json { Show::silent() } else { Show::people(bars) };
    let runs = local.run(home, &mut show);
    let completed = runs.iter().all(|run| run.outcome == Outcome::Completed);
    let written = if options.json { show::json(&Report { runs }) } else { show.summary(&runs) };
    match written {
        Ok(()) if completed => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(1),
        Err(error) => {
            eprintln!("the result could not be written: {error}");
            ExitCode::from(1)
        }
    }
}

impl Options {
    fn size(&self) -> usize {
        usize::from(self.nodes)
    }

    /// What each member does, in order of index: the faults in their order, from the last member down.
    fn behaviours(&self) -> Result<Vec<Option<FaultKind>>, String> {
        let mut behaviours = vec![None; self.size()];
        let faults = self.faults.iter().flat_map(|fault| std::iter::repeat_n(fault.kind, fault.count));
        let mut places = behaviours.iter_mut().skip(1).rev();
        for kind in faults {
            let place = places.next().ok_or_else(|| {
                format!("of {} members, at most {} can be faulty: one has to tell the tale", self.nodes, self.nodes - 1)
            })?;
            *place = Some(kind);
        }
        Ok(behaviours)
    }

    fn schedule(&self) -> Schedule {
        Schedule {
            views_in_epoch: STAKING_VIEWS + 3 * self.phase_views + SETTLING_VIEWS,
            setup_first_view: STAKING_VIEWS,
            views_per_phase: self.phase_views,
            poll_step: DEFAULT_POLL_STEP,
        }
    }
}

/// One use of the command.
struct Local<'a> {
    options: &'a Options,
    behaviours: Vec<Option<FaultKind>>,
}

impl Local<'_> {
    /// The committee, as an earlier life has left it or new.
    fn home(&self) -> Result<Home, String> {
        let Options { view_ms, data, seed, .. } = self.options;
        let source = match seed {
            None => Source::System,
            Some(Seed(seed)) => Source::Seed(seed.clone()),
        };
        let schedule = self.options.schedule();
        let Some(dir) = data else { return Home::in_memory(source, self.options.size(), *view_ms, schedule) };
        let behaviours = self.behaviours.iter().map(|fault| fault::behaviour(*fault)).collect();
        folder::open(dir, Wanted { source, behaviours, view_ms: *view_ms, schedule })
    }

    /// All runs, whatever becomes of them; no thread is left when this returns.
    fn run(&self, mut home: Home, show: &mut Show) -> Vec<report::Run> {
        // Without a limit, since no engine may wait for us: a run has a few of these for each member.
        let (sender, news) = crossbeam_channel::bounded(NEWS_LIMIT);
        let mut watch = Watch::new(self.options.size(), self.honest().next());
        let mut members = Vec::new();
        // Until the last thread has ended.
        let _lock = home.lock.take();
        let started = watch
            .recall(&home)
            .and_then(|replica| self.build(home, replica, sender, &mut members))
            .and_then(|()| self.start(&mut members));
        watch.settle(&members);
        show.resumed(watch.head, watch.setup());
        let runs = self.watch(&members, &news, watch, started.err(), show);
        // Nobody waits for a listener that has gone.
        drop(news);
        // First all, so that they end side by side.
        members.iter().for_each(Member::leave);
        members.into_iter().for_each(Member::stop);
        runs
    }

    fn build(
        &self,
        home: Home,
        replica: LogChain,
        news: Sender<News>,
        members: &mut Vec<Member>,
    ) -> Result<(), String> {
        let Home { config, source, identities, stores, log, lock: _ } = home;
        let around = Surroundings {
            clock: Arc::new(ChainTime::from(&config, replica.header().view)),
            replica,
            config,
            log,
            network: MemoryNetwork::new(),
            source,
            honest: self.honest().collect(),
            news,
        };
        let parts = identities.into_iter().zip(stores).zip(&self.behaviours);
        for (index, ((identity, store), fault)) in Index::all(self.options.size()).zip(parts) {
            members.push(Member::new(&around, index, identity, store, *fault)?);
        }
        // All are on the network by now: none deals to one that is not there yet.
        members.iter().try_for_each(Member::ready)
    }

    /// Sets time in motion, at the pace of the slowest: the members share the cores of one machine, and who is behind here
    /// is not slow but waiting for its turn.
    fn start(&self, members: &mut [Member]) -> Result<(), String> {
        let engines: Vec<EventHandle> = members.iter().map(Member::events).collect();
        let pace = Arc::new(move || engines.iter().map(EventHandle::worked_off).min().unwrap_or_default());
        members.iter_mut().try_for_each(|member| member.follow(pace.clone()))
    }

    /// Listens until all runs are over or nothing more can come.
    fn watch(
        &self,
        members: &[Member],
        news: &Receiver<News>,
        mut watch: Watch,
        mut broken: Option<String>,
        show: &mut Show,
    ) -> Vec<report::Run> {
        let size = self.options.size();
        let judge = Judge { chain_id: CHAIN_ID, n: size, t: threshold(size), message: &self.options.message, members };
        let speaking = self.behaviours.iter().filter(|behaviour| **behaviour != Some(FaultKind::Silent)).count();
        let views_in_epoch = self.options.schedule().views_in_epoch;
        let mut runs = Vec::new();
        for epoch in (1..=u64::from(self.options.epochs)).map(EpochCounter) {
            // The run for an epoch is made in the one before, which ends with this view.
            let last = View(epoch.0 * views_in_epoch - 1);
            while broken.is_none() && watch.head <= last && !watch.about(epoch).is_complete(speaking) {
                match news.recv_timeout(HOUSEKEEPING) {
                    Ok(news) => watch.take(news, show),
                    Err(RecvTimeoutError::Timeout) => broken = self.trouble(members, watch.head, watch.moved.elapsed()),
                    Err(RecvTimeoutError::Disconnected) => broken = Some("all members have gone".to_owned()),
                }
            }
            let run = judge.judge(epoch, watch.close(epoch), broken.as_deref());
            show.run(&run);
            runs.push(run);
        }
        runs
    }

    /// Why nothing more will come, if that is so.
    fn trouble(&self, members: &[Member], head: View, still: Duration) -> Option<String> {
        if let Some(failure) = members.iter().find_map(Member::failure) {
            return Some(failure);
        }
        let limit = STALL_AT_LEAST.max(Duration::from_millis(self.options.view_ms) * STALL_VIEWS);
        (still > limit).then(|| format!("view {head} was the last; nothing has moved for {} seconds", limit.as_secs()))
    }

    fn honest(&self) -> impl Iterator<Item = Index> {
        let all = Index::all(self.behaviours.len()).zip(&self.behaviours);
        all.filter(|(_, behaviour)| behaviour.is_none()).map(|(index, _)| index)
    }
}
