//! Bytes as a list of choices, and the search for secrets in texts.

use std::fmt::Debug;

/// What is left of an input. Where it has run out, numbers are zero and slices short, so every input means something.
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next byte, brought below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// The next byte's lowest bit.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// The next eight bytes, little endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// The next two bytes, little endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next `N` bytes, with zeros for those that are not there.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// At most so many bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// As many bytes as the next two announce.
    pub fn announced(&mut self) -> &'a [u8] {
        let count = self.u16();
        self.take(usize::from(count))
    }
}

/// Checks that a text, or the text of an error, shows no eight bytes in a row of a secret, in hex or as a list.
pub fn assert_silent(text: &impl Debug, secret: &[u8]) {
    let text = format!("{text:?}").to_lowercase();
    for window in secret.windows(8) {
        // A short pattern is in every other text.
        if window.iter().collect::<std::collections::BTreeSet<_>>().len() < 5 {
            continue;
        }
        let hex = dkg_engine::hex::encode(window);
        let listed = format!("{window:?}");
        // Not the bytes as text: a secret that spells out the error's own words is no leak.
        let shown = text.contains(&hex) || text.contains(listed.trim_matches(['[', ']']));
        assert!(!shown, "a text shows eight bytes of a secret: {text}");
    }
}
