//! A dealer's secret polynomial.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use sha3::{Digest, Sha3_256};
use zeroize::Zeroizing;

use super::{CommitmentVector, Effort, Index, Scalar};

/// The fewest bytes of a seed.
const MIN_SEED: usize = 32;

/// Bytes drawn for a coefficient: 128 bits more than r has, so that reducing them leaves no bias to speak of.
const DRAW: usize = 48;

/// A seed that cannot be used. The seed is not in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// Fewer than 32 bytes.
    #[error("a seed needs at least 32 bytes of randomness, not {0}")]
    TooShort(usize),
    /// More than 256 bytes, for a key.
    #[error("the seed of a key has at most 256 bytes, not {0}")]
    TooLong(usize),
}

/// A dealer's secret polynomial P(x) = a_0 + a_1 x + … + a_t x^t over the integers modulo r. Wiped when dropped.
#[cfg_attr(feature = "simulator", derive(Clone))]
pub struct Polynomial {
    /// a_0 … a_t; never empty.
    coefficients: Vec<Scalar>,
}

impl Polynomial {
    /// The polynomial of the given degree that the seed determines (spec section 4): SHA3-256 of the seed keys ChaCha20
    /// with the nonce `gen_poly`; each coefficient is 48 bytes of the stream, big endian, reduced modulo r. The first and
    /// the last are drawn again while they are zero.
    ///
    /// # Errors
    ///
    /// [`SeedError::TooShort`] below 32 bytes. There is no upper limit.
    pub fn from_seed(seed: &[u8], degree: usize) -> Result<Polynomial, SeedError> {
        if seed.len() < MIN_SEED {
            return Err(SeedError::TooShort(seed.len()));
        }
        let mut stream = generator(seed);
        // Room for all of them at once: a vector that grows leaves copies behind.
        let mut coefficients = Vec::with_capacity(degree.saturating_add(1));
        for k in 0..=degree {
            let mut coefficient = draw(&mut stream);
            while (k == 0 || k == degree) && coefficient.is_zero() {
                coefficient = draw(&mut stream);
            }
            coefficients.push(coefficient);
        }
        Ok(Polynomial { coefficients })
    }

    /// The degree t: any t+1 shares determine the polynomial.
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// The coefficients, a_0 (the dealer's contribution to the group's secret) first.
    pub fn coefficients(&self) -> &[Scalar] {
        &self.coefficients
    }

    /// The share of one participant, P(index + 1), in constant time. May be zero, with probability 1/r.
    pub fn share(&self, participant: Index) -> Scalar {
        let x = Scalar::abscissa(participant);
        self.coefficients.iter().rev().fold(Scalar::zero(), |higher, coefficient| {
            let mut value = higher.times(&x);
            value += coefficient;
            value
        })
    }

    /// The Feldman commitment to the polynomial: A_k = g2^(a_k), in constant time.
    pub fn commit(&self) -> CommitmentVector {
        self.commit_with(Effort::ONE_THREAD)
    }

    /// [`commit`](Self::commit), spread over threads.
    pub fn commit_with(&self, effort: Effort) -> CommitmentVector {
        CommitmentVector::of(&self.coefficients, effort)
    }
}

/// ChaCha20 with the 12-byte nonce of RFC 8439. The generator speaks of a 64-bit block number and a 64-bit stream
/// instead: the first four bytes of the nonce are the block number's upper half, which the 32-bit counter of the RFC
/// never reaches, and the other eight are the stream.
fn generator(seed: &[u8]) -> ChaCha20Rng {
    const NONCE_START: u32 = u32::from_le_bytes(*b"gen_");
    const NONCE_END: u64 = u64::from_le_bytes(*b"poly\0\0\0\0");
    let key: Zeroizing<[u8; 32]> = Zeroizing::new(Sha3_256::digest(seed).into());
    let mut stream = ChaCha20Rng::from_seed(*key);
    // In this order: a new stream starts at block 0.
    stream.set_stream(NONCE_END);
    stream.set_block_pos(u64::from(NONCE_START) << 32);
    stream
}

fn draw(stream: &mut ChaCha20Rng) -> Scalar {
    let mut bytes = Zeroizing::new([0; DRAW]);
    stream.fill_bytes(&mut *bytes);
    Scalar::reduce(&*bytes)
}
