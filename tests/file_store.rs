//! The store in a file: what it keeps, for whom, and what it says when it cannot.
#![cfg(feature = "file-store")]

mod folder;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, SecretKey};
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::store::file::{Medium, SCHEMA_VERSION};
use dkg_engine::store::seal::{KeyFileError, SealError, create_key_file};
use dkg_engine::store::{
    Change, DkgState, EpochRecord, FileError, FileStore, KeyShare, KeyStatus, MAX_RECORD_BYTES, Owner, RecordId, Store,
    StoreError, Unlock,
};
use folder::Folder;
use parking_lot::Mutex;
use redb::ReadableTable as _;

/// A folder with a key file, and a place for a store.
struct Room {
    folder: Folder,
}

impl Room {
    fn new() -> Self {
        let room = Room { folder: Folder::new() };
        create_key_file(&room.file("key")).unwrap();
        room
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self) -> PathBuf {
        self.file("store")
    }

    fn witness(&self) -> PathBuf {
        self.file("store.witness")
    }

    fn unlock(&self) -> Unlock {
        Unlock::KeyFile(self.file("key"))
    }

    fn create(&self) -> FileStore {
        FileStore::create(&self.path(), &owner(), &self.unlock()).unwrap()
    }

    fn open(&self) -> Result<FileStore, FileError> {
        FileStore::open(&self.path(), &owner(), &self.unlock())
    }

    /// What opening says; it names the store's file.
    fn refusal(&self) -> FileError {
        let error = error(self.open());
        assert!(error.to_string().contains(self.path().to_str().unwrap()), "{error}");
        error
    }
}

fn owner() -> Owner {
    Owner { chain_id: "test".into(), member: NodeId::new([7; 32]) }
}

fn error<T, E>(result: Result<T, E>) -> E {
    result.err().expect("no error")
}

fn put(id: RecordId, bytes: &[u8]) -> Change {
    Change::Put(id, SecretBytes::new(bytes.to_vec()))
}

fn read(store: &FileStore, id: RecordId) -> Option<Vec<u8>> {
    store.read(id).unwrap().map(|record| record.expose().to_vec())
}

const EPOCH: EpochCounter = EpochCounter(5);
const KEY: RecordId = RecordId::key(EPOCH);
const DEALING: RecordId = RecordId::dealing(EPOCH);

fn share(dealer: usize) -> RecordId {
    RecordId::share(EPOCH, Index::from_position(dealer).unwrap())
}

#[test]
fn what_was_committed_is_there_when_the_store_is_opened_again() {
    let room = Room::new();
    let store = room.create();
    assert_eq!(store.list().unwrap(), []);
    assert!(read(&store, KEY).is_none());
    store.commit(vec![put(KEY, b"key"), put(share(1), b"one"), put(share(0), b"zero"), put(DEALING, b"")]).unwrap();
    store.commit(vec![put(KEY, b"newer"), Change::Remove(share(1)), Change::Remove(share(9))]).unwrap();
    store
        .commit(vec![put(share(2), b"in"), Change::Remove(share(2)), put(share(3), b"a"), put(share(3), b"b")])
        .unwrap();
    store.commit(Vec::new()).unwrap();
    drop(store);
    let store = room.open().unwrap();
    assert_eq!(store.list().unwrap(), [KEY, DEALING, share(0), share(3)]);
    let records: [(RecordId, &[u8]); 4] = [(KEY, b"newer"), (DEALING, b""), (share(0), b"zero"), (share(3), b"b")];
    for (id, record) in records {
        assert_eq!(read(&store, id).unwrap(), record);
    }
    assert!(read(&store, share(1)).is_none());
}

#[test]
fn a_commit_whose_condition_does_not_hold_changes_nothing_and_ends_nothing() {
    let room = Room::new();
    let store = room.create();
    let expect = |id, bytes: Option<&[u8]>| Change::Expect(id, bytes.map(|bytes| SecretBytes::new(bytes.to_vec())));
    store.commit(vec![put(KEY, b"key"), expect(KEY, None)]).unwrap();
    for condition in
        [expect(KEY, None), expect(KEY, Some(b"kex")), expect(DEALING, Some(b"")), expect(DEALING, Some(b"x"))]
    {
        let Change::Expect(id, _) = condition else { unreachable!() };
        assert_eq!(store.commit(vec![put(KEY, b"other"), condition]), Err(StoreError::Conflict(id)));
        assert_eq!((read(&store, KEY).unwrap(), read(&store, DEALING)), (b"key".to_vec(), None));
    }
    store.commit(vec![expect(KEY, Some(b"key")), expect(DEALING, None), put(KEY, b"newer")]).unwrap();
    assert_eq!(read(&store, KEY).unwrap(), b"newer");
}

#[test]
fn a_key_state_lives_in_it_as_in_any_store() {
    let room = Room::new();
    let share = KeyShare::new(Index::from_position(3).unwrap(), SecretKey::from_seed(&[1; 32]).unwrap());
    let state = DkgState::new(Arc::new(room.create()));
    let started = EpochRecord::new(EPOCH).start().unwrap();
    state.commit(&[started.clone(), started.complete(share).unwrap()]).unwrap();
    drop(state);
    let state = DkgState::new(Arc::new(room.open().unwrap()));
    assert_eq!(state.record(EPOCH).unwrap().status(), KeyStatus::Completed);
}

#[test]
fn a_record_may_have_sixteen_kilobytes_and_no_more() {
    let room = Room::new();
    let store = room.create();
    store.commit(vec![put(KEY, &[1; MAX_RECORD_BYTES])]).unwrap();
    let StoreError::Failed(said) = error(store.commit(vec![put(DEALING, b"x"), put(KEY, &[2; MAX_RECORD_BYTES + 1])]))
    else {
        panic!("another error")
    };
    assert!(said.contains("the key of epoch 5") && said.contains("store"), "{said}");
    assert_eq!(read(&store, KEY).unwrap(), [1; MAX_RECORD_BYTES]);
    assert_eq!(store.list().unwrap(), [KEY]);
}

#[test]
fn a_store_that_is_there_is_not_made_again_and_one_that_is_missing_is_not_begun() {
    let room = Room::new();
    assert_eq!(room.refusal(), FileError::Missing(room.path()));
    assert!(!room.path().exists() && !room.witness().exists());
    let create = || error(FileStore::create(&room.path(), &owner(), &room.unlock()));
    let store = room.create();
    store.commit(vec![put(KEY, b"key")]).unwrap();
    assert_eq!(create(), FileError::Exists(room.path()));
    drop(store);
    assert_eq!(create(), FileError::Exists(room.path()));
    assert_eq!(read(&room.open().unwrap(), KEY).unwrap(), b"key");
    // Only its witness is left: a new store would forget what the old one knew.
    fs::rename(room.path(), room.file("elsewhere")).unwrap();
    assert_eq!(create(), FileError::Exists(room.witness()));
    assert_eq!(room.refusal(), FileError::Missing(room.path()));
    fs::rename(room.file("elsewhere"), room.path()).unwrap();
    assert_eq!(read(&room.open().unwrap(), KEY).unwrap(), b"key");
}

#[test]
fn an_empty_file_in_a_stores_place_is_refused_and_stays_empty() {
    let room = Room::new();
    room.create().commit(vec![put(KEY, b"key")]).unwrap();
    fs::write(room.path(), b"").unwrap();
    assert!(matches!(room.refusal(), FileError::Damaged { path, .. } if path == room.path()));
    // With a witness that never said anything, it is what a crash at the store's creation leaves.
    fs::write(room.witness(), b"").unwrap();
    let unfinished = FileError::Unfinished { database: room.path(), witness: room.witness() };
    assert_eq!(room.refusal(), unfinished);
    assert_eq!([room.path(), room.witness()].map(|file| fs::metadata(file).unwrap().len()), [0, 0]);
    assert!(unfinished.to_string().contains(room.witness().to_str().unwrap()));
}

#[test]
fn a_store_that_cannot_be_made_leaves_nothing_behind() {
    let room = Room::new();
    let nowhere = room.file("no folder").join("store");
    assert_eq!(
        error(FileStore::create(&nowhere, &owner(), &room.unlock())),
        FileError::NoFolder(room.file("no folder").join("store.witness"))
    );
    let no_key = Unlock::KeyFile(room.file("no key"));
    let missing = FileError::Unlock { path: room.path(), error: KeyFileError::Missing(room.file("no key")).into() };
    assert_eq!(error(FileStore::create(&room.path(), &owner(), &no_key)), missing);
    let long = Owner { chain_id: "x".repeat(257), ..owner() };
    let too_long = FileError::ChainIdTooLong { path: room.path(), bytes: 257 };
    assert_eq!(error(FileStore::create(&room.path(), &long, &room.unlock())), too_long);
    assert!(!room.path().exists() && !room.witness().exists());
    room.create();
}

#[test]
fn a_store_has_one_handle_at_a_time() {
    let room = Room::new();
    let store = room.create();
    assert_eq!(room.refusal(), FileError::InUse(room.path()));
    drop(store);
    let store = room.open().unwrap();
    assert_eq!(room.refusal(), FileError::InUse(room.path()));
    let renewed = FileStore::renew_witness(&room.path(), &owner(), &room.unlock());
    assert_eq!(error(renewed), FileError::InUse(room.path()));
    drop(store);
    room.open().unwrap();
}

#[test]
fn a_store_has_one_process_at_a_time() {
    const FOLDER: &str = "FOLDER_OF_THE_FIRST_PROCESS";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        let opened = FileStore::open(&folder.join("store"), &owner(), &Unlock::KeyFile(folder.join("key")));
        assert_eq!(error(opened), FileError::InUse(folder.join("store")));
        println!("it was in use");
        return;
    }
    let room = Room::new();
    let _store = room.create();
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", "a_store_has_one_process_at_a_time", "--nocapture"]).env(FOLDER, room.folder.path());
    let said = other.output().unwrap();
    assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains("it was in use"), "{said:?}");
}

#[test]
fn a_store_opens_for_its_owner_and_for_nobody_else() {
    let room = Room::new();
    room.create().commit(vec![put(KEY, b"key")]).unwrap();
    let other_member = Owner { member: NodeId::new([8; 32]), ..owner() };
    let other_chain = Owner { chain_id: "tes".into(), ..owner() };
    for asked in [other_member, other_chain] {
        let refused = error(FileStore::open(&room.path(), &asked, &room.unlock()));
        let (path, asked) = (room.path(), Box::new(asked));
        assert_eq!(refused, FileError::OtherOwner { path, owner: Box::new(owner()), asked });
    }
    assert_eq!(read(&room.open().unwrap(), KEY).unwrap(), b"key");
}

#[test]
fn a_store_opens_with_what_it_was_sealed_with_and_with_nothing_else() {
    let room = Room::new();
    room.create();
    create_key_file(&room.file("other key")).unwrap();
    let passphrase = |text: &str| Unlock::Passphrase(SecretBytes::new(text.as_bytes().to_vec()));
    let refused = |unlock| match error(FileStore::open(&room.path(), &owner(), &unlock)) {
        FileError::Unlock { path, error } if path == room.path() => error,
        other => panic!("{other}"),
    };
    assert_eq!(refused(Unlock::KeyFile(room.file("other key"))), SealError::WrongUnlock("key file"));
    let kinds = SealError::OtherKind { sealed_with: "key file", given: "passphrase" };
    assert_eq!(refused(passphrase("secret")), kinds);
    assert_eq!(refused(Unlock::KeyFile(room.file("none"))), KeyFileError::Missing(room.file("none")).into());
    drop(room.open().unwrap());

    let path = room.file("second");
    FileStore::create(&path, &owner(), &passphrase("secret")).unwrap();
    FileStore::open(&path, &owner(), &passphrase("secret")).unwrap();
    let refused = error(FileStore::open(&path, &owner(), &passphrase("Secret")));
    assert_eq!(refused, FileError::Unlock { path, error: SealError::WrongUnlock("passphrase") });
}

#[test]
fn another_schema_version_is_refused_and_left_as_it_is() {
    let room = Room::new();
    room.create().commit(vec![put(KEY, b"key")]).unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let set = |version: u32| {
        let database = redb::Database::open(room.path()).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(meta).unwrap().insert("schema version", &version.to_be_bytes()[..]).unwrap();
        transaction.commit().unwrap();
    };
    for version in [SCHEMA_VERSION + 1, SCHEMA_VERSION - 1, u32::MAX] {
        set(version);
        assert_eq!(room.refusal(), FileError::OtherSchema { path: room.path(), found: version });
    }
    set(SCHEMA_VERSION);
    assert_eq!(read(&room.open().unwrap(), KEY).unwrap(), b"key");
}

#[test]
fn a_sealed_record_in_another_ones_place_is_damage_and_not_that_record() {
    let room = Room::new();
    let store = room.create();
    store.commit(vec![put(KEY, b"key"), put(share(1), b"share")]).unwrap();
    drop(store);
    let records = redb::TableDefinition::<&[u8; 10], &[u8]>::new("records");
    {
        let database = redb::Database::open(room.path()).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(records).unwrap();
            let moved = table.get(&share(1).to_bytes()).unwrap().unwrap().value().to_vec();
            table.insert(&KEY.to_bytes(), &moved[..]).unwrap();
        }
        transaction.commit().unwrap();
    }
    let store = room.open().unwrap();
    let StoreError::Damaged { record, reason } = error(store.read(KEY)) else { panic!("another error") };
    assert_eq!(record, KEY);
    assert!(reason.contains(room.path().to_str().unwrap()), "{reason}");
    assert_eq!(read(&store, share(1)).unwrap(), b"share");
}

#[cfg(unix)]
#[test]
fn its_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let room = Room::new();
    room.create();
    for file in [room.path(), room.witness()] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_or_file_that_may_not_be_written_is_an_error_that_names_it() {
    use std::os::unix::fs::PermissionsExt;
    // Nobody makes files there, whoever runs the test.
    let path = Path::new("/sys/store");
    let refused = error(FileStore::create(path, &owner(), &Room::new().unlock()));
    let FileError::NoAccess { path, .. } = refused else { panic!("{refused}") };
    assert_eq!(path, Path::new("/sys/store.witness"));

    let room = Room::new();
    room.create();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o400)).unwrap();
    if fs::OpenOptions::new().write(true).open(room.path()).is_err() {
        assert!(matches!(room.refusal(), FileError::NoAccess { path, .. } if path == room.path()));
    }
}

#[test]
fn after_resealing_the_new_key_opens_and_the_old_does_not() {
    let room = Room::new();
    let store = room.create();
    store.commit(vec![put(KEY, b"key"), put(share(1), b"share")]).unwrap();
    let new = Unlock::Passphrase(SecretBytes::new(b"new".to_vec()));
    let missing = Unlock::KeyFile(room.file("none"));
    assert!(matches!(error(store.reseal(&missing)), FileError::Unlock { .. }));
    store.commit(vec![put(DEALING, b"dealing")]).unwrap();
    store.reseal(&new).unwrap();
    // The handle goes on.
    store.commit(vec![put(share(2), b"later")]).unwrap();
    drop(store);
    assert!(matches!(room.refusal(), FileError::Unlock { error: SealError::OtherKind { .. }, .. }));
    let store = FileStore::open(&room.path(), &owner(), &new).unwrap();
    let records: [(RecordId, &[u8]); 4] =
        [(KEY, b"key"), (DEALING, b"dealing"), (share(1), b"share"), (share(2), b"later")];
    for (id, record) in records {
        assert_eq!(read(&store, id).unwrap(), record);
    }
    store.reseal(&room.unlock()).unwrap();
    drop(store);
    room.open().unwrap();
}

/// The forms in which bytes could show, wherever they begin in a longer text.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = dkg_engine::hex::encode(secret);
    let mut forms = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for before in 0..3 {
        let padded = [&vec![0; before][..], secret].concat();
        let text = STANDARD.encode(padded).into_bytes();
        forms.push(text[(before * 8).div_ceil(6)..text.len() - 4].to_vec());
    }
    forms
}

#[test]
fn nothing_that_is_kept_can_be_read_from_the_files() {
    let room = Room::new();
    let secrets: Vec<Vec<u8>> = (0..12_u8)
        .map(|n| SecretKey::from_seed(&[n; 32]).unwrap())
        .map(|key| key.scalar().to_be_bytes().to_vec())
        .collect();
    let passphrase = b"correct horse battery staple";
    let store =
        FileStore::create(&room.path(), &owner(), &Unlock::Passphrase(SecretBytes::new(passphrase.to_vec()))).unwrap();
    for (number, secret) in secrets.iter().enumerate() {
        store.commit(vec![put(share(number), secret), put(KEY, secret)]).unwrap();
    }
    store.commit(vec![Change::Remove(share(3))]).unwrap();
    store.reseal(&room.unlock()).unwrap();
    let found = |needles: &[u8]| {
        let files = fs::read_dir(room.folder.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
        let found = |file: Vec<u8>| file.windows(needles.len()).any(|window| window == needles);
        files.map(found).filter(|found| *found).count()
    };
    let look = || {
        // What is no secret is there to be found.
        assert_eq!(found(b"test"), 1);
        for secret in secrets.iter().map(|secret| &secret[..]).chain([&passphrase[..]]) {
            for form in forms(secret).iter().flat_map(|form| [&form[..], &form[..form.len() / 2]]) {
                assert_eq!(found(form), 0, "a secret is in a file");
            }
        }
    };
    look();
    drop(store);
    look();
    // It would be found.
    fs::write(room.file("leak"), format!("xx{}", STANDARD.encode([b"x", &secrets[0][..]].concat()))).unwrap();
    assert!(forms(&secrets[0]).iter().any(|form| found(form) == 1));
}

#[test]
fn an_older_copy_of_the_database_is_refused_and_the_newest_one_opens() {
    let room = Room::new();
    let store = room.create();
    drop(store);
    let mut copies = vec![fs::read(room.path()).unwrap()];
    for change in [put(DEALING, b"dealing"), put(share(1), b"share"), put(KEY, b"key"), Change::Remove(DEALING)] {
        room.open().unwrap().commit(vec![change]).unwrap();
        copies.push(fs::read(room.path()).unwrap());
    }
    room.open().unwrap().reseal(&room.unlock()).unwrap();
    copies.push(fs::read(room.path()).unwrap());
    let (newest, older) = copies.split_last().unwrap();
    for (found, copy) in older.iter().enumerate() {
        fs::write(room.path(), copy).unwrap();
        let rolled_back =
            FileError::RolledBack { database: room.path(), witness: room.witness(), found: found as u64, expected: 5 };
        assert_eq!(room.refusal(), rolled_back);
        assert_eq!(room.refusal(), rolled_back);
    }
    fs::write(room.path(), newest).unwrap();
    assert_eq!(read(&room.open().unwrap(), KEY).unwrap(), b"key");
}

#[test]
fn a_copy_from_a_moment_at_which_the_database_was_open_is_refused_too() {
    let room = Room::new();
    let store = room.create();
    store.commit(vec![put(DEALING, b"dealing")]).unwrap();
    let copy = fs::read(room.path()).unwrap();
    store.commit(vec![put(KEY, b"key")]).unwrap();
    drop(store);
    fs::write(room.path(), copy).unwrap();
    assert!(matches!(room.refusal(), FileError::RolledBack { found: 1, expected: 2, .. }));
}

#[test]
fn an_older_witness_does_no_harm_and_learns_what_the_database_has_seen() {
    let room = Room::new();
    room.create();
    let (database, witness) = (fs::read(room.path()).unwrap(), fs::read(room.witness()).unwrap());
    for number in 0..3 {
        room.open().unwrap().commit(vec![put(share(number), b"share")]).unwrap();
        fs::write(room.witness(), &witness).unwrap();
        room.open().unwrap();
    }
    fs::write(room.path(), database).unwrap();
    assert!(matches!(room.refusal(), FileError::RolledBack { found: 0, expected: 3, .. }));
}

#[test]
fn without_its_witness_a_database_opens_only_when_its_owner_says_that_it_is_the_newest() {
    let room = Room::new();
    room.create().commit(vec![put(DEALING, b"dealing")]).unwrap();
    let (older, witness) = (fs::read(room.path()).unwrap(), fs::read(room.witness()).unwrap());
    room.open().unwrap().commit(vec![put(KEY, b"key")]).unwrap();
    let damaged = FileError::WitnessDamaged { database: room.path(), witness: room.witness() };
    let renew = || FileStore::renew_witness(&room.path(), &owner(), &room.unlock()).unwrap();

    fs::remove_file(room.witness()).unwrap();
    assert_eq!(room.refusal(), FileError::WitnessMissing { database: room.path(), witness: room.witness() });
    assert!(!room.witness().exists());
    renew();
    assert_eq!(read(&room.open().unwrap(), KEY).unwrap(), b"key");
    for useless in [&b""[..], &[0; 9000], &[7; 9000], &witness[..30]] {
        fs::write(room.witness(), useless).unwrap();
        assert_eq!(room.refusal(), damaged);
        renew();
        assert_eq!(read(&room.open().unwrap(), KEY).unwrap(), b"key");
    }
    // Another store's.
    FileStore::create(&room.file("other"), &owner(), &room.unlock()).unwrap();
    fs::copy(room.file("other.witness"), room.witness()).unwrap();
    assert_eq!(room.refusal(), damaged);
    renew();
    // The owner says so of an older one: from then on it is the newest, and what was is not.
    let newest = fs::read(room.path()).unwrap();
    fs::write(room.path(), &older).unwrap();
    assert!(matches!(room.refusal(), FileError::RolledBack { .. }));
    assert!(read(&renew(), KEY).is_none());
    let declared = fs::read(room.path()).unwrap();
    fs::write(room.path(), newest).unwrap();
    assert!(matches!(room.refusal(), FileError::RolledBack { .. }));
    fs::write(room.path(), declared).unwrap();
    room.open().unwrap();
}

#[test]
fn a_new_stores_copy_is_refused_where_the_witness_says_nothing_or_has_lost_a_place() {
    let room = Room::new();
    room.create();
    let (new, witness) = (fs::read(room.path()).unwrap(), fs::read(room.witness()).unwrap());
    room.open().unwrap().commit(vec![put(KEY, b"key")]).unwrap();
    let whole = fs::read(room.witness()).unwrap();
    fs::write(room.path(), &new).unwrap();
    let mut lost_a_place = whole.clone();
    lost_a_place[4096..].fill(7);
    // Empty is what an owner may make who is told that there is none.
    let unfinished = FileError::Unfinished { database: room.path(), witness: room.witness() };
    let damaged = FileError::WitnessDamaged { database: room.path(), witness: room.witness() };
    let useless: [(&[u8], &FileError); 5] = [
        (b"", &unfinished),
        (&[0; 9000], &unfinished),
        (&[7; 9000], &damaged),
        (&witness[..30], &damaged),
        (&lost_a_place, &damaged),
    ];
    for (useless, refusal) in useless {
        fs::write(room.witness(), useless).unwrap();
        assert_eq!(room.refusal(), *refusal);
        assert_eq!(fs::read(room.witness()).unwrap(), useless);
    }
    fs::write(room.witness(), whole).unwrap();
    assert!(matches!(room.refusal(), FileError::RolledBack { found: 0, expected: 1, .. }));
}

#[test]
fn renewing_a_witness_that_fails_leaves_none_behind() {
    let room = Room::new();
    room.create().commit(vec![put(KEY, b"key")]).unwrap();
    fs::remove_file(room.witness()).unwrap();
    let renew = |unlock| error(FileStore::renew_witness(&room.path(), &owner(), &unlock));
    assert!(matches!(renew(Unlock::KeyFile(room.file("none"))), FileError::Unlock { .. }));
    assert!(!room.witness().exists());
    assert_eq!(room.refusal(), FileError::WitnessMissing { database: room.path(), witness: room.witness() });
    // A database that lost everything is not what was never finished.
    let database = fs::read(room.path()).unwrap();
    fs::write(room.path(), b"").unwrap();
    renew(room.unlock());
    assert!(!room.witness().exists());
    fs::write(room.path(), database).unwrap();
    drop(FileStore::renew_witness(&room.path(), &owner(), &room.unlock()).unwrap());
    assert_eq!(read(&room.open().unwrap(), KEY).unwrap(), b"key");
}

/// Storage that refuses.
#[derive(Debug)]
struct Refusing(io::ErrorKind);

impl Medium for Refusing {
    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(self.0.into())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(self.0.into())
    }

    fn resize(&self, _: u64) -> io::Result<()> {
        Err(self.0.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(self.0.into())
    }
}

#[test]
fn what_the_system_refuses_is_said_with_the_files_name() {
    let room = Room::new();
    let refused =
        |kind| error(FileStore::create_on(&room.path(), Refusing(kind), Refusing(kind), &owner(), &room.unlock()));
    assert_eq!(refused(io::ErrorKind::StorageFull), FileError::Full(room.path()));
    assert_eq!(refused(io::ErrorKind::QuotaExceeded), FileError::Full(room.path()));
    assert!(
        matches!(refused(io::ErrorKind::ReadOnlyFilesystem), FileError::NoAccess { path, .. } if path == room.path())
    );
    assert!(
        matches!(refused(io::ErrorKind::PermissionDenied), FileError::NoAccess { path, .. } if path == room.path())
    );
    assert!(matches!(refused(io::ErrorKind::Other), FileError::Io { path, .. } if path == room.path()));
}

/// Storage whose own code fails, from the moment it is told to.
#[derive(Debug, Default, Clone)]
struct Failing {
    bytes: Arc<Mutex<Vec<u8>>>,
    now: Arc<AtomicBool>,
}

impl Medium for Failing {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        bytes.copy_from_slice(&self.bytes.lock()[offset..offset + bytes.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(!self.now.load(Ordering::SeqCst), "this is meant to fail");
        let offset = usize::try_from(offset).unwrap();
        self.bytes.lock()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        self.bytes.lock().resize(usize::try_from(size).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_within_is_an_error_that_names_the_store_and_what_was_reported_is_there_when_it_is_opened_again() {
    let room = Room::new();
    let (database, witness) = (Failing::default(), Failing::default());
    let path = room.path();
    let store = FileStore::create_on(&path, database.clone(), witness.clone(), &owner(), &room.unlock()).unwrap();
    store.commit(vec![put(KEY, b"key")]).unwrap();
    database.now.store(true, Ordering::SeqCst);
    let failed = StoreError::from(FileError::Panicked(path.clone()));
    assert!(failed.to_string().contains(path.to_str().unwrap()));
    assert_eq!(store.commit(vec![put(KEY, b"other")]).err(), Some(failed.clone()));
    assert_eq!(store.read(KEY).err(), Some(failed.clone()));
    database.now.store(false, Ordering::SeqCst);
    assert_eq!(store.list().err(), Some(failed));
    drop(store);
    let store = FileStore::open_on(&path, database, witness, &owner(), &room.unlock()).unwrap();
    assert_eq!(read(&store, KEY).unwrap(), b"key");
}
