//! Sealing: what is written to a disk is bytes that only the node's key opens.
//!
//! Two layers. Everything a node keeps is sealed under one random [`DataKey`]; the data key itself is kept as a
//! [`SealedKey`], which a passphrase or a key file opens ([`Unlock`]). So changing the passphrase rewrites one small record
//! and touches nothing else.
//!
//! Sealing is XChaCha20-Poly1305 with a nonce of 24 random bytes from the operating system, long enough that it never
//! repeats by chance. The context (which record, whose, of what kind) is authenticated with it and is not written: bytes
//! that are moved to another place do not open there. A passphrase becomes a key by Argon2id, at a cost that is written
//! beside the sealed key and bounded when it is read ([`Argon2Cost`]): nobody who can change the file can make a node
//! take an hour or all its memory. One text has many spellings in Unicode, and which one a keyboard, a terminal or an editor
//! writes is up to them: a passphrase seals in its normal form (NFC, with every space a plain one, as RFC 8265's profile
//! OpaqueString has it) and opens in it, or as the very bytes that were given, for what was sealed with those.
//!
//! What this does not promise: that the bytes are the newest ones (see the file store's witness), anything against who can
//! read the process's memory, and anything against a passphrase that can be guessed.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::secret_file::{ExposedFile, SecretAccess, check_access};
use crate::hex;
use crate::secret::SecretBytes;

/// Bytes of a data key, and of the key in a key file.
pub const KEY_BYTES: usize = 32;
/// Bytes by which sealed bytes are longer than what they hold: the nonce and the tag.
pub const SEAL_OVERHEAD: usize = NONCE_BYTES + TAG_BYTES;
/// Bytes of a passphrase's salt.
pub const SALT_BYTES: usize = 16;
/// No text becomes more than this many times its bytes in NFC.
const NFC_GROWTH: usize = 3;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// The context of a sealed data key. Its salt and cost need not be in it: others make another key.
const SEALED_KEY_CONTEXT: &[u8] = b"dkg-engine sealed data key v1";
/// The most bytes that are read of a key file: its digits, and a line end of any kind.
const MAX_KEY_FILE_BYTES: usize = 2 * KEY_BYTES + 2;

/// Why something was not sealed or not opened. Says nothing about what is inside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operating system gave no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(String),
    /// The bytes were sealed under another key, in another place, or have been changed.
    #[error("the sealed bytes do not open here: they were changed, moved from elsewhere, or sealed under another key")]
    NotOpened,
    /// The passphrase or the key file is not the one that the data key was sealed with.
    #[error("the data key does not open: this is not the {0} it was sealed with")]
    WrongUnlock(&'static str),
    /// A passphrase was given for what a key file opens, or the other way round.
    #[error("the data key was sealed with a {sealed_with}, and a {given} was given")]
    OtherKind {
        /// What it takes.
        sealed_with: &'static str,
        /// What was brought.
        given: &'static str,
    },
    /// There is nothing in the passphrase.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// A cost out of bounds.
    #[error(
        "an Argon2id cost of {memory_kib} KiB, {passes} passes and {lanes} lanes is out of bounds (at most {} KiB, {} \
         passes, {} lanes)",
        Argon2Cost::MAX_MEMORY_KIB,
        Argon2Cost::MAX_PASSES,
        Argon2Cost::MAX_LANES
    )]
    Cost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// More bytes than can be sealed at once.
    #[error("{0} bytes are more than can be sealed at once")]
    TooLong(usize),
    /// Something about the key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
}

/// What is wrong with a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("there is no key file {}; bring it back from where it is kept, what it sealed opens with nothing else", .0.display())]
    Missing(PathBuf),
    /// There is something already.
    #[error("{} is there already and is not overwritten: what it sealed would open with nothing else", .0.display())]
    Exists(PathBuf),
    /// Others can read it.
    #[error(transparent)]
    Exposed(#[from] ExposedFile),
    /// Not what a key file holds.
    #[error("{} is not a key file, which is {} hex digits and nothing else", .0.display(), 2 * KEY_BYTES)]
    Malformed(PathBuf),
    /// It cannot be read or written.
    #[error("the key file {}: {reason}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// What opens a node's data key.
#[derive(Clone)]
pub enum Unlock {
    /// A passphrase, as people type it.
    Passphrase(SecretBytes),
    /// A file with a random key: see [`create_key_file`].
    KeyFile(PathBuf),
    /// As [`KeyFile`](Self::KeyFile), where it is a secret that is mounted: see [`SecretAccess::Mounted`].
    MountedKeyFile(PathBuf),
}

impl Unlock {
    fn kind(&self) -> &'static str {
        match self {
            Unlock::Passphrase(_) => "passphrase",
            Unlock::KeyFile(_) | Unlock::MountedKeyFile(_) => "key file",
        }
    }
}

/// What a guess at a passphrase costs, in the terms of Argon2id (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argon2Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Argon2Cost {
    /// The most memory that is accepted, in KiB.
    pub const MAX_MEMORY_KIB: u32 = 256 * 1024;
    /// The most passes that are accepted.
    pub const MAX_PASSES: u32 = 16;
    /// The most lanes that are accepted.
    pub const MAX_LANES: u32 = 4;
    /// 64 MiB, 3 passes, 1 lane: some 150 ms.
    pub const STANDARD: Argon2Cost = Argon2Cost { memory_kib: 64 * 1024, passes: 3, lanes: 1 };

    /// A cost of one's own: for machines with little memory, or tests. Less than [`STANDARD`](Self::STANDARD) makes
    /// passphrases cheaper to guess.
    ///
    /// # Errors
    /// Beyond the limits, or below what Argon2 is defined for (one pass, one lane, 8 KiB a lane).
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, SealError> {
        Argon2Cost { memory_kib, passes, lanes }.checked()
    }

    /// Within the limits, also where it was read from a file.
    fn checked(self) -> Result<Self, SealError> {
        let Argon2Cost { memory_kib, passes, lanes } = self;
        let fits = (1..=Self::MAX_LANES).contains(&lanes)
            && (1..=Self::MAX_PASSES).contains(&passes)
            && (8 * lanes..=Self::MAX_MEMORY_KIB).contains(&memory_kib);
        if fits { Ok(self) } else { Err(SealError::Cost { memory_kib, passes, lanes }) }
    }

    fn derive(self, passphrase: &SecretBytes, salt: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
        if passphrase.is_empty() {
            return Err(SealError::EmptyPassphrase);
        }
        let Argon2Cost { memory_kib, passes, lanes } = self.checked()?;
        let refused = |_| SealError::Cost { memory_kib, passes, lanes };
        let params = Params::new(memory_kib, passes, lanes, Some(KEY_BYTES)).map_err(refused)?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        // Our own, to be wiped: the key can be computed from what they hold in the end.
        let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(passphrase.expose(), salt, &mut key[..], &mut memory[..])
            .map_err(|_| SealError::TooLong(passphrase.len()))?;
        Ok(key)
    }
}

/// The key that everything a node keeps is sealed under. Wiped on drop; has no `Debug` and no comparison.
pub struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

impl DataKey {
    /// A fresh one.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn generate() -> Result<Self, SealError> {
        Ok(DataKey(Zeroizing::new(random()?)))
    }

    /// Seals `plain` for the place that `context` names: the nonce, the sealed bytes, the tag;
    /// [`SEAL_OVERHEAD`] bytes longer than `plain`.
    ///
    /// # Errors
    /// The operating system gives no randomness, or there are too many bytes.
    pub fn seal(&self, context: &[u8], plain: &SecretBytes) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        // Reserved at once: a buffer that grew would leave what is secret behind.
        let mut sealed = Vec::with_capacity(plain.len().saturating_add(SEAL_OVERHEAD));
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain.expose());
        let tag = self
            .cipher()
            .encrypt_inout_detached(&XNonce::from(nonce), context, (&mut sealed[NONCE_BYTES..]).into())
            .map_err(|_| SealError::TooLong(plain.len()))?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// What [`seal`](Self::seal) was given.
    ///
    /// # Errors
    /// The bytes are not what this key has sealed for this context.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<SecretBytes, SealError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::NotOpened)?;
        let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(SealError::NotOpened)?;
        let mut plain = Zeroizing::new(body.to_vec());
        self.cipher()
            .decrypt_inout_detached(&XNonce::from(*nonce), context, (&mut plain[..]).into(), &Tag::from(*tag))
            .map_err(|_| SealError::NotOpened)?;
        Ok(SecretBytes::new(std::mem::take(&mut *plain)))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

/// A data key, sealed with a passphrase or a key file. No secret: this is what is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey {
    lock: Lock,
    sealed: Vec<u8>,
}

/// How the key that opens a data key is come by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Lock {
    Passphrase { cost: Argon2Cost, salt: [u8; SALT_BYTES] },
    KeyFile,
}

impl SealedKey {
    /// Seals a data key, a passphrase at [`Argon2Cost::STANDARD`].
    ///
    /// # Errors
    /// The key file cannot be used, the passphrase is empty, or the system gives no randomness.
    pub fn seal(key: &DataKey, unlock: &Unlock) -> Result<Self, SealError> {
        Self::seal_at(key, unlock, Argon2Cost::STANDARD)
    }

    /// Seals a data key, a passphrase at this cost. A key file costs nothing: there is nothing to guess.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_at(key: &DataKey, unlock: &Unlock, cost: Argon2Cost) -> Result<Self, SealError> {
        let lock = match unlock {
            Unlock::Passphrase(_) => Lock::Passphrase { cost, salt: random()? },
            Unlock::KeyFile(_) | Unlock::MountedKeyFile(_) => Lock::KeyFile,
        };
        let plain = SecretBytes::new(key.0.to_vec());
        let key = match normal(unlock) {
            Some(normal) => lock.key(&normal)?,
            None => lock.key(unlock)?,
        };
        let sealed = key.seal(SEALED_KEY_CONTEXT, &plain)?;
        Ok(SealedKey { lock, sealed })
    }

    /// The data key.
    ///
    /// # Errors
    /// Another passphrase or key file, one that cannot be used, a cost beyond the limits of [`Argon2Cost`], or a sealed
    /// key that has been changed, which looks the same as a wrong passphrase.
    pub fn open(&self, unlock: &Unlock) -> Result<DataKey, SealError> {
        let open = |unlock: &Unlock| {
            let opened = self.lock.key(unlock)?.open(SEALED_KEY_CONTEXT, &self.sealed);
            opened.map_err(|_| SealError::WrongUnlock(unlock.kind()))
        };
        let plain = match normal(unlock).map(|normal| open(&normal)) {
            Some(Ok(plain)) => plain,
            Some(Err(_)) | None => open(unlock)?,
        };
        let key = <[u8; KEY_BYTES]>::try_from(plain.expose()).map_err(|_| SealError::NotOpened)?;
        Ok(DataKey(Zeroizing::new(key)))
    }
}

/// The passphrase in its normal form, where that is another one than was given. Bytes that are no text have none. A byte order
/// mark is not of the text, wherever the passphrase came from.
fn normal(unlock: &Unlock) -> Option<Unlock> {
    let Unlock::Passphrase(given) = unlock else { return None };
    let text = std::str::from_utf8(given.expose()).ok().filter(|text| !text.is_ascii())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Room for all of it at once, since what is outgrown is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(NFC_GROWTH.saturating_mul(text.len())));
    for character in text.chars().map(plain_space).nfc() {
        let mut buffer = Zeroizing::new([0; 4]);
        bytes.extend_from_slice(character.encode_utf8(&mut buffer[..]).as_bytes());
    }
    let normal = SecretBytes::new(std::mem::take(&mut *bytes));
    (!normal.is_empty() && normal.expose() != given.expose()).then_some(Unlock::Passphrase(normal))
}

/// A space for every separator that looks like one (Unicode's category Zs).
fn plain_space(character: char) -> char {
    match character {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    }
}

impl Lock {
    fn key(&self, unlock: &Unlock) -> Result<DataKey, SealError> {
        match (self, unlock) {
            (Lock::Passphrase { cost, salt }, Unlock::Passphrase(passphrase)) => {
                cost.derive(passphrase, salt).map(DataKey)
            }
            (Lock::KeyFile, Unlock::KeyFile(path)) => Ok(read_key_file(path, SecretAccess::Owner)?),
            (Lock::KeyFile, Unlock::MountedKeyFile(path)) => Ok(read_key_file(path, SecretAccess::Mounted)?),
            (Lock::Passphrase { .. }, _) => {
                Err(SealError::OtherKind { sealed_with: "passphrase", given: unlock.kind() })
            }
            (Lock::KeyFile, _) => Err(SealError::OtherKind { sealed_with: "key file", given: unlock.kind() }),
        }
    }
}

/// Writes a new key file: [`KEY_BYTES`] random bytes as hex, for its owner alone (mode 0600), durable when this returns.
/// Keep a copy where the store is not: without it, what it sealed is lost.
///
/// # Errors
/// There is something at `path` already, which is left alone; or it cannot be written.
pub fn create_key_file(path: &Path) -> Result<(), SealError> {
    let key = Zeroizing::new(random::<KEY_BYTES>()?);
    // Room for all of it at once: a buffer that grew would leave the key behind.
    let mut line = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_BYTES));
    hex::append(&key[..], &mut line);
    line.push('\n');
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Io { path: path.to_owned(), reason: error.to_string() },
    };
    let mut file = options.open(path).map_err(failed)?;
    let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| super::sync_folder(path)) {
        // Half a key file would stand in the way of the next try.
        drop(file);
        let _ = std::fs::remove_file(path);
        return Err(failed(error).into());
    }
    Ok(())
}

fn read_key_file(path: &Path, access: SecretAccess) -> Result<DataKey, KeyFileError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Io { path: path.to_owned(), reason: error.to_string() },
    };
    // Asked before it is opened, too: opening a pipe would wait for who writes to it.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(KeyFileError::Malformed(path.to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    check_access(path, &file.metadata().map_err(failed)?, access)?;
    let text = SecretBytes::read(file, MAX_KEY_FILE_BYTES).map_err(failed)?;
    let malformed = || KeyFileError::Malformed(path.to_owned());
    let digits = match text.expose() {
        [digits @ .., b'\r', b'\n'] | [digits @ .., b'\n'] => digits,
        digits => digits,
    };
    let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
    let key = hex::decode_array(digits).map(Zeroizing::new).ok_or_else(malformed)?;
    Ok(DataKey(key))
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| SealError::Randomness(error.to_string()))?;
    Ok(bytes)
}
