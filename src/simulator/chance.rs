//! Where everything that is left to chance comes from: one seed, and a name for each thing that is drawn.
//!
//! Draws are independent of each other and of their order. Leaving one fault out of a run changes nothing else that chance
//! decides in it, which is what makes shrinking work.

use chacha20::ChaCha20Rng;
use rand::rand_core::{Rng, SeedableRng};

use crate::SecretBytes;
use crate::engine::{DEALING_SEED_BYTES, Randomness, RandomnessError};
use crate::epoch::InstanceId;

/// What a draw is for.
#[derive(Clone, Copy)]
pub(super) enum Draw {
    Plan,
    Node,
    Blocks,
    Link,
    Calls,
    Turn,
    Part,
    Script,
}

/// A generator for one purpose; `a` and `b` tell apart what the purpose is drawn for.
pub(super) fn dice(seed: u64, what: Draw, a: u64, b: u64) -> ChaCha20Rng {
    let mut key = [0; 32];
    for (bytes, number) in key.chunks_exact_mut(8).zip([seed, what as u64, a, b]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha20Rng::from_seed(key)
}

/// A node's secrets in a simulation. Each life of a node draws others, as from an operating system.
pub(super) struct SimulatedRandomness(pub(super) ChaCha20Rng);

impl Randomness for SimulatedRandomness {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        self.0.fill_bytes(bytes);
        Ok(())
    }

    fn dealing_seed(&mut self, _: &InstanceId) -> Result<SecretBytes, RandomnessError> {
        let mut seed = vec![0; DEALING_SEED_BYTES];
        self.0.fill_bytes(&mut seed);
        Ok(SecretBytes::new(seed))
    }
}
