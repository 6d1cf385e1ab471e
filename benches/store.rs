//! What keeping costs: a commit of one record, all that one member's run at n = 100 writes, and opening. To be held against
//! the cryptography of the same run (`benches/participant.rs`). The disk decides: name it with the numbers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use dkg_engine::SecretBytes;
use dkg_engine::bls::Index;
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::store::seal::create_key_file;
use dkg_engine::store::{Change, FileStore, Owner, RecordId, Store, Unlock};

/// Members of the run.
const SIZE: usize = 100;

/// A folder in the build's own, on the disk that is measured.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-bench-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a folder for the bench");
        create_key_file(&path.join("key")).expect("a key file");
        Folder(path)
    }

    fn unlock(&self) -> Unlock {
        Unlock::KeyFile(self.0.join("key"))
    }

    fn store(&self, name: &str) -> FileStore {
        FileStore::create(&self.0.join(name), &owner(), &self.unlock()).expect("a new store")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder goes");
    }
}

fn owner() -> Owner {
    Owner { chain_id: "bench".into(), member: NodeId::new([7; 32]) }
}

fn put(store: &FileStore, id: RecordId, bytes: usize) {
    store.commit(vec![Change::Put(id, SecretBytes::new(vec![7; bytes]))]).expect("the disk keeps it");
}

/// What a run writes: its dealing, a share from each other member, each its own commit, and the key twice.
fn run(store: &FileStore, epoch: EpochCounter) {
    put(store, RecordId::dealing(epoch), 128);
    for dealer in Index::all(SIZE).skip(1) {
        put(store, RecordId::share(epoch, dealer), 64);
    }
    put(store, RecordId::key(epoch), 128);
    put(store, RecordId::key(epoch), 160);
}

fn store(c: &mut Criterion) {
    let folder = Folder::new();
    let mut group = c.benchmark_group("store");
    group.sample_size(10);
    let one = folder.store("one");
    let id = RecordId::key(EpochCounter(1));
    group.bench_function("commit a record of 64 bytes", |b| b.iter(|| put(&one, id, 64)));
    group.bench_function("read a record of 64 bytes", |b| b.iter(|| one.read(id).expect("it is there")));
    let runs = folder.store("runs");
    let mut epoch = 0;
    let mut total = (0, Duration::ZERO);
    group.bench_function("all that a run of 100 writes", |b| {
        b.iter(|| {
            epoch += 1;
            let start = Instant::now();
            run(&runs, EpochCounter(epoch));
            total = (total.0 + 1, total.1 + start.elapsed());
        });
    });
    println!("a run of {SIZE} writes for {:?} in all, beside about 300 ms of cryptography", total.1 / total.0.max(1));
    drop(runs);
    let path = folder.0.join("runs");
    group.bench_function(format!("open a store of {epoch} runs"), |b| {
        b.iter(|| FileStore::open(&path, &owner(), &folder.unlock()).expect("it opens"));
    });
    let size = std::fs::metadata(&path).expect("it is there").len();
    println!("a store of {epoch} runs has {size} bytes");
    group.finish();
}

criterion_group!(benches, store);
criterion_main!(benches);
