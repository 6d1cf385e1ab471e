//! Who is at the other end: TLS 1.3 with raw Ed25519 keys (RFC 7250), compared with the committee's network keys. There are
//! no certificates, names or dates, and no session is ever resumed: every connection proves both keys anew.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{SigningKey, VerifyingKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, ServerConnection, SignatureScheme,
};
use zeroize::Zeroizing;

/// What stands before the 32 bytes of an Ed25519 public key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the 32 bytes of an Ed25519 seed in a PKCS #8 document (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A public key as it appears in a handshake.
type Spki = [u8; 44];

fn spki(key: &VerifyingKey) -> Spki {
    let mut bytes = [0; 44];
    let (prefix, rest) = bytes.split_at_mut(SPKI_PREFIX.len());
    prefix.copy_from_slice(&SPKI_PREFIX);
    rest.copy_from_slice(key.as_bytes());
    bytes
}

/// This member's part in handshakes. The TLS library keeps its own form of the key, and does not wipe it when it is dropped.
pub(super) struct Credentials {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
}

impl Credentials {
    pub(super) fn new(key: &SigningKey) -> Result<Self, Error> {
        let mut pkcs8 = Zeroizing::new([0; 48]);
        let (prefix, seed) = pkcs8.split_at_mut(PKCS8_PREFIX.len());
        prefix.copy_from_slice(&PKCS8_PREFIX);
        seed.copy_from_slice(key.as_bytes());
        let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..]))?;
        let public = CertificateDer::from(spki(&key.verifying_key()).to_vec());
        let key = Arc::new(CertifiedKey::new(vec![public], signer));
        Ok(Credentials { provider: Arc::new(ring::default_provider()), key })
    }

    /// How to answer whoever has one of these keys.
    pub(super) fn server(&self, peers: &[VerifyingKey]) -> Result<Arc<ServerConfig>, Error> {
        let verifier = Arc::new(self.pinned(peers));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&self.key))));
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// How to dial whoever has this key, and nobody else.
    pub(super) fn client(&self, peer: &VerifyingKey) -> Result<Arc<ClientConfig>, Error> {
        let verifier = Arc::new(self.pinned(&[*peer]));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.key))));
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    fn pinned(&self, keys: &[VerifyingKey]) -> Pinned {
        let keys = keys.iter().map(spki).collect();
        Pinned { keys, algorithms: self.provider.signature_verification_algorithms }
    }
}

/// The beginning of a handshake with a peer that was dialled.
pub(super) fn dial(config: &Arc<ClientConfig>) -> Result<ClientConnection, Error> {
    // The library asks for a name, which is neither sent nor checked.
    let name = ServerName::try_from("member").map_err(|_| Error::General("no name".into()))?;
    ClientConnection::new(Arc::clone(config), name)
}

/// The beginning of a handshake with whoever has dialled.
pub(super) fn answer(config: &Arc<ServerConfig>) -> Result<ServerConnection, Error> {
    ServerConnection::new(Arc::clone(config))
}

/// The key that the other end has proven to have.
pub(super) fn proven_key(connection: &Connection) -> Option<VerifyingKey> {
    let [proven] = connection.peer_certificates()? else { return None };
    let key = proven.strip_prefix(&SPKI_PREFIX)?;
    VerifyingKey::from_bytes(key.try_into().ok()?).ok()
}

/// Lets exactly these keys pass.
struct Pinned {
    keys: Vec<Spki>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({} keys)", self.keys.len())
    }
}

impl Pinned {
    fn check(&self, key: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let known = more.is_empty() && self.keys.iter().any(|known| known[..] == **key);
        // Its alert is "access denied".
        if known { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }

    fn verify(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

/// TLS 1.2 is not offered.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken here".into()))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(key, more).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(key, more).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
