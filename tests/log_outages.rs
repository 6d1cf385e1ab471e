//! What an outage of the log does to the time of a chain: phases of runs keep their length, and what was missed outside of
//! runs is passed over (spec section 9).
//!
//! Three honest members and two that tick as early as they are let, over a log that is away for a while; in simulated time.
//! `DKG_OUTAGE_SEED` repeats the choices of an earlier use.
#![cfg(feature = "log-chain")]

mod log_support;

use dkg_engine::chain::log::{ChainEvent, MAX_JUMP_EPOCHS, Situation, Ticker, TickerStep};
use dkg_engine::epoch::{EpochSetup, ProtocolEvent, View};
use log_support::*;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};

const GENESIS_MS: u64 = 1_000_000;
const VIEW_MS: u64 = 100;
const EPOCH_MS: u64 = SCHEDULE.views_in_epoch * VIEW_MS;
/// How often members look.
const STEP_MS: u64 = 4;

fn random() -> StdRng {
    let seed = std::env::var("DKG_OUTAGE_SEED").ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = seed.unwrap_or_else(|| SysRng.try_next_u64().unwrap());
    println!("DKG_OUTAGE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// What a member knows that has read so much of the log.
struct Read {
    finalized: View,
    paced: bool,
    ticked: [View; N],
}

struct Honest {
    index: usize,
    ticker: Ticker,
    clock_off_ms: u64,
    /// How much of the log it has read.
    position: usize,
}

/// A run's boundaries, with when each became final: its first view, and the last of each phase.
type Run = Vec<(View, u64)>;

struct Room {
    world: World,
    random: StdRng,
    now_ms: u64,
    honest: Vec<Honest>,
    /// After each entry of the log, and before the first.
    read: Vec<Read>,
    /// When each entry came into the log.
    written_ms: Vec<u64>,
    /// The longest an entry is under way to a member.
    lag_ms: u64,
    /// How many of the others tick, and as early as they are let.
    hasty: usize,
    /// Final views, with when they became final.
    blocks: Vec<(View, u64)>,
    setups: Vec<EpochSetup>,
}

impl Room {
    fn new(mut random: StdRng, lag_ms: u64) -> Room {
        let world = World::new();
        let honest = (T..N)
            .map(|index| Honest {
                index,
                ticker: Ticker::new(config(), random.random()),
                clock_off_ms: random.random_range(0..40),
                position: 0,
            })
            .collect();
        let mut room = Room {
            world,
            random,
            now_ms: GENESIS_MS,
            honest,
            read: Vec::new(),
            written_ms: Vec::new(),
            lag_ms,
            hasty: T,
            blocks: Vec::new(),
            setups: Vec::new(),
        };
        room.note();
        room
    }

    fn note(&mut self) {
        let replica = &self.world.replica;
        let ticked = std::array::from_fn(|author| replica.last_tick(index(author)));
        self.read.push(Read { finalized: replica.header().view, paced: replica.is_paced(), ticked });
        for event in self.world.events.drain(..) {
            match event {
                ChainEvent::Protocol(ProtocolEvent::BlockFinalized(block)) => {
                    self.blocks.push((block.view, self.now_ms))
                }
                ChainEvent::Protocol(ProtocolEvent::EpochSetupPhaseStarted { setup, .. }) => self.setups.push(setup),
                _ => {}
            }
        }
    }

    fn tick(&mut self, author: usize, view: View) {
        self.world.tick(author, view.0);
        self.written_ms.push(self.now_ms);
        self.note();
    }

    /// Lets time pass, with the log there.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += STEP_MS;
            for author in 0..self.hasty {
                let chain = &self.world.replica;
                let head = chain.header().view;
                if chain.last_tick(index(author)) <= head {
                    let ahead = if chain.is_paced() { 1 } else { self.random.random_range(1..1000) };
                    self.tick(author, View(head.0 + ahead));
                }
            }
            for place in 0..self.honest.len() {
                let lag_ms = self.random.random_range(0..=self.lag_ms);
                let (now_ms, written) = (self.now_ms, &self.written_ms);
                let member = &mut self.honest[place];
                while written.get(member.position).is_some_and(|at_ms| at_ms + lag_ms <= now_ms) {
                    member.position += 1;
                }
                let Read { finalized, paced, ticked } = self.read[member.position];
                let steady_ms = now_ms - member.clock_off_ms;
                let ticked = ticked[member.index];
                let now = Situation {
                    now_ms: now_ms - 20 + member.clock_off_ms,
                    steady_ms,
                    finalized,
                    paced,
                    ticked,
                    caught_up: finalized,
                };
                if let TickerStep::Tick(view) = member.ticker.step(now) {
                    member.ticker.sent(view, steady_ms);
                    let author = member.index;
                    self.tick(author, view);
                }
            }
        }
    }

    /// Lets time pass, with the log away.
    fn outage(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    fn view(&self) -> u64 {
        self.world.replica.header().view.0
    }

    /// The view of right clocks.
    fn clock(&self) -> u64 {
        (self.now_ms - GENESIS_MS) / VIEW_MS
    }

    fn final_at(&self, view: View) -> Option<u64> {
        self.blocks.iter().find(|(found, _)| *found == view).map(|(_, at_ms)| *at_ms)
    }

    /// The runs that have begun.
    fn runs(&self) -> Vec<Run> {
        let boundaries = |setup: &EpochSetup| [&[setup.first_view], &setup.phase_final_views[..]].concat();
        let run = |setup| boundaries(setup).into_iter().map_while(|view| Some((view, self.final_at(view)?))).collect();
        self.setups.iter().map(run).collect()
    }

    fn check_phases(&self) {
        for run in self.runs() {
            for pair in run.windows(2) {
                let ((from, from_ms), (to, to_ms)) = (pair[0], pair[1]);
                let (took, least) = (to_ms - from_ms, (to.0 - from.0) * VIEW_MS);
                assert!(took >= least, "the phase from view {} to {} took {took} ms of {least}", from.0, to.0);
            }
        }
    }

    /// The chain is where the clocks are, or in a run that began late.
    fn check_it_goes_on(&self) {
        let lag = self.clock().saturating_sub(self.view());
        assert!(lag <= 2 || self.world.replica.is_paced(), "{lag} views behind at view {}", self.view());
    }
}

#[test]
fn without_an_outage_every_epoch_has_its_run_and_views_keep_to_the_clock() {
    let mut room = Room::new(random(), 20);
    room.pass(5 * EPOCH_MS);
    room.check_phases();
    assert_eq!(room.runs().iter().filter(|run| run.len() == 4).count(), 5);
    for (view, at_ms) in &room.blocks {
        let late = (at_ms - GENESIS_MS).saturating_sub(view.0 * VIEW_MS);
        assert!(late < 2 * VIEW_MS, "view {view} is {late} ms late");
    }
}

#[test]
fn an_outage_at_any_point_of_a_run_shortens_no_phase() {
    let mut random = random();
    for view in 3..=18 {
        for views in [2, 7, 30] {
            let mut room = Room::new(StdRng::from_rng(&mut random), 20);
            let within = random.random_range(0..VIEW_MS);
            room.pass(view * VIEW_MS + within);
            room.outage(views * VIEW_MS);
            room.pass(2 * EPOCH_MS);
            room.check_phases();
            room.check_it_goes_on();
            let whole = room.runs().iter().filter(|run| run.len() == 4).count();
            assert!(whole >= 2, "an outage of {views} views at view {view}: {whole} runs");
        }
    }
}

#[test]
fn ten_outages_at_random_moments_shorten_no_phase() {
    let mut random = random();
    for lag_ms in [20, 160] {
        let mut room = Room::new(StdRng::from_rng(&mut random), lag_ms);
        for _ in 0..10 {
            room.pass(random.random_range(0..2 * EPOCH_MS));
            room.outage(random.random_range(1_000..=600_000));
        }
        room.pass(3 * EPOCH_MS);
        room.check_phases();
        assert!(room.runs().iter().filter(|run| run.len() == 4).count() >= 5);
    }
}

#[test]
fn an_outage_of_a_week_and_a_genesis_years_ago_cost_a_few_steps() {
    const WEEK_MS: u64 = 7 * 24 * 3600 * 1000;
    for (begun, away) in [(VIEW_MS * 3, WEEK_MS), (VIEW_MS * 9, WEEK_MS), (0, 300 * WEEK_MS)] {
        let mut room = Room::new(random(), 20);
        // With one honest member behind them, hasty ones could have the runs that were missed begin one after the other.
        room.hasty = 0;
        room.pass(begun);
        room.outage(away);
        let before = room.blocks.len();
        room.pass(2 * EPOCH_MS);
        assert!(
            room.clock().saturating_sub(room.view()) <= SCHEDULE.views_in_epoch,
            "{} of {}",
            room.view(),
            room.clock()
        );
        // The run that was on, some steps over what was missed, and then the usual ones.
        let steps = room.blocks.len() - before;
        let jumps = usize::try_from(away / EPOCH_MS / MAX_JUMP_EPOCHS).unwrap();
        assert!(steps <= jumps + 45, "{steps} steps, {jumps} at least");
        room.check_phases();
        room.pass(2 * EPOCH_MS);
        assert!(room.runs().last().is_some_and(|run| !run.is_empty()));
    }
}
