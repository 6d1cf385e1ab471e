//! Shares as EIP-2335 keystores, through the store's door. The EIP's own vectors are made again beside the code; here they
//! are read.
#![cfg(feature = "eip2335")]

mod keys_support;

use dkg_engine::SecretBytes;
use dkg_engine::hex;
use dkg_engine::store::eip2335::{Keystore, KeystoreError, MAX_KEYSTORE_BYTES, PasswordFunction};
use keys_support::*;
use serde_json::{Value, json};

const SCRYPT: &str = include_str!("keystores/scrypt.json");
const PBKDF2: &str = include_str!("keystores/pbkdf2.json");

fn password(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

#[test]
fn the_eips_own_keystores_open_with_their_password_however_it_is_typed_and_with_no_other() {
    for vector in [SCRYPT, PBKDF2] {
        let keystore = Keystore::from_json(vector).unwrap();
        for typed in ["𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑", "testpassword🔑", "test\u{7f}password🔑\r\n"]
        {
            let secret = keystore.open(&password(typed)).unwrap();
            let expected = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
            assert_eq!(hex::encode(secret.expose()), expected);
        }
        assert_eq!(keystore.open(&password("testpassword")).err(), Some(KeystoreError::WrongPassword));
    }
}

#[test]
fn a_share_comes_back_out_of_its_keystore_which_names_its_public_key_and_no_secret() {
    let record = committed(5, 0);
    let share = record.held().unwrap();
    let seal = || Keystore::seal(share, &password("open sesame"), PasswordFunction::Pbkdf2, "a share").unwrap();
    let text = seal().to_json().unwrap();
    assert!(!text.contains(&secret_hex(0)));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["version"], &json["path"], &json["description"]), (&4.into(), &"".into(), &"a share".into()));
    let public_key = hex::encode(&KEYS[0].1.to_standard_bytes());
    assert_eq!(json["pubkey"], public_key.as_str());
    let keystore = Keystore::from_json(&text).unwrap();
    assert_eq!((keystore.public_key(), keystore.description()), (Some(public_key.as_str()), Some("a share")));
    let secret = keystore.open(&password("open sesame")).unwrap();
    assert_eq!(hex::encode(secret.expose()), secret_hex(0));
    // Everything that has to be fresh is.
    let again: Value = serde_json::from_str(&seal().to_json().unwrap()).unwrap();
    for part in ["/uuid", "/crypto/kdf/params/salt", "/crypto/cipher/params/iv", "/crypto/cipher/message"] {
        assert_ne!(json.pointer(part).unwrap(), again.pointer(part).unwrap(), "{part}");
    }
}

#[test]
fn a_keystore_that_is_damaged_unknown_or_out_of_bounds_is_refused_with_a_reason() {
    let changed = |vector: &str, pointer: &str, to: Value| {
        let mut json: Value = serde_json::from_str(vector).unwrap();
        *json.pointer_mut(pointer).unwrap() = to;
        let opened = Keystore::from_json(&json.to_string()).and_then(|keystore| keystore.open(&password("x")));
        opened.map(|_| ()).unwrap_err()
    };
    let memory = json!(1_u64 << 20);
    for (vector, pointer, to, said) in [
        (SCRYPT, "/version", json!(3), "version 3"),
        (SCRYPT, "/crypto/kdf/function", json!("argon2"), "no EIP-2335 keystore"),
        (SCRYPT, "/crypto/kdf/params/n", memory, "n = 1048576"),
        (SCRYPT, "/crypto/kdf/params/n", json!(u64::MAX), "n = 18446744073709551615"),
        (SCRYPT, "/crypto/kdf/params/n", json!(262_143), "n = 262143"),
        (SCRYPT, "/crypto/kdf/params/n", json!(0), "n = 0"),
        (SCRYPT, "/crypto/kdf/params/r", json!(0), "scrypt"),
        (SCRYPT, "/crypto/kdf/params/p", json!(1000), "p = 1000"),
        (SCRYPT, "/crypto/kdf/params/dklen", json!(16), "dklen is 16"),
        (SCRYPT, "/crypto/kdf/params/salt", json!("zz"), "salt"),
        (SCRYPT, "/crypto/cipher/params/iv", json!("00"), "iv"),
        (PBKDF2, "/crypto/kdf/params/c", json!(0), "0 rounds"),
        (PBKDF2, "/crypto/kdf/params/c", json!(u32::MAX), "4294967295 rounds"),
        (PBKDF2, "/crypto/kdf/params/prf", json!("hmac-sha512"), "hmac-sha512"),
        (PBKDF2, "/crypto/checksum/message", json!("00"), "checksum"),
    ] {
        let error = changed(vector, pointer, to).to_string();
        assert!(error.contains(said), "{pointer}: {error}");
    }
    for text in ["", "{}", "[]", &" ".repeat(MAX_KEYSTORE_BYTES + 1)] {
        let error = Keystore::from_json(text).unwrap_err().to_string();
        assert!(error.contains("no EIP-2335 keystore"), "{error}");
    }
    // A bit of the ciphertext: the checksum is over it.
    let flipped = PBKDF2.replace("cee03fde", "cee03fdf");
    let opened = Keystore::from_json(&flipped).unwrap().open(&password("testpassword🔑"));
    assert_eq!(opened.err(), Some(KeystoreError::WrongPassword));
}

/// As [`PBKDF2`] but for what `change` does to it.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut json = serde_json::from_str(PBKDF2).unwrap();
    change(&mut json);
    json.to_string()
}

fn without(json: &mut Value, object: &str, field: &str) {
    json.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(field).unwrap();
}

#[test]
fn keystores_as_other_tools_write_them_open_like_the_eips_own() {
    let expected = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
    for (case, text) in [
        ("a null path", changed(|json| json["path"] = Value::Null)),
        ("no path", changed(|json| without(json, "", "path"))),
        ("no uuid", changed(|json| without(json, "", "uuid"))),
        ("a checksum without params", changed(|json| without(json, "/crypto/checksum", "params"))),
        ("a version that is text", changed(|json| json["version"] = "4".into())),
        ("a byte order mark", format!("\u{feff}{PBKDF2}")),
        ("more than is known", changed(|json| json["name"] = "validator".into())),
        (
            "digits in upper case",
            changed(|json| {
                for pointer in ["/crypto/kdf/params/salt", "/crypto/cipher/message", "/crypto/checksum/message"] {
                    let digits = json.pointer_mut(pointer).unwrap();
                    *digits = digits.as_str().unwrap().to_uppercase().into();
                }
            }),
        ),
    ] {
        let keystore = Keystore::from_json(&text).unwrap_or_else(|error| panic!("{case}: {error}"));
        let secret = keystore.open(&password("testpassword🔑")).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(hex::encode(secret.expose()), expected, "{case}");
        // Written as the schema has it.
        let written: Value = serde_json::from_str(&keystore.to_json().unwrap()).unwrap();
        assert!(written["path"].is_string() && written["version"] == 4, "{case}");
    }
}

#[test]
fn a_keystore_whose_parts_are_too_long_or_short_is_refused_by_their_name() {
    for (pointer, digits) in [
        ("/crypto/cipher/message", "00".repeat(33)),
        ("/crypto/cipher/message", "00".repeat(31)),
        ("/crypto/cipher/params/iv", "00".repeat(12)),
        ("/crypto/checksum/message", "00".repeat(33)),
    ] {
        let text = changed(|json| *json.pointer_mut(pointer).unwrap() = digits.into());
        let error = Keystore::from_json(&text).unwrap_err().to_string();
        let field = pointer[1..].replace('/', ".");
        assert!(error.contains(&field) && error.contains("bytes in hex"), "{pointer}: {error}");
    }
}
