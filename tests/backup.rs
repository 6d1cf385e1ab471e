//! Backups of key shares, through the store's door.
#![cfg(feature = "file-store")]

mod keys_support;

use std::path::Path;
use std::sync::Arc;

use dkg_engine::SecretBytes;
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::store::{
    Backup, BackupError, DkgState, EpochRecord, FileStore, KeyStatus, MAX_BACKUP_BYTES, Owner, SafeKey,
    TransitionError, Unlock,
};
use keys_support::*;
use serde_json::{Value, json};

fn owner() -> Owner {
    Owner { chain_id: "main".into(), member: ME }
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(SecretBytes::new(text.as_bytes().to_vec()))
}

fn backup_of(record: &EpochRecord) -> Backup {
    Backup::seal(&owner(), record, &passphrase("a long way home")).unwrap()
}

fn restored(file: &Path, state: &DkgState) -> Result<KeyStatus, BackupError> {
    Backup::read(file)?.restore(state, &owner(), &passphrase("a long way home"), None)
}

#[test]
fn a_share_survives_the_loss_of_its_store_and_signs_again_when_the_chain_has_confirmed_it() {
    let folder = Folder::new("backup-restore");
    for (name, record) in [("committed", committed(5, 0)), ("completed", completed(5, 0))] {
        let file = folder.file(name);
        backup_of(&record).write(&file).unwrap();
        let state = state(&[]);
        assert_eq!(restored(&file, &state).unwrap(), KeyStatus::Completed);
        assert!(matches!(state.safe_key(EpochCounter(5)).unwrap(), SafeKey::NotYet));
        let record = state.record(EpochCounter(5)).unwrap();
        state.commit(&[record.commit(&commit(5, 0), &ME).unwrap()]).unwrap();
        let SafeKey::Key(key) = state.safe_key(EpochCounter(5)).unwrap() else { panic!("no key") };
        assert_eq!(key.self_test(&KEYS[0].1), Ok(()));
    }
}

#[test]
fn a_backup_from_an_open_store_opens_with_what_opens_the_store_and_under_a_new_passphrase_with_that() {
    let folder = Folder::new("backup-of-a-store");
    let store = Arc::new(FileStore::create(&folder.file("store"), &owner(), &passphrase("the store's own")).unwrap());
    let state = DkgState::new(Arc::clone(&store) as _);
    write(&state, &committed(5, 0));
    let backup = store.back_up(&state.record(EpochCounter(5)).unwrap()).unwrap();
    let opens = |backup: &Backup, text| backup.open(&owner(), &passphrase(text)).map(|share| share.public_key());
    assert_eq!(opens(&backup, "the store's own"), Ok(KEYS[0].1));
    assert!(matches!(opens(&backup, "a long way home"), Err(BackupError::Sealed(_))));
    let resealed = backup.resealed(&owner(), &passphrase("the store's own"), &passphrase("a long way home")).unwrap();
    assert_eq!(opens(&resealed, "a long way home"), Ok(KEYS[0].1));
    assert!(matches!(opens(&resealed, "the store's own"), Err(BackupError::Sealed(_))));
    let none = store.back_up(&state.record(EpochCounter(6)).unwrap());
    assert!(matches!(none, Err(BackupError::NoShare { epoch: EpochCounter(6), .. })));
}

#[test]
fn with_the_chains_evidence_a_restored_share_is_safe_at_once_and_against_it_nothing_is_stored() {
    let backup = backup_of(&committed(5, 0));
    let state = state(&[failed(5)]);
    let restore = |evidence| backup.restore(&state, &owner(), &passphrase("a long way home"), Some(&evidence));
    let refused = restore(commit(5, 1)).unwrap_err();
    let expected = BackupError::Refused { epoch: EpochCounter(5), error: TransitionError::EvidenceMismatch };
    assert_eq!(refused, expected);
    assert!(state.record(EpochCounter(5)).unwrap().held().is_none());
    assert_eq!(restore(commit(5, 0)).unwrap(), KeyStatus::KeyCommitted);
    assert!(matches!(state.safe_key(EpochCounter(5)).unwrap(), SafeKey::Key(_)));
}

#[test]
fn a_backup_never_takes_the_place_of_a_stored_share() {
    let folder = Folder::new("backup-occupied");
    let file = folder.file("backup");
    backup_of(&committed(5, 0)).write(&file).unwrap();
    for stored in [completed(5, 0), completed(5, 1), committed(5, 1)] {
        let state = state(std::slice::from_ref(&stored));
        let error = restored(&file, &state).unwrap_err();
        assert_eq!(error, BackupError::Refused { epoch: EpochCounter(5), error: TransitionError::Overwrite });
        let record = state.record(EpochCounter(5)).unwrap();
        assert_eq!(record.status(), stored.status());
        assert_eq!(record.held().unwrap().public_key(), stored.held().unwrap().public_key());
    }
}

#[test]
fn a_backup_is_written_for_its_owner_alone_and_over_no_file() {
    let folder = Folder::new("backup-file");
    let file = folder.file("backup");
    let backup = backup_of(&committed(5, 0));
    backup.write(&file).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // A link to nowhere is a name that is taken, too.
        std::os::unix::fs::symlink(folder.file("nowhere"), folder.file("link")).unwrap();
        assert!(backup.write(&folder.file("link")).is_err());
        std::fs::remove_file(folder.file("link")).unwrap();
    }
    let written = std::fs::read(&file).unwrap();
    let error = backup_of(&committed(6, 1)).write(&file).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()) && error.contains("not overwritten"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), written);
    let nowhere = folder.file("no/such/folder");
    let error = backup.write(&nowhere).unwrap_err().to_string();
    assert!(error.contains(nowhere.to_str().unwrap()), "{error}");
    assert_eq!(folder.names(), ["backup"], "nothing is left lying around");
}

#[test]
fn what_a_backup_is_of_can_be_read_without_its_passphrase_and_no_secret_with_it() {
    let folder = Folder::new("backup-clear");
    let file = folder.file("backup");
    backup_of(&committed(5, 0)).write(&file).unwrap();
    let backup = Backup::read(&file).unwrap();
    assert_eq!((backup.chain(), backup.member()), ("main", ME.to_string().as_str()));
    assert_eq!((backup.epoch(), backup.index(), backup.state()), (EpochCounter(5), at(INDEX), KeyStatus::KeyCommitted));
    assert_eq!(backup.public_key_share(), in_hex(&KEYS[0].1));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(&secret_hex(0)), "{text}");
    // Sealed anew each time: equal backups would tell that they are.
    let share = |backup: &Backup| serde_json::to_value(backup).unwrap()["share"].clone();
    assert_ne!(share(&backup), share(&backup_of(&committed(5, 0))));
}

#[test]
fn a_backup_opens_for_its_owner_with_its_passphrase_and_unchanged_or_not_at_all() {
    let backup = backup_of(&committed(5, 0));
    let unlock = passphrase("a long way home");
    let opened = |backup: &Backup, owner: &Owner, unlock: &Unlock| backup.open(owner, unlock).map(|_| ());
    assert_eq!(opened(&backup, &owner(), &unlock), Ok(()));
    assert!(matches!(opened(&backup, &owner(), &passphrase("another")), Err(BackupError::Sealed(_))));
    for other in [Owner { chain_id: "test".into(), ..owner() }, Owner { member: NodeId::new([8; 32]), ..owner() }] {
        let error = opened(&backup, &other, &unlock).unwrap_err();
        assert_eq!(error, BackupError::OtherOwner { member: ME, chain: "main".into() });
    }
    // Whatever stands in clear is bound to the share.
    let json = serde_json::to_value(&backup).unwrap();
    let other_member = NodeId::new([8; 32]).to_string();
    for (field, to) in [
        ("chain", json!("test")),
        ("member", json!(other_member)),
        ("epoch", json!(6)),
        ("index", json!(3)),
        ("public_key_share", json!(in_hex(&KEYS[1].1))),
        ("state", json!("completed")),
    ] {
        let mut changed = json.clone();
        assert_ne!(changed[field], Value::Null);
        changed[field] = to;
        let changed: Backup = serde_json::from_value(changed).unwrap();
        // Even for the owner that it now names.
        let named = Owner { chain_id: changed.chain().to_owned(), member: changed.member().parse().unwrap() };
        assert!(matches!(opened(&changed, &named, &unlock), Err(BackupError::Sealed(_))), "{field}");
    }
    let sealed = json["share"].as_str().unwrap();
    for position in [0, sealed.len() / 2, sealed.len() - 1] {
        let mut digits: Vec<char> = sealed.chars().collect();
        digits[position] = if digits[position] == '0' { '1' } else { '0' };
        let mut changed = json.clone();
        changed["share"] = digits.into_iter().collect::<String>().into();
        let changed: Backup = serde_json::from_value(changed).unwrap();
        assert!(matches!(opened(&changed, &owner(), &unlock), Err(BackupError::Sealed(_))));
    }
}

#[test]
fn an_epoch_without_a_share_has_no_backup() {
    for record in [new(5), started(5), failed(5)] {
        let error = Backup::seal(&owner(), &record, &passphrase("x")).map(|_| ()).unwrap_err();
        assert_eq!(error, BackupError::NoShare { epoch: EpochCounter(5), status: record.status() });
    }
}

#[test]
fn a_file_that_is_no_backup_is_refused_with_its_name_and_the_reason() {
    let folder = Folder::new("backup-bad");
    let file = folder.file("bad");
    let json = serde_json::to_value(backup_of(&committed(5, 0))).unwrap();
    let with = |field: &str, to: Value| {
        let mut changed = json.clone();
        changed[field] = to;
        changed.to_string().into_bytes()
    };
    for (bytes, reason) in [
        (b"".to_vec(), "no backup"),
        (b"{}".to_vec(), "no backup"),
        (vec![0xff; 10], "not text"),
        (vec![b' '; MAX_BACKUP_BYTES + 1], "more than the 65536 bytes"),
        (with("version", json!(2)), "version 2"),
        (with("format", json!("letter")), "'letter'"),
        (with("index", json!(254)), "damaged"),
        (with("more", json!(1)), "damaged"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let error = Backup::read(&file).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()) && error.contains(reason), "{reason}: {error}");
    }
    let error = Backup::read(&folder.file("absent")).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("absent") && error.contains("cannot be read"), "{error}");
}
