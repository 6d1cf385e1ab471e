//! What passes over a link, byte for byte. Pure: bytes in, frames out.
//!
//! A frame is the length of what follows (`u32`), a kind (`u8`) and what the kind takes; integers are little-endian. One
//! frame has exactly one encoding. [`Frame::Hello`] and [`Frame::Refused`] look the same in every version of the protocol,
//! so that members of different versions can tell each other what is wrong.

use zeroize::{Zeroize, Zeroizing};

use crate::SecretBytes;
use crate::envelope::{MAX_INSTANCE_BYTES, MAX_PRIVATE_BYTES, PrivateKind, PrivateMessage};
use crate::network::InboundError;

/// The version of what is said over a link.
pub const PROTOCOL_VERSION: u32 = 1;
/// The most bytes of a program's version.
pub const MAX_VERSION_BYTES: usize = 32;
/// The most bytes of a frame behind its length: those of the longest message that an engine would keep.
pub const MAX_FRAME_BYTES: usize =
    KIND_BYTES + ID_BYTES + KIND_BYTES + NAME_BYTES + MAX_INSTANCE_BYTES + MAX_PRIVATE_BYTES;

const LENGTH_BYTES: usize = 4;
const KIND_BYTES: usize = 1;
const ID_BYTES: usize = 8;
/// The length of a run's name.
const NAME_BYTES: usize = 2;

/// One thing said over a link.
#[derive(Clone, Debug)]
pub enum Frame {
    /// The first frame of either side.
    Hello(Hello),
    /// Instead of a hello: there is nothing to talk about. What the refusing side is.
    Refused(Hello),
    /// A private message, from the side that dialled.
    Message {
        /// By which its answer is known.
        id: u64,
        /// What is sent.
        message: PrivateMessage,
    },
    /// What came of a message.
    Answer {
        /// The message's.
        id: u64,
        /// Whether it was taken.
        verdict: Verdict,
    },
    /// Asks for a sign of life, from the side that dialled.
    Probe {
        /// By which its answer is known.
        id: u64,
    },
    /// The sign of life.
    ProbeAnswer {
        /// The probe's.
        id: u64,
        /// The time there, in milliseconds of Unix time.
        now_ms: u64,
        /// The chain that is followed there.
        chain: [u8; 32],
        /// The version of the program there: printable ASCII, at most [`MAX_VERSION_BYTES`].
        version: String,
    },
}

/// Who is speaking, in what language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The identity of the chain that it follows.
    pub chain: [u8; 32],
}

/// What came of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken for good.
    Taken,
    /// It is not, and may be sent again later.
    NotTaken(Why),
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The receiver's engine is not running yet.
    #[error("its engine has not started yet")]
    NotReady,
    /// The receiver's engine has not made it durable in time; its run may not have begun there.
    #[error("it has not confirmed the message")]
    NotConfirmed,
    /// The receiver's engine has not let it in.
    #[error(transparent)]
    Inbound(#[from] InboundError),
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is zero, or more than [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes; 1 to {MAX_FRAME_BYTES} are allowed")]
    Length(u32),
    /// The kind is unknown.
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    /// What follows the kind is not what the kind takes.
    #[error("a frame of kind {0} that is not written as one")]
    Malformed(u8),
}

const HELLO: u8 = 0;
const REFUSED: u8 = 1;
const MESSAGE: u8 = 2;
const ANSWER: u8 = 3;
const PROBE: u8 = 4;
const PROBE_ANSWER: u8 = 5;

impl Frame {
    /// The bytes, length and all.
    ///
    /// # Errors
    /// A message that does not [fit](PrivateMessage::fits), or a version that is too long or not printable.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, FrameError> {
        // All at once: bytes that grow leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH_BYTES + MAX_FRAME_BYTES));
        bytes.extend([0; LENGTH_BYTES]);
        match self {
            Frame::Hello(hello) => put_hello(&mut bytes, HELLO, hello),
            Frame::Refused(hello) => put_hello(&mut bytes, REFUSED, hello),
            Frame::Message { id, message } => {
                let name = message.dkg_instance_id.as_bytes();
                let length = u16::try_from(name.len()).map_err(|_| FrameError::Malformed(MESSAGE))?;
                if !message.fits() {
                    return Err(FrameError::Malformed(MESSAGE));
                }
                bytes.push(MESSAGE);
                bytes.extend(id.to_le_bytes());
                bytes.push(match message.kind {
                    PrivateKind::Protocol => 0,
                    PrivateKind::ShareRequest => 1,
                });
                bytes.extend(length.to_le_bytes());
                bytes.extend(name);
                bytes.extend(message.data.expose());
            }
            Frame::Answer { id, verdict } => {
                bytes.push(ANSWER);
                bytes.extend(id.to_le_bytes());
                bytes.push(verdict.byte());
            }
            Frame::Probe { id } => {
                bytes.push(PROBE);
                bytes.extend(id.to_le_bytes());
            }
            Frame::ProbeAnswer { id, now_ms, chain, version } => {
                if !is_version(version.as_bytes()) {
                    return Err(FrameError::Malformed(PROBE_ANSWER));
                }
                bytes.push(PROBE_ANSWER);
                bytes.extend(id.to_le_bytes());
                bytes.extend(now_ms.to_le_bytes());
                bytes.extend(chain);
                bytes.extend(version.as_bytes());
            }
        }
        // It is below `MAX_FRAME_BYTES`.
        let length = u32::try_from(bytes.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
        if let Some(head) = bytes.first_chunk_mut() {
            *head = length.to_le_bytes();
        }
        Ok(bytes)
    }

    /// The frame behind its length.
    fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
        let (&kind, mut rest) = bytes.split_first().ok_or(FrameError::Length(0))?;
        let frame = match kind {
            HELLO => take_hello(&mut rest).map(Frame::Hello),
            REFUSED => take_hello(&mut rest).map(Frame::Refused),
            MESSAGE => take_message(&mut rest),
            ANSWER => take_answer(&mut rest),
            PROBE => take_u64(&mut rest).map(|id| Frame::Probe { id }),
            PROBE_ANSWER => take_probe_answer(&mut rest),
            unknown => return Err(FrameError::Kind(unknown)),
        };
        frame.filter(|_| rest.is_empty()).ok_or(FrameError::Malformed(kind))
    }
}

impl Verdict {
    fn byte(self) -> u8 {
        match self {
            Verdict::Taken => 0,
            Verdict::NotTaken(Why::NotReady) => 1,
            Verdict::NotTaken(Why::NotConfirmed) => 2,
            Verdict::NotTaken(Why::Inbound(InboundError::TooLarge)) => 3,
            Verdict::NotTaken(Why::Inbound(InboundError::SenderFull)) => 4,
            Verdict::NotTaken(Why::Inbound(InboundError::Full)) => 5,
            Verdict::NotTaken(Why::Inbound(InboundError::Stopped)) => 6,
        }
    }

    fn from_byte(byte: u8) -> Option<Verdict> {
        let why = match byte {
            0 => return Some(Verdict::Taken),
            1 => Why::NotReady,
            2 => Why::NotConfirmed,
            3 => InboundError::TooLarge.into(),
            4 => InboundError::SenderFull.into(),
            5 => InboundError::Full.into(),
            6 => InboundError::Stopped.into(),
            _ => return None,
        };
        Some(Verdict::NotTaken(why))
    }
}

fn put_hello(bytes: &mut Vec<u8>, kind: u8, hello: &Hello) {
    bytes.push(kind);
    bytes.extend(hello.protocol.to_le_bytes());
    bytes.extend(hello.chain);
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    take(bytes, N)?.try_into().ok()
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take_array(bytes).map(u64::from_le_bytes)
}

fn take_hello(bytes: &mut &[u8]) -> Option<Hello> {
    Some(Hello { protocol: u32::from_le_bytes(take_array(bytes)?), chain: take_array(bytes)? })
}

fn take_message(bytes: &mut &[u8]) -> Option<Frame> {
    let id = take_u64(bytes)?;
    let kind = match take_array(bytes)? {
        [0] => PrivateKind::Protocol,
        [1] => PrivateKind::ShareRequest,
        _ => return None,
    };
    let length = u16::from_le_bytes(take_array(bytes)?);
    let dkg_instance_id = std::str::from_utf8(take(bytes, length.into())?).ok()?.to_owned();
    let data = SecretBytes::new(std::mem::take(bytes).to_vec());
    let message = PrivateMessage { kind, data, dkg_instance_id };
    message.fits().then_some(Frame::Message { id, message })
}

fn take_answer(bytes: &mut &[u8]) -> Option<Frame> {
    let id = take_u64(bytes)?;
    let [verdict] = take_array(bytes)?;
    Some(Frame::Answer { id, verdict: Verdict::from_byte(verdict)? })
}

fn take_probe_answer(bytes: &mut &[u8]) -> Option<Frame> {
    let (id, now_ms, chain) = (take_u64(bytes)?, take_u64(bytes)?, take_array(bytes)?);
    let version = std::mem::take(bytes);
    let version = is_version(version).then(|| String::from_utf8_lossy(version).into_owned())?;
    Some(Frame::ProbeAnswer { id, now_ms, chain, version })
}

/// Versions are shown to operators: nothing that moves a cursor.
fn is_version(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_VERSION_BYTES && bytes.iter().all(u8::is_ascii_graphic)
}

/// The frame that is arriving. It takes up no more than one frame can, whatever lengths the bytes announce.
pub struct FrameBuffer {
    bytes: Zeroizing<Vec<u8>>,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        FrameBuffer { bytes: Zeroizing::new(Vec::with_capacity(LENGTH_BYTES + MAX_FRAME_BYTES)) }
    }
}

impl FrameBuffer {
    /// A buffer in which nothing has arrived.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a frame has begun to arrive.
    pub fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// How many more bytes can be taken before there is more to say: those of the length, then those of the frame. Zero
    /// when the frame is there.
    ///
    /// # Errors
    /// The length is not allowed.
    pub fn missing(&self) -> Result<usize, FrameError> {
        let Some(head) = self.bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(LENGTH_BYTES - self.bytes.len());
        };
        let announced = u32::from_le_bytes(*head);
        match usize::try_from(announced) {
            Ok(length @ 1..=MAX_FRAME_BYTES) => Ok((LENGTH_BYTES + length).saturating_sub(self.bytes.len())),
            _ => Err(FrameError::Length(announced)),
        }
    }

    /// Takes what has arrived, as far as it belongs to this frame, and says how many bytes that were.
    ///
    /// # Errors
    /// The length is not allowed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let mut fed = 0;
        while fed < bytes.len() {
            let part = self.missing()?.min(bytes.len() - fed);
            if part == 0 {
                break;
            }
            self.bytes.extend_from_slice(bytes.get(fed..fed + part).unwrap_or_default());
            fed += part;
        }
        Ok(fed)
    }

    /// The frame, once it is there; then the next one can arrive.
    ///
    /// # Errors
    /// See [`FrameError`]. There is no telling where the next frame would begin.
    pub fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.missing()? > 0 {
            return Ok(None);
        }
        let frame = Frame::decode(self.bytes.get(LENGTH_BYTES..).unwrap_or_default());
        // Wiped and empty, but as large as it was: a buffer that does not grow leaves no copies.
        self.bytes.zeroize();
        frame.map(Some)
    }
}
