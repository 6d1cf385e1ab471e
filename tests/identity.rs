//! A member's sealed identity file: what it keeps, and what opens it.
#![cfg(feature = "node")]

mod folder;

use std::fs;
use std::path::Path;

use dkg_engine::SecretBytes;
use dkg_engine::hex;
use dkg_engine::node::identity::{Identity, IdentityError};
use dkg_engine::store::Unlock;
use dkg_engine::store::seal::create_key_file;
use folder::Folder;

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(SecretBytes::new(text.as_bytes().to_vec()))
}

fn open_error(path: &Path, unlock: &Unlock) -> IdentityError {
    Identity::open(path, unlock).err().expect("it opens")
}

#[test]
fn an_identity_is_opened_as_it_was_made_with_its_passphrase_or_key_file() {
    let folder = Folder::new();
    let key = folder.path().join("key");
    create_key_file(&key).unwrap();
    for (name, unlock) in [("a", passphrase("open sesame")), ("b", Unlock::KeyFile(key))] {
        let path = folder.path().join(name);
        let made = Identity::generate(None).unwrap();
        made.create(&path, &unlock).unwrap();
        let opened = Identity::open(&path, &unlock).unwrap();
        assert_eq!(opened.secrets().expose(), made.secrets().expose());
        assert_eq!(opened.public("h:1".parse().ok()), made.public("h:1".parse().ok()));
        assert!(opened.public("h:1".parse().ok()).proven().is_ok());
    }
}

#[test]
fn no_private_key_is_readable_in_the_file_and_nobody_else_may_open_it() {
    let folder = Folder::new();
    let path = folder.path().join("identity");
    let made = Identity::generate(None).unwrap();
    made.create(&path, &passphrase("open sesame")).unwrap();
    let bytes = fs::read(&path).unwrap();
    for secret in made.secrets().expose().chunks(32) {
        for shown in [secret.to_vec(), hex::encode(secret).into_bytes()] {
            assert!(!bytes.windows(shown.len()).any(|window| window == shown));
        }
    }
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777, 0o600);
}

#[test]
fn an_identity_is_never_written_over() {
    let folder = Folder::new();
    let path = folder.path().join("identity");
    let (first, second) = (Identity::generate(None).unwrap(), Identity::generate(None).unwrap());
    first.create(&path, &passphrase("a")).unwrap();
    let error = second.create(&path, &passphrase("a")).unwrap_err();
    assert!(error.to_string().contains("identity") && error.to_string().contains("not overwritten"), "{error}");
    assert_eq!(Identity::open(&path, &passphrase("a")).unwrap().node_id, first.node_id);
}

#[test]
fn what_does_not_open_an_identity_says_which_file_and_why() {
    let folder = Folder::new();
    let path = folder.path().join("identity");
    let made = Identity::generate(None).unwrap();
    made.create(&path, &passphrase("open sesame")).unwrap();
    assert!(matches!(open_error(&path, &passphrase("open says me")), IdentityError::Seal { .. }));
    let text = fs::read_to_string(&path).unwrap();
    let node_id = made.node_id.to_string();
    let other = Identity::generate(None).unwrap().node_id.to_string();
    for (changed, word) in [
        (text.replace("\"layout\": 1", "\"layout\": 2"), "layout"),
        (text.replace(&node_id, "00"), "node id"),
        (text.replace(&node_id, &other), "identity"),
        (text.replace("\"secrets\"", "\"secret\""), "secret"),
        (text[..text.len() / 2].to_owned(), "damaged"),
        (String::new(), "damaged"),
    ] {
        assert_ne!(changed, text);
        fs::write(&path, changed).unwrap();
        let error = open_error(&path, &passphrase("open sesame")).to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains(word), "{word}: {error}");
    }
    fs::remove_file(&path).unwrap();
    let error = open_error(&path, &passphrase("open sesame")).to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn members_that_choose_no_node_id_get_different_ones() {
    let chosen = Identity::generate(None).unwrap().node_id;
    assert_ne!(Identity::generate(None).unwrap().node_id, chosen);
    assert_eq!(Identity::generate(Some(chosen)).unwrap().node_id, chosen);
}
