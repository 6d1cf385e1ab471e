//! What one run of the simulator is: a committee, a chain, a network, and who is at fault when. All of it follows from one
//! number.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::chance::{Draw, dice};
use super::fault::{Fault, FaultSet};
use crate::chain::log::Schedule;
use crate::committee::{MAX_MEMBERS, MIN_MEMBERS, threshold};

/// A view in simulated milliseconds.
pub(super) const VIEW_MS: u64 = 100;
/// The seed's part of a run's number.
const SEED_BITS: u32 = 52;
/// On a log chain, each fault of its own counts for so many when one is chosen.
const LOG_FAULTS_COUNT: usize = 5;
/// Views after the third phase: to submit results and agree on one.
const SETTLING_VIEWS: u64 = 8;
/// Attacks that one malicious member combines at most, or mishaps of an honest one.
const MAX_FAULTS_PER_MEMBER: usize = 3;
/// The most views for which a send stays under way: as long as a phase can be.
const LONGEST_PATIENCE_VIEWS: u64 = 12;
/// How often a member may be killed in one epoch.
const MAX_CRASHES_PER_MEMBER: usize = 2;

/// What a run may have in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Members at least.
    pub min_nodes: u8,
    /// Members at most.
    pub max_nodes: u8,
    /// What may go wrong.
    pub faults: FaultSet,
}

/// The number of a run: with it, the run is the same every time, on every machine.
///
/// Written as hex digits, from which the [`Scope`] can be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunNumber {
    scope: Scope,
    seed: u64,
}

/// Not the number of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not hex digits, or too many.
    #[error("'{0}' is not the number of a run: up to 32 hex digits, as a simulation prints them")]
    NotANumber(String),
    /// A committee of impossible size, or faults that this version does not have.
    #[error("the number {0} is of another version of this program, or mistyped")]
    Impossible(String),
}

impl RunNumber {
    /// The run number `run` (0, 1, …) of a simulation with this seed. `None` if the scope is impossible: fewer than
    /// [`MIN_MEMBERS`] or more than [`MAX_MEMBERS`] nodes, or the least above the most.
    pub fn new(scope: Scope, seed: u64, run: u64) -> Option<Self> {
        use rand::rand_core::Rng;
        let seed = dice(seed, Draw::Plan, run, 0).next_u64() >> (u64::BITS - SEED_BITS);
        scope.is_possible().then_some(RunNumber { scope, seed })
    }

    /// What the run may have in it.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

impl Scope {
    fn is_possible(&self) -> bool {
        let sizes = MIN_MEMBERS..=MAX_MEMBERS;
        self.min_nodes <= self.max_nodes
            && sizes.contains(&usize::from(self.min_nodes))
            && sizes.contains(&usize::from(self.max_nodes))
    }
}

impl fmt::Display for RunNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { min_nodes, max_nodes, faults } = self.scope;
        let scope = u128::from(faults.bits()) << 16 | u128::from(min_nodes) << 8 | u128::from(max_nodes);
        write!(f, "{:x}", scope << SEED_BITS | u128::from(self.seed))
    }
}

impl FromStr for RunNumber {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        let shown = || text.chars().take(40).collect::<String>();
        let number = u128::from_str_radix(text, 16).map_err(|_| NumberError::NotANumber(shown()))?;
        let byte = |shift: u32| (number >> (SEED_BITS + shift)) as u8;
        let faults = FaultSet::from_bits((number >> (SEED_BITS + 16)) as u64);
        let scope = faults.map(|faults| Scope { min_nodes: byte(8), max_nodes: byte(0), faults });
        let scope = scope.filter(Scope::is_possible).ok_or_else(|| NumberError::Impossible(shown()))?;
        Ok(RunNumber { scope, seed: number as u64 & ((1 << SEED_BITS) - 1) })
    }
}

/// One member's fault in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place in the plan: what chance decides about it depends on nothing else.
    pub number: u64,
    /// The member's place in the committee.
    pub member: usize,
    /// The epoch whose keys the run makes: 1, 2, …
    pub epoch: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// Where blocks and the whiteboard come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// A chain with a whiteboard contract, as Flow has it.
    Contract,
    /// The members' own log of signed entries.
    Log,
}

/// How the world treats those whom it treats well: late, but in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weather {
    /// The longest a private message travels, in ms.
    pub(super) link_ms: u64,
    /// The longest until a node has heard of a block, and a client has seen it.
    pub(super) block_ms: u64,
    /// The longest a call to the whiteboard takes.
    pub(super) call_ms: u64,
    /// Tries that fail for no reason, in percent.
    pub(super) failing: u32,
    /// The longest that a sender waits for a receiver that does not answer, in ms; many views, in some runs.
    pub(super) patience_ms: u64,
    /// Private messages that arrive twice, in percent.
    pub(super) doubled: u32,
    /// Blocks that skip views, in percent.
    pub(super) skipping: u32,
    /// Views in which a log chain's host does not answer at first, in percent.
    pub(super) stalling: u32,
    /// The whiteboard client of every node that never answers.
    pub(super) dead_client: Option<usize>,
}

impl Weather {
    const QUIET: Weather = Weather {
        link_ms: 5,
        block_ms: 5,
        call_ms: 5,
        failing: 0,
        patience_ms: VIEW_MS,
        doubled: 0,
        skipping: 0,
        stalling: 0,
        dead_client: None,
    };
}

/// A run, spelled out.
#[derive(Clone, Debug)]
pub struct Plan {
    number: RunNumber,
    size: usize,
    epochs: u64,
    chain: ChainKind,
    schedule: Schedule,
    uncompressed: bool,
    weather: Weather,
    malicious: BTreeSet<usize>,
    parts: Vec<Part>,
}

impl Plan {
    /// The plan with this number.
    pub fn new(number: RunNumber) -> Self {
        let Scope { min_nodes, max_nodes, faults } = number.scope;
        let mut dice = dice(number.seed, Draw::Plan, 1, 0);
        let size = usize::from(dice.random_range(min_nodes..=max_nodes));
        let epochs = match dice.random_range(0..20) {
            0..15 => 1,
            15..19 => 2,
            _ => 3,
        };
        let chain = if dice.random_ratio(1, 5) { ChainKind::Log } else { ChainKind::Contract };
        let (setup_first_view, views_per_phase) = (dice.random_range(1..4), dice.random_range(8..13));
        let schedule = Schedule {
            views_in_epoch: setup_first_view + 3 * views_per_phase + SETTLING_VIEWS,
            setup_first_view,
            views_per_phase,
            poll_step: dice.random_range(1..12),
        };
        let weather = Weather {
            link_ms: dice.random_range(1..=150),
            block_ms: dice.random_range(1..=60),
            call_ms: dice.random_range(1..=30),
            failing: if dice.random_bool(0.5) { dice.random_range(0..=20) } else { 0 },
            patience_ms: VIEW_MS,
            doubled: if dice.random_bool(0.5) { dice.random_range(0..=30) } else { 0 },
            skipping: if dice.random_bool(0.5) { dice.random_range(0..=40) } else { 0 },
            stalling: if dice.random_bool(0.5) { dice.random_range(0..=30) } else { 0 },
            dead_client: None,
        };
        // With failing tries on top, a phase would not have room for all the waits.
        let weather = match weather.failing {
            0 if dice.random_bool(0.4) => Weather { dead_client: Some(0), ..weather },
            _ => weather,
        };
        let uncompressed = dice.random_bool(0.2);
        let mut plan = Plan {
            number,
            size,
            epochs,
            chain,
            schedule,
            uncompressed,
            weather,
            malicious: BTreeSet::new(),
            parts: Vec::new(),
        };
        plan.choose_faults(faults);
        plan.choose_stalls(faults);
        plan
    }

    /// Most runs stay within what the protocol promises to withstand; some go beyond, where it still has to be safe.
    fn choose_faults(&mut self, faults: FaultSet) {
        let mut dice = dice(self.number.seed, Draw::Plan, 2, 0);
        let (attacks, mishaps): (Vec<Fault>, Vec<Fault>) = faults
            .iter()
            .filter(|fault| self.chain == ChainKind::Log || !fault.needs_log())
            .filter(|fault| *fault != Fault::Crash)
            // What there is on a log chain only would come up too rarely.
            .flat_map(|fault| std::iter::repeat_n(fault, if fault.needs_log() { LOG_FAULTS_COUNT } else { 1 }))
            .partition(|fault| fault.is_malicious());
        let mut members: Vec<usize> = (0..self.size).collect();
        members.shuffle(&mut dice);
        let bearable = bearable(self.size);
        // One epoch in which more go wrong than can be borne; what comes after has to go well again.
        let beyond = match self.epochs {
            1 => dice.random_ratio(1, 8).then_some(1),
            more => dice.random_ratio(1, 2).then(|| dice.random_range(1..more)),
        };
        let most = if beyond.is_some() && self.epochs == 1 { self.size - 1 } else { bearable };
        let malicious = if attacks.is_empty() { 0 } else { dice.random_range(0..=most) };
        let (malicious, honest) = members.split_at(malicious);
        self.malicious = malicious.iter().copied().collect();
        for epoch in 1..=self.epochs {
            let playing: Vec<usize> = malicious.iter().copied().filter(|_| dice.random_ratio(4, 5)).collect();
            for member in &playing {
                self.give(&mut dice, *member, epoch, &attacks);
            }
            let left = if beyond == Some(epoch) {
                honest.len()
            } else {
                bearable.saturating_sub(playing.len()).min(honest.len())
            };
            let least = if beyond == Some(epoch) { (bearable + 1).min(left) } else { 0 };
            let unlucky = if mishaps.is_empty() { 0 } else { dice.random_range(least..=left) };
            let mut honest = honest.to_vec();
            honest.shuffle(&mut dice);
            for member in honest.iter().take(unlucky) {
                self.give(&mut dice, *member, epoch, &mishaps);
            }
            if faults.contains(Fault::Crash) {
                self.choose_crashes(epoch, &honest);
            }
        }
    }

    /// In some runs all malicious members stall at once: alone, one does little. And some have links on which a send stays
    /// under way for many views, most of them where somebody stalls.
    fn choose_stalls(&mut self, faults: FaultSet) {
        let mut dice = dice(self.number.seed, Draw::Plan, 5, 0);
        for epoch in 1..=self.epochs {
            let all_play = self.malicious.iter().all(|member| self.faults_of(*member, epoch).next().is_some());
            if dice.random_bool(0.5) && all_play && faults.contains(Fault::StalledReceipts) {
                for member in self.malicious.clone() {
                    let number = self.parts.len() as u64;
                    self.parts.push(Part { number, member, epoch, fault: Fault::StalledReceipts });
                }
            }
        }
        let somebody_stalls = self.parts.iter().any(|part| part.fault == Fault::StalledReceipts);
        let (odds, least) = if somebody_stalls { (0.8, 6) } else { (0.2, 2) };
        if dice.random_bool(odds) {
            self.weather.patience_ms = dice.random_range(least..=LONGEST_PATIENCE_VIEWS) * VIEW_MS;
        }
    }

    /// Nodes go on with a run that they were killed in, so any number of them may be: often some, sometimes all.
    fn choose_crashes(&mut self, epoch: u64, honest: &[usize]) {
        let mut dice = dice(self.number.seed, Draw::Plan, 3, epoch);
        let share = match dice.random_range(0..4) {
            0 => 0.0,
            1 => 1.0,
            _ => 0.4,
        };
        for member in honest {
            for _ in 0..MAX_CRASHES_PER_MEMBER {
                if dice.random_bool(share) {
                    let number = self.parts.len() as u64;
                    self.parts.push(Part { number, member: *member, epoch, fault: Fault::Crash });
                }
            }
        }
    }

    fn give(&mut self, dice: &mut chacha20::ChaCha20Rng, member: usize, epoch: u64, faults: &[Fault]) {
        for _ in 0..dice.random_range(1..=MAX_FAULTS_PER_MEMBER) {
            let Some(fault) = faults.get(dice.random_range(0..faults.len().max(1))) else { return };
            let number = self.parts.len() as u64;
            self.parts.push(Part { number, member, epoch, fault: *fault });
        }
    }

    /// The run's number.
    pub fn number(&self) -> &RunNumber {
        &self.number
    }

    /// Members.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many epochs' keys are made, one after another.
    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Where blocks and the whiteboard come from.
    pub fn chain(&self) -> ChainKind {
        self.chain
    }

    /// Who is malicious in some run. All others are honest in all runs.
    pub fn malicious(&self) -> &BTreeSet<usize> {
        &self.malicious
    }

    /// Who is at fault when, and how.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn seed(&self) -> u64 {
        self.number.seed
    }

    pub(super) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    pub(super) fn uncompressed(&self) -> bool {
        self.uncompressed
    }

    pub(super) fn weather(&self) -> &Weather {
        &self.weather
    }

    /// The faults of one member in one run.
    pub(super) fn faults_of(&self, member: usize, epoch: u64) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.member == member && part.epoch == epoch)
    }

    /// Only these of its faults.
    #[must_use]
    pub fn keeping(mut self, numbers: &BTreeSet<u64>) -> Self {
        self.parts.retain(|part| numbers.contains(&part.number));
        self
    }

    /// With a network, board and chain that never do anything unexpected to those without a fault.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.weather = Weather::QUIET;
        self
    }

    /// With no epochs after this one.
    #[must_use]
    pub fn until(mut self, epoch: u64) -> Self {
        self.epochs = self.epochs.min(epoch.max(1));
        self.parts.retain(|part| part.epoch <= epoch);
        self
    }
}

/// How many members may be at fault for a run to succeed: `t`, and at least `t + 1` dealers have to be left.
pub(super) fn bearable(size: usize) -> usize {
    let t = threshold(size);
    t.min(size.saturating_sub(t + 1))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = match self.chain {
            ChainKind::Contract => "a chain with a whiteboard contract",
            ChainKind::Log => "a log chain",
        };
        writeln!(
            f,
            "{} members, threshold {}, on {chain}; {} epoch(s), phases of {} views, a read every {} views",
            self.size,
            threshold(self.size),
            self.epochs,
            self.schedule.views_per_phase,
            self.schedule.poll_step
        )?;
        for Part { number, member, epoch, fault } in &self.parts {
            writeln!(f, "  fault {number}: member {member}, run for epoch {epoch}: {fault} ({})", fault.description())?;
        }
        Ok(())
    }
}
