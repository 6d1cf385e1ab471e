//! A member's own copy of the log: what it has read never changes, and a host that shows something else is found out.
#![cfg(feature = "log-file")]

mod folder;
mod log_support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dkg_engine::chain::log::{
    AdoptError, ChainNode, Entry, FileLog, FollowError, Follower, LogChain, LogCopy, LogError, LogHost, MAX_GIVEN_UP,
    OVERLAP, OVERLAP_AT_START, Payload, SystemClock, adopt,
};
use dkg_engine::epoch::{ProtocolEvent, ProtocolEvents, View};
use folder::Folder;
use log_support::{N, T, World, config, network_key};

/// How long a follower may take to stop before it is given up for running on.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host that can be made to lie, and that counts how often it is read.
#[derive(Default)]
struct Liar {
    entries: Mutex<Vec<Vec<u8>>>,
    /// Hands out at most so many at a time; 0: as many as asked for.
    stingy: usize,
    sifts: bool,
    reads: AtomicUsize,
}

impl Liar {
    fn of(count: usize) -> Liar {
        Liar { entries: Mutex::new((0..count).map(entry).collect()), ..Liar::default() }
    }

    fn rewrite(&self, position: usize) {
        self.entries.lock().unwrap()[position] = b"something else".to_vec();
    }
}

fn entry(number: usize) -> Vec<u8> {
    format!("entry {number}").into_bytes()
}

impl LogHost for Liar {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        let mut entries = self.entries.lock().unwrap();
        entries.push(entry.to_vec());
        Ok(entries.len() as u64 - 1)
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let limit = if self.stingy == 0 { limit } else { limit.min(self.stingy) };
        let entries = self.entries.lock().unwrap();
        Ok(entries.iter().skip(usize::try_from(from).unwrap()).take(limit).cloned().collect())
    }

    fn wait(&self, _: u64, _: Duration) -> Result<(), LogError> {
        Ok(())
    }

    fn sifts(&self) -> bool {
        self.sifts
    }
}

struct Scene {
    folder: Folder,
    file: FileLog,
    host: Arc<Liar>,
}

impl Scene {
    fn new(host: Liar) -> Scene {
        let folder = Folder::new();
        let file = FileLog::create(&folder.path().join("log"), config().identity()).unwrap();
        Scene { folder, file, host: Arc::new(host) }
    }

    /// A process of the member.
    fn copy(&self) -> LogCopy {
        LogCopy::new(&self.file, self.host.clone())
    }
}

/// All there is to read.
fn read_all(copy: &LogCopy) -> Result<Vec<Vec<u8>>, LogError> {
    let mut all = Vec::new();
    loop {
        let more = copy.read(all.len() as u64, 300)?;
        if more.is_empty() {
            return Ok(all);
        }
        copy.own_copy().unwrap().keep(all.len() as u64, &more)?;
        all.extend(more);
    }
}

#[test]
fn what_the_host_has_is_read_in_order_and_once() {
    for stingy in [0, 1, 7] {
        let scene = Scene::new(Liar { stingy, ..Liar::of(1500) });
        let copy = scene.copy();
        let expected: Vec<_> = (0..1500).map(entry).collect();
        assert_eq!(read_all(&copy).unwrap(), expected);
        assert_eq!(copy.append(&entry(1500)), Ok(1500));
        assert_eq!(copy.read(1500, 9), Ok(vec![entry(1500)]));
        assert_eq!(scene.file.len(), 1500, "what nobody has judged is not kept");
        copy.own_copy().unwrap().keep(1500, &[entry(1500)]).unwrap();
        assert_eq!(scene.file.len(), 1501);
        let reads = scene.host.reads.load(Ordering::SeqCst);
        assert_eq!(copy.read(0, 1500).unwrap(), expected);
        assert_eq!(scene.host.reads.load(Ordering::SeqCst), reads, "from the copy");
    }
}

#[test]
fn a_copy_that_is_behind_the_host_goes_on_where_it_ended() {
    let scene = Scene::new(Liar::of(10));
    assert_eq!(read_all(&scene.copy()).unwrap().len(), 10);
    for number in 10..20 {
        scene.host.append(&entry(number)).unwrap();
    }
    assert_eq!(read_all(&scene.copy()).unwrap(), (0..20).map(entry).collect::<Vec<_>>());
}

#[test]
fn a_rewritten_entry_is_found_at_the_next_read_or_the_next_start_with_its_position() {
    let count = usize::try_from(OVERLAP_AT_START).unwrap() + 400;
    let overlap = usize::try_from(OVERLAP).unwrap();
    let changed = |positions: &[usize]| {
        let scene = Scene::new(Liar::of(count));
        let running = scene.copy();
        read_all(&running).unwrap();
        positions.iter().for_each(|position| scene.host.rewrite(*position));
        scene.host.append(b"news").unwrap();
        let found = (read_all(&running).err(), read_all(&scene.copy()).err());
        assert!(found.0.is_none() || scene.file.len() == count as u64, "nothing of it is taken");
        found
    };
    let rewritten = |position: usize| Some(LogError::Rewritten(position as u64));
    assert_eq!(changed(&[count - 1]), (rewritten(count - 1), rewritten(count - 1)));
    assert_eq!(changed(&[count - overlap]), (rewritten(count - overlap), rewritten(count - overlap)));
    assert_eq!(changed(&[count - overlap - 1]), (None, rewritten(count - overlap - 1)));
    assert_eq!(changed(&[3, count - 1]), (rewritten(3), rewritten(3)), "the first that differs");
    assert_eq!(changed(&[count - 1000, 700]).1, rewritten(count - 1000));
    assert_eq!(changed(&[3]), (None, None), "what is further back is for the members' signatures to tell");
}

#[test]
fn a_host_that_has_lost_entries_is_found_out() {
    let scene = Scene::new(Liar::of(10));
    let running = scene.copy();
    read_all(&running).unwrap();
    scene.host.entries.lock().unwrap().truncate(8);
    let lost = LogError::Lost { host_has: 8, we_have: 10, tries: 1 };
    assert_eq!(running.read(10, 9), Err(lost.clone()));
    scene.host.entries.lock().unwrap().clear();
    assert!(matches!(scene.copy().read(10, 9), Err(LogError::Lost { we_have: 10, .. })));
    assert_eq!(running.read(0, 99).unwrap().len(), 10, "what was read is still there");
}

struct Deaf;

impl ProtocolEvents for Deaf {
    fn on_event(&self, _: ProtocolEvent) {}
}

/// A log in which so many views become final, three entries each, and its host.
fn ticked(views: u64, sifts: bool) -> (World, Scene) {
    let mut world = World::new();
    for view in 1..=views {
        for more in 0..=T {
            assert_eq!(world.tick((usize::try_from(view).unwrap() + more) % N, view).skipped, None);
        }
    }
    let entries = Mutex::new(world.log.clone());
    (world, Scene::new(Liar { entries, sifts, ..Liar::default() }))
}

impl Scene {
    fn node(&self) -> ChainNode {
        ChainNode::new(LogChain::new(config()), Arc::new(self.copy()), network_key(0), 0).unwrap()
    }

    fn show(&self, entries: &[Vec<u8>]) {
        *self.host.entries.lock().unwrap() = entries.to_vec();
    }

    fn kept(&self) -> Vec<Vec<u8>> {
        self.file.reader().read(0, 1000).unwrap()
    }

    /// The lines of a tail that was given up.
    fn given_up(&self, number: usize) -> Option<usize> {
        let path = self.folder.path().join(format!("log.given-up-{number}"));
        std::fs::read_to_string(path).ok().map(|text| text.lines().count())
    }
}

/// Two ticks that cross, in two orders, and what was written by who had not seen them either: nothing tells which order is
/// true.
fn crossing(world: &mut World) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let before = world.log.clone();
    let said = [(0, 4), (1, 4), (2, 4), (3, 5), (4, 5), (2, 5), (0, 6), (1, 6)];
    let entries = said.map(|(member, view)| world.entry(member, Payload::Tick(View(view))));
    let signed = entries.map(|entry| world.sign(&entry)).to_vec();
    signed.iter().for_each(|entry| assert_eq!(world.append(entry.clone()).skipped, None));
    let mut other = signed.clone();
    other.swap(0, 1);
    ([before.clone(), signed].concat(), [before, other].concat())
}

#[test]
fn a_follower_waits_while_its_host_shows_otherwise_what_t_plus_1_vouched_for() {
    let (mut world, scene) = ticked(4, true);
    let node = scene.node();
    node.catch_up().unwrap();
    assert_eq!(node.replica().lock().vouched(), 9);
    scene.host.rewrite(8);
    let idle = || View(0);
    let follower = Follower::start(&node, Arc::new(SystemClock), Arc::new(idle), Arc::new(Deaf), 1).unwrap();
    let wait_until = |what: &str, ready: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            assert_eq!(follower.failure(), None);
            assert!(Instant::now() < deadline, "still not: {what}");
            std::thread::yield_now();
        }
    };
    let reads = scene.host.reads.load(Ordering::SeqCst);
    wait_until("it asks again", &|| scene.host.reads.load(Ordering::SeqCst) >= reads + 4);
    assert_eq!(scene.kept(), world.log, "nothing is taken from who shows another log, and nothing given up");
    world.tick(1, 5);
    scene.show(&world.log);
    wait_until("it goes on", &|| scene.file.len() == 13);
    assert_eq!(follower.stop(), Ok(()));
    assert_eq!(scene.given_up(0), None);
}

#[test]
fn what_a_host_shows_otherwise_is_given_up_and_read_anew_if_few_vouched_for_it() {
    for sifts in [true, false] {
        // Seen at once, where the last entries differ; or by what members say later, who have seen the true order.
        for end in [11, 17] {
            let (mut world, scene) = ticked(3, sifts);
            let (honest, other) = crossing(&mut world);
            scene.show(&other[..end]);
            let node = scene.node();
            node.catch_up().unwrap();
            let mut truth = World::new();
            honest[..end].iter().for_each(|entry| drop(truth.append(entry.clone())));
            let view = truth.replica.header().view.0;
            for (member, view) in [(2, view + 1), (3, view + 2)] {
                // Numbered after all others.
                let entry = Entry { sequence: 100, ..truth.entry(member, Payload::Tick(View(view))) };
                assert_eq!(truth.append(truth.sign(&entry)).skipped, None);
            }
            scene.show(&truth.log);
            let idle = || View(0);
            let follower = Follower::start(&node, Arc::new(SystemClock), Arc::new(idle), Arc::new(Deaf), 1).unwrap();
            let deadline = Instant::now() + PATIENCE;
            let failure = loop {
                match follower.failure() {
                    Some(failure) => break failure,
                    None => assert!(Instant::now() < deadline, "the follower goes on, with what is not so"),
                }
                std::thread::yield_now();
            };
            assert!(matches!(failure, FollowError::GaveUp { position: 9, .. }), "{failure}");
            assert_eq!(scene.kept(), honest[..9], "all that is the same is still there");
            let anew = scene.node();
            anew.catch_up().unwrap();
            assert_eq!((anew.replica().lock().prefix(), scene.kept()), (truth.replica.prefix(), truth.log));
            assert!(scene.given_up(0).is_some_and(|lines| lines >= 2), "it is evidence");
        }
    }
}

#[test]
fn a_fork_that_is_shown_for_a_moment_only_ends_nobody_and_one_that_stays_does() {
    let (mut world, scene) = ticked(3, false);
    let truth = world.log.clone();
    let contradictions: Vec<_> = (0..=T).map(|author| world.contradiction(author, 4)).collect();
    let forked = [truth.clone(), contradictions].concat();
    scene.show(&forked);
    let node = scene.node();
    for _ in 0..30 {
        assert!(matches!(node.catch_up(), Err(FollowError::Log(error)) if error.may_pass()));
    }
    scene.show(&truth[..truth.len() - 1]);
    assert!(matches!(node.catch_up(), Err(FollowError::Log(error)) if error.may_pass()), "less says nothing");
    assert_eq!(scene.kept(), forked, "with the entry that shows the fork");
    let tick = world.entry(4, Payload::Tick(View(4)));
    scene.show(&[truth, vec![world.sign(&tick)]].concat());
    assert_eq!((node.catch_up(), scene.kept().len(), scene.given_up(0)), (Ok(()), 10, Some(3)));

    scene.show(&forked);
    let last = scene.node();
    let outcome = std::iter::repeat_with(|| last.catch_up()).take(1000).find(|outcome| match outcome {
        Err(FollowError::Log(error)) => !error.may_pass(),
        _ => true,
    });
    assert!(matches!(outcome, Some(Err(FollowError::Forked(_)))), "{outcome:?}");
}

#[test]
fn a_start_gives_up_by_itself_what_it_has_to() {
    let (mut world, scene) = ticked(3, true);
    let (honest, other) = crossing(&mut world);
    for _ in 0..MAX_GIVEN_UP + 2 {
        scene.show(&other);
        scene.node().catch_up().unwrap();
        assert_eq!(scene.kept(), other);
        scene.show(&honest);
        let node = scene.node();
        node.catch_up().unwrap();
        assert_eq!((node.replica().lock().prefix(), scene.kept()), (world.replica.prefix(), honest.clone()));
    }
    let kept = (0..2 * MAX_GIVEN_UP).filter(|number| scene.given_up(*number).is_some()).count();
    assert_eq!(kept, MAX_GIVEN_UP, "evidence does not fill the disk");
}

#[test]
fn an_entry_that_no_log_server_can_have_is_not_taken_and_waited_out() {
    let (world, scene) = ticked(3, true);
    let flipped = |position: usize| {
        let mut entries = world.log.clone();
        let last = entries[position].len() - 1;
        entries[position][last] ^= 1;
        entries
    };
    let node = scene.node();
    for position in [4, 7] {
        scene.show(&flipped(position));
        for _ in 0..3 {
            let error = node.catch_up().unwrap_err();
            assert!(matches!(&error, FollowError::Log(error) if error.may_pass()), "{error}");
            assert!(error.to_string().contains(&format!("position {position} ")), "{error}");
        }
        assert_eq!(scene.kept(), world.log[..position], "what comes before is good");
    }
    scene.show(&world.log);
    node.catch_up().unwrap();
    assert_eq!((node.replica().lock().prefix(), scene.kept()), (world.replica.prefix(), world.log.clone()));
    // Elsewhere such bytes may well be in the log, and every replica passes over them.
    let (_, scene) = ticked(3, false);
    scene.show(&flipped(7));
    let node = scene.node();
    node.catch_up().unwrap();
    assert_eq!(node.replica().lock().prefix().position, 9);
}

#[test]
fn a_host_that_goes_on_with_less_is_believed_after_a_while_as_far_as_few_vouched() {
    let (world, scene) = ticked(4, true);
    let node = scene.node();
    node.catch_up().unwrap();
    for (left, ends) in [(8, false), (10, true)] {
        scene.show(&world.log[..left]);
        let tries = (0..20).map(|_| node.catch_up()).collect::<Vec<_>>();
        assert!(matches!(&tries[0], Err(FollowError::Log(LogError::Lost { tries: 1, .. }))));
        assert_eq!(tries[19].is_ok(), ends, "{left}: {:?}", tries[19]);
        scene.show(&world.log);
        node.catch_up().unwrap();
        assert_eq!(scene.kept(), world.log);
    }
}

#[test]
fn a_disk_without_room_is_waited_out_and_nothing_is_missing_after() {
    let (world, scene) = ticked(3, true);
    scene.file.limit(300);
    let node = scene.node();
    for _ in 0..3 {
        let error = node.catch_up().unwrap_err();
        assert!(matches!(&error, FollowError::Log(error @ LogError::Disk(_)) if error.may_pass()), "{error}");
    }
    scene.file.limit(u64::MAX);
    node.catch_up().unwrap();
    assert_eq!((node.replica().lock().prefix(), scene.kept()), (world.replica.prefix(), world.log));
}

#[test]
fn another_members_copy_is_taken_as_far_as_it_is_vouched_for_and_ones_own_stays_beside_it() {
    let (world, scene) = ticked(4, true);
    let vouched = usize::try_from(world.replica.vouched()).unwrap();
    assert_eq!((vouched, world.log.len()), (9, 12));
    let own = scene.folder.path().join("log");
    let Scene { file, folder, .. } = scene;
    // It followed the log up to here, and then its disk lied.
    let (honest, other) = (world.log.clone(), Liar::default());
    *other.entries.lock().unwrap() = honest.clone();
    drop(file);
    std::fs::write(&own, b"no log at all").unwrap();
    let adopted = adopt(&own, &other, &config()).unwrap();
    assert_eq!((adopted.entries, adopted.left_out), (9, 3));
    assert_eq!(std::fs::read(adopted.replaced.unwrap()).unwrap(), b"no log at all");
    assert!(adopted.damage.is_some());
    let kept = || FileLog::open(&own, config().identity()).unwrap().reader().read(0, 99).unwrap();
    assert_eq!(kept(), honest[..9]);

    // What more than t members have vouched for in one's own copy is never given up for another's.
    let mut forged = honest.clone();
    forged[3] = b"something else".to_vec();
    *other.entries.lock().unwrap() = forged;
    let refused = adopt(&own, &other, &config()).unwrap_err();
    assert!(matches!(refused, AdoptError::Forked(_) | AdoptError::Contradicts { .. }), "{refused}");
    *other.entries.lock().unwrap() = honest[..6].to_vec();
    let refused = adopt(&own, &other, &config()).unwrap_err();
    assert!(matches!(refused, AdoptError::Contradicts { .. }), "{refused}");
    assert_eq!(kept(), honest[..9]);
    drop(folder);
}
