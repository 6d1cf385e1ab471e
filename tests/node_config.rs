//! What a node's configuration file says, and what is refused in it.
#![cfg(feature = "node")]

mod folder;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dkg_engine::address::Address;
use dkg_engine::bls::VectorEncoding;
use dkg_engine::chain::log::{
    ChainSpec, CommitteeFile, EtcdLog, EtcdLogConfig, LogHost, LogPlace, LogRoots, LogTls, Schedule,
};
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::node::identity::Identity;
use dkg_engine::node::{Answer, Keep, Node, NodeConfig, NodeError, Request, admin_socket, ask, check};
use dkg_engine::store::seal::create_key_file;
use dkg_engine::store::{KEPT_EPOCHS, KeyCheck, Unlock};
use folder::Folder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

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
        ("[log]\nclient_cert = \"c\"\n", "client_key"),
        ("[log]\nca_file = \"c\"\nroots = \"system\"\n", "who vouches"),
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
fn keys_are_kept_for_as_many_days_as_are_asked_for_or_the_setting_is_refused() {
    let home = Home::new();
    // An epoch has 600 views of a second: 144 a day, and 65,536 are 455 days and a bit.
    let kept = home.config("[keys]\nkeep = { days = 455 }\n");
    let chain = CommitteeFile::read(&kept.committee).unwrap();
    assert_eq!(kept.keep.epochs(chain.chain()).unwrap(), 455 * 144);
    let config = home.config("[keys]\nkeep = { days = 456 }\n");
    let told = check(&config, &home.unlock(), Duration::ZERO).unwrap_err().to_string();
    assert_eq!(home.start(&config).err().unwrap().to_string(), told);
    for part in ["keys.keep = { days = 456 }", "65664", "1 to 65536", "455 whole days"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!config.data.exists(), "nothing was begun");
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

/// A log server behind TLS that knows its clients by their certificates; what it was asked for.
struct Guarded {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/");

fn pem(name: &str) -> Vec<u8> {
    fs::read(Path::new(TLS).join(name)).unwrap()
}

impl Guarded {
    fn new(chain: String) -> Guarded {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem("ca.pem")).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let key = PrivateKeyDer::from_pem_slice(&pem("server.key")).unwrap();
        let chain_of_server = vec![CertificateDer::from_pem_slice(&pem("server.pem")).unwrap()];
        let config = ServerConfig::builder().with_client_cert_verifier(clients).with_single_cert(chain_of_server, key);
        let config = Arc::new(config.unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, config) = (stream.unwrap(), Arc::clone(&config));
                let (chain, noted) = (chain.clone(), Arc::clone(&noted));
                std::thread::spawn(move || {
                    let tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    let mut tls = BufReader::new(tls);
                    while let Some(line) = request(&mut tls) {
                        noted.lock().unwrap().push(line.clone());
                        let body = match line.as_str() {
                            line if line.contains("/v1/status") => {
                                r#"{"version":"0","entries":0,"now_ms":0,"failure":null}"#
                            }
                            line if line.starts_with("POST /v1") => "0",
                            _ => "",
                        };
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\ndkg-chain: {chain}\r\ndkg-end: 0\r\ncontent-length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        if tls.get_mut().write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Guarded { endpoint, asked }
    }
}

/// The first line of the next request, which is read to its end.
fn request(stream: &mut impl BufRead) -> Option<String> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
        match line.as_str() {
            "" => break,
            line if first.is_empty() => first = line.replacen("post ", "POST ", 1),
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0; length]).ok().map(|()| first)
}

#[test]
fn a_log_behind_a_private_authority_that_asks_for_certificates_is_reached() {
    let home = Home::new();
    for file in ["ca.pem", "other-ca.pem", "client.pem", "client.key"] {
        let copy = home.folder.path().join(file);
        fs::write(&copy, pem(file)).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let committee = CommitteeFile::read(&home.folder.path().join("committee.toml")).unwrap();
    let server = Guarded::new(dkg_engine::hex::encode(committee.chain().identity()));
    let log_item = |more: &str| {
        let config = home.config(&format!("[log]\nendpoints = [\"{}\"]\n{more}", server.endpoint));
        let checked = check(&config, &home.unlock(), Duration::ZERO).unwrap();
        checked.items.into_iter().find(|item| item.what == "log").unwrap()
    };
    let (ca, client) = ("ca_file = \"ca.pem\"\n", "client_cert = \"client.pem\"\nclient_key = \"client.key\"\n");
    let found = log_item(&format!("{ca}{client}"));
    assert!(found.ok, "{found:?}");
    for (more, problem) in [
        (client.to_owned(), "UnknownIssuer"),
        (format!("{client}roots = \"system\"\n"), "UnknownIssuer"),
        (format!("{client}ca_file = \"other-ca.pem\"\n"), "certificate"),
        (ca.to_owned(), "ertificate"),
        (format!("{ca}client_cert = \"client.key\"\nclient_key = \"client.key\"\n"), "no certificate"),
        (format!("{client}ca_file = \"node.key\"\n"), "node.key"),
    ] {
        let found = log_item(&more);
        assert!(!found.ok && found.detail.contains(problem), "{more}: {found:?}");
    }
    // An etcd cluster is reached in the same way.
    let asked = server.asked.lock().unwrap().len();
    let tls = LogTls::default().trusting(LogRoots::from_pem(&pem("ca.pem")).unwrap());
    let tls = tls.showing(&pem("client.pem"), &pem("client.key")).unwrap();
    let way = EtcdLogConfig::new(vec![server.endpoint.parse().unwrap()], "dkg/".into());
    // It is answered with nonsense.
    assert!(EtcdLog::new(EtcdLogConfig { tls, ..way }).read(0, 1).is_err());
    let asked: Vec<_> = server.asked.lock().unwrap().drain(asked..).collect();
    assert!(asked.iter().any(|line| line.starts_with("POST /v3/")), "{asked:?}");
    // What is said of TLS for a log that is not reached over it is a mistake.
    let config = home.config(&format!("[log]\n{ca}"));
    let told = home.start(&config).err().unwrap().to_string();
    assert!(told.contains("https://"), "{told}");
}
