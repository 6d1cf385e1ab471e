//! Who the members are: node ids and keys, fresh or from a seed.

use ed25519_dalek::SigningKey;
use sha3::{Digest, Sha3_384};
use zeroize::Zeroizing;

use dkg_engine::SecretBytes;
use dkg_engine::bls::SecretKey;
use dkg_engine::committee::NodeId;
use dkg_engine::engine::{OsRandomness, Randomness, RandomnessError};
use dkg_engine::epoch::InstanceId;
use dkg_engine::node::identity::Identity;

/// Bytes that keys are made from.
const KEY_SEED_BYTES: usize = 48;

/// Where keys and dealing seeds come from.
#[derive(Clone)]
pub(super) enum Source {
    /// The operating system.
    System,
    /// A seed that somebody has typed: for tests.
    Seed(Vec<u8>),
}

impl Source {
    /// Whether somebody can know every secret.
    pub(super) fn is_seed(&self) -> bool {
        matches!(self, Source::Seed(_))
    }

    /// `count` members in the committee's order: ascending node id.
    pub(super) fn identities(&self, count: usize) -> Result<Vec<Identity>, String> {
        let mut members = (0..count).map(|number| self.identity(number)).collect::<Result<Vec<_>, _>>()?;
        members.sort_by_key(|member| member.node_id);
        Ok(members)
    }

    fn identity(&self, number: usize) -> Result<Identity, String> {
        let number = number.to_string();
        let secret = |purpose: &str| self.secret(&[purpose, &number]).map_err(|error| error.to_string());
        let half = |bytes: Zeroizing<[u8; KEY_SEED_BYTES]>| {
            let mut half = Zeroizing::new([0; 32]);
            half.copy_from_slice(&bytes[..32]);
            half
        };
        Ok(Identity {
            node_id: NodeId::new(*half(secret("node id")?)),
            staking_key: SecretKey::from_seed(&secret("staking key")?[..]).map_err(|error| error.to_string())?,
            network_key: SigningKey::from_bytes(&half(secret("network key")?)),
        })
    }

    /// The randomness of one member's engine.
    pub(super) fn randomness(&self, member: NodeId) -> Box<dyn Randomness> {
        match self {
            Source::System => Box::new(OsRandomness),
            Source::Seed(_) => Box::new(Seeded { source: self.clone(), member }),
        }
    }

    fn secret(&self, labels: &[&str]) -> Result<Zeroizing<[u8; KEY_SEED_BYTES]>, RandomnessError> {
        let mut bytes = Zeroizing::new([0; KEY_SEED_BYTES]);
        match self {
            Source::System => OsRandomness.fill(&mut bytes[..])?,
            Source::Seed(seed) => {
                let mut hasher = Sha3_384::new();
                let parts = [b"dkg local", seed.as_slice()].into_iter().chain(labels.iter().map(|l| l.as_bytes()));
                for part in parts {
                    hasher.update((part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
                bytes.copy_from_slice(&hasher.finalize());
            }
        }
        Ok(bytes)
    }
}

/// Reproducible dealing; everything else a node draws randomness for stays unpredictable.
struct Seeded {
    source: Source,
    member: NodeId,
}

impl Randomness for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        OsRandomness.fill(bytes)
    }

    fn dealing_seed(&mut self, instance: &InstanceId) -> Result<SecretBytes, RandomnessError> {
        let seed = self.source.secret(&["dealing", &self.member.to_string(), instance.as_str()])?;
        Ok(SecretBytes::new(seed.to_vec()))
    }
}
