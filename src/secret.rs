//! Bytes that must not be seen: wiped when dropped, and silent in every format.

use std::io::{self, Read};

use zeroize::Zeroize;

/// U+FEFF in UTF-8, which some editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Secret bytes: a share on its way, a seed. Wiped on drop; has no `Debug`, `Display` or `==`.
#[derive(Clone)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes `bytes` over; no other copy of them should be left.
    pub fn new(bytes: Vec<u8>) -> Self {
        SecretBytes(bytes)
    }

    /// Reads a secret of at most `most` bytes; one byte more, where there are more, so that it shows. There is room for all of it
    /// from the beginning, since what a buffer outgrows is not wiped.
    ///
    /// # Errors
    /// What the reader says.
    pub fn read(mut from: impl Read, most: usize) -> io::Result<Self> {
        let mut bytes = SecretBytes(vec![0; most.saturating_add(1)]);
        let mut filled = 0;
        while let Some(room @ [_, ..]) = bytes.0.get_mut(filled..) {
            match from.read(room) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.0.truncate(filled);
        Ok(bytes)
    }

    /// Reads a line that people have written, such as a passphrase, as [`read`](Self::read) does: without a byte order mark
    /// and without its end, which are not of the text but of the editor.
    ///
    /// # Errors
    /// What the reader says.
    pub fn read_line(from: impl Read, most: usize) -> io::Result<Self> {
        let mut line = Self::read(from, most)?;
        if line.len() > most {
            return Ok(line);
        }
        for end in [b'\n', b'\r'] {
            if line.0.last() == Some(&end) {
                line.0.pop();
            }
        }
        Ok(line.without_byte_order_mark())
    }

    /// The same text without a byte order mark before it, which is not of the text but of the editor that it was copied from.
    #[must_use]
    pub fn without_byte_order_mark(mut self) -> Self {
        if self.0.starts_with(BYTE_ORDER_MARK) {
            // In place, and what is left over behind is wiped with the rest.
            let kept = self.len() - BYTE_ORDER_MARK.len();
            self.0.copy_within(BYTE_ORDER_MARK.len().., 0);
            self.0.truncate(kept);
        }
        self
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
