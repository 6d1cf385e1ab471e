//! Networks on loopback whose ways to each other the test commands: every member is dialled through a relay of the test's,
//! so that addresses stay when members come and go, and links can be cut, frozen and led astray.

#![allow(dead_code, missing_docs, unreachable_pub)] // Every test file uses its own part.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dkg_engine::SecretBytes;
use dkg_engine::address::Address;
use dkg_engine::committee::NodeId;
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::network::tcp::frame::{Frame, FrameBuffer, Hello};
use dkg_engine::network::tcp::{PROTOCOL_VERSION, PeerStatus, TcpConfig, TcpLimits, TcpNetwork, TcpPeer};
use dkg_engine::network::{Delivery, Inbound, InboundError};
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::support::{PATIENCE, Watched, node_id};

pub const CHAIN: [u8; 32] = [7; 32];

pub const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub fn network_key(number: usize) -> SigningKey {
    SigningKey::from_bytes(&[number as u8 + 1; 32])
}

/// Redials at once, and only when there is something to say.
pub fn limits() -> TcpLimits {
    let redial = Duration::from_millis(1);
    TcpLimits { redial, max_redial: redial, keep_connected: false, ..TcpLimits::default() }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::yield_now();
    }
}

pub fn message(text: &str) -> PrivateMessage {
    PrivateMessage::protocol(SecretBytes::new(text.as_bytes().to_vec()), "run")
}

/// What has been delivered; it is confirmed at once, or when the test says so.
#[derive(Clone)]
pub struct Mailbox(Arc<MailboxState>);

struct MailboxState {
    holds: AtomicBool,
    delivered: Watched<Vec<(NodeId, String)>>,
    held: Mutex<Vec<Delivery>>,
}

impl Mailbox {
    pub fn new() -> Self {
        let state =
            MailboxState { holds: AtomicBool::new(false), delivered: Watched::new(Vec::new()), held: Mutex::default() };
        Mailbox(Arc::new(state))
    }

    /// Receipts are kept from now on.
    pub fn hold(&self) {
        self.0.holds.store(true, Ordering::SeqCst);
    }

    /// What is held, receipts and all.
    pub fn held(&self) -> Vec<Delivery> {
        std::mem::take(&mut *self.0.held.lock())
    }

    pub fn delivered(&self) -> Vec<(NodeId, String)> {
        self.0.delivered.wait("deliveries", |delivered| Some(delivered.clone()))
    }

    pub fn wait(&self, count: usize) -> Vec<(NodeId, String)> {
        self.0.delivered.wait("deliveries", |delivered| (delivered.len() >= count).then(|| delivered.clone()))
    }
}

impl Inbound for Mailbox {
    fn deliver(&self, delivery: Delivery) -> Result<(), InboundError> {
        if !delivery.message.fits() {
            return Err(InboundError::TooLarge);
        }
        let text = String::from_utf8_lossy(delivery.message.data.expose()).into_owned();
        let from = delivery.from;
        if self.0.holds.load(Ordering::SeqCst) {
            self.0.held.lock().push(delivery);
        } else {
            delivery.receipt.confirm();
        }
        self.0.delivered.update(|delivered| delivered.push((from, text)));
        Ok(())
    }
}

/// A way to wherever the test says.
#[derive(Clone)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<RelayState>,
}

#[derive(Default)]
struct RelayState {
    target: Mutex<Option<SocketAddr>>,
    /// Nothing passes any more on the connections there are, and they stay open.
    links: Mutex<Vec<Arc<RelayLink>>>,
    closed: AtomicBool,
}

struct RelayLink {
    frozen: AtomicBool,
    near: TcpStream,
    far: TcpStream,
}

impl Relay {
    pub fn new() -> Self {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(RelayState::default());
        let served = Arc::clone(&state);
        thread::Builder::new().name("relay".into()).spawn(move || served.serve(&listener)).unwrap();
        Relay { address, state }
    }

    pub fn address(&self) -> Address {
        self.address.to_string().parse().unwrap()
    }

    /// New connections go there; without a target they are closed.
    pub fn lead(&self, target: Option<SocketAddr>) {
        *self.state.target.lock() = target;
    }

    /// Closes the connections there are.
    pub fn cut(&self) {
        for link in self.state.links.lock().drain(..) {
            let _ = link.near.shutdown(Shutdown::Both);
            let _ = link.far.shutdown(Shutdown::Both);
        }
    }

    /// What is written to the connections there are is swallowed from now on; they stay open.
    pub fn freeze(&self) {
        self.state.links.lock().iter().for_each(|link| link.frozen.store(true, Ordering::SeqCst));
    }
}

impl RelayState {
    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        for near in listener.incoming() {
            let Ok(near) = near else { continue };
            let target = *self.target.lock();
            let Some(far) = target.and_then(|target| TcpStream::connect(target).ok()) else { continue };
            let link = Arc::new(RelayLink { frozen: AtomicBool::new(false), near, far });
            self.links.lock().push(Arc::clone(&link));
            for there in [true, false] {
                let link = Arc::clone(&link);
                thread::Builder::new().name("relay".into()).spawn(move || link.pump(there)).unwrap();
            }
        }
    }
}

impl RelayLink {
    fn pump(&self, there: bool) {
        let (mut from, mut to) = if there { (&self.near, &self.far) } else { (&self.far, &self.near) };
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if !self.frozen.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        if !self.frozen.load(Ordering::SeqCst) {
            let _ = to.shutdown(Shutdown::Write);
        }
    }
}

/// So many members, each with a relay before it.
pub struct Machines {
    pub relays: Vec<Relay>,
}

impl Machines {
    pub fn new(count: usize) -> Self {
        Machines { relays: (0..count).map(|_| Relay::new()).collect() }
    }

    /// What a member is told.
    pub fn config(&self, number: usize, limits: TcpLimits) -> TcpConfig {
        let peer = |number| TcpPeer {
            node_id: node_id(number),
            key: network_key(number).verifying_key(),
            address: self.relays[number].address(),
        };
        TcpConfig {
            listen: LOCALHOST,
            me: node_id(number),
            key: network_key(number),
            chain: CHAIN,
            peers: (0..self.relays.len()).map(peer).collect(),
            clock_offset_ms: 0,
            limits,
        }
    }

    /// Starts a member, and leads the way there.
    pub fn start(&self, number: usize, config: TcpConfig) -> TcpNetwork {
        let network = TcpNetwork::bind(config).unwrap();
        self.relays[number].lead(Some(network.local_addr()));
        network
    }

    /// Starts a member with a mailbox.
    pub fn member(&self, number: usize) -> (TcpNetwork, Mailbox) {
        let network = self.start(number, self.config(number, limits()));
        let mailbox = Mailbox::new();
        network.attach(mailbox.clone());
        (network, mailbox)
    }
}

/// What `network` knows about a member.
pub fn status(network: &TcpNetwork, number: usize) -> PeerStatus {
    network.peers().into_iter().find(|peer| peer.node_id == node_id(number)).unwrap()
}

/// A member's key in the hands of somebody who does not keep the rules.
pub struct Rogue {
    pub tls: StreamOwned<ClientConnection, TcpStream>,
    arriving: FrameBuffer,
}

impl Rogue {
    /// Connects to `address` with this key, whoever answers there.
    pub fn connect(address: SocketAddr, key: &SigningKey) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = ClientConnection::new(rogue_config(key), "rogue".try_into().unwrap()).unwrap();
        Rogue { tls: StreamOwned::new(connection, stream), arriving: FrameBuffer::new() }
    }

    /// Connects, and is recognised.
    pub fn member(address: SocketAddr, number: usize) -> Self {
        let mut rogue = Rogue::connect(address, &network_key(number));
        rogue.say(&Frame::Hello(Hello { protocol: PROTOCOL_VERSION, chain: CHAIN }));
        assert!(matches!(rogue.hear(), Some(Frame::Hello(hello)) if hello.chain == CHAIN));
        rogue
    }

    pub fn say(&mut self, frame: &Frame) {
        self.write(&frame.encode().unwrap());
    }

    pub fn write(&mut self, bytes: &[u8]) {
        // The other side may have had enough.
        let _ = self.tls.write_all(bytes);
        let _ = self.tls.flush();
    }

    /// What is said to it; `None` at the end.
    pub fn hear(&mut self) -> Option<Frame> {
        loop {
            let missing = self.arriving.missing().unwrap();
            if missing == 0 {
                return self.arriving.take().unwrap();
            }
            let mut bytes = vec![0; missing];
            match self.tls.read(&mut bytes) {
                Ok(count @ 1..) => assert_eq!(self.arriving.feed(&bytes[..count]).unwrap(), count),
                Ok(_) => return None,
                Err(error) => {
                    let kind = error.kind();
                    assert!(kind != std::io::ErrorKind::WouldBlock, "nothing was said for {PATIENCE:?}");
                    return None;
                }
            }
        }
    }
}

fn rogue_config(key: &SigningKey) -> Arc<ClientConfig> {
    use rustls::client::AlwaysResolvesClientRawPublicKeys;
    use rustls::crypto::ring;
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
    let hex = |text: &str| dkg_engine::hex::decode(text).unwrap();
    let pkcs8 = [&hex("302e020100300506032b657004220420")[..], key.as_bytes()].concat();
    let spki = [&hex("302a300506032b6570032100")[..], key.verifying_key().as_bytes()].concat();
    let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8)).unwrap();
    let key = rustls::sign::CertifiedKey::new(vec![CertificateDer::from(spki)], signer);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anyone::Anyone))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(key))));
    Arc::new(config)
}

mod anyone {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    /// Talks to whoever is there.
    #[derive(Debug)]
    pub(super) struct Anyone;

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("not spoken".into()))
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    }
}
