//! BLS12-381: scalars, points, Feldman commitments, signatures, and threshold combination.

mod g1;
mod g2;
mod hash;
mod index;
mod keys;
mod polynomial;
mod scalar;
mod threshold;
mod vector;

pub use g2::{G2Point, PointError};
pub use hash::{DKG_MESSAGE_TAG, RANDOM_BEACON_TAG, Tag, expand_message, hash_to_g1};
pub use index::{Index, NotAnIndex};
pub use keys::{PossessionError, ProofOfPossession, ProvenPublicKey, PublicKey, SecretKey, Signature};
pub use polynomial::{Polynomial, SeedError};
pub use scalar::{Scalar, ScalarError};
pub use threshold::{Added, CombineError, SignatureCollector, combine};
pub use vector::{CommitmentVector, UncheckedVector, VectorEncoding, VectorError, share_matches, shares_match_all};
