//! Sixty members on real threads, some of them flooding, and others stopped and started again at any moment: no event is
//! lost, no member is harmed that was left alone, and nothing is left behind. One test in a process of its own, since it
//! counts the process's threads and files.
//!
//! `DKG_STRESS_SEED` repeats the choices of an earlier use: who floods, who is stopped when and how. In which order the
//! threads run is up to the machine. How long it takes is bounded by work: so many epochs, so many stops, so many posts.

mod stress_room;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use dkg_engine::chain::DkgResult;
use dkg_engine::engine::{EngineEvent, INBOUND_LIMIT_PER_SENDER};
use dkg_engine::epoch::{EpochCommit, EpochSetup, View};
use dkg_engine::network::MemoryNetwork;
use dkg_engine::store::{KeyStatus, SafeKey};
use parking_lot::Mutex;
use rand::rngs::{StdRng, SysRng};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng, TryRng};
use stress_room::chain::{CLOSING_VIEWS, Chain, PHASE_VIEWS, STAKING_VIEWS};
use stress_room::flood::Flood;
use stress_room::port::Shares;
use stress_room::seat::{Haste, Room, Seat, Stop};
use stress_room::shaker::{Order, Shakers};
use stress_room::wait_for;
use support::process::{assert_none_left, files, threads};
use support::{Watched, committee, node_id};

const MEMBERS: usize = 60;
const EPOCHS: u64 = 2;
/// Members that flood, and those that they flood.
const FLOODERS: usize = 4;
const FLOODED: usize = 20;
/// Members stopped and started again during a run, each epoch others: some before they have dealt, one while it deals, the
/// rest later.
const LATE: usize = 2;
const RASH: usize = 1;
const RESTLESS: usize = 12;
/// Members stopped and started between the runs.
const BETWEEN: usize = 8;
const SHAKERS: usize = 3;

/// The threshold of sixty: with so many members faulty or stopped, a run still succeeds.
const T: usize = 29;
const _: () = assert!(FLOODERS + RESTLESS <= T && LATE + RASH < RESTLESS);

/// Views of an epoch, counted from its first, at which something ends.
const PHASE_ENDS: [u64; 3] =
    [STAKING_VIEWS + PHASE_VIEWS, STAKING_VIEWS + 2 * PHASE_VIEWS, STAKING_VIEWS + 3 * PHASE_VIEWS];
const LAST_VIEW: u64 = PHASE_ENDS[2] + CLOSING_VIEWS - 1;
/// Nobody is stopped after this one.
const LAST_SHAKEN: u64 = LAST_VIEW - 1;

/// What is done to whom in one epoch.
struct Plan {
    /// Orders that are given before the view with this number is finalized.
    orders: BTreeMap<u64, Vec<(usize, Order)>>,
    /// Cut off while they deal, when so many shares are delivered, and then stopped.
    rash: Vec<(usize, Stop, usize)>,
    /// Down when the run begins, and started right after that.
    late: Vec<usize>,
    /// Everybody who is stopped during the run.
    restless: BTreeSet<usize>,
    /// Everybody who is stopped before or after it.
    between: BTreeSet<usize>,
}

impl Plan {
    /// A plan that leaves `spared` alone during the run.
    fn draw(random: &mut StdRng, spared: &BTreeSet<usize>) -> Plan {
        let mut free: Vec<usize> = (0..MEMBERS).filter(|seat| !spared.contains(seat)).collect();
        free.shuffle(random);
        let restless: Vec<usize> = free.drain(..RESTLESS).collect();
        let mut plan = Plan {
            orders: BTreeMap::new(),
            rash: Vec::new(),
            late: restless[..LATE].to_vec(),
            restless: restless.iter().copied().collect(),
            between: free[..BETWEEN].iter().copied().collect(),
        };
        for &seat in &plan.late.clone() {
            plan.order(random.random_range(1..=STAKING_VIEWS), seat, Order::Stop(stop(random), Haste::Prompt));
        }
        for &seat in &restless[LATE..LATE + RASH] {
            plan.rash.push((seat, stop(random), random.random_range(MEMBERS / 2..MEMBERS - LATE - 1)));
            plan.order(random.random_range(PHASE_ENDS[0] + 1..=LAST_SHAKEN), seat, Order::Start);
        }
        for &seat in &restless[LATE + RASH..] {
            // In the run's first view nobody is disturbed: those who come late deal when it is over.
            let mut view = STAKING_VIEWS + 2;
            for _ in 0..random.random_range(1..=3) {
                view = plan.cycle(random, seat, view..=LAST_SHAKEN, Haste::Patient);
            }
        }
        for seat in plan.between.clone() {
            plan.cycle(random, seat, 1..=STAKING_VIEWS, Haste::Prompt);
            plan.cycle(random, seat, PHASE_ENDS[2] + 1..=LAST_SHAKEN, Haste::Prompt);
        }
        plan
    }

    fn order(&mut self, view: u64, seat: usize, order: Order) {
        self.orders.entry(view).or_default().push((seat, order));
    }

    /// A stop and a start before two of these views; returns the view of the start.
    fn cycle(&mut self, random: &mut StdRng, seat: usize, views: RangeInclusive<u64>, haste: Haste) -> u64 {
        let last = *views.end();
        let stopped = random.random_range(views);
        let started = random.random_range(stopped..=last);
        self.order(stopped, seat, Order::Stop(stop(random), haste));
        self.order(started, seat, Order::Start);
        started
    }

    fn is_steady(&self, seat: usize) -> bool {
        !self.restless.contains(&seat)
    }
}

fn stop(random: &mut StdRng) -> Stop {
    *Stop::ALL.choose(random).unwrap()
}

struct World {
    chain: Arc<Chain>,
    shares: Shares,
    seats: Arc<Vec<Mutex<Seat>>>,
    shakers: Shakers,
    floods: Vec<Flood>,
    flooded: BTreeSet<usize>,
    random: StdRng,
}

impl World {
    fn new(random: StdRng, flooders: &[usize], flooded: &[usize]) -> World {
        let chain = Chain::new(committee(MEMBERS));
        let shares: Shares = Arc::new(Watched::new(BTreeMap::new()));
        let network = MemoryNetwork::new();
        let room = Arc::new(Room { chain: Arc::clone(&chain), network: network.clone(), shares: Arc::clone(&shares) });
        let seats: Arc<Vec<_>> = Arc::new((0..MEMBERS).map(|number| Mutex::new(Seat::new(&room, number))).collect());
        let floods = flooders.iter().map(|&flooder| {
            let last_shares = Arc::clone(&seats[flooder].lock().last_shares);
            let receivers = flooded.iter().map(|&receiver| node_id(receiver));
            Flood::start(&chain, node_id(flooder), network.port(node_id(flooder)), &last_shares, receivers)
        });
        let floods = floods.collect();
        let shakers = Shakers::new(SHAKERS, &seats);
        World { chain, shares, seats, shakers, floods, flooded: flooded.iter().copied().collect(), random }
    }

    fn steady<'a>(&self, plan: &'a Plan) -> impl Iterator<Item = usize> + use<'a> {
        (0..MEMBERS).filter(|seat| plan.is_steady(*seat))
    }

    /// Finalizes these views of the epoch, with the orders that are due; after some of them, and after the last, waits for
    /// whoever is not stopped about now.
    fn advance(&mut self, plan: &Plan, views: RangeInclusive<u64>) {
        let last = *views.end();
        let in_a_run = STAKING_VIEWS < last && last <= PHASE_ENDS[2];
        let stays = |seat: &usize| in_a_run || !plan.between.contains(seat);
        for number in views {
            for (seat, order) in plan.orders.get(&number).into_iter().flatten() {
                self.shakers.order(*seat, order.clone());
            }
            let view = self.chain.finalize();
            if number == last || self.random.random() {
                self.wait_for_work(self.steady(plan).filter(stays), view);
            }
        }
    }

    /// No event is lost: whoever runs has worked off everything up to this view.
    fn wait_for_work(&self, seats: impl Iterator<Item = usize>, view: View) {
        let seats: Vec<usize> = seats.collect();
        let worked_off = || seats.iter().map(|&seat| self.seats[seat].lock().worked_off()).collect::<Vec<_>>();
        wait_for("the engines' work", worked_off, |all| all.iter().all(|worked_off| *worked_off >= Some(view)));
    }

    /// Waits until these dealers have posted their vectors and have each other's shares.
    fn wait_for_dealing(&self, setup: &EpochSetup, dealers: &BTreeSet<usize>) {
        let ids: Vec<_> = dealers.iter().map(|&dealer| node_id(dealer)).collect();
        self.chain.runs.wait("the vectors", |runs| {
            let run = runs.last()?;
            ids.iter().all(|id| run.has_vector_of(*id)).then_some(())
        });
        self.shares.wait("the shares", |shares| {
            let delivered = shares.get(setup.instance.as_str())?;
            let pair = |from, to| from == to || delivered.contains(&(from, to));
            ids.iter().all(|from| ids.iter().all(|to| pair(*from, *to))).then_some(())
        });
    }

    /// Private messages are taken as they come, without any other event to wake the engine.
    fn wait_for_flood(&self, plan: &Plan) {
        let receivers: Vec<_> = self.steady(plan).filter(|seat| self.flooded.contains(seat)).map(node_id).collect();
        let taken = || {
            let of = |flood: &Flood| receivers.iter().map(|receiver| flood.taken_by(receiver)).collect::<Vec<_>>();
            self.floods.iter().map(of).collect::<Vec<_>>()
        };
        let before = taken();
        let more = 3 * INBOUND_LIMIT_PER_SENDER as u64;
        let enough = |(now, before): (&Vec<u64>, &Vec<u64>)| now.iter().zip(before).all(|(n, b)| *n >= b + more);
        wait_for("the flood to be taken", taken, |now| now.iter().zip(&before).all(enough));
    }

    /// Waits for the complaint of every steady member that lacks the share of a dealer.
    fn wait_for_complaints(&self, plan: &Plan, setup: &EpochSetup) -> usize {
        let delivered = self.shares.wait("the shares", |shares| shares.get(setup.instance.as_str()).cloned());
        let dealt: BTreeSet<_> = self.chain.runs.wait("the vectors", |runs| {
            Some(runs.last()?.said.iter().filter(|(_, tag, _)| *tag == 1).map(|(dealer, _, _)| *dealer).collect())
        });
        let mut due = BTreeSet::new();
        for member in self.steady(plan).map(node_id) {
            for dealer in (0..MEMBERS).filter(|dealer| node_id(*dealer) != member && dealt.contains(&node_id(*dealer)))
            {
                if !delivered.contains(&(node_id(dealer), member)) {
                    due.insert((member, 2, u8::try_from(dealer).unwrap()));
                }
            }
        }
        self.chain.runs.wait("the complaints", |runs| due.is_subset(&runs.last()?.said).then_some(()));
        due.len()
    }

    /// Waits for the results of the steady, which are all the same.
    fn wait_for_results(&self, plan: &Plan) -> DkgResult {
        let steady: Vec<_> = self.steady(plan).map(node_id).collect();
        let results: Vec<DkgResult> = self.chain.runs.wait("the results", |runs| {
            let contract = &runs.last()?.contract;
            steady.iter().map(|id| contract.submission_of(id).cloned()).collect()
        });
        assert!(results.iter().all(|result| *result == results[0] && *result != DkgResult::Empty));
        results[0].clone()
    }

    /// One epoch, from its first view to its last.
    fn epoch(&mut self, plan: &Plan) {
        // Everybody is up when the run begins, but for those who come late.
        self.advance(plan, 1..=STAKING_VIEWS);
        self.shakers.settle();
        let mut dealers: BTreeSet<usize> = (0..MEMBERS).filter(|seat| self.seats[*seat].lock().is_up()).collect();
        assert_eq!(dealers.len(), MEMBERS - LATE);

        for &(seat, _, shares) in &plan.rash {
            self.seats[seat].lock().cut_off_after(shares);
        }
        let setup = self.chain.begin_run();
        for &(seat, how, shares) in &plan.rash {
            self.shakers.order(seat, Order::StopAfter(how, setup.instance.clone(), shares));
        }
        for &seat in &plan.late {
            self.shakers.order(seat, Order::Start);
        }
        self.shakers.settle();
        dealers.extend(&plan.late);
        for (seat, ..) in &plan.rash {
            dealers.remove(seat);
        }
        // Who starts in the middle of a run looks at the next block first.
        self.advance(plan, STAKING_VIEWS + 1..=STAKING_VIEWS + 1);
        self.wait_for_dealing(&setup, &dealers);
        self.wait_for_flood(plan);

        self.advance(plan, STAKING_VIEWS + 2..=PHASE_ENDS[0]);
        let complaints = self.wait_for_complaints(plan, &setup);
        assert!(complaints > 0, "somebody was cut off while dealing, and nobody complains");
        self.advance(plan, PHASE_ENDS[0] + 1..=PHASE_ENDS[1]);
        self.advance(plan, PHASE_ENDS[1] + 1..=PHASE_ENDS[2]);
        let result = self.wait_for_results(plan);
        let commit = self.chain.commit();
        self.advance(plan, PHASE_ENDS[2] + 1..=LAST_SHAKEN);
        self.shakers.settle();
        self.wait_for_work(0..MEMBERS, self.chain.finalize());

        println!("epoch {}: {complaints} complaints of steady members", commit.epoch);
        assert!(matches!(result, DkgResult::Complete { .. }));
        self.check_epoch(plan, &commit);
    }

    fn check_epoch(&self, plan: &Plan, commit: &EpochCommit) {
        let epoch = commit.epoch;
        for (number, seat) in self.seats.iter().enumerate() {
            let seat = seat.lock();
            let told = |what: &dyn Fn(&EngineEvent) -> bool| {
                seat.diary.wait("the diary", |diary| Some(diary.iter().filter(|(_, event)| what(event)).count()))
            };
            let begun = told(&|event| matches!(event, EngineEvent::RunStarted { epoch: of, .. } if *of == epoch));
            let status = seat.status(epoch);
            if plan.is_steady(number) {
                assert_eq!((begun, status), (1, KeyStatus::KeyCommitted), "{}", seat.id);
                let ended = told(&|event| match event {
                    EngineEvent::RunEnded(report) if report.epoch == epoch => {
                        report.keys.as_ref().is_ok_and(|keys| keys.group_key == commit.group_key)
                    }
                    _ => false,
                });
                assert_eq!(ended, 1, "{}", seat.id);
            }
            assert!(begun <= 1, "{} has dealt {begun} times", seat.id);
            assert!(matches!(status, KeyStatus::KeyCommitted | KeyStatus::Failed), "{}: {status}", seat.id);
            if let SafeKey::Key(key) = seat.state().safe_key(epoch).unwrap() {
                assert_eq!(key.public_key(), commit.key_shares[number], "{}", seat.id);
            }
            // Every key it ever wrote for the epoch is the one that the chain expects of it.
            for record in seat.written.lock().iter().filter(|record| record.epoch() == epoch) {
                let holds_key = matches!(record.status(), KeyStatus::Completed | KeyStatus::KeyCommitted);
                assert!(!holds_key || record.commit(commit, &seat.id).is_ok(), "{} wrote another key", seat.id);
            }
        }
    }

    /// Ends everything, and looks at what it leaves; there were so many threads before it began.
    fn end(self, threads_before: usize) {
        let World { chain, shares, seats, shakers, floods, flooded, .. } = self;
        drop((shakers, floods));
        let (mut lives, mut resumed) = (0, 0);
        for (number, seat) in seats.iter().enumerate() {
            let mut seat = seat.lock();
            assert_eq!(seat.dropped() > 0, flooded.contains(&number), "{} dropped {}", seat.id, seat.dropped());
            seat.stop(Stop::Whole, Haste::Prompt);
            lives += seat.lives;
            let resumes = |(_, event): &&(usize, EngineEvent)| matches!(event, EngineEvent::RunResumed { .. });
            resumed += seat.diary.wait("the diary", |diary| Some(diary.iter().filter(resumes).count()));
        }
        chain.finalize();
        for seat in seats.iter() {
            seat.lock().assert_dead_are_silent();
        }
        assert_none_left(threads_before, "after everything has been stopped");
        println!("{} restarts, {resumed} runs resumed", lives - MEMBERS);
        assert!(resumed > 0, "nobody came back to a run that it had begun");
        drop(seats);
        // Nothing holds on to what the engines were given.
        assert_eq!((Arc::strong_count(&chain), Arc::strong_count(&shares)), (1, 1));
    }
}

#[test]
fn sixty_members_shaken_and_flooded_lose_no_event_and_leave_nothing_behind() {
    let before = (threads(), files());
    let seed = match std::env::var("DKG_STRESS_SEED") {
        Ok(seed) => seed.parse().expect("DKG_STRESS_SEED is a number"),
        Err(_) => SysRng.try_next_u64().unwrap(),
    };
    println!("DKG_STRESS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut members: Vec<usize> = (0..MEMBERS).collect();
    members.shuffle(&mut random);
    let (flooders, others) = members.split_at(FLOODERS);
    let flooded = &others[..FLOODED];

    let mut world = World::new(StdRng::seed_from_u64(random.random()), flooders, flooded);
    let mut restless = BTreeSet::new();
    for _ in 0..EPOCHS {
        // Who was stopped in the last run takes part in this one.
        let spared = restless.iter().chain(flooders).copied().collect();
        let plan = Plan::draw(&mut random, &spared);
        world.epoch(&plan);
        restless = plan.restless;
        world.chain.finalize();
    }
    world.end(before.0);
    assert_eq!((threads(), files()), before);
}
