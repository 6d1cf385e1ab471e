//! What a node's configuration file says, and what is refused in it.
#![cfg(feature = "node")]

mod folder;

use std::fs;
use std::path::Path;
use std::time::Duration;

use dkg_engine::address::Address;
use dkg_engine::bls::VectorEncoding;
use dkg_engine::chain::log::{ChainSpec, CommitteeFile, LogPlace, Schedule};
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::node::identity::Identity;
use dkg_engine::node::{Answer, Keep, Node, NodeConfig, NodeError, Request, admin_socket, ask, check};
use dkg_engine::store::seal::create_key_file;
use dkg_engine::store::{KEPT_EPOCHS, KeyCheck, Unlock};
use folder::Folder;

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
    assert_eq!(config.peers.get(&node.parse().unwrap()).map(Address::as_str), Some("h:1"));
    assert_eq!(parse("key_check = \"strict\"\n").unwrap().key_check, Some(KeyCheck::Strict));
    assert_eq!(parse("status_names = [\"node-3.example.org\"]\n").unwrap().status_names, ["node-3.example.org"]);
    assert_eq!(parse("key_check = \"off\"\n").unwrap().key_check, None);
    assert_eq!(parse("[keys]\nkeep = { epochs = 200 }\n").unwrap().keep, Keep::Epochs(200));
    assert_eq!(parse("[keys]\nkeep = { days = 90 }\n").unwrap().keep, Keep::Days(90));
}

#[test]
fn what_makes_no_sense_is_named() {
    let node = "17".repeat(32);
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
        ("listen = \"127.1:7000\"\n", "cannot be listened at"),
        ("status = \"localhost:7080\"\n", "cannot be listened at"),
        ("[log]\nendpoints = [\"http://a:1/\"]\n", "ends in a slash"),
        ("[log]\nendpoints = [\"a:1\"]\n", "http://"),
        ("[log]\nendpoints = [\"http://127.1:1\"]\n", "IPv4"),
        (&format!("[log]\nendpoints = [{}]\n", "\"http://a:1\",".repeat(17)), "17 endpoints"),
        (&format!("[peers]\n{node} = \"h\"\n"), "host:port"),
        (&format!("[peers]\n{node} = \"0.0.0.0:1\"\n"), "nobody can be reached"),
    ] {
        let error = parse(more).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
    let error = NodeConfig::parse("committee = \"c\"\n", Path::new("")).unwrap_err();
    assert!(error.contains("identity"), "{error}");
    let error = NodeConfig::read(Path::new("no/node.toml")).unwrap_err().to_string();
    assert!(error.contains("no/node.toml"), "{error}");
}

/// A member's files, beside two members that are not there; nobody keeps the log.
struct Home {
    folder: Folder,
    members: Vec<NodeId>,
}

impl Home {
    fn new() -> Home {
        let folder = Folder::new();
        let path = folder.path();
        create_key_file(&path.join("node.key")).unwrap();
        let identities: Vec<_> = (0..3).map(|_| Identity::generate(None).unwrap()).collect();
        identities[0].create(&path.join("identity.json"), &Unlock::KeyFile(path.join("node.key"))).unwrap();
        let address = |member: usize| format!("127.0.0.1:{}", member + 1).parse().ok();
        let members = identities.iter().enumerate().map(|(member, identity)| identity.public(address(member)));
        let spec = ChainSpec {
            chain_id: "home".into(),
            genesis_ms: 1_796_126_400_000,
            view_ms: 1000,
            schedule: Schedule { views_in_epoch: 600, setup_first_view: 60, views_per_phase: 120, poll_step: 10 },
            members: Vec::new(),
            vector_encoding: VectorEncoding::Uncompressed,
            log: LogPlace::Http(vec!["http://127.0.0.1:8".parse().unwrap()]),
        };
        let committee = CommitteeFile::new(spec, members.collect()).unwrap();
        fs::write(path.join("committee.toml"), committee.text()).unwrap();
        Home { members: identities.iter().map(|identity| identity.node_id).collect(), folder }
    }

    fn config(&self, more: &str) -> NodeConfig {
        let least = "committee = \"committee.toml\"\nidentity = \"identity.json\"\ndata = \"data\"\n";
        NodeConfig::parse(&format!("{least}listen = \"127.0.0.1:0\"\n{more}"), self.folder.path()).unwrap()
    }

    fn unlock(&self) -> Unlock {
        Unlock::KeyFile(self.folder.path().join("node.key"))
    }

    fn start(&self, config: &NodeConfig) -> Result<Node, NodeError> {
        Node::start(config, &self.unlock(), true)
    }
}

#[test]
fn a_node_and_its_check_show_the_addresses_that_the_configuration_has() {
    let home = Home::new();
    let moved = home.members[1];
    let more = format!("[log]\nendpoints = [\"http://127.0.0.1:9\"]\n[peers]\n{moved} = \"127.0.0.9:7\"\n");
    let config = home.config(&more);
    let checked = check(&config, &home.unlock(), Duration::ZERO).unwrap();
    let problem = checked.items.iter().find(|item| item.what == "log").map(|item| item.detail.as_str());
    assert!(problem.is_some_and(|problem| problem.contains("127.0.0.1:9")), "{problem:?}");
    assert!(checked.peers.iter().any(|peer| peer.address == "127.0.0.9:7"), "{:?}", checked.peers);
    let node = home.start(&config).unwrap();
    let status = node.status();
    assert_eq!(status.log.endpoints, ["http://127.0.0.1:9"]);
    let shown = status.chain.members.iter().find(|member| member.node_id == moved.to_string()).unwrap();
    assert_eq!(shown.address, "127.0.0.9:7");
    node.stop().unwrap();
}

#[test]
fn two_members_at_one_address_or_an_address_of_nobody_are_refused() {
    let home = Home::new();
    let [moved, stranger] = [home.members[1], NodeId::new([9; 32])];
    let taken = home.config(&format!("[peers]\n{moved} = \"127.0.0.1:0003\"\n"));
    let unknown = home.config(&format!("[peers]\n{stranger} = \"127.0.0.9:7\"\n"));
    for config in [&taken, &unknown] {
        let told = check(config, &home.unlock(), Duration::ZERO).unwrap_err().to_string();
        assert_eq!(home.start(config).err().unwrap().to_string(), told);
        assert!(told.contains("[peers]"), "{told}");
        assert!(!config.data.exists(), "nothing was begun");
    }
}

#[test]
fn a_node_fills_a_folder_that_is_there_and_empty_and_no_other() {
    let home = Home::new();
    let config = home.config("");
    fs::create_dir_all(config.data.join("lost+found")).unwrap();
    let without = Node::start(&config, &home.unlock(), false).err().unwrap().to_string();
    assert!(without.contains("--create"), "{without}");
    home.start(&config).unwrap().stop().unwrap();
    Node::start(&config, &home.unlock(), false).unwrap().stop().unwrap();

    let store = config.data.join("store");
    fs::rename(&store, home.folder.path().join("taken")).unwrap();
    let lost = home.start(&config).err().unwrap().to_string();
    assert!(lost.contains("store is missing") && !store.exists(), "{lost}");

    let foreign = NodeConfig { data: home.folder.path().join("foreign"), ..config };
    fs::create_dir(&foreign.data).unwrap();
    fs::write(foreign.data.join("notes.txt"), "mine").unwrap();
    let refused = home.start(&foreign).err().unwrap().to_string();
    assert!(refused.contains("notes.txt"), "{refused}");
    let checked = check(&foreign, &home.unlock(), Duration::ZERO).unwrap();
    assert!(checked.items.iter().any(|item| !item.ok && item.detail == refused), "{checked:?}");
    assert_eq!(fs::read_dir(&foreign.data).unwrap().count(), 1);
}

#[test]
#[cfg(unix)]
fn a_node_answers_commands_however_long_the_path_of_its_data_is() {
    let home = Home::new();
    let long = NodeConfig { data: home.folder.path().join("d".repeat(200)), ..home.config("") };
    let socket = admin_socket(&long.data);
    let node = home.start(&long).unwrap();
    assert!(matches!(ask(&socket, &Request::Status), Ok(Answer::Status(_))));
    node.stop().unwrap();
    assert!(!socket.exists());
    // Where there can be no socket at all, a member still does its part, and says so.
    fs::create_dir(&socket).unwrap();
    let node = home.start(&long).unwrap();
    let told: Vec<_> = node.status().events.into_iter().map(|told| told.what).collect();
    assert!(told.iter().any(|told| told.contains("commands") && told.contains("admin.sock")), "{told:?}");
    node.stop().unwrap();
}

#[test]
#[cfg(unix)]
fn a_secret_that_is_mounted_for_others_to_read_is_taken_where_the_configuration_says_so() {
    let home = Home::new();
    let mode = |file: &str, mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(home.folder.path().join(file), mode).unwrap();
    };
    for secret in ["identity.json", "node.key"] {
        mode(secret, 0o440);
        let told = home.start(&home.config("")).err().unwrap().to_string();
        assert!(told.contains(secret) && told.contains("mounted_secrets = true"), "{told}");
        mode(secret, 0o400);
    }
    let config = home.config("mounted_secrets = true\n");
    let start = || Node::start(&config, &Unlock::MountedKeyFile(home.folder.path().join("node.key")), true);
    ["identity.json", "node.key"].iter().for_each(|secret| mode(secret, 0o444));
    let is_roots =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(home.folder.path().join("node.key")).unwrap()) == 0;
    match start() {
        Ok(node) => node.stop().unwrap(),
        Err(error) => assert!(!is_roots && error.to_string().contains("where it is root's"), "{error}"),
    }
    mode("identity.json", 0o464);
    let told = start().err().unwrap().to_string();
    assert!(told.contains("identity.json") && told.contains("0440"), "{told}");
}
