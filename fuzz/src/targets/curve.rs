//! Scalars, points and signatures: accepted exactly where the specification says so.

use std::sync::LazyLock;

use dkg_engine::bls::{
    DKG_MESSAGE_TAG, G2Point, Index, PointError, ProofOfPossession, ProvenPublicKey, PublicKey, Scalar, ScalarError,
    SecretKey, Signature, UncheckedVector, VectorEncoding, VectorError, share_matches,
};

use super::bytes::{Choices, assert_silent};
use super::field::{BYTES, Fp, Fp2, g1_right_side, g2_right_side};

/// The order of the groups, big endian.
pub const ORDER: [u8; 32] = [
    0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53, 0xbd, 0xa4,
    0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
];

/// What is signed in the corpus of `signature`.
pub const MESSAGE: &[u8] = b"a message";

/// Whose signatures and proofs the corpus of `signature` has.
pub fn signer() -> SecretKey {
    SecretKey::from_seed(&[42; 32]).unwrap()
}

/// Why bytes must be refused as a scalar, by the specification.
pub fn scalar_fault(bytes: &[u8]) -> Option<ScalarError> {
    match bytes {
        _ if bytes.len() != 32 => Some(ScalarError::Length(bytes.len())),
        _ if bytes >= &ORDER[..] => Some(ScalarError::NotCanonical),
        _ if bytes.iter().all(|byte| *byte == 0) => Some(ScalarError::Zero),
        _ => None,
    }
}

/// Scalars: 32 bytes, `0 < x < r`, one encoding each, and silent errors.
pub fn scalar(data: &[u8]) {
    let read = Scalar::from_be_bytes(data);
    assert_eq!(read.as_ref().err().copied(), scalar_fault(data));
    match read {
        Ok(scalar) => {
            assert_eq!(&scalar.to_be_bytes()[..], data);
            assert!(scalar.ct_eq(&Scalar::from_be_bytes(data).unwrap()) && !scalar.is_zero());
            assert!(share_matches(&scalar.public_value(), &scalar));
            assert!(!SecretKey::from_scalar(scalar).unwrap().public_key().is_identity());
        }
        Err(error) => {
            assert_silent(&error, data);
            assert_silent(&error.to_string(), data);
        }
    }
}

/// How 96 bytes must be judged as a compressed point of E2 in the standard order; `Ok` says whether it is the identity.
fn judge_g2(bytes: &[u8]) -> Result<bool, PointError> {
    let Ok(bytes) = <&[u8; 2 * BYTES]>::try_from(bytes) else {
        return Err(PointError::Length { expected: 2 * BYTES, actual: bytes.len() });
    };
    let (flags, first, second) = split_flags(bytes);
    match flags {
        0b110 if bytes[1..].iter().all(|byte| *byte == 0) && bytes[0] == 0xc0 => Ok(true),
        0b100 | 0b101 => {
            let (c1, c0) = (Fp::from_be_bytes(&first), Fp::from_be_bytes(&second));
            let (Some(c0), Some(c1)) = (c0, c1) else { return Err(PointError::Encoding) };
            if g2_right_side(Fp2 { c0, c1 }).is_square() { Ok(false) } else { Err(PointError::NotOnCurve) }
        }
        _ => Err(PointError::Encoding),
    }
}

/// The three flag bits, and both halves of what is left without them.
fn split_flags(bytes: &[u8; 2 * BYTES]) -> (u8, [u8; BYTES], [u8; BYTES]) {
    let [first, second] = *bytes.as_chunks::<BYTES>().0 else { unreachable!("96 bytes are two halves") };
    let mut first = first;
    let flags = first[0] >> 5;
    first[0] &= 0x1f;
    (flags, first, second)
}

/// The same in the reference's order, which reads the identity whatever its last byte is.
fn judge_g2_flow(bytes: &[u8]) -> Result<bool, PointError> {
    if is_lenient_identity(bytes, 2 * BYTES) {
        return Ok(true);
    }
    if bytes.len() == 2 * BYTES && bytes[BYTES] >> 5 != 0 {
        return Err(PointError::Encoding);
    }
    judge_g2(&swapped(bytes))
}

fn is_lenient_identity(bytes: &[u8], length: usize) -> bool {
    bytes.len() == length && bytes[0] == 0xc0 && bytes[1..length - 1].iter().all(|byte| *byte == 0)
}

/// The halves of x in the other order; the flags stay in the first byte.
fn swapped(bytes: &[u8]) -> Vec<u8> {
    if bytes.len() != 2 * BYTES {
        return bytes.to_vec();
    }
    let (first, second) = bytes.split_at(BYTES);
    let mut out = [second, first].concat();
    out[0] |= first[0] & 0xe0;
    out[BYTES] &= 0x1f;
    out
}

/// Compressed points of G2 and public keys, in both orders.
pub fn g2_point(data: &[u8]) {
    let flow = G2Point::from_flow_bytes(data);
    let standard = G2Point::from_standard_bytes(data);
    check_g2(data, flow, judge_g2_flow(data));
    check_g2(data, standard, judge_g2(data));
    assert_eq!(PublicKey::from_flow_bytes(data).map(|key| *key.point()), flow);
    assert_eq!(PublicKey::from_standard_bytes(data).map(|key| *key.point()), standard);
    if let Ok(point) = flow {
        let lenient = is_lenient_identity(data, 2 * BYTES);
        assert!(point.to_flow_bytes() == data || lenient && point.is_identity(), "a second encoding of one point");
        assert_eq!(G2Point::from_standard_bytes(&swapped(&point.to_flow_bytes())), flow);
        assert!(is_killed_by_order(&point), "outside the subgroup");
    }
    if let Ok(point) = standard {
        assert_eq!(&point.to_standard_bytes()[..], data, "a second encoding of one point");
        assert!(is_killed_by_order(&point), "outside the subgroup");
    }
}

fn check_g2(data: &[u8], read: Result<G2Point, PointError>, judged: Result<bool, PointError>) {
    match (read, judged) {
        (Ok(point), Ok(identity)) => assert_eq!(point.is_identity(), identity, "{data:02x?}"),
        (Err(PointError::NotInSubgroup), Ok(false)) => {}
        (read, judged) => assert_eq!(read.err(), judged.err(), "{data:02x?}"),
    }
}

/// Whether the point times the order is the identity, by Horner's rule in base 254, whose steps are evaluations of vectors
/// of two points.
fn is_killed_by_order(point: &G2Point) -> bool {
    let last = Index::all(usize::MAX).last().unwrap();
    let base = u32::from(last.abscissa());
    let step = |constant: G2Point, linear: &G2Point, at: Index| {
        let bytes = [constant.to_flow_bytes(), linear.to_flow_bytes()].concat();
        UncheckedVector::decode(&bytes, 2).unwrap().check_subgroup().unwrap().evaluate(at)
    };
    let times = |factor: u8| match factor.checked_sub(1).and_then(Index::from_byte) {
        Some(at) => step(G2Point::identity(), point, at),
        None => G2Point::identity(),
    };
    let mut sum = G2Point::identity();
    for digit in digits(&ORDER, base) {
        sum = step(times(digit), &sum, last);
    }
    sum.is_identity()
}

/// The digits of a big-endian number in another base, the highest first.
fn digits(number: &[u8], base: u32) -> Vec<u8> {
    let mut rest = number.to_vec();
    let mut digits = Vec::new();
    while rest.iter().any(|byte| *byte != 0) {
        let mut remainder = 0;
        for byte in &mut rest {
            let value = remainder << 8 | u32::from(*byte);
            *byte = u8::try_from(value / base).unwrap();
            remainder = value % base;
        }
        digits.push(u8::try_from(remainder).unwrap());
    }
    digits.reverse();
    digits
}

/// How 48 bytes must be judged as a compressed point of E1; `Ok` says whether it is the identity.
fn judge_g1(bytes: &[u8]) -> Result<bool, PointError> {
    if is_lenient_identity(bytes, BYTES) {
        return Ok(true);
    }
    let Ok(x) = <&[u8; BYTES]>::try_from(bytes) else {
        return Err(PointError::Length { expected: BYTES, actual: bytes.len() });
    };
    let mut x = *x;
    let flags = x[0] >> 5;
    x[0] &= 0x1f;
    match (flags, Fp::from_be_bytes(&x)) {
        (0b100 | 0b101, Some(x)) if g1_right_side(x).is_square() => Ok(false),
        (0b100 | 0b101, Some(_)) => Err(PointError::NotOnCurve),
        _ => Err(PointError::Encoding),
    }
}

/// Signatures and proofs of possession: decoded by the rules, and good exactly when they are the one that the key makes.
pub fn signature(data: &[u8]) {
    static KEY: LazyLock<(PublicKey, [u8; 48], [u8; 48])> = LazyLock::new(|| {
        let key = signer();
        (key.public_key(), key.sign(MESSAGE, &DKG_MESSAGE_TAG).to_bytes(), key.prove_possession().to_bytes())
    });
    let (key, signed, proof) = &*KEY;
    let read = Signature::from_bytes(data);
    let possession = ProofOfPossession::from_bytes(data);
    assert_eq!(read.as_ref().err().copied(), judge_g1(data).err(), "{data:02x?}");
    assert_eq!(possession.as_ref().err(), read.as_ref().err());
    let (Ok(signature), Ok(possession)) = (read, possession) else { return };
    let written = signature.to_bytes();
    assert!(written == data || is_lenient_identity(data, BYTES), "a second encoding of one point");
    assert_eq!(Signature::from_bytes(&written), Ok(signature));
    assert_eq!(possession.to_bytes(), written);
    let good = key.verify(MESSAGE, &DKG_MESSAGE_TAG, &signature);
    // There is one good signature for a message and a key.
    assert_eq!(good, written == *signed);
    assert!(!good || signature.is_in_subgroup());
    assert!(!PublicKey::from(G2Point::identity()).verify(MESSAGE, &DKG_MESSAGE_TAG, &signature));
    assert_eq!(ProvenPublicKey::check(*key, &possession).is_ok(), written == *proof);
}

/// Whether 192 bytes are a point of E2 in the uncompressed form.
fn judge_uncompressed(bytes: &[u8; 4 * BYTES]) -> Result<(), PointError> {
    if bytes[0] == 0x40 && bytes[1..].iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    if bytes[0] >> 5 != 0 {
        return Err(PointError::Encoding);
    }
    let [x1, x0, y1, y0] = *bytes.as_chunks::<BYTES>().0 else { unreachable!("192 bytes are four quarters") };
    let number =
        |c0: &[u8; BYTES], c1: &[u8; BYTES]| Some(Fp2 { c0: Fp::from_be_bytes(c0)?, c1: Fp::from_be_bytes(c1)? });
    let (Some(x), Some(y)) = (number(&x0, &x1), number(&y0, &y1)) else { return Err(PointError::Encoding) };
    if y.times(y) == g2_right_side(x) { Ok(()) } else { Err(PointError::NotOnCurve) }
}

/// Commitment vectors, in both encodings: the first byte says how many points there should be.
pub fn commitment_vector(data: &[u8]) {
    let mut choices = Choices(data);
    let points = choices.below(6);
    let bytes = choices.0;
    let read = UncheckedVector::decode(bytes, points);
    let encoding = [VectorEncoding::Compressed, VectorEncoding::Uncompressed]
        .into_iter()
        .find(|encoding| points > 0 && bytes.len() == points * encoding.point_bytes());
    let Some(encoding) = encoding else {
        assert_eq!(read.err(), Some(VectorError::Length { points, actual: bytes.len() }));
        return;
    };
    let first_fault = bytes.chunks_exact(encoding.point_bytes()).enumerate().find_map(|(position, point)| {
        let judged = match <&[u8; 4 * BYTES]>::try_from(point) {
            Ok(point) => judge_uncompressed(point).err(),
            Err(_) => judge_g2_flow(point).err(),
        };
        judged.map(|error| VectorError::Point { position, error })
    });
    assert_eq!(read.as_ref().err(), first_fault.as_ref());
    let Ok(unchecked) = read else { return };
    let vector = match unchecked.check_subgroup() {
        Ok(vector) => vector,
        Err(error) => {
            assert!(
                matches!(error, VectorError::Point { position, error: PointError::NotInSubgroup } if position < points)
            );
            return;
        }
    };
    assert_eq!(vector.len(), points);
    let written = vector.encode(encoding);
    let lenient = |(read, written): (&[u8], &[u8])| read == written || is_lenient_identity(read, 2 * BYTES);
    let a_point = encoding.point_bytes();
    assert!(bytes.chunks(a_point).zip(written.chunks(a_point)).all(lenient), "a second encoding of one vector");
    for encoding in [VectorEncoding::Compressed, VectorEncoding::Uncompressed] {
        let again = UncheckedVector::decode(&vector.encode(encoding), points).unwrap().check_subgroup().unwrap();
        assert_eq!(again, vector);
    }
    for uncompressed in vector.encode(VectorEncoding::Uncompressed).as_chunks().0 {
        assert_eq!(judge_uncompressed(uncompressed), Ok(()), "not on the curve");
    }
    let all = vector.evaluate_all(3);
    assert!(Index::all(3).zip(&all).all(|(index, value)| vector.evaluate(index) == *value));
}
