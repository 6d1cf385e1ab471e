//! What a node's configuration file says, and what is refused in it.
#![cfg(feature = "node")]

use std::path::Path;

use dkg_engine::epoch::EpochCounter;
use dkg_engine::node::{Keep, NodeConfig};
use dkg_engine::store::{KEPT_EPOCHS, KeyCheck};

const LEAST: &str = "committee = \"c.toml\"\nidentity = \"/keys/i.json\"\ndata = \"data\"\n";

fn parse(more: &str) -> Result<NodeConfig, String> {
    NodeConfig::parse(&format!("{LEAST}{more}"), Path::new("/home"))
}

#[test]
fn paths_are_taken_from_the_folder_of_the_file_and_what_is_left_out_has_its_default() {
    let config = parse("").unwrap();
    assert_eq!(config.committee, Path::new("/home/c.toml"));
    assert_eq!(
        (config.identity.as_path(), config.data.as_path()),
        (Path::new("/keys/i.json"), Path::new("/home/data"))
    );
    assert_eq!((config.listen, config.status, config.key_check, config.clock_offset_ms), (None, None, None, 0));
    assert!(config.log.endpoints.is_empty() && config.peers.is_empty());
    assert_eq!(config.keep, Keep::Epochs(KEPT_EPOCHS));
}

#[test]
fn everything_that_can_be_said_is_read() {
    let node = "17".repeat(32);
    let config = parse(&format!(
        "key_file = \"k\"\nlisten = \"[::1]:7\"\nstatus = \"127.0.0.1:8\"\nkey_check = {{ lenient = 9 }}\nclock_offset_ms = -5\n\
         [log]\nendpoints = [\"http://a:1\"]\nusername = \"u\"\npassword_file = \"p\"\n[peers]\n{node} = \"h:1\"\n"
    ))
    .unwrap();
    assert_eq!(config.key_check, Some(KeyCheck::Lenient { epoch: EpochCounter(9) }));
    assert_eq!((config.clock_offset_ms, config.listen), (-5, Some("[::1]:7".parse().unwrap())));
    assert_eq!(config.log.password_file.as_deref(), Some(Path::new("/home/p")));
    assert_eq!(config.peers.get(&node.parse().unwrap()).map(String::as_str), Some("h:1"));
    assert_eq!(parse("key_check = \"strict\"\n").unwrap().key_check, Some(KeyCheck::Strict));
    assert_eq!(parse("status_names = [\"node-3.example.org\"]\n").unwrap().status_names, ["node-3.example.org"]);
    assert_eq!(parse("key_check = \"off\"\n").unwrap().key_check, None);
    assert_eq!(parse("[keys]\nkeep = { epochs = 200 }\n").unwrap().keep, Keep::Epochs(200));
    assert_eq!(parse("[keys]\nkeep = { days = 90 }\n").unwrap().keep, Keep::Days(90));
}

#[test]
fn what_makes_no_sense_is_named() {
    for (more, named) in [
        ("key_file = \"a\"\npassphrase_file = \"b\"\n", "passphrase_file"),
        ("clock_offset_ms = 100000000\n", "clock_offset_ms"),
        ("listen = \"nowhere\"\n", "listen"),
        ("keyfile = \"a\"\n", "keyfile"),
        ("status_names = [\"http://a:1\"]\n", "'http://a:1' is no name of a host"),
        ("key_check = \"perhaps\"\n", "perhaps"),
        ("[keys]\nkeep = { epochs = 0 }\n", "1 to 65536 epochs"),
        ("[keys]\nkeep = { days = 100000 }\n", "days"),
        ("[log]\nusername = \"u\"\n", "password_file"),
        ("[peers]\nzz = \"h:1\"\n", "zz"),
    ] {
        let error = parse(more).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
    let error = NodeConfig::parse("committee = \"c\"\n", Path::new("")).unwrap_err();
    assert!(error.contains("identity"), "{error}");
    let error = NodeConfig::read(Path::new("no/node.toml")).unwrap_err().to_string();
    assert!(error.contains("no/node.toml"), "{error}");
}
