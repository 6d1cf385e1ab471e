//! Key shares as EIP-2335 keystores, version 4: a JSON file under a password, which other tools that sign with BLS12-381 keys
//! read.
//!
//! What the EIP pins: the password in NFKD without control codes; scrypt or PBKDF2-HMAC-SHA-256 to a key of 32 bytes; its
//! first half as the key of AES-128 in counter mode; SHA-256 over its second half and the ciphertext as the checksum.
//!
//! `pubkey` is what the EIP asks for, the public key in the encoding of the signature standard: our public keys are points of
//! G2, so it has 96 bytes (compressed, in the standard order and not in Flow's), where validators of Ethereum have 48 bytes
//! of a point of G1. The same secret has another public key there: a tool that checks for G1 keys will refuse the file, and
//! rightly so. The description says which it is. `path` is empty: a share comes from no key tree.
//!
//! A keystore says nothing of chain, member and epoch that is protected, and its cipher does not authenticate them: who
//! brings a share back into a store from one (`dkg keys import --format eip2335`) has to say them. A backup says them itself. The
//! working memory of the password functions is not wiped.

use std::path::Path;

use ctr::cipher::{KeyIvInit, StreamCipher};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::share_file::{read_text, write_new};
use super::{KeyShare, ShareFileError};
use crate::hex;
use crate::secret::SecretBytes;

/// The most bytes a keystore may have.
pub const MAX_KEYSTORE_BYTES: usize = 64 * 1024;
/// The most bytes a password may have.
pub const MAX_PASSWORD_BYTES: usize = 4096;
/// The most memory that reading a keystore with scrypt may take, in bytes: twice what the EIP's own example takes.
pub const MAX_SCRYPT_BYTES: u64 = 512 << 20;
/// The most rounds of scrypt's outer loop (its parameter p).
const MAX_SCRYPT_PARALLEL: u32 = 16;
/// The most rounds of PBKDF2.
pub const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;

const VERSION: u32 = 4;
const SECRET_BYTES: usize = 32;
const SALT_BYTES: usize = 32;
const IV_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// No character becomes more than this many times its bytes in NFKD.
const NFKD_GROWTH: usize = 12;

type Aes128Ctr = ctr::Ctr128BE<aes::Aes128>;

/// Why there is no keystore, or no secret in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// Not JSON of this kind.
    #[error("this is no EIP-2335 keystore: {0}")]
    Malformed(String),
    /// A keystore that uses what this program does not know, or too much of it.
    #[error("this keystore cannot be read here: {0}")]
    Unsupported(String),
    /// The checksum does not fit.
    #[error("the password is not the keystore's, or the keystore is damaged; try again with the right password")]
    WrongPassword,
    /// A password that protects nothing, or too long a one.
    #[error("a password is UTF-8 text of 1 to {MAX_PASSWORD_BYTES} bytes, with something in it besides control codes")]
    BadPassword,
    /// The file cannot be written or read.
    #[error(transparent)]
    File(#[from] ShareFileError),
    /// No randomness.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(String),
}

/// How the password becomes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFunction {
    /// scrypt with n = 2^18, r = 8, p = 1: 256 MiB, as in the EIP. The one to use.
    Scrypt,
    /// PBKDF2 with 2^18 rounds, as in the EIP, where there is too little memory to read a file under scrypt.
    Pbkdf2,
}

/// A keystore. All of it is public but for what is sealed in it.
///
/// Written as the EIP's schema asks. Read as other tools write it: `path` may be missing or null, `uuid` missing, the
/// checksum without `params`, the version a string, and a byte order mark before it all. How it is sealed is not relaxed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AsFound")]
pub struct Keystore {
    crypto: Crypto,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pubkey: Option<String>,
    path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uuid: String,
    version: u32,
}

/// A keystore as somebody wrote it, before it is judged.
#[derive(Deserialize)]
struct AsFound {
    crypto: Crypto,
    description: Option<String>,
    pubkey: Option<String>,
    path: Option<String>,
    uuid: Option<String>,
    version: FoundVersion,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a version is a number, or text that is one")]
enum FoundVersion {
    Number(u64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Crypto {
    kdf: Module<Kdf>,
    checksum: Module<Checksum>,
    cipher: Module<Cipher>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Module<F> {
    #[serde(flatten)]
    function: F,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "function", content = "params", rename_all = "lowercase")]
enum Kdf {
    Scrypt { dklen: u32, n: u64, p: u32, r: u32, salt: String },
    Pbkdf2 { dklen: u32, c: u32, prf: String, salt: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "function", content = "params", rename_all = "lowercase")]
enum Checksum {
    Sha256(Option<NoParams>),
}

/// Parameters of what has none: an object, in which nothing is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NoParams {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "function", content = "params")]
enum Cipher {
    #[serde(rename = "aes-128-ctr")]
    Aes128Ctr { iv: String },
}

/// What is fresh in every keystore.
struct Fresh {
    salt: [u8; SALT_BYTES],
    iv: [u8; IV_BYTES],
    uuid: [u8; 16],
}

impl Keystore {
    /// Seals a share under a password; `description` is for people.
    ///
    /// # Errors
    /// A password that is none, or no randomness.
    pub fn seal(
        share: &KeyShare,
        password: &SecretBytes,
        function: PasswordFunction,
        description: &str,
    ) -> Result<Self, KeystoreError> {
        let mut fresh = Fresh { salt: [0; SALT_BYTES], iv: [0; IV_BYTES], uuid: [0; 16] };
        for bytes in [&mut fresh.salt[..], &mut fresh.iv, &mut fresh.uuid] {
            SysRng.try_fill_bytes(bytes).map_err(|error| KeystoreError::Randomness(error.to_string()))?;
        }
        let salt = hex::encode(&fresh.salt);
        let kdf = match function {
            PasswordFunction::Scrypt => Kdf::Scrypt { dklen: 32, n: 1 << 18, p: 1, r: 8, salt },
            PasswordFunction::Pbkdf2 => Kdf::Pbkdf2 { dklen: 32, c: 1 << 18, prf: "hmac-sha256".into(), salt },
        };
        let secret = share.secret().scalar().to_be_bytes();
        Ok(Keystore {
            crypto: Crypto::seal(&secret, password, kdf, fresh.iv)?,
            description: Some(description.to_owned()),
            pubkey: Some(hex::encode(&share.public_key().to_standard_bytes())),
            path: String::new(),
            uuid: uuid(fresh.uuid),
            version: VERSION,
        })
    }

    /// The secret in it, whatever it is the secret of.
    ///
    /// # Errors
    /// The password is another, or the keystore uses what is not known here or more than is allowed.
    pub fn open(&self, password: &SecretBytes) -> Result<SecretBytes, KeystoreError> {
        self.crypto.open(password)
    }

    /// The public key as it stands there, in hex.
    pub fn public_key(&self) -> Option<&str> {
        self.pubkey.as_deref()
    }

    /// What it says about itself.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Writes the keystore to a file that is not there yet, for its owner's eyes only, durably.
    ///
    /// # Errors
    /// There is such a file, or it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), KeystoreError> {
        Ok(write_new(path, (self.to_json()? + "\n").as_bytes())?)
    }

    /// Reads a keystore from a file.
    ///
    /// # Errors
    /// The file cannot be read; and as [`from_json`](Self::from_json).
    pub fn read(path: &Path) -> Result<Self, KeystoreError> {
        Self::from_json(&read_text(path, MAX_KEYSTORE_BYTES)?)
    }

    /// The keystore as JSON, for a file.
    ///
    /// # Errors
    /// None for a keystore that was made here.
    pub fn to_json(&self) -> Result<String, KeystoreError> {
        serde_json::to_string_pretty(self).map_err(|error| KeystoreError::Malformed(error.to_string()))
    }

    /// Reads a keystore.
    ///
    /// # Errors
    /// It is too long, not JSON of this kind or of another version, or sealed in a way that is not known here or costs more
    /// than is allowed.
    pub fn from_json(text: &str) -> Result<Self, KeystoreError> {
        if text.len() > MAX_KEYSTORE_BYTES {
            return Err(KeystoreError::Malformed(format!("it has more than {MAX_KEYSTORE_BYTES} bytes")));
        }
        // Editors and shells of some systems put it there; JSON knows no such thing.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let found: AsFound = serde_json::from_str(text).map_err(|error| KeystoreError::Malformed(error.to_string()))?;
        found.try_into()
    }
}

impl TryFrom<AsFound> for Keystore {
    type Error = KeystoreError;

    fn try_from(found: AsFound) -> Result<Self, KeystoreError> {
        let AsFound { mut crypto, description, pubkey, path, uuid, version } = found;
        let (number, text) = match version {
            FoundVersion::Number(number) => (Some(number), number.to_string()),
            FoundVersion::Text(text) => (text.parse().ok(), text),
        };
        if number != Some(u64::from(VERSION)) {
            return Err(KeystoreError::Unsupported(format!("it has version {text}, not {VERSION}")));
        }
        crypto.parts()?;
        crypto.kdf.function.check()?;
        crypto.checksum.function = Checksum::Sha256(Some(NoParams {}));
        let (path, uuid) = (path.unwrap_or_default(), uuid.unwrap_or_default());
        Ok(Keystore { crypto, description, pubkey, path, uuid, version: VERSION })
    }
}

/// The bytes of what is sealed.
struct Parts {
    iv: [u8; IV_BYTES],
    message: [u8; SECRET_BYTES],
    checksum: [u8; 32],
}

impl Crypto {
    fn seal(
        secret: &[u8; SECRET_BYTES],
        password: &SecretBytes,
        kdf: Kdf,
        iv: [u8; IV_BYTES],
    ) -> Result<Self, KeystoreError> {
        let key = kdf.derive(password)?;
        let mut message = *secret;
        apply_cipher(&key, &iv, &mut message);
        Ok(Crypto {
            checksum: Module {
                function: Checksum::Sha256(Some(NoParams {})),
                message: hex::encode(&checksum(&key, &message)),
            },
            kdf: Module { function: kdf, message: String::new() },
            cipher: Module { function: Cipher::Aes128Ctr { iv: hex::encode(&iv) }, message: hex::encode(&message) },
        })
    }

    fn open(&self, password: &SecretBytes) -> Result<SecretBytes, KeystoreError> {
        let Parts { iv, message, checksum: expected } = self.parts()?;
        let key = self.kdf.function.derive(password)?;
        if checksum(&key, &message) != expected {
            return Err(KeystoreError::WrongPassword);
        }
        let mut secret = Zeroizing::new(message.to_vec());
        apply_cipher(&key, &iv, &mut secret);
        Ok(SecretBytes::new(std::mem::take(&mut *secret)))
    }

    /// What is sealed as bytes, each part of exactly its length.
    fn parts(&self) -> Result<Parts, KeystoreError> {
        let Cipher::Aes128Ctr { iv } = &self.cipher.function;
        Ok(Parts {
            iv: exactly("crypto.cipher.params.iv", iv)?,
            message: exactly("crypto.cipher.message", &self.cipher.message)?,
            checksum: exactly("crypto.checksum.message", &self.checksum.message)?,
        })
    }
}

/// The bytes of a field that has a length.
fn exactly<const N: usize>(field: &str, digits: &str) -> Result<[u8; N], KeystoreError> {
    hex::decode_array(digits)
        .ok_or_else(|| KeystoreError::Malformed(format!("its {field} is not {N} bytes in hex ({} digits)", 2 * N)))
}

/// A password function whose parameters have been checked, with its salt.
enum Derivation {
    Scrypt(scrypt::Params, Vec<u8>),
    Pbkdf2(u32, Vec<u8>),
}

impl Kdf {
    /// Within the limits, before anything is spent on it.
    fn check(&self) -> Result<Derivation, KeystoreError> {
        let unsupported = |what: String| Err(KeystoreError::Unsupported(what));
        let (Kdf::Scrypt { salt, dklen, .. } | Kdf::Pbkdf2 { salt, dklen, .. }) = self;
        if usize::try_from(*dklen) != Ok(KEY_BYTES) {
            return unsupported(format!("dklen is {dklen}, not {KEY_BYTES}"));
        }
        let salt = hex::decode(salt)
            .ok_or_else(|| KeystoreError::Malformed("its crypto.kdf.params.salt is not hex".into()))?;
        match self {
            Kdf::Scrypt { n, p, r, .. } => {
                let memory = n.checked_mul(u64::from(*r)).and_then(|blocks| blocks.checked_mul(128));
                let affordable = memory.is_some_and(|memory| memory <= MAX_SCRYPT_BYTES) && *p <= MAX_SCRYPT_PARALLEL;
                let log_n = u8::try_from(n.trailing_zeros()).ok().filter(|_| n.is_power_of_two() && *n > 1);
                let (Some(log_n), true) = (log_n, affordable) else {
                    return unsupported(format!("scrypt with n = {n}, r = {r}, p = {p}"));
                };
                let params = scrypt::Params::new(log_n, *r, *p)
                    .map_err(|error| KeystoreError::Unsupported(format!("scrypt: {error}")))?;
                Ok(Derivation::Scrypt(params, salt))
            }
            Kdf::Pbkdf2 { c, prf, .. } => {
                if prf != "hmac-sha256" || !(1..=MAX_PBKDF2_ROUNDS).contains(c) {
                    return unsupported(format!("PBKDF2 with {c} rounds of {prf}"));
                }
                Ok(Derivation::Pbkdf2(*c, salt))
            }
        }
    }

    fn derive(&self, password: &SecretBytes) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeystoreError> {
        let derivation = self.check()?;
        let password = normalised(password)?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        match derivation {
            Derivation::Scrypt(params, salt) => scrypt::scrypt(&password, &salt, &params, &mut key[..])
                .map_err(|error| KeystoreError::Unsupported(format!("scrypt: {error}")))?,
            Derivation::Pbkdf2(rounds, salt) => {
                pbkdf2::pbkdf2_hmac::<Sha256>(&password, &salt, rounds, &mut key[..]);
            }
        }
        Ok(key)
    }
}

/// The password as bytes: NFKD, without the control codes C0, C1 and Delete, in UTF-8.
fn normalised(password: &SecretBytes) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    let text = std::str::from_utf8(password.expose()).map_err(|_| KeystoreError::BadPassword)?;
    if text.len() > MAX_PASSWORD_BYTES {
        return Err(KeystoreError::BadPassword);
    }
    // Room for all of it at once, since what is outgrown is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(NFKD_GROWTH * text.len()));
    for character in text.nfkd().filter(|character| !character.is_control()) {
        let mut buffer = Zeroizing::new([0; 4]);
        bytes.extend_from_slice(character.encode_utf8(&mut buffer[..]).as_bytes());
    }
    if bytes.is_empty() { Err(KeystoreError::BadPassword) } else { Ok(bytes) }
}

fn checksum(key: &[u8; KEY_BYTES], message: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(&key[16..]).chain_update(message).finalize().into()
}

fn apply_cipher(key: &[u8; KEY_BYTES], iv: &[u8; IV_BYTES], message: &mut [u8]) {
    let mut half = Zeroizing::new([0; 16]);
    half.copy_from_slice(&key[..16]);
    Aes128Ctr::new((&*half).into(), iv.into()).apply_keystream(message);
}

/// A random UUID (version 4).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(&bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const PASSWORD: &str = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑";
    const SECRET: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
    const IV: &str = "264daa3f303d7259501c93d997d84fe6";
    const SALT: &str = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3";

    fn secret_bytes(text: &str) -> SecretBytes {
        SecretBytes::new(text.as_bytes().to_vec())
    }

    #[test]
    fn the_password_of_the_eip_becomes_the_bytes_that_it_gives() {
        let bytes = |text| hex::encode(&normalised(&secret_bytes(text)).unwrap());
        assert_eq!(bytes(PASSWORD), "7465737470617373776f7264f09f9491");
        assert_eq!(bytes("\u{0}test\u{7f}pass\u{9f}word\u{1f}🔑\u{80}"), bytes(PASSWORD));
        assert_eq!(bytes("a b"), "612062", "a space is no control code");
        // The character that grows most has room.
        let text = "\u{fdfa}".repeat(MAX_PASSWORD_BYTES / 3);
        let grown = normalised(&secret_bytes(&text)).unwrap();
        assert!(grown.len() > 10 * text.len() && grown.capacity() <= NFKD_GROWTH * text.len());
        for bad in [vec![], vec![0, 0x7f], vec![0xff, 0xfe], vec![b'x'; MAX_PASSWORD_BYTES + 1]] {
            assert_eq!(normalised(&SecretBytes::new(bad)).err(), Some(KeystoreError::BadPassword));
        }
    }

    #[test]
    fn the_test_vectors_of_the_eip_come_out_exactly() {
        let salt = SALT.to_owned();
        for (kdf, vector) in [
            (
                Kdf::Scrypt { dklen: 32, n: 262_144, p: 1, r: 8, salt: salt.clone() },
                include_str!("../../tests/keystores/scrypt.json"),
            ),
            (
                Kdf::Pbkdf2 { dklen: 32, c: 262_144, prf: "hmac-sha256".into(), salt },
                include_str!("../../tests/keystores/pbkdf2.json"),
            ),
        ] {
            let expected: Value = serde_json::from_str(vector).unwrap();
            let (secret, iv) = (hex::decode_array(SECRET).unwrap(), hex::decode_array(IV).unwrap());
            let crypto = Crypto::seal(&secret, &secret_bytes(PASSWORD), kdf, iv).unwrap();
            assert_eq!(serde_json::to_value(&crypto).unwrap(), expected["crypto"]);
            // The whole file, read and written again.
            let keystore = Keystore::from_json(vector).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&keystore.to_json().unwrap()).unwrap(), expected);
            assert_eq!(keystore.crypto, crypto);
        }
    }

    #[test]
    fn a_fresh_uuid_is_one_of_version_4() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
