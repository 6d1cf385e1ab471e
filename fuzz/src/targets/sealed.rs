//! What is sealed: backups, keystores, data keys, and bytes under a data key.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, SecretKey};
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::hex;
use dkg_engine::store::eip2335::{Keystore, KeystoreError, MAX_KEYSTORE_BYTES, MAX_PBKDF2_ROUNDS, MAX_SCRYPT_BYTES};
use dkg_engine::store::seal::{Argon2Cost, DataKey, SEAL_OVERHEAD, SealError, SealedKey};
use dkg_engine::store::{
    Backup, BackupError, DkgState, EpochRecord, KeyShare, KeyStatus, MAX_BACKUP_BYTES, MemoryStore, Owner, Unlock,
};
use serde_json::Value;

use super::bytes::{Choices, assert_silent};

/// The passphrase, and the password, of the corpus.
pub const PASSPHRASE: &[u8] = b"fuzz";
/// What is sealed in the corpus under a data key is sealed for this place.
pub const CONTEXT: &[u8] = b"a place";
/// The digits in the key file of the corpus.
const KEY_FILE: [u8; 32] = [0x5a; 32];
/// The data key of the corpus, sealed with its key file.
const DATA_KEY: &str = include_str!("data_key.json");
/// The most that a target spends on guessing at a passphrase.
const CHEAP_ARGON2_KIB: u64 = 64;
const CHEAP_PBKDF2_ROUNDS: u64 = 64;
const CHEAP_SCRYPT_BLOCKS: u64 = 256;

/// Whose the backups of the corpus are.
pub fn owner() -> Owner {
    Owner { chain_id: "fuzz".into(), member: NodeId::new([7; 32]) }
}

/// The key file of the corpus.
pub fn key_file() -> Unlock {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| scratch("key", hex::encode(&KEY_FILE).as_bytes()));
    Unlock::KeyFile(PATH.clone())
}

/// The passphrase of the corpus.
pub fn passphrase() -> Unlock {
    Unlock::Passphrase(SecretBytes::new(PASSPHRASE.to_vec()))
}

/// The data key of the corpus.
pub fn data_key() -> DataKey {
    let sealed: SealedKey = serde_json::from_str(DATA_KEY).unwrap();
    sealed.open(&key_file()).unwrap()
}

/// A share, and the record of it, for the corpus.
pub fn completed() -> EpochRecord {
    let share = KeyShare::new(Index::from_byte(2).unwrap(), SecretKey::from_seed(&[1; 32]).unwrap());
    EpochRecord::new(EpochCounter(5)).start().unwrap().complete(share).unwrap()
}

/// A file of this process with these bytes, for its owner alone, in the place of the one before.
fn scratch(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("dkg-engine-fuzz-{}-{name}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&path).and_then(|mut file| std::io::Write::write_all(&mut file, bytes));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// What opening a sealed key would cost.
#[derive(Clone, Copy, PartialEq)]
enum Price {
    /// Nothing to speak of.
    Cheap,
    /// More than a target may spend.
    Dear,
    /// More than a file may ask for.
    Refused,
}

/// The price of a sealed key, by the limits and not by the code that keeps them.
fn price(sealed: &SealedKey) -> Price {
    let json = serde_json::to_value(sealed).unwrap();
    let Some(cost) = json["lock"]["Passphrase"].get("cost") else { return Price::Cheap };
    let [memory, passes, lanes] = ["memory_kib", "passes", "lanes"].map(|name| cost[name].as_u64().unwrap());
    let most = [Argon2Cost::MAX_MEMORY_KIB, Argon2Cost::MAX_PASSES, Argon2Cost::MAX_LANES].map(u64::from);
    if memory > most[0] || passes > most[1] || lanes > most[2] || memory < 8 * lanes || passes * lanes == 0 {
        Price::Refused
    } else if memory * passes <= CHEAP_ARGON2_KIB {
        Price::Cheap
    } else {
        Price::Dear
    }
}

fn by_passphrase(sealed: &SealedKey) -> bool {
    serde_json::to_value(sealed).unwrap()["lock"].get("Passphrase").is_some()
}

/// The file of a backup: an error names it; what is read opens for its owner alone, at a bounded cost, to the share whose
/// public key it names; and it is restored once.
pub fn backup_file(data: &[u8]) {
    let path = scratch("backup", data);
    let read = Backup::read(&path);
    let backup = match read {
        Ok(backup) => backup,
        Err(error) => {
            let BackupError::File(file) = &error else { panic!("{error} names no file") };
            assert_eq!(file.path, path);
            // A text may be quoted once.
            assert!(error.to_string().len() <= data.len() + path.as_os_str().len() + 300);
            return;
        }
    };
    assert!(data.len() <= MAX_BACKUP_BYTES && std::str::from_utf8(data).is_ok());
    let json = serde_json::to_string(&backup).unwrap();
    let again: Backup = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["format"], &value["version"]), (&"dkg-key-backup".into(), &1.into()));

    let stranger = Owner { chain_id: format!("{}-", backup.chain()), member: owner().member };
    for unlock in [key_file(), passphrase()] {
        assert!(matches!(
            backup.open(&stranger, &unlock).err(),
            Some(BackupError::OtherOwner { .. } | BackupError::Malformed(_))
        ));
    }
    let Ok(member) = backup.member().parse::<NodeId>() else {
        assert!(matches!(backup.open(&owner(), &key_file()), Err(BackupError::Malformed(_))));
        return;
    };
    let owner = Owner { chain_id: backup.chain().to_owned(), member };
    let sealed: SealedKey = serde_json::from_value(value["sealed_by"].clone()).unwrap();
    let (right, wrong) = if by_passphrase(&sealed) { (passphrase(), key_file()) } else { (key_file(), passphrase()) };
    assert!(backup.open(&owner, &wrong).is_err());
    if price(&sealed) == Price::Dear {
        return;
    }
    let state = DkgState::new(Arc::new(MemoryStore::new()));
    match backup.open(&owner, &right) {
        Ok(share) => {
            assert!(price(&sealed) == Price::Cheap);
            assert_eq!(hex::encode(&share.public_key().to_flow_bytes()), backup.public_key_share().to_lowercase());
            assert_eq!(share.index(), backup.index());
            assert_eq!(backup.restore(&state, &owner, &right, None), Ok(KeyStatus::Completed));
            let restored = state.record(backup.epoch()).unwrap();
            assert!(restored.completed_with(&share));
            assert!(backup.restore(&state, &owner, &right, None).is_err(), "it would have been written over itself");
        }
        Err(error) => {
            if price(&sealed) == Price::Refused {
                // What comes before the seal may be wrong, too.
                assert!(matches!(error, BackupError::Malformed(_) | BackupError::Sealed(SealError::Cost { .. })));
            }
            assert_silent(&error.to_string(), &KEY_FILE);
            assert_eq!(backup.restore(&state, &owner, &right, None).err(), Some(error));
            assert_eq!(state.record(backup.epoch()).unwrap().status(), KeyStatus::Uninitialized);
        }
    }
}

/// An EIP-2335 keystore: written and read again it is the same; it opens at a bounded cost, to what its checksum covers.
pub fn keystore(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let keystore = match Keystore::from_json(text) {
        Ok(keystore) => keystore,
        Err(error) => {
            assert!(matches!(error, KeystoreError::Malformed(_) | KeystoreError::Unsupported(_)));
            assert!(error.to_string().len() <= text.len() + 300);
            return;
        }
    };
    assert!(text.len() <= MAX_KEYSTORE_BYTES);
    let json = keystore.to_json().unwrap();
    // Written with line ends and spaces, it may have become too long.
    if json.len() <= MAX_KEYSTORE_BYTES {
        assert_eq!(Keystore::from_json(&json).as_ref(), Ok(&keystore));
    }
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["version"], 4);
    assert_eq!(value.get("pubkey").and_then(Value::as_str), keystore.public_key());
    assert_eq!(value.get("description").and_then(Value::as_str), keystore.description());

    let params = &value["crypto"]["kdf"]["params"];
    let number = |name: &str| u128::from(params[name].as_u64().unwrap());
    let (asked, cheap, refused) = if params.get("n").is_some() {
        let blocks = number("n").saturating_mul(number("r"));
        (blocks * number("p").max(1), CHEAP_SCRYPT_BLOCKS, 128 * blocks > MAX_SCRYPT_BYTES.into() || number("p") > 16)
    } else {
        (number("c"), CHEAP_PBKDF2_ROUNDS, number("c") > MAX_PBKDF2_ROUNDS.into())
    };
    let password = SecretBytes::new(PASSPHRASE.to_vec());
    if refused {
        let error = keystore.open(&password).err();
        assert!(matches!(error, Some(KeystoreError::Unsupported(_) | KeystoreError::Malformed(_))));
    } else if asked <= cheap.into() {
        if let Ok(secret) = keystore.open(&password) {
            let message = value["crypto"]["cipher"]["message"].as_str().unwrap();
            assert_eq!(secret.len(), message.len() / 2);
            // A key file of another length or a password with another letter is another key.
            let other = SecretBytes::new(b"fuzy".to_vec());
            assert_eq!(keystore.open(&other).err(), Some(KeystoreError::WrongPassword));
            assert!(keystore.open(&password).unwrap().ct_eq(&secret));
        }
        for bad in [&b""[..], b"\xff", b"\x7f"] {
            assert!(keystore.open(&SecretBytes::new(bad.to_vec())).is_err());
        }
    }
}

/// What stands sealed on a disk. The first byte says which: a sealed data key, or bytes under the corpus' data key. What
/// opens opens here alone, and no bit of it can be another.
pub fn sealed(data: &[u8]) {
    let mut choices = Choices(data);
    if choices.flag() { sealed_key(choices.0) } else { sealed_bytes(choices.0) }
}

fn sealed_key(json: &[u8]) {
    let Ok(sealed) = serde_json::from_slice::<SealedKey>(json) else { return };
    let written = serde_json::to_string(&sealed).unwrap();
    assert_eq!(serde_json::from_str::<SealedKey>(&written).unwrap(), sealed);
    let (right, wrong) = if by_passphrase(&sealed) { (passphrase(), key_file()) } else { (key_file(), passphrase()) };
    assert!(matches!(sealed.open(&wrong).err(), Some(SealError::OtherKind { .. })));
    let missing = Unlock::KeyFile(Path::new("/there/is/no/such/file").to_owned());
    assert!(sealed.open(&missing).is_err());
    match price(&sealed) {
        Price::Dear => (),
        Price::Refused => assert!(matches!(sealed.open(&right).err(), Some(SealError::Cost { .. }))),
        Price::Cheap => match sealed.open(&right) {
            Ok(_) => {
                let mut other = serde_json::to_value(&sealed).unwrap();
                let last = other["sealed"].as_array_mut().unwrap().last_mut().unwrap();
                *last = (last.as_u64().unwrap() ^ 1).into();
                let other: SealedKey = serde_json::from_value(other).unwrap();
                assert!(matches!(other.open(&right).err(), Some(SealError::WrongUnlock(_))));
            }
            Err(error) => {
                assert!(matches!(error, SealError::WrongUnlock(_) | SealError::NotOpened));
                assert_silent(&error.to_string(), &KEY_FILE);
            }
        },
    }
}

fn sealed_bytes(sealed: &[u8]) {
    let key = data_key();
    match key.open(CONTEXT, sealed) {
        Ok(plain) => {
            assert_eq!(plain.len() + SEAL_OVERHEAD, sealed.len());
            assert_eq!(key.open(b"another place", sealed).err(), Some(SealError::NotOpened));
            for place in 0..sealed.len() {
                let mut other = sealed.to_vec();
                other[place] ^= 1 << (place % 8);
                assert_eq!(key.open(CONTEXT, &other).err(), Some(SealError::NotOpened));
            }
        }
        Err(error) => assert_eq!(error, SealError::NotOpened),
    }
}
