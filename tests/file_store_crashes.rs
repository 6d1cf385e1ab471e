//! The machine dies at every write of a store's life, with what was not yet durable kept, lost, torn or out of order: what
//! is opened afterwards is the state before or after the commit that was interrupted, and all that was reported.
#![cfg(feature = "file-store")]

mod disk;
mod folder;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use disk::{Disk, Image, Operation, apply, torn};
use dkg_engine::SecretBytes;
use dkg_engine::bls::Index;
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::store::seal::create_key_file;
use dkg_engine::store::{Change, FileError, FileStore, Owner, RecordId, Store, StoreError, Unlock};
use folder::Folder;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};

/// Up to so many operations between two syncs, every subset of them is tried.
const EXHAUSTIVE: usize = 7;
/// How many subsets are tried where there are more.
const SAMPLES: usize = 150;

type Records = BTreeMap<RecordId, Vec<u8>>;

/// A store's life on a disk that remembers it.
struct Life {
    _folder: Folder,
    old: Unlock,
    new: Unlock,
    done: Vec<Operation>,
    /// The state after each commit, the creation first.
    states: Vec<Records>,
    /// How many operations there had been when it was reported.
    reported: Vec<usize>,
    /// The commit that resealed.
    resealed: usize,
}

fn name() -> &'static Path {
    Path::new("the store")
}

fn owner() -> Owner {
    Owner { chain_id: "test".into(), member: NodeId::new([7; 32]) }
}

fn share(dealer: usize) -> RecordId {
    RecordId::share(EpochCounter(3), Index::from_position(dealer).unwrap())
}

/// What each commit changes; an empty one reseals.
fn commits() -> Vec<Vec<(RecordId, Option<Vec<u8>>)>> {
    let (key, dealing) = (RecordId::key(EpochCounter(3)), RecordId::dealing(EpochCounter(3)));
    let put = |id, bytes: &[u8]| (id, Some(bytes.to_vec()));
    vec![
        vec![put(key, b"started"), put(dealing, &[1; 64])],
        vec![put(share(0), &[2; 33])],
        vec![put(share(1), &[3; 33])],
        vec![put(key, &[4; 16_000])],
        vec![],
        vec![put(share(2), &[5; 33]), (share(0), None)],
        vec![put(key, b"committed"), (dealing, None), (share(1), None), (share(2), None)],
        vec![put(RecordId::key(EpochCounter(4)), b"the next")],
    ]
}

fn change((id, bytes): (RecordId, Option<Vec<u8>>)) -> Change {
    bytes.map_or(Change::Remove(id), |bytes| Change::Put(id, SecretBytes::new(bytes)))
}

/// Commits until one fails; the state after each, and how many operations there had been then.
fn live(disk: &Disk, old: &Unlock, new: &Unlock) -> (Vec<Records>, Vec<usize>, Option<StoreError>) {
    let (database, witness) = disk.files();
    let (mut states, mut reported) = (Vec::new(), Vec::new());
    let store = match FileStore::create_on(name(), database, witness, &owner(), old) {
        Ok(store) => store,
        Err(error) => return (states, reported, Some(error.into())),
    };
    let mut state = Records::new();
    states.push(state.clone());
    reported.push(disk.steps());
    for commit in commits() {
        let done = if commit.is_empty() {
            store.reseal(new).map_err(StoreError::from)
        } else {
            store.commit(commit.iter().cloned().map(change).collect())
        };
        if let Err(error) = done {
            // A handle that has failed goes on failing.
            assert_eq!(store.list().err(), Some(error.clone()));
            return (states, reported, Some(error));
        }
        for (id, bytes) in commit {
            match bytes {
                Some(bytes) => state.insert(id, bytes),
                None => state.remove(&id),
            };
        }
        states.push(state.clone());
        reported.push(disk.steps());
    }
    (states, reported, None)
}

impl Life {
    fn new() -> Self {
        let folder = Folder::new();
        let [old, new] = ["old", "new"].map(|name| {
            let path: PathBuf = folder.path().join(name);
            create_key_file(&path).unwrap();
            Unlock::KeyFile(path)
        });
        let disk = Disk::default();
        let (states, reported, failed) = live(&disk, &old, &new);
        assert_eq!(failed, None);
        let resealed = 1 + commits().iter().position(Vec::is_empty).unwrap();
        Life { _folder: folder, old, new, done: disk.done(), states, reported, resealed }
    }

    /// What is there; `None` where making the store was cut off.
    fn open(&self, disk: &Disk) -> Option<(Records, bool)> {
        let open = |unlock| {
            let (database, witness) = disk.files();
            FileStore::open_on(name(), database, witness, &owner(), unlock)
        };
        let (opened, with_new) = match open(&self.new) {
            Err(FileError::Unlock { .. }) => (open(&self.old), false),
            opened => (opened, true),
        };
        let store = match opened {
            Ok(store) => store,
            Err(FileError::Unfinished { .. } | FileError::WitnessDamaged { .. }) => return None,
            Err(error) => panic!("{error}"),
        };
        let records = store.list().unwrap().into_iter();
        let records = records.map(|id| (id, store.read(id).unwrap().unwrap().expose().to_vec())).collect();
        Some((records, with_new))
    }

    /// Opens what is left when the machine died after `reported` commits had been reported.
    fn check(&self, image: &Image, reported: usize, what: &dyn Fn() -> String) -> Disk {
        let disk = Disk::with(image.clone());
        let Some((records, with_new)) = self.open(&disk) else {
            assert_eq!(reported, 0, "{}: the store is gone", what());
            return disk;
        };
        // The commit that was going on may have become durable.
        let fits = |state: usize| self.states.get(state) == Some(&records) && with_new == (state >= self.resealed);
        let possible = [reported.saturating_sub(1), reported];
        assert!(possible.into_iter().any(fits), "{}: another state than before or after", what());
        // And it goes on from there, whole.
        assert_eq!(self.open(&disk), Some((records, with_new)), "{}: opened again", what());
        disk
    }

    /// The database as it was when a commit was reported.
    fn database_at(&self, commit: usize) -> Vec<u8> {
        let mut image = Image::default();
        self.done[..self.reported[commit]].iter().for_each(|operation| apply(&mut image, operation));
        let [database, _] = image;
        database
    }

    fn reported_by(&self, operations: usize) -> usize {
        self.reported.iter().filter(|reported| **reported <= operations).count()
    }
}

/// Calls `check` with every image that a crash during `done` on `before` can leave, and how many operations had been done.
/// Durable is, file by file, what was written before the last sync; of the rest, any part may be there, the last write of
/// all or in half.
fn crashes(before: &Image, done: &[Operation], random: &mut StdRng, check: &mut dyn FnMut(&Image, usize, &str)) {
    let mut durable = before.clone();
    let mut pending: Vec<&Operation> = Vec::new();
    for (step, operation) in done.iter().enumerate() {
        // Died before, after, or within this one, with all before it on the disk.
        let mut image = durable.clone();
        pending.iter().for_each(|operation| apply(&mut image, operation));
        check(&image, step, "in order");
        if let Some(half) = torn(operation) {
            apply(&mut image, &half);
            check(&image, step, "torn");
        }
        match operation {
            Operation::Sync { file } => {
                subsets(&durable, &pending, step, random, check);
                let of = |operation: &&Operation| match operation {
                    Operation::Write { file, .. } | Operation::Resize { file, .. } | Operation::Sync { file } => *file,
                };
                pending.iter().filter(|operation| of(operation) == *file).for_each(|done| apply(&mut durable, done));
                pending.retain(|operation| of(operation) != *file);
            }
            operation => pending.push(operation),
        }
    }
    subsets(&durable, &pending, done.len(), random, check);
    let mut image = durable;
    pending.iter().for_each(|operation| apply(&mut image, operation));
    check(&image, done.len(), "after all");
}

fn subsets(
    durable: &Image,
    pending: &[&Operation],
    step: usize,
    random: &mut StdRng,
    check: &mut dyn FnMut(&Image, usize, &str),
) {
    let mut kept: BTreeSet<Vec<bool>> = BTreeSet::new();
    let all = pending.len();
    if all <= EXHAUSTIVE {
        kept.extend((0..1_usize << all).map(|bits| (0..all).map(|n| bits >> n & 1 == 1).collect()));
    } else {
        for one in 0..all {
            kept.insert((0..all).map(|n| n == one).collect());
            kept.insert((0..all).map(|n| n != one).collect());
        }
        kept.extend((0..SAMPLES).map(|_| (0..all).map(|_| random.random()).collect()));
    }
    for kept in kept {
        let mut image = durable.clone();
        let mut image_torn = None;
        for (operation, _) in pending.iter().zip(&kept).filter(|(_, kept)| **kept) {
            if let Some(half) = torn(operation).filter(|_| random.random_ratio(1, 4)) {
                let mut image: Image = image.clone();
                apply(&mut image, &half);
                image_torn = Some(image);
            }
            apply(&mut image, operation);
        }
        check(&image, step, "out of order");
        if let Some(image) = image_torn {
            check(&image, step, "out of order and torn");
        }
    }
}

fn seed() -> u64 {
    let seed = std::env::var("CRASH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| SysRng.try_next_u64().unwrap());
    println!("CRASH_SEED={seed}");
    seed
}

#[test]
fn after_a_crash_at_any_write_the_store_is_as_before_or_after_the_commit_and_keeps_all_that_was_reported() {
    let life = Life::new();
    let mut random = StdRng::seed_from_u64(seed());
    let mut count = 0;
    crashes(&Image::default(), &life.done, &mut random, &mut |image, step, how| {
        count += 1;
        life.check(image, life.reported_by(step), &|| format!("dead at operation {step}, {how}"));
    });
    println!("{count} images of {} operations", life.done.len());
    assert!(count > 500);
}

#[test]
fn after_a_crash_at_any_write_no_copy_from_before_a_reported_commit_opens() {
    let life = Life::new();
    let older: Vec<_> = (0..life.states.len()).map(|commit| life.database_at(commit)).collect();
    let mut random = StdRng::seed_from_u64(seed());
    let mut count = 0;
    crashes(&Image::default(), &life.done, &mut random, &mut |image, step, how| {
        let Some(before_the_last) = life.reported_by(step).checked_sub(2) else { return };
        let (database, witness) = Disk::with([older[before_the_last].clone(), image[1].clone()]).files();
        let unlock = if before_the_last < life.resealed { &life.old } else { &life.new };
        let opened = FileStore::open_on(name(), database, witness, &owner(), unlock).err();
        let refused = matches!(opened, Some(FileError::RolledBack { .. } | FileError::WitnessDamaged { .. }));
        assert!(refused, "dead at operation {step}, {how}: {opened:?}");
        count += 1;
    });
    println!("{count} images");
    assert!(count > 500);
}

#[test]
fn a_crash_while_a_crash_is_repaired_loses_nothing_either() {
    let life = Life::new();
    let mut random = StdRng::seed_from_u64(seed());
    let mut interrupted = Vec::new();
    crashes(&Image::default(), &life.done, &mut random, &mut |image, step, _| interrupted.push((image.clone(), step)));
    let mut count = 0;
    for _ in 0..8 {
        let (image, step) = &interrupted[random.random_range(0..interrupted.len())];
        let reported = life.reported_by(*step);
        let repair = life.check(image, reported, &|| format!("dead at operation {step}"));
        let mut again = StdRng::seed_from_u64(random.random());
        crashes(image, &repair.done(), &mut again, &mut |image, second, how| {
            count += 1;
            let what = || format!("dead at operation {step}, and at operation {second} of the repair, {how}");
            life.check(image, reported, &what);
        });
    }
    println!("{count} images");
}

#[test]
fn a_disk_that_fails_at_any_write_is_an_error_that_names_the_store_and_what_was_reported_is_there() {
    let life = Life::new();
    for operations in 0..life.done.len() {
        let disk = Disk::default();
        disk.break_after(operations);
        let (states, _, failed) = live(&disk, &life.old, &life.new);
        match failed {
            Some(error) => assert!(error.to_string().contains("the store"), "{error}"),
            // Only closing it failed.
            None => assert_eq!(states.len(), life.states.len()),
        }
        let reported = states.len();
        life.check(&disk.image(), reported, &|| format!("failed after {operations} operations"));
    }
}
