//! Sealed bytes open for who sealed them, where they were sealed, unchanged; and for nobody else.
#![cfg(feature = "file-store")]

mod folder;

use std::fs;

use dkg_engine::SecretBytes;
use dkg_engine::store::seal::{
    Argon2Cost, DataKey, KeyFileError, SEAL_OVERHEAD, SealError, SealedKey, create_key_file,
};
use dkg_engine::store::{ExposedFile, SecretAccess, Unlock};
use folder::Folder;

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(secret(text.as_bytes()))
}

/// As cheap as it may be.
fn cheap() -> Argon2Cost {
    Argon2Cost::new(8, 1, 1).unwrap()
}

/// Whether both keys are one: what one seals, the other opens.
fn same(one: &DataKey, other: &DataKey) -> bool {
    other.open(b"place", &one.seal(b"place", &secret(b"text")).unwrap()).is_ok()
}

fn error<T>(result: Result<T, SealError>) -> SealError {
    result.err().expect("no error")
}

#[test]
fn sealed_bytes_open_with_their_key_and_context_unchanged_and_in_no_other_way() {
    let key = DataKey::generate().unwrap();
    for plain in [&b""[..], b"x", &[7; 5000]] {
        let sealed = key.seal(b"place", &secret(plain)).unwrap();
        assert_eq!(sealed.len(), plain.len() + SEAL_OVERHEAD);
        assert_eq!(key.open(b"place", &sealed).unwrap().expose(), plain);
        assert_eq!(error(key.open(b"plac", &sealed)), SealError::NotOpened);
        assert_eq!(error(DataKey::generate().unwrap().open(b"place", &sealed)), SealError::NotOpened);
        for end in 0..sealed.len().min(60) {
            assert_eq!(error(key.open(b"place", &sealed[..end])), SealError::NotOpened);
        }
        for bit in 0..(8 * sealed.len()).min(1000) {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(error(key.open(b"place", &changed)), SealError::NotOpened, "bit {bit}");
        }
        assert_eq!(error(key.open(b"place", &[&sealed[..], &[0]].concat())), SealError::NotOpened);
    }
}

#[test]
fn the_same_bytes_are_never_sealed_to_the_same_bytes() {
    let key = DataKey::generate().unwrap();
    let sealed: std::collections::BTreeSet<_> = (0..100).map(|_| key.seal(b"", &secret(b"text")).unwrap()).collect();
    assert_eq!(sealed.len(), 100);
}

#[test]
fn a_passphrase_opens_what_it_sealed_and_no_other_passphrase_does() {
    let key = DataKey::generate().unwrap();
    let sealed = SealedKey::seal_at(&key, &passphrase("correct horse"), cheap()).unwrap();
    assert!(same(&sealed.open(&passphrase("correct horse")).unwrap(), &key));
    assert_eq!(error(sealed.open(&passphrase("correct hors"))), SealError::WrongUnlock("passphrase"));
    assert_eq!(error(SealedKey::seal_at(&key, &passphrase(""), cheap())), SealError::EmptyPassphrase);
    assert_eq!(error(sealed.open(&passphrase(""))), SealError::EmptyPassphrase);
}

#[test]
fn the_standard_cost_is_64_mib_and_three_passes_and_opens() {
    assert_eq!(Argon2Cost::STANDARD, Argon2Cost::new(64 * 1024, 3, 1).unwrap());
    let key = DataKey::generate().unwrap();
    let sealed = SealedKey::seal(&key, &passphrase("p")).unwrap();
    assert!(same(&sealed.open(&passphrase("p")).unwrap(), &key));
    assert!(serde_json::to_string(&sealed).unwrap().contains(r#""memory_kib":65536,"passes":3,"lanes":1"#));
}

#[test]
fn a_cost_beyond_the_limits_is_refused_before_it_is_paid() {
    for (memory, passes, lanes) in
        [(7, 1, 1), (256 * 1024 + 1, 1, 1), (64, 0, 1), (64, 17, 1), (64, 1, 0), (64, 1, 5), (u32::MAX, u32::MAX, 1)]
    {
        let refused = SealError::Cost { memory_kib: memory, passes, lanes };
        assert_eq!(Argon2Cost::new(memory, passes, lanes).err(), Some(refused.clone()));
        // The same in a file that somebody has changed.
        let sealed = SealedKey::seal_at(&DataKey::generate().unwrap(), &passphrase("p"), cheap()).unwrap();
        let json = serde_json::to_string(&sealed).unwrap();
        let cost = r#""memory_kib":8,"passes":1,"lanes":1"#;
        assert!(json.contains(cost));
        let changed = json.replace(cost, &format!(r#""memory_kib":{memory},"passes":{passes},"lanes":{lanes}"#));
        let changed: SealedKey = serde_json::from_str(&changed).unwrap();
        assert_eq!(error(changed.open(&passphrase("p"))), refused);
    }
}

#[test]
fn a_key_file_opens_what_it_sealed_and_no_other_key_file_does() {
    let folder = Folder::new();
    let [mine, other] = ["mine", "other"].map(|name| folder.path().join(name));
    create_key_file(&mine).unwrap();
    create_key_file(&other).unwrap();
    let key = DataKey::generate().unwrap();
    let sealed = SealedKey::seal(&key, &Unlock::KeyFile(mine.clone())).unwrap();
    assert!(same(&sealed.open(&Unlock::KeyFile(mine)).unwrap(), &key));
    assert_eq!(error(sealed.open(&Unlock::KeyFile(other))), SealError::WrongUnlock("key file"));
    let kinds = SealError::OtherKind { sealed_with: "key file", given: "passphrase" };
    assert_eq!(error(sealed.open(&passphrase("p"))), kinds);
    let sealed = SealedKey::seal_at(&key, &passphrase("p"), cheap()).unwrap();
    let kinds = SealError::OtherKind { sealed_with: "passphrase", given: "key file" };
    assert_eq!(error(sealed.open(&Unlock::KeyFile(folder.path().join("other")))), kinds);
}

#[test]
fn a_key_file_is_never_overwritten() {
    let folder = Folder::new();
    let path = folder.path().join("key");
    create_key_file(&path).unwrap();
    let before = fs::read(&path).unwrap();
    assert_eq!(before.len(), 65);
    assert_eq!(create_key_file(&path), Err(KeyFileError::Exists(path.clone()).into()));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_key_file_that_is_missing_or_not_64_hex_digits_is_an_error_that_names_it() {
    let folder = Folder::new();
    let path = folder.path().join("key");
    let seal = || error(SealedKey::seal(&DataKey::generate().unwrap(), &Unlock::KeyFile(path.clone())));
    assert_eq!(seal(), KeyFileError::Missing(path.clone()).into());
    create_key_file(&path).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let long = format!("{}00\n", good.trim_end());
    let huge = "0".repeat(1 << 20);
    for bad in ["", "\n", &good[1..], &long, &huge, &good.replacen(&good[..1], "g", 1), "\u{e9}", "0x00"] {
        fs::write(&path, bad).unwrap();
        assert_eq!(seal(), KeyFileError::Malformed(path.clone()).into(), "{bad:.80}");
        assert!(seal().to_string().contains(path.to_str().unwrap()));
    }
    for good in [good.trim_end().to_owned(), good.replace('\n', "\r\n"), good.to_uppercase()] {
        fs::write(&path, good).unwrap();
        assert!(SealedKey::seal(&DataKey::generate().unwrap(), &Unlock::KeyFile(path.clone())).is_ok());
    }
    let folder_as_file = Unlock::KeyFile(folder.path().to_owned());
    let refused = error(SealedKey::seal(&DataKey::generate().unwrap(), &folder_as_file));
    assert_eq!(refused, KeyFileError::Malformed(folder.path().to_owned()).into());
}

#[cfg(unix)]
#[test]
fn a_key_file_is_for_its_owner_alone_and_is_refused_when_others_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let path = folder.path().join("key");
    create_key_file(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o660, 0o601, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = error(SealedKey::seal(&DataKey::generate().unwrap(), &Unlock::KeyFile(path.clone())));
        assert_eq!(
            refused,
            KeyFileError::Exposed(ExposedFile { path: path.clone(), mode, access: SecretAccess::Owner }).into()
        );
        assert!(refused.to_string().contains(&format!("chmod 600 {}", path.display())));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(SealedKey::seal(&DataKey::generate().unwrap(), &Unlock::KeyFile(path)).is_ok());
}

#[test]
fn a_passphrase_opens_however_its_text_is_spelled_and_as_its_bytes_were_given() {
    let seal = |unlock: &Unlock| SealedKey::seal_at(&DataKey::generate().unwrap(), unlock, cheap()).unwrap();
    // Composed, decomposed, with a no-break space, the Angstrom sign.
    // And with a byte order mark before it.
    let spellings = [
        "contrase\u{f1}a \u{c5}",
        "contrasen\u{303}a A\u{30a}",
        "contrase\u{f1}a\u{a0}\u{212b}",
        "\u{feff}contrase\u{f1}a \u{c5}",
    ];
    for sealed_with in spellings {
        let sealed = seal(&passphrase(sealed_with));
        for typed in spellings {
            assert!(sealed.open(&passphrase(typed)).is_ok(), "{sealed_with:?} {typed:?}");
        }
        for other in ["contrasena A", "Contrase\u{f1}a \u{c5}", "contrase\u{f1}a\u{c5}"] {
            assert_eq!(error(sealed.open(&passphrase(other))), SealError::WrongUnlock("passphrase"), "{other:?}");
        }
    }
    // Bytes that are no text have one spelling.
    let bytes = Unlock::Passphrase(secret(&[0xff, b'n', 0xcc, 0x83]));
    assert!(seal(&bytes).open(&bytes).is_ok());
}

#[test]
fn a_line_is_read_without_what_its_editor_put_around_it() {
    let read = |text: &[u8]| SecretBytes::read_line(text, 20).unwrap();
    for text in ["open sesame", "open sesame\n", "open sesame\r\n", "\u{feff}open sesame\r\n"] {
        assert_eq!(read(text.as_bytes()).expose(), b"open sesame", "{text:?}");
    }
    for (text, line) in [("", ""), ("\u{feff}", ""), (" x \n\n", " x \n"), ("x\u{feff}", "x\u{feff}")] {
        assert_eq!(read(text.as_bytes()).expose(), line.as_bytes(), "{text:?}");
    }
    assert_eq!(read(&[b'x'; 30]).len(), 21, "that it is too long shows");
}
