//! Keys, commits and records that the tests of keys are made of.
#![allow(missing_docs, unreachable_pub, dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use dkg_engine::bls::{PublicKey, SecretKey};
use dkg_engine::committee::{Index, NodeId};
use dkg_engine::epoch::{EpochCommit, EpochCounter};
use dkg_engine::hex;
use dkg_engine::store::{DkgState, EpochRecord, KeyShare, MemoryStore};

pub const ME: NodeId = NodeId::new([7; 32]);
/// The index that shares have in the run that made them.
pub const INDEX: usize = 2;

pub static KEYS: LazyLock<Vec<(SecretKey, PublicKey)>> = LazyLock::new(|| {
    let key = |number| SecretKey::from_seed(&[number; 32]).unwrap();
    (0..4).map(|number| (key(number), key(number).public_key())).collect()
});

pub fn at(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

/// The share with this number's secret.
pub fn share(key: usize) -> KeyShare {
    KeyShare::new(at(INDEX), KEYS[key].0.clone())
}

/// A commit that names this key for us, at this index.
pub fn commit_at(epoch: u64, key: usize, index: usize) -> EpochCommit {
    let mut key_shares = vec![KEYS[3].1; 4];
    key_shares[index] = KEYS[key].1;
    let epoch = EpochCounter(epoch);
    EpochCommit { epoch, group_key: KEYS[3].1, key_shares, index_map: BTreeMap::from([(ME, at(index))]) }
}

pub fn commit(epoch: u64, key: usize) -> EpochCommit {
    commit_at(epoch, key, INDEX)
}

/// A commit in which we have no key.
pub fn foreign(epoch: u64) -> EpochCommit {
    EpochCommit { index_map: BTreeMap::new(), ..commit(epoch, 0) }
}

pub fn new(epoch: u64) -> EpochRecord {
    EpochRecord::new(EpochCounter(epoch))
}

pub fn started(epoch: u64) -> EpochRecord {
    new(epoch).start().unwrap()
}

pub fn completed(epoch: u64, key: usize) -> EpochRecord {
    started(epoch).complete(share(key)).unwrap()
}

pub fn committed(epoch: u64, key: usize) -> EpochRecord {
    completed(epoch, key).commit(&commit(epoch, key), &ME).unwrap()
}

pub fn failed(epoch: u64) -> EpochRecord {
    new(epoch).fail("the disk was full").unwrap()
}

/// A store in which these records have come about.
pub fn state(records: &[EpochRecord]) -> DkgState {
    let state = DkgState::new(Arc::new(MemoryStore::new()));
    records.iter().for_each(|record| write(&state, record));
    state
}

/// Writes a record with the steps that lead to it.
pub fn write(state: &DkgState, record: &EpochRecord) {
    let epoch = record.epoch();
    let direct = state.commit(std::slice::from_ref(record));
    if direct.is_err() {
        state.commit(&[started(epoch.0), record.clone()]).unwrap();
    }
}

/// A key as errors and JSON show it.
pub fn in_hex(key: &PublicKey) -> String {
    hex::encode(&key.to_flow_bytes())
}

/// A secret as it must be seen nowhere.
pub fn secret_hex(key: usize) -> String {
    hex::encode(&KEYS[key].0.scalar().to_be_bytes()[..])
}

/// A folder of a test's own, which goes with it.
pub struct Folder(std::path::PathBuf);

impl Folder {
    /// `name` has to be the test's.
    pub fn new(name: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }

    /// What is in it, by name.
    pub fn names(&self) -> Vec<String> {
        let entries =
            std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
