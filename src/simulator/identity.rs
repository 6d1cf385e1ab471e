//! Who the members of every simulated committee are. Their keys protect nothing.

use std::sync::OnceLock;

use ed25519_dalek::SigningKey;

use crate::bls::{ProvenPublicKey, SecretKey};
use crate::chain::log::ChainMember;
use crate::committee::{MAX_MEMBERS, NodeId};

/// One member.
pub(super) struct Identity {
    pub(super) node_id: NodeId,
    pub(super) staking_key: SecretKey,
    pub(super) network_key: SigningKey,
    pub(super) public: ChainMember,
}

/// The member with this place in the committee.
pub(super) fn identity(member: usize) -> Option<&'static Identity> {
    static IDENTITIES: OnceLock<Vec<Identity>> = OnceLock::new();
    IDENTITIES.get_or_init(|| (0..MAX_MEMBERS).filter_map(make).collect()).get(member)
}

fn make(member: usize) -> Option<Identity> {
    let number = u8::try_from(member).ok()?;
    let seed = |purpose: u8| {
        let mut seed = [purpose; 32];
        seed[0] = number;
        seed
    };
    let node_id = NodeId::new(seed(1));
    let staking_key = SecretKey::from_seed(&seed(2)).ok()?;
    let network_key = SigningKey::from_bytes(&seed(3));
    let public = ChainMember {
        node_id,
        // We have just made the key ourselves.
        staking_key: ProvenPublicKey::vouched_for(staking_key.public_key()),
        network_key: network_key.verifying_key(),
        address: None,
    };
    Some(Identity { node_id, staking_key, network_key, public })
}
