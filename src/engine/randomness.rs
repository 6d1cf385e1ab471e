//! Where secrets come from.

use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::epoch::InstanceId;
use crate::secret::SecretBytes;

/// Bytes of a dealing seed, as the reference draws them.
pub const DEALING_SEED_BYTES: usize = 48;

/// The operating system gave no randomness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no randomness: {0}")]
pub struct RandomnessError(pub String);

/// A source of fresh secret bytes. Nodes use [`OsRandomness`]; only tests and simulations have another.
pub trait Randomness: Send {
    /// Fills `bytes` with fresh randomness.
    ///
    /// # Errors
    /// There is none to be had.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomnessError>;

    /// The seed a run's polynomial is drawn from: never the same for two runs.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    fn dealing_seed(&mut self, _instance: &InstanceId) -> Result<SecretBytes, RandomnessError> {
        let mut seed = Zeroizing::new([0; DEALING_SEED_BYTES]);
        self.fill(&mut seed[..])?;
        Ok(SecretBytes::new(seed.to_vec()))
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandomness;

impl Randomness for OsRandomness {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        SysRng.try_fill_bytes(bytes).map_err(|error| RandomnessError(error.to_string()))
    }
}
