//! Bytes that must not be seen: wiped when dropped, and silent in every format.

use zeroize::Zeroize;

/// Secret bytes: a share on its way, a seed. Wiped on drop; has no `Debug`, `Display` or `==`.
#[derive(Clone)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes `bytes` over; no other copy of them should be left.
    pub fn new(bytes: Vec<u8>) -> Self {
        SecretBytes(bytes)
    }

    /// The bytes, for the one place that has to see them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether the bytes are the same, in a time that depends on their number alone.
    pub fn ct_eq(&self, other: &SecretBytes) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |difference, (a, b)| difference | (a ^ b));
        self.0.len() == other.0.len() && std::hint::black_box(difference) == 0
    }

    /// How many bytes there are; no secret.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
