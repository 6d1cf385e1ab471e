//! What comes from etcd's JSON gateway, as it is read: whatever it sends, so much of it is held at once and no more.

use std::io::{self, BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use super::wire::WatchLine;
use crate::chain::log::endpoints::{Trouble, clean};

/// The most bytes of an answer, or of one line of a watch, strings cut.
const MAX_ANSWER_BYTES: u64 = 24 << 20;
/// Strings are cut off behind so many bytes, a multiple of four: what is in base64 stays so, and is still too long for an entry.
const MAX_STRING_BYTES: usize = 128 << 10;
/// How long one line of a watch may take. Some 3 MiB come in one where there is much to tell.
const MAX_LINE_TIME: Duration = Duration::from_secs(60);

/// JSON on its way, with its strings cut.
pub(super) struct Cut<R> {
    from: R,
    /// Inside of a string: how much of it has come.
    string: Option<usize>,
    /// Behind a backslash.
    escaped: bool,
    /// When the first byte of the line came, where lines have a limit.
    begun: Option<Instant>,
}

impl<R: Read> Cut<R> {
    pub(super) fn new(from: R) -> Self {
        Cut { from, string: None, escaped: false, begun: None }
    }

    /// Whether the next byte stays.
    fn keeps(&mut self, byte: u8) -> bool {
        let Some(length) = &mut self.string else {
            self.string = (byte == b'"').then_some(0);
            return true;
        };
        if byte == b'"' && !self.escaped {
            self.string = None;
            return true;
        }
        self.escaped = byte == b'\\' && !self.escaped;
        *length = length.saturating_add(1);
        *length <= MAX_STRING_BYTES
    }
}

impl<R: Read> Read for Cut<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.from.read(into)?;
            if length == 0 {
                return Ok(0);
            }
            if self.begun.get_or_insert_with(Instant::now).elapsed() > MAX_LINE_TIME {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "what it sends does not end"));
            }
            let mut kept = 0;
            for place in 0..length {
                let Some(byte) = into.get(place).copied() else { break };
                if self.keeps(byte)
                    && let Some(there) = into.get_mut(kept)
                {
                    *there = byte;
                    kept += 1;
                }
            }
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

/// What is said of an answer that is not taken for its length.
pub(super) const ANSWER_TOO_LONG: &str = "its answer is too long";

/// An answer in full.
pub(super) fn answer(from: impl Read) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let read = Cut::new(from).take(MAX_ANSWER_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Trouble::Endpoint(error.to_string()))?;
    if bytes.len() as u64 > MAX_ANSWER_BYTES {
        return Err(Trouble::Endpoint(ANSWER_TOO_LONG.to_owned()));
    }
    Ok(bytes)
}

/// The lines of a watch.
pub(super) struct Lines<R> {
    from: BufReader<Cut<R>>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Lines { from: BufReader::with_capacity(64 << 10, Cut::new(from)) }
    }

    /// The next one; `None` if nothing comes for as long as the connection waits.
    pub(super) fn next(&mut self) -> Result<Option<WatchLine>, Trouble> {
        self.from.get_mut().begun = None;
        let mut line = Vec::new();
        let read = self.from.by_ref().take(MAX_ANSWER_BYTES).read_until(b'\n', &mut line);
        match read {
            Ok(_) => {}
            Err(error) => match ureq::Error::from(error) {
                ureq::Error::Timeout(_) if line.is_empty() => return Ok(None),
                error => return Err(Trouble::Endpoint(format!("a watch was cut off: {error}"))),
            },
        }
        if line.last() != Some(&b'\n') {
            return Err(Trouble::Endpoint("a watch was cut off".to_owned()));
        }
        let parsed: Result<WatchLine, _> = serde_json::from_slice(&line);
        match parsed {
            Ok(WatchLine { error: Some(error), .. }) => {
                Err(Trouble::Endpoint(format!("a watch failed: {}", clean(&error.to_string()))))
            }
            Ok(line) => Ok(Some(line)),
            Err(error) => Err(Trouble::Endpoint(format!("its watch makes no sense: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its bytes in pieces of this size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(into.len());
            let (now, later) = self.0.split_at(length);
            into[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    #[test]
    fn long_strings_are_cut_and_nothing_else_is_changed() {
        let plain = br#"{"a":"x\"y\\","b":[1,"","\\\""],"c":"AAAA"}"#.to_vec();
        for piece in [1, 2, 7, 4096] {
            assert_eq!(answer(Pieces(&plain, piece)).ok(), Some(plain.clone()), "{piece}");
            let long = format!(r#"{{"value":"{}","next":"BBBB"}}"#, "A".repeat(3 * MAX_STRING_BYTES));
            let cut = format!(r#"{{"value":"{}","next":"BBBB"}}"#, "A".repeat(MAX_STRING_BYTES));
            assert!(answer(Pieces(long.as_bytes(), piece)).ok() == Some(cut.into_bytes()), "{piece}");
        }
    }

    #[test]
    fn a_value_of_many_mebibytes_is_a_line_like_others() {
        let line = format!(
            "{{\"result\":{{\"events\":[{{\"kv\":{{\"key\":\"aw==\",\"value\":\"{}\"}}}}]}}}}\n",
            "A".repeat(40 << 20)
        );
        let Ok(Some(read)) = Lines::new(line.as_bytes()).next() else { panic!("it was not read") };
        assert_eq!(read.result.events[0].kv.value.len(), MAX_STRING_BYTES / 4 * 3);
    }

    #[test]
    fn what_does_not_end_is_not_kept() {
        assert!(matches!(Lines::new(io::repeat(b' ')).next(), Err(Trouble::Endpoint(_))));
        assert!(matches!(answer(io::repeat(b' ')), Err(Trouble::Endpoint(said)) if said == ANSWER_TOO_LONG));
    }
}
