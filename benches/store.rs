//! What keeping costs: a commit of one record, all that one member's run at n = 100 writes, and opening. To be held against
//! the cryptography of the same run (`benches/participant.rs`). The disk decides: name it with the numbers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use dkg_engine::SecretBytes;
use dkg_engine::bls::Index;
use dkg_engine::committee::NodeId;
use dkg_engine::engine::PRIVATE_BATCH;
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
    put_all(store, &[id], bytes);
}

fn put_all(store: &FileStore, ids: &[RecordId], bytes: usize) {
    let changes = ids.iter().map(|id| Change::Put(*id, SecretBytes::new(vec![7; bytes])));
    store.commit(changes.collect()).expect("the disk keeps it");
}

/// What a run writes: its dealing, a share from each other member, so many in one commit, and the key twice.
fn run(store: &FileStore, epoch: EpochCounter, together: usize) {
    put(store, RecordId::dealing(epoch), 128);
    let shares: Vec<RecordId> = Index::all(SIZE).skip(1).map(|dealer| RecordId::share(epoch, dealer)).collect();
    for shares in shares.chunks(together) {
        put_all(store, shares, 64);
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
    // As the engine writes shares that come all at once; and as it does when each comes alone.
    for (how, together) in [("the shares together", PRIVATE_BATCH), ("each share by itself", 1)] {
        let mut total = (0, Duration::ZERO);
        group.bench_function(format!("all that a run of {SIZE} writes, {how}"), |b| {
            b.iter(|| {
                epoch += 1;
                let start = Instant::now();
                run(&runs, EpochCounter(epoch), together);
                total = (total.0 + 1, total.1 + start.elapsed());
            });
        });
        let each = total.1 / total.0.max(1);
        println!("a run of {SIZE} writes for {each:?} in all, {how}, beside about 300 ms of cryptography");
    }
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
