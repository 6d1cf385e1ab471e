//! `dkg keys` as an operator and an operator's scripts use it.
#![cfg(feature = "cli")]

mod keys_support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use dkg_engine::bls::{Scalar, SecretKey};
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::store::eip2335::Keystore;
use dkg_engine::store::seal::create_key_file;
use dkg_engine::store::{
    Batch, Change, DkgState, EpochRecord, FileStore, KeyStatus, Owner, Prune, RecordId, SafeKey, Store, Unlock,
};
use dkg_engine::{SecretBytes, hex};
use keys_support::*;
use serde_json::Value;

const STORE_PASSPHRASE: &str = "correct horse";
const BACKUP_PASSPHRASE: &str = "battery staple";

fn owner() -> Owner {
    Owner { chain_id: "main".into(), member: ME }
}

fn unlock(passphrase: &str) -> Unlock {
    Unlock::Passphrase(SecretBytes::new(passphrase.as_bytes().to_vec()))
}

/// A file that is its owner's alone.
fn secret(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// A node's folder: a store with these records, closed again, and files with the passphrases.
fn node(name: &str, records: &[EpochRecord]) -> Folder {
    let folder = Folder::new(name);
    secret(&folder.file("passphrase"), &format!("{STORE_PASSPHRASE}\n"));
    secret(&folder.file("backup-passphrase"), &format!("{BACKUP_PASSPHRASE}\r\n"));
    let store = FileStore::create(&folder.file("store"), &owner(), &unlock(STORE_PASSPHRASE)).unwrap();
    let state = DkgState::new(Arc::new(store));
    records.iter().for_each(|record| write(&state, record));
    folder
}

fn opened(folder: &Folder, name: &str, passphrase: &str) -> DkgState {
    DkgState::new(Arc::new(FileStore::open(&folder.file(name), &owner(), &unlock(passphrase)).unwrap()))
}

/// What one use of the command left behind.
struct Used {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Used {
    fn json(&self) -> Value {
        assert_eq!(self.stderr, "");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// It ended with this code and said this; no use of the command says a secret.
    #[track_caller]
    fn said(&self, code: i32, parts: &[&str]) {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert_eq!(self.code, Some(code), "{all}");
        for part in parts {
            assert!(all.contains(part), "'{part}' is not in: {all}");
        }
    }
}

fn dkg_with(variables: &[(&str, &str)], arguments: &[&str]) -> Used {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dkg"));
    for variable in ["DKG_PASSPHRASE", "DKG_BACKUP_PASSPHRASE", "DKG_NEW_PASSPHRASE"] {
        command.env_remove(variable);
    }
    command.envs(variables.iter().copied()).arg("keys").args(arguments).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let used = Used { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    for secret in [secret_hex(0), secret_hex(1), STORE_PASSPHRASE.into(), BACKUP_PASSPHRASE.into()] {
        assert!(!used.stdout.contains(&secret) && !used.stderr.contains(&secret), "{arguments:?} prints a secret");
    }
    used
}

/// A command on a store of the folder, with all that opens it.
fn dkg(folder: &Folder, action: &str, store: &str, more: &[&str]) -> Used {
    let (store, passphrase) = (folder.file(store), folder.file("passphrase"));
    let member = ME.to_string();
    let mut arguments = vec![action, "--store", path(&store), "--chain", "main", "--member", &member];
    arguments.extend(["--passphrase-file", path(&passphrase)]);
    arguments.extend(more);
    dkg_with(&[], &arguments)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn list_shows_every_epoch_with_its_state_and_what_to_do_about_it() {
    let folder = node("keys-list", &[committed(4, 0), failed(5), completed(6, 1), started(7)]);
    let used = dkg(&folder, "list", "store", &[]);
    used.said(0, &["safe", "key_committed", "missing", "the disk was full", "dkg keys import", "start the node"]);
    assert_eq!(used.stdout.lines().count(), 5, "a heading and a line an epoch: {}", used.stdout);
    assert!(!used.stdout.contains('\u{1b}'), "plain where nobody looks");
    let json = dkg(&folder, "list", "store", &["--json"]).json();
    assert_eq!((&json["chain"], &json["member"]), (&"main".into(), &ME.to_string().into()));
    let row = |key: &Value| {
        [&key["epoch"], &key["status"], &key["state"], &key["index"], &key["public_key"]]
            .map(Value::to_string)
            .join(" ")
    };
    let rows: Vec<String> = json["keys"].as_array().unwrap().iter().map(row).collect();
    let key = |number: usize| in_hex(&KEYS[number].1);
    assert_eq!(
        rows,
        [
            format!("4 \"safe\" \"key_committed\" 2 \"{}\"", key(0)),
            "5 \"missing\" \"failed\" null null".to_owned(),
            format!("6 \"pending\" \"completed\" 2 \"{}\"", key(1)),
            "7 \"missing\" \"started\" null null".to_owned(),
        ]
    );
    let empty = node("keys-list-empty", &[]);
    dkg(&empty, "list", "store", &[]).said(0, &["nothing is recorded"]);
}

#[test]
fn a_key_that_a_rule_has_erased_is_listed_as_erased() {
    let folder = node("keys-erased", &[committed(1, 0), committed(2, 1)]);
    let prune = Prune { current: EpochCounter(9), in_force: None };
    let state = opened(&folder, "store", STORE_PASSPHRASE).keeping(5);
    state.write(&Batch { prune_for: Some(prune), ..Batch::default() }).unwrap();
    drop(state);
    dkg(&folder, "list", "store", &[]).said(0, &["erased: keys are kept for 5 epochs", &in_hex(&KEYS[0].1), "safe"]);
    let json = dkg(&folder, "list", "store", &["--json"]).json();
    assert_eq!((&json["keys"][0]["state"], &json["keys"][1]["state"]), (&"erased".into(), &"key_committed".into()));
}

#[test]
fn show_tells_one_epoch_whole() {
    let folder = node("keys-show", &[committed(4, 0)]);
    dkg(&folder, "show", "store", &["--epoch", "4"]).said(0, &["key_committed", &in_hex(&KEYS[0].1), "confirmed"]);
    let json = dkg(&folder, "show", "store", &["--epoch", "4", "--json"]).json();
    assert_eq!((&json["status"], &json["index"]), (&"safe".into(), &2.into()));
    dkg(&folder, "show", "store", &["--epoch", "9"]).said(0, &["uninitialized", "has not begun"]);
}

#[test]
fn a_key_that_was_exported_comes_back_into_a_new_store_and_signs() {
    let folder = node("keys-restore", &[committed(4, 0)]);
    let (backup, secret) = (folder.file("backup"), folder.file("backup-passphrase"));
    let sealed = ["--backup-passphrase-file", path(&secret)];
    let export = [&["--epoch", "4", "--to", path(&backup)], &sealed[..]].concat();
    dkg(&folder, "export", "store", &export).said(0, &[path(&backup), &in_hex(&KEYS[0].1)]);
    // Once: a file is not overwritten.
    dkg(&folder, "export", "store", &export).said(1, &[path(&backup), "not overwritten"]);
    dkg_with(&[], &["show-backup", path(&backup)]).said(0, &["main", &in_hex(&KEYS[0].1), "epoch       4"]);
    let shown = dkg_with(&[], &["show-backup", path(&backup), "--json"]).json();
    assert_eq!((&shown["epoch"], &shown["public_key"]), (&4.into(), &in_hex(&KEYS[0].1).into()));

    // The store is lost.
    let import = [&["--from", path(&backup)], &sealed[..]].concat();
    dkg(&folder, "import", "new", &import).said(1, &["new"]);
    assert!(!folder.file("new").exists(), "a store that is not there is not made by mistake");
    let json = dkg(&folder, "import", "new", &[&import[..], &["--create", "--json"]].concat()).json();
    assert_eq!((&json["epoch"], &json["state"]), (&4.into(), &"completed".into()));
    // Once: a key is not overwritten, nor is a store.
    dkg(&folder, "import", "new", &import).said(1, &["epoch 4", "another may not take its place"]);
    dkg(&folder, "import", "new", &[&import[..], &["--create"]].concat()).said(1, &[path(&folder.file("new"))]);
    dkg(&folder, "import", "store", &import).said(1, &["epoch 4", "another may not take its place"]);

    // Not safe before the chain says so.
    dkg(&folder, "verify", "new", &["--epoch", "4"]).said(1, &["FAILED", "no confirmed key share"]);
    let state = opened(&folder, "new", STORE_PASSPHRASE);
    let record = state.record(EpochCounter(4)).unwrap();
    assert_eq!(record.status(), KeyStatus::Completed);
    state.commit(&[record.commit(&commit(4, 0), &ME).unwrap()]).unwrap();
    drop(state);
    dkg(&folder, "verify", "new", &["--epoch", "4", "--public-key", &in_hex(&KEYS[0].1)]).said(0, &["all is well"]);
    let SafeKey::Key(key) = opened(&folder, "new", STORE_PASSPHRASE).safe_key(EpochCounter(4)).unwrap() else {
        panic!("no key")
    };
    assert_eq!(key.self_test(&KEYS[0].1), Ok(()));
}

#[test]
fn a_backup_of_another_member_or_under_another_passphrase_is_not_imported() {
    let folder = node("keys-foreign", &[committed(4, 0), failed(5)]);
    let (backup, secret) = (folder.file("backup"), folder.file("backup-passphrase"));
    let sealed = ["--backup-passphrase-file", path(&secret)];
    let export = [&["--epoch", "4", "--to", path(&backup)], &sealed[..]].concat();
    dkg(&folder, "export", "store", &export).said(0, &[]);
    dkg(&folder, "export", "store", &[&["--epoch", "5", "--to", "x"], &sealed[..]].concat())
        .said(1, &["epoch 5", "no key share", "failed"]);
    let wrong = folder.file("passphrase");
    let import = ["--from", path(&backup), "--create", "--backup-passphrase-file", path(&wrong)];
    dkg(&folder, "import", "new", &import).said(1, &[path(&backup), "passphrase"]);
    let (new, passphrase) = (folder.file("new"), folder.file("passphrase"));
    let other = NodeId::new([8; 32]).to_string();
    let mut arguments = vec!["import", "--store", path(&new), "--chain", "main", "--member", &other, "--create"];
    arguments.extend(["--passphrase-file", path(&passphrase), "--from", path(&backup)]);
    arguments.extend(sealed);
    dkg_with(&[], &arguments).said(1, &[path(&backup), "another's", &ME.to_string()]);
    assert!(!new.exists(), "no store is made for nothing");
}

#[test]
fn a_share_goes_out_as_an_eip_2335_keystore_and_opens_as_one() {
    let folder = node("keys-eip2335", &[committed(4, 0)]);
    let (file, secret) = (folder.file("keystore.json"), folder.file("backup-passphrase"));
    let export =
        ["--epoch", "4", "--to", path(&file), "--format", "eip2335", "--backup-passphrase-file", path(&secret)];
    dkg(&folder, "export", "store", &export).said(0, &[path(&file)]);
    dkg(&folder, "export", "store", &export).said(1, &[path(&file), "not overwritten"]);
    let keystore = Keystore::read(&file).unwrap();
    assert!(keystore.description().unwrap().contains("G2"), "{:?}", keystore.description());
    let opened = keystore.open(&SecretBytes::new(BACKUP_PASSPHRASE.as_bytes().to_vec())).unwrap();
    assert_eq!(hex::encode(opened.expose()), secret_hex(0));
}

#[test]
fn a_keystore_comes_back_into_a_store_only_as_the_share_that_it_names() {
    let folder = node("keys-from-eip2335", &[committed(4, 0)]);
    let (file, password) = (folder.file("keystore.json"), folder.file("backup-passphrase"));
    let with = ["--format", "eip2335", "--backup-passphrase-file", path(&password)];
    dkg(&folder, "export", "store", &[&["--epoch", "4", "--to", path(&file)], &with[..]].concat()).said(0, &[]);
    let import = |file: &Path, options: &[&str]| {
        dkg(&folder, "import", "other", &[&["--create", "--from", path(file)], &with[..], options].concat())
    };
    let whole = ["--epoch", "4", "--index", &INDEX.to_string()];
    import(&file, &[]).said(2, &["--epoch", "--index"]);
    import(&file, &[&whole[..], &["--public-key", &in_hex(&KEYS[1].1)]].concat()).said(1, &["not the one"]);
    // One of another tool, which names a key of another group, if any.
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    for (field, value) in [("pubkey", "9612".into()), ("path", Value::Null), ("version", "4".into())] {
        json[field] = value;
    }
    let foreign = folder.file("foreign.json");
    secret(&foreign, &format!("\u{feff}{json}"));
    import(&foreign, &whole).said(1, &["the keystore names", "--public-key"]);
    assert!(!folder.file("other").exists(), "nothing was made for what was refused");
    import(&foreign, &[&whole[..], &["--public-key", &in_hex(&KEYS[0].1)]].concat())
        .said(0, &[&format!("share {INDEX} is stored")]);
    let restored = opened(&folder, "other", STORE_PASSPHRASE).record(EpochCounter(4)).unwrap();
    assert!(restored.status() == KeyStatus::Completed && restored.held().unwrap().public_key() == KEYS[0].1);
    dkg(&folder, "import", "other", &[&["--from", path(&file)], &with[..], &whole].concat()).said(1, &["epoch 4"]);
}

#[test]
fn keystores_of_other_tools_are_imported_and_none_that_is_weaker() {
    let folder = node("keys-from-other-tools", &[]);
    let password = folder.file("backup-passphrase");
    secret(&password, "\u{feff}testpassword\n");
    let scalar = hex::decode("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f").unwrap();
    let key = SecretKey::from_scalar(Scalar::from_be_bytes(&scalar).unwrap()).unwrap();
    let public_key = in_hex(&key.public_key());
    let plain: Value = serde_json::from_str(include_str!("keystores/plain.json")).unwrap();
    let import = |epoch: u64, text: &str| {
        let (file, epoch) = (folder.file(&format!("{epoch}.json")), epoch.to_string());
        secret(&file, text);
        let what = ["--from", path(&file), "--format", "eip2335", "--backup-passphrase-file", path(&password)];
        let whose = ["--epoch", &epoch, "--index", "2", "--public-key", &public_key];
        dkg(&folder, "import", "store", &[what, whose].concat())
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json = plain.clone();
        change(&mut json);
        json.to_string()
    };
    let without = |json: &mut Value, object: &str, field: &str| {
        json.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(field).unwrap();
    };
    let taken = [
        plain.to_string(),
        format!("\u{feff}{plain}"),
        changed(&|json| json["path"] = Value::Null),
        changed(&|json| without(json, "", "path")),
        changed(&|json| without(json, "", "uuid")),
        changed(&|json| without(json, "/crypto/checksum", "params")),
        changed(&|json| json["version"] = "4".into()),
    ];
    for (epoch, text) in (1..).zip(&taken) {
        import(epoch, text).said(0, &[&format!("epoch {epoch}: share 2 is stored"), "confirmed"]);
    }
    let refused = [
        ("cipher.params.iv", changed(&|json| json["crypto"]["cipher"]["params"]["iv"] = "00".repeat(12).into())),
        ("cipher.message", changed(&|json| json["crypto"]["cipher"]["message"] = "00".repeat(33).into())),
        ("password", changed(&|json| json["crypto"]["checksum"]["message"] = "00".repeat(32).into())),
        ("version", changed(&|json| json["version"] = 3.into())),
    ];
    for (epoch, (culprit, text)) in (100..).zip(&refused) {
        import(epoch, text).said(1, &[&format!("{epoch}.json"), culprit]);
    }
    let state = opened(&folder, "store", STORE_PASSPHRASE);
    assert_eq!(state.epochs().unwrap(), (1..=taken.len() as u64).map(EpochCounter).collect::<Vec<_>>());
    for epoch in 1..=taken.len() as u64 {
        let record = state.record(EpochCounter(epoch)).unwrap();
        assert!(
            matches!(record.safe_key(), SafeKey::NotYet) && record.held().unwrap().public_key() == key.public_key()
        );
    }
}

#[test]
fn verify_lets_every_confirmed_share_sign_and_finds_what_is_not_as_it_should_be() {
    let folder = node("keys-verify", &[committed(4, 0), failed(5), completed(6, 1)]);
    dkg(&folder, "verify", "store", &[]).said(0, &["epoch 4: the stored share signs", "epoch 6: no confirmed share"]);
    let json = dkg(&folder, "verify", "store", &["--json"]).json();
    let results: Vec<&Value> = json["keys"].as_array().unwrap().iter().map(|key| &key["result"]).collect();
    assert_eq!(results, ["passed", "no_key", "no_key"]);
    for epoch in ["5", "6", "7"] {
        dkg(&folder, "verify", "store", &["--epoch", epoch]).said(1, &["FAILED", "no confirmed key share"]);
    }
    let other = in_hex(&KEYS[1].1);
    dkg(&folder, "verify", "store", &["--epoch", "4", "--public-key", &other]).said(1, &["does not verify", &other]);
}

#[test]
fn a_damaged_record_is_shown_and_hides_no_other() {
    let folder = node("keys-damaged", &[committed(4, 0), committed(6, 1)]);
    let store = FileStore::open(&folder.file("store"), &owner(), &unlock(STORE_PASSPHRASE)).unwrap();
    store.commit(vec![Change::Put(RecordId::key(EpochCounter(5)), SecretBytes::new(vec![1; 90]))]).unwrap();
    drop(store);
    dkg(&folder, "list", "store", &[]).said(1, &["damaged", "the key of epoch 5", &in_hex(&KEYS[1].1)[..16]]);
    let json = dkg(&folder, "list", "store", &["--json"]).json();
    let states: Vec<&Value> = json["keys"].as_array().unwrap().iter().map(|key| &key["status"]).collect();
    assert_eq!(states, ["safe", "damaged", "safe"]);
    dkg(&folder, "show", "store", &["--epoch", "5"]).said(1, &["damaged"]);
    dkg(&folder, "verify", "store", &[]).said(1, &["epoch 5: FAILED", "epoch 6: the stored share signs"]);
    dkg(&folder, "export", "store", &["--epoch", "5", "--to", "x"]).said(1, &["the key of epoch 5", "damaged"]);
}

#[test]
fn a_store_under_a_key_file_opens_with_that_file() {
    let folder = Folder::new("keys-key-file");
    let (store, key) = (folder.file("store"), folder.file("key"));
    create_key_file(&key).unwrap();
    drop(FileStore::create(&store, &owner(), &Unlock::KeyFile(key.clone())).unwrap());
    let member = ME.to_string();
    let list = ["list", "--store", path(&store), "--chain", "main", "--member", &member];
    dkg_with(&[], &[&list[..], &["--key-file", path(&key)]].concat()).said(0, &["nothing is recorded"]);
    let other = folder.file("other");
    create_key_file(&other).unwrap();
    dkg_with(&[], &[&list[..], &["--key-file", path(&other)]].concat()).said(1, &[path(&store)]);
    let absent = folder.file("absent");
    dkg_with(&[], &[&list[..], &["--key-file", path(&absent)]].concat()).said(1, &[path(&absent)]);
    dkg_with(&[("DKG_PASSPHRASE", "x")], &list).said(1, &["key file"]);
}

#[test]
fn a_store_opens_with_its_own_passphrase_or_key_file_alone_wherever_that_comes_from() {
    let folder = node("keys-unlock", &[committed(4, 0)]);
    let (store, member) = (folder.file("store"), ME.to_string());
    let list = ["list", "--store", path(&store), "--chain", "main", "--member", &member];
    dkg_with(&[("DKG_PASSPHRASE", STORE_PASSPHRASE)], &list).said(0, &["safe"]);
    dkg_with(&[("DKG_PASSPHRASE", "something else")], &list).said(1, &[path(&store)]);
    dkg_with(&[("DKG_PASSPHRASE", "")], &list).said(1, &["empty"]);
    // Nobody to ask.
    dkg_with(&[], &list).said(2, &["--passphrase-file or --key-file", "DKG_PASSPHRASE"]);
    for (content, complaint) in [("", "empty"), ("\n", "empty"), ("a\nb\n", "one line"), (&"x".repeat(5000), "at most")]
    {
        secret(&folder.file("bad"), content);
        dkg_with(&[], &[&list[..], &["--passphrase-file", path(&folder.file("bad"))]].concat()).said(1, &[complaint]);
    }
    dkg_with(&[], &[&list[..], &["--passphrase-file", "/nonexistent"]].concat()).said(1, &["/nonexistent"]);
    let another = ["list", "--store", path(&store), "--chain", "other", "--member", &member];
    dkg_with(&[("DKG_PASSPHRASE", STORE_PASSPHRASE)], &another).said(1, &[path(&store)]);
    let absent = folder.file("absent");
    let absent = ["list", "--store", path(&absent), "--chain", "main", "--member", &member];
    dkg_with(&[("DKG_PASSPHRASE", STORE_PASSPHRASE)], &absent).said(1, &["absent"]);
}

#[test]
fn bad_usage_says_what_is_wrong_and_ends_with_2() {
    for (arguments, complaint) in [
        (&["list"][..], "--store"),
        (&["list", "--store", "x", "--chain", "main", "--member", "12"], "is not a node id"),
        (&["verify", "--public-key", "12"], "192 hex digits"),
        (&["export", "--format", "paper"], "paper"),
        (&["show", "--epoch", "soon"], "soon"),
        (&["nonsense"], "nonsense"),
    ] {
        dkg_with(&[], arguments).said(2, &[complaint]);
    }
}

#[test]
fn a_store_that_is_sealed_anew_opens_with_the_new_passphrase_alone() {
    let folder = node("keys-reseal", &[committed(4, 0)]);
    let new = folder.file("backup-passphrase");
    dkg(&folder, "change-passphrase", "store", &["--new-passphrase-file", path(&new)]).said(0, &["sealed anew"]);
    dkg(&folder, "list", "store", &[]).said(1, &[path(&folder.file("store"))]);
    assert!(matches!(opened(&folder, "store", BACKUP_PASSPHRASE).safe_key(EpochCounter(4)).unwrap(), SafeKey::Key(_)));
}

#[test]
fn a_store_without_its_witness_opens_again_when_its_owner_has_declared_it_the_newest() {
    let folder = node("keys-witness", &[committed(4, 0)]);
    std::fs::remove_file(folder.file("store.witness")).unwrap();
    dkg(&folder, "list", "store", &[]).said(1, &[path(&folder.file("store.witness")), "renew the witness"]);
    dkg(&folder, "renew-witness", "store", &[]).said(2, &["--it-is-the-newest"]);
    dkg(&folder, "renew-witness", "store", &["--it-is-the-newest"]).said(0, &[path(&folder.file("store"))]);
    dkg(&folder, "list", "store", &[]).said(0, &["safe"]);
}
