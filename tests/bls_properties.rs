//! What holds for all keys, commitments and bytes, and not only for those in the vectors.

mod cases;

use cases::cases;
use dkg_engine::bls::{
    CommitmentVector, Effort, G2Point, Index, Polynomial, RANDOM_BEACON_TAG, Scalar, SecretKey, Signature,
    UncheckedVector, VectorEncoding, combine, share_matches, shares_match_all,
};
use proptest::prelude::*;
use proptest::sample::Index as Position;

fn polynomial(seed: &[u8; 32], degree: usize) -> Polynomial {
    Polynomial::from_seed(seed, degree).unwrap()
}

/// The flags of an encoding, to be put over random bytes: without them, few would get past the first check.
fn with_flags(mut bytes: Vec<u8>, first: u8) -> Vec<u8> {
    if let Some(byte) = bytes.first_mut() {
        *byte = *byte & 0x1f | first & 0xe0;
    }
    bytes
}

/// Whether two encodings are the same, up to the last byte of an identity.
fn same_encoding(given: &[u8], written: &[u8]) -> bool {
    let strange_identity =
        given.split_last().is_some_and(|(_, rest)| rest == [&[0xc0], &vec![0; rest.len() - 1][..]].concat());
    given == written || strange_identity && written.starts_with(&given[..given.len() - 1])
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn what_decodes_is_encoded_as_it_was(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        length in prop::sample::select(vec![0, 32, 48, 96, 192, 193]),
        flags in any::<u8>(),
    ) {
        for bytes in [bytes.clone(), with_flags([bytes, vec![0; 200]].concat()[..length].to_vec(), flags)] {
            if let Ok(scalar) = Scalar::from_be_bytes(&bytes) {
                prop_assert_eq!(&scalar.to_be_bytes()[..], &bytes[..]);
            }
            if let Ok(signature) = Signature::from_bytes(&bytes) {
                prop_assert!(same_encoding(&bytes, &signature.to_bytes()));
            }
            if let Ok(point) = G2Point::from_flow_bytes(&bytes) {
                prop_assert!(same_encoding(&bytes, &point.to_flow_bytes()));
            }
            if let Ok(point) = G2Point::from_standard_bytes(&bytes) {
                prop_assert_eq!(&point.to_standard_bytes()[..], &bytes[..]);
            }
            for points in 0..3 {
                let _ = UncheckedVector::decode(&bytes, points).and_then(UncheckedVector::check_subgroup);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn vectors_survive_the_wire_and_damaged_ones_are_refused_or_different(
        seed: [u8; 32],
        degree in 0_usize..4,
        uncompressed: bool,
        place: Position,
        bit in 0_u8..8,
    ) {
        let vector = polynomial(&seed, degree).commit();
        let encoding = if uncompressed { VectorEncoding::Uncompressed } else { VectorEncoding::Compressed };
        let mut encoded = vector.encode(encoding);
        let decode = |bytes: &[u8]| UncheckedVector::decode(bytes, degree + 1).and_then(UncheckedVector::check_subgroup);
        prop_assert_eq!(decode(&encoded), Ok(vector.clone()));
        *place.get_mut(&mut encoded) ^= 1 << bit;
        prop_assert_ne!(decode(&encoded), Ok(vector));
    }

    #[test]
    fn a_sum_of_commitments_is_the_commitment_to_the_sum(
        seeds in prop::collection::vec(any::<[u8; 32]>(), 1..5),
        degree in 0_usize..4,
        at in 0_u8..254,
    ) {
        let at = Index::from_byte(at).unwrap();
        let polynomials: Vec<Polynomial> = seeds.iter().map(|seed| polynomial(seed, degree)).collect();
        let vectors: Vec<CommitmentVector> = polynomials.iter().map(Polynomial::commit).collect();
        let sum = CommitmentVector::sum(&vectors).unwrap();
        let mut share = Scalar::zero();
        for polynomial in &polynomials {
            share += &polynomial.share(at);
        }
        prop_assert_eq!(sum.evaluate(at), share.public_value());

        // Evaluating each and summing gives the same.
        let values: Vec<CommitmentVector> = vectors.iter().map(|vector| constant(vector.evaluate(at))).collect();
        prop_assert_eq!(CommitmentVector::sum(&values), Some(constant(sum.evaluate(at))));
    }

    #[test]
    fn shares_checked_together_are_judged_like_shares_checked_one_by_one(
        seeds in prop::collection::vec(any::<[u8; 32]>(), 1..40),
        randomness: [u8; 32],
        tampered in prop::option::of((any::<Position>(), 0..4_usize)),
    ) {
        let at = Index::from_byte(7).unwrap();
        let mut images = Vec::new();
        let mut shares = Vec::new();
        for seed in &seeds {
            let polynomial = polynomial(seed, 1);
            images.push(polynomial.commit().evaluate(at));
            shares.push(polynomial.share(at));
        }
        if let Some((place, how)) = tampered {
            let place = place.index(seeds.len());
            match how {
                0 => shares[place] = polynomial(&randomness, 0).share(at),
                1 => shares[place] = Scalar::zero(),
                2 => images[place] = G2Point::identity(),
                // Zero does match the identity.
                _ => (images[place], shares[place]) = (G2Point::identity(), Scalar::zero()),
            }
        }
        let equations: Vec<(G2Point, &Scalar)> = images.iter().copied().zip(&shares).collect();
        let each = equations.iter().all(|(image, share)| share_matches(image, share));
        prop_assert_eq!(each, tampered.is_none_or(|(_, how)| how == 3));
        prop_assert_eq!(shares_match_all(&equations, &randomness, Effort::ONE_THREAD), each);
    }

    #[test]
    fn two_errors_that_cancel_in_a_plain_sum_are_found(seed: [u8; 32], randomness: [u8; 32]) {
        let polynomial = polynomial(&seed, 1);
        let mut shares: Vec<Scalar> = Index::all(2).map(|i| polynomial.share(i)).collect();
        let images = polynomial.commit().evaluate_all(2);
        shares.reverse();
        let equations: Vec<(G2Point, &Scalar)> = images.into_iter().zip(&shares).collect();
        prop_assert!(!shares_match_all(&equations, &randomness, Effort::ONE_THREAD));
    }

    #[test]
    fn any_enough_shares_give_the_same_signature(
        seed: [u8; 32],
        message: Vec<u8>,
        n in 2_usize..12,
        threshold: Position,
        order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let t = 1 + threshold.index(n - 1);
        let polynomial = polynomial(&seed, t);
        let shares: Vec<(Index, Signature)> = order
            .into_iter()
            .filter(|position| *position < n)
            .map(|position| {
                let signer = Index::from_position(position).unwrap();
                let key = SecretKey::from_scalar(polynomial.share(signer)).unwrap();
                (signer, key.sign(&message, &RANDOM_BEACON_TAG))
            })
            .collect();
        let whole_key = SecretKey::from_scalar(polynomial.coefficients()[0].clone()).unwrap();
        let signature = whole_key.sign(&message, &RANDOM_BEACON_TAG);
        prop_assert_eq!(combine(n, t, &shares), Ok(signature));
        prop_assert_eq!(combine(n, t, &shares[n - t - 1..]), Ok(signature));
        prop_assert!(whole_key.public_key().verify(&message, &RANDOM_BEACON_TAG, &signature));
        prop_assert!(combine(n, t, &shares[..t]).is_err());
    }
}

#[test]
fn no_equations_all_hold() {
    assert!(shares_match_all(&[], &[0; 32], Effort::ONE_THREAD));
}

#[test]
fn commitments_of_different_length_have_no_sum() {
    let (short, long) = (polynomial(&[1; 32], 1).commit(), polynomial(&[2; 32], 2).commit());
    assert_eq!(CommitmentVector::sum([&short, &long]), None);
    assert_eq!(CommitmentVector::sum([]), None);
    assert_eq!(CommitmentVector::sum([&long]), Some(long));
}

#[test]
fn a_commitment_and_its_negative_sum_to_the_identity() {
    let vector = polynomial(&[1; 32], 1).commit();
    let mut encoded = vector.encode(VectorEncoding::Compressed);
    for point in encoded.chunks_mut(96) {
        point[0] ^= 0x20;
    }
    let negative = UncheckedVector::decode(&encoded, 2).unwrap().check_subgroup().unwrap();
    let sum = CommitmentVector::sum([&vector, &negative]).unwrap();
    assert!(sum.evaluate_all(3).iter().all(G2Point::is_identity));
    // The identity among the summands, and equal summands.
    assert_eq!(CommitmentVector::sum([&sum, &vector]), Some(vector.clone()));
    let doubled = CommitmentVector::sum([&vector, &vector]).unwrap();
    assert_eq!(CommitmentVector::sum([&doubled, &negative]), Some(vector));
}

#[test]
fn indices_go_from_0_to_253_and_abscissas_one_further() {
    assert_eq!(Index::from_byte(253).map(Index::abscissa), Some(254));
    assert_eq!(Index::from_byte(254), None);
    assert_eq!(Index::from_position(usize::MAX), None);
    assert_eq!(Index::all(3).map(Index::byte).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(Index::all(usize::MAX).map(usize::from).collect::<Vec<_>>(), (0..254).collect::<Vec<_>>());
    let nine = Index::from_byte(9).unwrap();
    assert_eq!(serde_json::to_string(&nine).unwrap(), "9");
    assert_eq!(serde_json::from_str::<Index>("9").unwrap(), nine);
    assert!(serde_json::from_str::<Index>("254").is_err());
}

#[test]
fn scalars_are_compared_by_value() {
    let one = Scalar::from_be_bytes(&[&[0; 31][..], &[1]].concat()).unwrap();
    let mut two = one.clone();
    two += &one;
    assert!(!one.ct_eq(&two));
    let mut sum = Scalar::zero();
    sum += &one;
    assert!(sum.ct_eq(&one) && !sum.is_zero() && Scalar::zero().is_zero());
    assert_eq!(two.to_be_bytes()[..], [&[0; 31][..], &[2]].concat());
}

/// The commitment to a polynomial of degree 0 with this public value.
fn constant(value: G2Point) -> CommitmentVector {
    UncheckedVector::decode(&value.to_flow_bytes(), 1).unwrap().check_subgroup().unwrap()
}
