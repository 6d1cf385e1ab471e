//! What arrives over a link between members.

use dkg_engine::envelope::{MAX_INSTANCE_BYTES, MAX_PRIVATE_BYTES};
use dkg_engine::network::tcp::MAX_FRAME_BYTES;
use dkg_engine::network::tcp::frame::{Frame, FrameBuffer, FrameError, MAX_VERSION_BYTES};

use super::bytes::assert_silent;

/// Frames in pieces of any size: the same for all sizes, accepted exactly by the rules, and written again the same bytes.
pub fn link_frame(data: &[u8]) {
    let (&piece, stream) = data.split_first().unwrap_or((&0, &[]));
    let (whole, end) = read(stream, usize::MAX);
    let (pieces, same_end) = read(stream, usize::from(piece).max(1));
    assert_eq!(whole.len(), pieces.len());
    assert_eq!(end, same_end);
    let mut rest = stream;
    for (frame, again) in whole.iter().zip(&pieces) {
        let bytes = frame.encode().unwrap();
        assert_eq!(*bytes, *again.encode().unwrap());
        assert!(bytes.len() <= 4 + MAX_FRAME_BYTES);
        let (taken, left) = rest.split_at(bytes.len());
        assert_eq!(*bytes, taken, "one frame has one encoding");
        assert!(is_frame(&taken[4..]));
        if let Frame::Message { message, .. } = frame {
            assert_silent(frame, message.data.expose());
        }
        rest = left;
    }
    let announced = rest.first_chunk().map(|head| u32::from_le_bytes(*head));
    let body = announced.and_then(|length| rest[4..].get(..usize::try_from(length).unwrap()));
    match end {
        Some(FrameError::Length(length)) => {
            assert_eq!(announced, Some(length));
            assert!(length == 0 || usize::try_from(length).unwrap() > MAX_FRAME_BYTES);
        }
        Some(FrameError::Kind(kind)) => assert!(kind > 5 && body.unwrap()[0] == kind),
        Some(FrameError::Malformed(kind)) => {
            let body = body.unwrap();
            assert!(kind <= 5 && body[0] == kind && !is_frame(body));
        }
        None => assert!(body.is_none(), "a frame that is there was not taken"),
    }
}

/// The frames of a stream that arrives in pieces, and what ended them before its end.
fn read(stream: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut buffer = FrameBuffer::new();
    let mut frames = Vec::new();
    for mut piece in stream.chunks(piece.min(stream.len().max(1))) {
        while !piece.is_empty() {
            let taken = match buffer.feed(piece) {
                Ok(taken) => taken,
                Err(error) => return (frames, Some(error)),
            };
            assert!(taken > 0 && buffer.has_begun());
            piece = &piece[taken..];
            match buffer.take() {
                Ok(frame) => {
                    assert_eq!(frame.is_none(), buffer.has_begun());
                    frames.extend(frame);
                }
                Err(error) => return (frames, Some(error)),
            }
            assert!(buffer.missing().unwrap() <= MAX_FRAME_BYTES);
        }
    }
    (frames, None)
}

/// Whether this is a frame behind its length, by the rules as the documentation has them.
fn is_frame(body: &[u8]) -> bool {
    let Some((kind, rest)) = body.split_first() else { return false };
    match kind {
        0 | 1 => rest.len() == 4 + 32,
        2 => {
            let [head @ .., low, high] = &rest[..rest.len().min(11)] else { return false };
            let name = usize::from(u16::from_le_bytes([*low, *high]));
            let text = rest.get(11..11 + name);
            head.len() == 9
                && head[8] <= 1
                && name <= MAX_INSTANCE_BYTES
                && text.is_some_and(|text| std::str::from_utf8(text).is_ok())
                && rest.len() - 11 - name <= MAX_PRIVATE_BYTES
        }
        3 => rest.len() == 8 + 1 && rest[8] <= 6,
        4 => rest.len() == 8,
        5 => {
            let version = rest.get(8 + 8 + 32..);
            version.is_some_and(|text| text.len() <= MAX_VERSION_BYTES && text.iter().all(|c| (33..127).contains(c)))
        }
        _ => false,
    }
}
