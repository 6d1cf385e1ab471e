//! Entries as they travel: each behind its length.

use crate::chain::log::MAX_ENTRY_BYTES;

/// How many bytes the length takes.
const LENGTH_BYTES: usize = 4;

/// The most bytes of an answer with so many bytes of entries before the last, which may be as long as any.
pub(super) const fn most_bytes(entries: usize, bytes: usize) -> usize {
    entries * LENGTH_BYTES + bytes + MAX_ENTRY_BYTES
}

/// Puts an entry behind the others.
pub(super) fn push(frames: &mut Vec<u8>, entry: &[u8]) {
    // No entry in a log is longer than `MAX_ENTRY_BYTES`.
    let length = u32::try_from(entry.len()).unwrap_or(u32::MAX);
    frames.extend_from_slice(&length.to_le_bytes());
    frames.extend_from_slice(entry);
}

/// The entries in an answer, which may come from anybody.
///
/// # Errors
/// What is wrong with it: there are more than `limit`, one is too long, or it does not end with an entry.
pub(super) fn split(mut frames: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, String> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = frames.split_first_chunk::<LENGTH_BYTES>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_ENTRY_BYTES {
            return Err(format!("an entry of {length} bytes, where {MAX_ENTRY_BYTES} are allowed"));
        }
        if entries.len() >= limit {
            return Err(format!("more than the {limit} entries asked for"));
        }
        let (entry, rest) = rest.split_at_checked(length).ok_or("an entry that is cut off")?;
        entries.push(entry.to_vec());
        frames = rest;
    }
    if frames.is_empty() { Ok(entries) } else { Err("an entry that is cut off".to_owned()) }
}
