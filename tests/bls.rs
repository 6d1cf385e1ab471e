//! Keys, polynomials, encodings and signatures, against the reference's vectors and at their edges.

use dkg_engine::bls::{
    Added, CombineError, DKG_MESSAGE_TAG, G2Point, Index, PointError, Polynomial, PossessionError, ProofOfPossession,
    ProvenPublicKey, PublicKey, RANDOM_BEACON_TAG, Scalar, ScalarError, SecretKey, SeedError, Signature,
    SignatureCollector, Tag, UncheckedVector, VectorEncoding, VectorError, combine, expand_message, hash_to_g1,
    share_matches,
};
use dkg_engine::hex;
use serde_json::Value;

const IDENTITY_SIGNATURE: [u8; 48] = {
    let mut bytes = [0; 48];
    bytes[0] = 0xc0;
    bytes
};

fn vectors(file: &str) -> Value {
    let path = format!("{}/tests/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no list {name}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name}"))
}

fn number(value: &Value, name: &str) -> usize {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name}")) as usize
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(value, name)).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn scalar_hex(scalar: &Scalar) -> String {
    hex::encode(&*scalar.to_be_bytes())
}

fn key(value: &Value, name: &str) -> SecretKey {
    SecretKey::from_scalar(Scalar::from_be_bytes(&bytes(value, name)).unwrap()).unwrap()
}

fn index(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

fn polynomial(seed: u8, degree: usize) -> Polynomial {
    Polynomial::from_seed(&[seed; 32], degree).unwrap()
}

#[test]
fn a_key_from_a_seed_equals_the_reference() {
    for case in list(&vectors("keygen"), "cases") {
        let seed = bytes(case, "seed");
        match (SecretKey::from_seed(&seed), case.get("error")) {
            (Ok(key), None) => {
                assert_eq!(scalar_hex(key.scalar()), text(case, "private_key"), "{}", case["note"]);
                assert_eq!(hex::encode(&key.public_key().to_flow_bytes()), text(case, "public_key"));
            }
            (Err(SeedError::TooShort(length)), Some(_)) => assert!(length == seed.len() && length < 32),
            (Err(SeedError::TooLong(length)), Some(_)) => assert!(length == seed.len() && length > 256),
            (result, _) => panic!("{}: {:?}", case["note"], result.err()),
        }
    }
}

#[test]
fn a_polynomial_from_a_seed_equals_the_reference() {
    for case in list(&vectors("poly"), "cases") {
        let seed = bytes(case, "seed");
        let degree = number(case, "degree");
        let Ok(polynomial) = Polynomial::from_seed(&seed, degree) else {
            assert_eq!(case["error"], "invalid_inputs");
            assert!(seed.len() < 32);
            continue;
        };
        assert_eq!(polynomial.degree(), degree);
        let coefficients: Vec<String> = polynomial.coefficients().iter().map(scalar_hex).collect();
        assert_eq!(Value::from(coefficients), case["coefficients"]);
        let shares: Vec<String> = Index::all(5).map(|i| scalar_hex(&polynomial.share(i))).collect();
        assert_eq!(Value::from(shares), case["shares_at_1_to_5"]);

        let message = bytes(case, "verification_vector_message");
        let vector = polynomial.commit();
        assert_eq!(vector.encode(VectorEncoding::Compressed), message[1..]);
        let decoded = UncheckedVector::decode(&message[1..], degree + 1).unwrap().check_subgroup().unwrap();
        assert_eq!(decoded, vector);
    }
}

#[test]
fn hashing_and_signing_equal_the_reference() {
    let vectors = vectors("bls_sign");
    for case in list(&vectors, "sign") {
        let (secret, tag, message) =
            (key(case, "private_key"), Tag::new(text(case, "tag").to_owned()), bytes(case, "message"));
        assert_eq!(hex::encode(&secret.public_key().to_flow_bytes()), text(case, "public_key"));
        assert_eq!(hex::encode(&expand_message(&message, &tag)), text(case, "expand_message_128"), "tag {tag:?}");
        assert_eq!(hex::encode(&hash_to_g1(&message, &tag)), text(case, "hash_to_g1"));
        assert_eq!(hex::encode(&secret.sign(&message, &tag).to_bytes()), text(case, "signature"));
    }
    assert_eq!(DKG_MESSAGE_TAG.as_str(), text(&vectors["flow_go_tags"], "DKGMessageTag"));
    assert_eq!(RANDOM_BEACON_TAG.as_str(), text(&vectors["flow_go_tags"], "RandomBeaconTag"));
}

#[test]
fn signatures_are_accepted_and_refused_like_the_reference_does() {
    for case in list(&vectors("bls_sign"), "verify") {
        let key = PublicKey::from_flow_bytes(&bytes(case, "public_key")).unwrap();
        let tag = Tag::new(text(case, "tag").to_owned());
        let signature = Signature::from_bytes(&bytes(case, "signature"));
        let valid = signature.is_ok_and(|signature| key.verify(&bytes(case, "message"), &tag, &signature));
        assert_eq!(valid, case["valid"], "{}", case["why"]);
    }
}

#[test]
fn encodings_are_accepted_and_refused_like_the_reference_does() {
    let vectors = vectors("encodings");
    for case in list(&vectors, "g1") {
        let accepted = Signature::from_bytes(&bytes(case, "hex")).is_ok_and(|point| point.is_in_subgroup());
        assert_eq!(accepted, case["accept"], "{}", case["note"]);
    }
    for case in list(&vectors, "g2") {
        let (encoded, verdict) = (bytes(case, "hex"), text(case, "verdict"));
        let decoded = G2Point::from_flow_bytes(&encoded);
        match decoded {
            Ok(point) => assert_eq!(verdict.contains("identity"), point.is_identity(), "{}", case["note"]),
            Err(PointError::Length { actual, .. }) => assert_eq!(actual, encoded.len()),
            Err(PointError::Encoding) => assert_eq!(verdict, "input could not deserialize to an E2 point"),
            Err(PointError::NotOnCurve) => assert_eq!(verdict, "input is not a point on curve E2"),
            Err(PointError::NotInSubgroup) => assert_eq!(verdict, "not in G2"),
        }
        assert_eq!(decoded.is_ok(), case["accept"], "{}", case["note"]);
        // A vector's points are judged like keys.
        let in_vector = UncheckedVector::decode(&encoded, 1).and_then(UncheckedVector::check_subgroup);
        assert_eq!(in_vector.ok().map(|vector| vector.constant_term()), decoded.ok(), "{}", case["note"]);
    }
    for case in list(&vectors, "scalars") {
        let encoded = bytes(case, "hex");
        let decoded = Scalar::from_be_bytes(&encoded);
        match &decoded {
            Ok(scalar) => assert_eq!(*scalar.to_be_bytes(), *encoded),
            Err(ScalarError::Length(length)) => assert_eq!(*length, encoded.len()),
            Err(ScalarError::Zero) => assert!(encoded.iter().all(|byte| *byte == 0)),
            Err(ScalarError::NotCanonical) => assert!(encoded[0] >= 0x73),
        }
        assert_eq!(decoded.is_ok(), case["accept"], "{}", case["note"]);
    }
}

#[test]
fn the_flow_and_the_standard_encoding_are_both_read_and_written() {
    for case in list(&vectors("encodings"), "g2_flow_versus_standard") {
        let (flow, standard) = (bytes(case, "flow_hex"), bytes(case, "standard_hex"));
        let point = match Scalar::from_be_bytes(&bytes(case, "scalar")) {
            Ok(scalar) => scalar.public_value(),
            Err(error) => {
                assert_eq!(error, ScalarError::Zero);
                Scalar::zero().public_value()
            }
        };
        assert_eq!((&point.to_flow_bytes()[..], &point.to_standard_bytes()[..]), (&flow[..], &standard[..]));
        assert_eq!(G2Point::from_flow_bytes(&flow), Ok(point));
        assert_eq!(G2Point::from_standard_bytes(&standard), Ok(point));
    }
    assert!(Scalar::zero().public_value().is_identity());
}

#[test]
fn an_identity_with_a_strange_last_byte_is_written_canonically() {
    let mut strange = IDENTITY_SIGNATURE;
    strange[47] = 7;
    assert_eq!(Signature::from_bytes(&strange).unwrap().to_bytes(), IDENTITY_SIGNATURE);
    let mut strange = G2Point::identity().to_flow_bytes();
    strange[95] = 7;
    assert_eq!(G2Point::from_flow_bytes(&strange), Ok(G2Point::identity()));
    // Only the reference's own format has this leniency.
    assert_eq!(G2Point::from_standard_bytes(&strange), Err(PointError::Encoding));
}

#[test]
fn flag_bits_in_the_middle_of_a_flow_point_are_refused() {
    // There, c1 begins; in the standard order it would lead, and carry the flags.
    for flags in [0x20, 0x40, 0x80, 0xe0] {
        let mut encoded = G2Point::generator().to_flow_bytes();
        encoded[48] |= flags;
        assert_eq!(G2Point::from_flow_bytes(&encoded), Err(PointError::Encoding), "flags {flags:#x}");
    }
}

#[test]
fn points_of_g1_with_x_zero_are_on_the_curve_but_not_signatures() {
    let mut encoded = [0; 48];
    encoded[0] = 0x80;
    let point = Signature::from_bytes(&encoded).unwrap();
    assert!(!point.is_in_subgroup());
    assert_eq!(point.to_bytes(), encoded);
}

#[test]
fn an_uncompressed_vector_is_the_same_vector() {
    let vector = polynomial(1, 4).commit();
    let (short, long) = (vector.encode(VectorEncoding::Compressed), vector.encode(VectorEncoding::Uncompressed));
    assert_eq!((short.len(), long.len()), (5 * 96, 5 * 192));
    for encoded in [short, long] {
        let decoded = UncheckedVector::decode(&encoded, 5).unwrap().check_subgroup().unwrap();
        assert_eq!(decoded, vector);
    }
}

#[test]
fn an_uncompressed_point_has_one_encoding_only() {
    let judge = |bytes: &[u8]| {
        let checked = UncheckedVector::decode(bytes, 1).and_then(UncheckedVector::check_subgroup);
        checked.map(|vector| vector.constant_term())
    };
    let refused = |bytes: &[u8]| judge(bytes) == Err(VectorError::Point { position: 0, error: PointError::Encoding });

    let mut identity = [0; 192];
    identity[0] = 0x40;
    assert_eq!(judge(&identity), Ok(G2Point::identity()));
    for position in 1..192 {
        let mut spoilt = identity;
        spoilt[position] = 1;
        assert!(refused(&spoilt), "identity with a one at {position}");
    }

    let generator = polynomial(1, 0).commit().encode(VectorEncoding::Uncompressed);
    for flags in [0x20, 0x40, 0x60, 0x80, 0xa0, 0xc0, 0xe0] {
        let mut flagged = generator.clone();
        flagged[0] |= flags;
        assert!(refused(&flagged), "flags {flags:#x}");
    }
    // A compressed point, with anything behind it, in the place of an uncompressed one.
    let mut hidden = G2Point::generator().to_standard_bytes().to_vec();
    hidden.resize(192, 0);
    assert!(refused(&hidden));
    // Each of the four coordinates, set to 2^381 - 1, which is above the modulus.
    for coordinate in 0..4 {
        let mut large = generator.clone();
        large[48 * coordinate..][..48].fill(0xff);
        large[48 * coordinate] = 0x1f;
        assert!(refused(&large), "coordinate {coordinate}");
    }
    let mut elsewhere = generator;
    elsewhere[191] ^= 1;
    assert_eq!(judge(&elsewhere), Err(VectorError::Point { position: 0, error: PointError::NotOnCurve }));
}

#[test]
fn a_bad_vector_is_refused_with_the_place_of_the_bad_point() {
    let encodings = vectors("encodings");
    let outside = list(&encodings, "g2").iter().find(|case| text(case, "verdict") == "not in G2").unwrap();
    let mut encoded = polynomial(2, 2).commit().encode(VectorEncoding::Compressed);
    encoded[2 * 96..].copy_from_slice(&bytes(outside, "hex"));
    let error = UncheckedVector::decode(&encoded, 3).unwrap().check_subgroup().unwrap_err();
    assert_eq!(error, VectorError::Point { position: 2, error: PointError::NotInSubgroup });

    encoded[96] &= 0x7f;
    let error = UncheckedVector::decode(&encoded, 3).err();
    assert_eq!(error, Some(VectorError::Point { position: 1, error: PointError::Encoding }));

    for (length, points) in [(0, 0), (0, 3), (96, 0), (3 * 96 - 1, 3), (3 * 96 + 1, 3), (4 * 96, 3), (96, usize::MAX)] {
        let error = UncheckedVector::decode(&vec![0; length], points).err();
        assert_eq!(error, Some(VectorError::Length { points, actual: length }));
    }
}

#[test]
fn a_commitment_evaluates_to_the_public_values_of_the_shares() {
    let polynomial = polynomial(3, 5);
    let values = polynomial.commit().evaluate_all(254);
    assert_eq!(values.len(), 254);
    for (i, value) in Index::all(254).zip(&values) {
        assert!(share_matches(value, &polynomial.share(i)), "index {i}");
    }
    assert_eq!(polynomial.commit().evaluate(index(253)), values[253]);
    assert_eq!(polynomial.commit().constant_term(), polynomial.coefficients()[0].public_value());
}

#[test]
fn threshold_signatures_equal_the_reference() {
    let outside_g1 = {
        let encodings = vectors("encodings");
        let case = list(&encodings, "g1").iter().find(|case| text(case, "verdict") == "not in G1").unwrap();
        bytes(case, "hex")
    };
    for set in list(&vectors("threshold"), "sets") {
        let (n, t) = (number(set, "n"), number(set, "t"));
        let (tag, message) = (Tag::new(text(set, "tag").to_owned()), bytes(set, "message"));
        let group_key = PublicKey::from_flow_bytes(&bytes(set, "group_public_key")).unwrap();

        let mut good_shares = Vec::new();
        for (secret, public) in list(set, "private_shares").iter().zip(list(set, "public_key_shares")) {
            let secret = SecretKey::from_scalar(Scalar::from_be_bytes(&unhex(secret)).unwrap()).unwrap();
            assert_eq!(secret.public_key().to_flow_bytes(), *unhex(public));
            good_shares.push(secret.sign(&message, &tag));
        }
        let mut other_message = None;
        for case in list(set, "signature_shares") {
            let (i, encoded) = (number(case, "index"), bytes(case, "share"));
            let key = PublicKey::from_flow_bytes(&unhex(&set["public_key_shares"][i])).unwrap();
            let share = Signature::from_bytes(&encoded).unwrap();
            assert_eq!(key.verify(&message, &tag, &share), case["valid"], "{}", case["note"]);
            assert_eq!(share == good_shares[i], case["valid"]);
            if case["note"] == "share of another message" {
                other_message = Some(encoded);
            }
        }
        let other_message = other_message.unwrap();

        for case in list(set, "reconstructions") {
            let note = case["note"].as_str().unwrap_or("all good");
            let signers: Vec<usize> = list(case, "signers").iter().map(|i| i.as_u64().unwrap() as usize).collect();
            let mut shares: Vec<Vec<u8>> =
                signers.iter().map(|i| good_shares.get(*i).unwrap_or(&good_shares[0]).to_bytes().to_vec()).collect();
            // The vectors tell only in words which share was replaced.
            match note {
                _ if note.starts_with("one share is of another message") => shares[0] = other_message.clone(),
                _ if note.starts_with("one share is not a point") => shares[0][0] &= 0x7f,
                _ if note.starts_with("one share is the identity") => shares[0] = IDENTITY_SIGNATURE.to_vec(),
                _ if note.starts_with("one share is on the curve but") => shares[0] = outside_g1.clone(),
                _ if note.starts_with("n shares, the last is bad") => shares[n - 1] = other_message.clone(),
                _ => {}
            }
            match reconstruct(n, t, &signers, &shares) {
                Ok(signature) => {
                    // With an identity among few points, the blst inside the reference computed nonsense (it says so in
                    // a comment; later versions do not). Of that case only the verdict is compared.
                    if note != "one share is the identity" {
                        assert_eq!(hex::encode(&signature.to_bytes()), text(case, "signature"), "n = {n}, {note}");
                    }
                    let verified = group_key.verify(&message, &tag, &signature);
                    assert_eq!(verified, case["verifies_under_group_key"], "n = {n}, {note}");
                }
                Err(error) => assert_eq!(error, text(case, "error"), "n = {n}, {note}"),
            }
        }
    }
}

#[test]
fn a_share_that_is_the_identity_counts_for_nothing() {
    let share = SecretKey::from_seed(&[8; 32]).unwrap().sign(b"message", &RANDOM_BEACON_TAG);
    let identity = Signature::from_bytes(&IDENTITY_SIGNATURE).unwrap();
    // The weight of the second share of two is -1.
    let combined = combine(2, 1, &[(index(0), identity), (index(1), share)]).unwrap();
    let mut negated = share.to_bytes();
    negated[0] ^= 0x20;
    assert_eq!(combined.to_bytes(), negated);
    assert_eq!(combine(2, 1, &[(index(0), identity), (index(1), identity)]), Ok(identity));
}

/// What the reference's function does with a list of encoded shares, in the reference's words.
fn reconstruct(n: usize, t: usize, signers: &[usize], shares: &[Vec<u8>]) -> Result<Signature, &'static str> {
    let mut list = Vec::new();
    for (signer, share) in signers.iter().zip(shares) {
        let index = Index::from_position(*signer).ok_or("invalid_inputs")?;
        list.push((index, Signature::from_bytes(share).map_err(|_| "invalid_signature")?));
    }
    combine(n, t, &list).map_err(in_the_words_of_the_reference)
}

fn in_the_words_of_the_reference(error: CombineError) -> &'static str {
    match error {
        CombineError::NotEnoughShares { .. } | CombineError::BadShares { .. } => "not_enough_shares",
        CombineError::Malformed { .. } => "invalid_signature",
        CombineError::DuplicateSigner(_) => "duplicated_signer",
        CombineError::Parameters { .. } | CombineError::UnknownSigner(_) | CombineError::WrongGroupKey => {
            "invalid_inputs"
        }
    }
}

#[test]
fn a_collector_of_signature_shares_answers_like_the_reference() {
    for set in list(&vectors("threshold"), "sets") {
        let group_key = PublicKey::from_flow_bytes(&bytes(set, "group_public_key")).unwrap();
        let key_shares: Vec<PublicKey> =
            list(set, "public_key_shares").iter().map(|key| PublicKey::from_flow_bytes(&unhex(key)).unwrap()).collect();
        let tag = Tag::new(text(set, "tag").to_owned());
        let mut collector =
            SignatureCollector::new(group_key, key_shares, number(set, "t"), &bytes(set, "message"), &tag).unwrap();

        for step in list(set, "stateful_inspector") {
            let error = match text(step, "op") {
                "verify_and_add" => {
                    let added = Index::from_position(number(step, "index")).ok_or("invalid_inputs").and_then(|i| {
                        collector.verify_and_add(i, &bytes(step, "share")).map_err(in_the_words_of_the_reference)
                    });
                    if let Ok(added) = added {
                        assert_eq!(
                            (Value::from(added.valid), Value::from(added.enough)),
                            (step["valid"].clone(), step["enough"].clone())
                        );
                    }
                    added.err()
                }
                "threshold_signature" => {
                    let combined = collector.signature(&[7; 32]);
                    if let Ok(combined) = &combined {
                        assert_eq!(hex::encode(&combined.signature.to_bytes()), text(step, "signature"));
                    }
                    combined.err().map(in_the_words_of_the_reference)
                }
                other => panic!("unknown step {other}"),
            };
            assert_eq!(error, step.get("error").map(|error| error.as_str().unwrap()));
        }
    }
}

/// A collector for the signatures of a group of three, two of which are needed.
fn collector_of(polynomial: &Polynomial, group_key: PublicKey) -> SignatureCollector {
    let key_shares = polynomial.commit().evaluate_all(3).into_iter().map(PublicKey::from).collect();
    SignatureCollector::new(group_key, key_shares, 1, b"message", &RANDOM_BEACON_TAG).unwrap()
}

fn signature_share(polynomial: &Polynomial, signer: Index) -> [u8; 48] {
    SecretKey::from_scalar(polynomial.share(signer)).unwrap().sign(b"message", &RANDOM_BEACON_TAG).to_bytes()
}

#[test]
fn a_collector_with_the_wrong_group_key_gives_no_signature() {
    let polynomial = polynomial(4, 1);
    let mut collector = collector_of(&polynomial, SecretKey::from_seed(&[5; 32]).unwrap().public_key());
    for i in Index::all(2) {
        assert!(collector.verify_and_add(i, &signature_share(&polynomial, i)).unwrap().valid);
    }
    assert_eq!(collector.signature(&[7; 32]), Err(CombineError::WrongGroupKey));
}

#[test]
fn a_collector_forgets_shares_that_are_malformed_and_shares_it_no_longer_needs() {
    let polynomial = polynomial(4, 1);
    let mut collector = collector_of(&polynomial, polynomial.commit().constant_term().into());
    for malformed in [&[][..], &[0xff; 48], &[0; 48], &[0xc0; 49]] {
        assert_eq!(collector.verify_and_add(index(0), malformed), Ok(Added { valid: false, enough: false }));
    }
    for i in Index::all(2) {
        let added = collector.verify_and_add(i, &signature_share(&polynomial, i));
        assert_eq!(added, Ok(Added { valid: true, enough: i == index(1) }));
    }
    for _ in 0..2 {
        let added = collector.verify_and_add(index(2), &signature_share(&polynomial, index(2)));
        assert_eq!(added, Ok(Added { valid: true, enough: true }));
    }
    assert!(collector.signature(&[7; 32]).is_ok());
}

#[test]
fn combining_needs_parameters_that_make_sense() {
    for (n, t) in [(0, 0), (1, 0), (1, 1), (2, 0), (3, 3), (255, 4), (usize::MAX, usize::MAX)] {
        assert_eq!(combine(n, t, &[]), Err(CombineError::Parameters { n, t }));
    }
}

#[test]
fn possession_is_proven_for_ones_own_key_only() {
    let [mine, other] = [6, 7].map(|seed| SecretKey::from_seed(&[seed; 32]).unwrap());
    let proof = ProofOfPossession::from_bytes(&mine.prove_possession().to_bytes()).unwrap();
    assert_eq!(ProvenPublicKey::check(mine.public_key(), &proof).unwrap().key(), &mine.public_key());
    assert_eq!(ProvenPublicKey::check(other.public_key(), &proof), Err(PossessionError::Mismatch));

    let identity = PublicKey::from(G2Point::identity());
    let nothing = ProofOfPossession::from_bytes(&IDENTITY_SIGNATURE).unwrap();
    assert_eq!(ProvenPublicKey::check(identity, &nothing), Err(PossessionError::IdentityKey));
    assert_eq!(ProvenPublicKey::check(mine.public_key(), &nothing), Err(PossessionError::Mismatch));

    // A signature over the same bytes, whatever its tag, is no proof.
    let signature = mine.sign(&mine.public_key().to_flow_bytes(), &Tag::new(""));
    let passed_off = ProofOfPossession::from_bytes(&signature.to_bytes()).unwrap();
    assert_eq!(ProvenPublicKey::check(mine.public_key(), &passed_off), Err(PossessionError::Mismatch));
}
