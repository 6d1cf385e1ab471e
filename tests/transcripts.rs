//! The reference's transcripts, replayed: every file of a folder (`DKG_VECTORS`, or `tests/vectors`) that is called
//! `dkg_*.json`. What must be equal is the qualified set, the final keys or the class of failure, every private message, the
//! set of distinct broadcasts, and every refused call.
//!
//! Where this implementation differs from the reference on purpose (spec section 3, 1 to 7), a named rule below says what is
//! expected instead, and why. A rule computes its expectation from the transcript; it never lets a file pass unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dkg_engine::bls::{CommitmentVector, Index, PublicKey, Scalar, UncheckedVector, VectorEncoding, share_matches};
use dkg_engine::protocol::{Error, Keys, OurShare, Outcome, Output, Parameters, Participant};
use dkg_engine::{SecretBytes, hex};
use serde::Deserialize;

#[derive(Deserialize)]
struct Transcript {
    n: usize,
    t: usize,
    observer: usize,
    events: Vec<Event>,
    result: ResultRecord,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    seed: Option<String>,
    from: Option<i64>,
    index: Option<i64>,
    hex: Option<String>,
    error: Option<String>,
    #[serde(default)]
    outputs: Vec<OutputRecord>,
}

#[derive(Deserialize)]
struct OutputRecord {
    #[serde(rename = "type")]
    kind: String,
    to: Option<usize>,
    hex: Option<String>,
}

#[derive(Deserialize, Clone)]
struct ResultRecord {
    failure: Option<String>,
    private_share: Option<String>,
    group_public_key: Option<String>,
    public_key_shares: Option<Vec<String>>,
    disqualified: Vec<usize>,
}

/// What a replay must come to.
struct Expected {
    disqualified: BTreeSet<usize>,
    broadcasts: BTreeSet<Vec<u8>>,
    keys: ExpectedKeys,
}

enum ExpectedKeys {
    AsRecorded(ResultRecord),
    /// The keys of these vectors: the rule has changed who is qualified.
    Of(Vec<CommitmentVector>),
}

/// What a replay came to.
#[derive(Default)]
struct Replayed {
    private: Vec<(usize, Vec<u8>)>,
    broadcasts: BTreeSet<Vec<u8>>,
    outcome: Option<Outcome>,
}

#[test]
fn every_transcript_of_the_reference_comes_out_equal() {
    let folder = std::env::var_os("DKG_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), PathBuf::from);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("dkg_") && name.ends_with(".json")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no dkg_*.json in {}", folder.display());
    let failures: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let transcript: Transcript = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let problem = check(&transcript).err()?;
            Some(format!("{}: {problem}", path.file_name().unwrap().to_string_lossy()))
        })
        .collect();
    assert!(failures.is_empty(), "{} of {} transcripts differ:\n{}", failures.len(), files.len(), failures.join("\n"));
}

fn check(transcript: &Transcript) -> Result<(), String> {
    let every_event = replay(transcript, Settling::AfterEveryEvent)?;
    compare(transcript, every_event)?;
    // Verdicts must not depend on when the checks are made.
    let phase_ends = replay(transcript, Settling::AtPhaseEndsOnly)?;
    let expected = expect(transcript);
    let outcome = phase_ends.outcome.ok_or("no end")?;
    if disqualified(&outcome) != expected.disqualified {
        return Err("settled late, another set is qualified".into());
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Settling {
    AfterEveryEvent,
    AtPhaseEndsOnly,
}

fn replay(transcript: &Transcript, settling: Settling) -> Result<Replayed, String> {
    let me = Index::from_position(transcript.observer).unwrap();
    let parameters =
        Parameters { size: transcript.n, threshold: transcript.t, me, encoding: VectorEncoding::Compressed };
    let mut participant: Option<Participant> = None;
    let mut replayed = Replayed::default();
    for (position, event) in transcript.events.iter().enumerate() {
        let mut randomness = [7; 32];
        randomness[0] = position as u8;
        let (outputs, error) = apply(event, &mut participant, parameters, &randomness, &mut replayed.outcome);
        if error != event.error.as_deref() {
            return Err(format!("event {position} ({}): error {error:?} instead of {:?}", event.kind, event.error));
        }
        let Some(running) = participant.as_mut() else { continue };
        let mut pending = outputs;
        if settling == Settling::AfterEveryEvent {
            pending.extend(running.settle(&randomness));
        }
        while let Some(output) = pass(&mut pending) {
            match output {
                Output::SendShare { to, message } => {
                    replayed.private.push((usize::from(to), message.expose().to_vec()));
                }
                Output::Broadcast(data) => {
                    replayed.broadcasts.insert(data.clone());
                    // The board hands a member its own broadcasts back, here where it made them.
                    pending.extend(running.take_broadcast(me, &data).map_err(|error| error.to_string())?);
                    if settling == Settling::AfterEveryEvent {
                        pending.extend(running.settle(&randomness));
                    }
                }
                Output::Disqualified { .. } | Output::Flagged { .. } => {}
            }
        }
    }
    Ok(replayed)
}

fn pass(pending: &mut Vec<Output>) -> Option<Output> {
    if pending.is_empty() { None } else { Some(pending.remove(0)) }
}

/// One event, done to the participant; the error as the reference calls it.
fn apply(
    event: &Event,
    participant: &mut Option<Participant>,
    parameters: Parameters,
    randomness: &[u8; 32],
    outcome: &mut Option<Outcome>,
) -> (Vec<Output>, Option<&'static str>) {
    const STATE: Option<&str> = Some("invalid_state_transition");
    const INPUTS: Option<&str> = Some("invalid_inputs");
    if event.kind == "start" {
        if participant.is_some() {
            // A participant is made by starting it: it has no second start to refuse.
            return (Vec::new(), STATE);
        }
        let seed = SecretBytes::new(hex::decode(event.seed.as_deref().unwrap_or_default()).unwrap());
        return match Participant::start(parameters, &seed) {
            Ok((started, outputs)) => {
                *participant = Some(started);
                (outputs, None)
            }
            Err(_) => (Vec::new(), INPUTS),
        };
    }
    // Before its start there is no participant to do anything wrong with.
    let Some(running) = participant.as_mut() else { return (Vec::new(), STATE) };
    let index = |number: Option<i64>| number.and_then(|n| Index::from_position(usize::try_from(n).ok()?));
    let data = hex::decode(event.hex.as_deref().unwrap_or_default()).unwrap();
    let result = match event.kind.as_str() {
        // A number below 0 is no Index at all.
        "private" | "broadcast" if index(event.from).is_none() => return (Vec::new(), INPUTS),
        "force_disqualify" if index(event.index).is_none() => return (Vec::new(), event.error.as_deref().and(INPUTS)),
        "private" => running.take_private(index(event.from).unwrap(), &data),
        // Rule `own_broadcasts_come_from_the_board` (difference 1): the reference passes over whatever it is handed in its
        // own name. Ours counts its own broadcasts where they stand on the board, which is where the harness has already
        // handed them back; what the transcript adds in the observer's name, no board has carried.
        "broadcast" if index(event.from) == Some(parameters.me) && outcome.is_none() => Ok(Vec::new()),
        "broadcast" => running.take_broadcast(index(event.from).unwrap(), &data),
        "next_timeout" => running.end_phase(randomness),
        "force_disqualify" => running.force_disqualify(index(event.index).unwrap()),
        "end" => running.finish(randomness).map(|(ended, outputs)| {
            *outcome = Some(ended);
            outputs
        }),
        other => panic!("unknown event {other}"),
    };
    match result {
        Ok(outputs) => (outputs, None),
        Err(Error::WrongPhase { .. }) => (Vec::new(), STATE),
        Err(_) => (Vec::new(), INPUTS),
    }
}

/// What the transcript records, changed by the rules.
fn expect(transcript: &Transcript) -> Expected {
    let outputs = || transcript.events.iter().flat_map(|event| &event.outputs);
    let mut expected = Expected {
        disqualified: transcript.result.disqualified.iter().copied().collect(),
        broadcasts: outputs()
            .filter(|output| output.kind == "broadcast")
            .map(|output| hex::decode(output.hex.as_deref().unwrap()).unwrap())
            .collect(),
        keys: ExpectedKeys::AsRecorded(transcript.result.clone()),
    };
    no_split_view(transcript, &mut expected);
    answers_held_back(transcript, &mut expected);
    expected
}

/// Difference 1. In the reference a member's own complaint overwrites an answer that the dealer has already broadcast; ours
/// stands behind that answer in the board's order, so the answer is judged like everywhere else: a right one settles the
/// complaint and gives us our share, a wrong one disqualifies the dealer, and later answers are duplicates.
fn no_split_view(transcript: &Transcript, expected: &mut Expected) {
    let me = Index::from_position(transcript.observer).unwrap();
    let mut changed = false;
    for dealer in 0..transcript.n {
        let complaint = [2, dealer as u8];
        let complained = transcript.events.iter().position(|event| {
            event
                .outputs
                .iter()
                .any(|output| output.kind == "broadcast" && output.hex.as_deref() == Some(&hex::encode(&complaint)))
        });
        let early = transcript.events.iter().enumerate().find_map(|(position, event)| {
            let data = broadcast_of(event, dealer)?;
            (complained? > position && data.starts_with(&[3, me.byte()]) && data.len() == 34).then_some(data)
        });
        let (Some(answer), Some(vector)) = (early, vector_of(transcript, dealer)) else { continue };
        let right = Scalar::from_be_bytes(&answer[2..]).is_ok_and(|share| share_matches(&vector.evaluate(me), &share));
        if right && otherwise_innocent(transcript, dealer, &vector) {
            changed |= expected.disqualified.remove(&dealer);
        } else if !right {
            changed |= expected.disqualified.insert(dealer);
        }
    }
    if changed && transcript.result.failure.is_none() {
        let qualified = (0..transcript.n).filter(|dealer| !expected.disqualified.contains(dealer));
        expected.keys = ExpectedKeys::Of(qualified.filter_map(|dealer| vector_of(transcript, dealer)).collect());
    }
}

/// Whether nothing but the observer's own, overwritten entry speaks against a dealer with this vector: at most `t` entries,
/// every other complaint answered and rightly so, and nothing malformed said.
fn otherwise_innocent(transcript: &Transcript, dealer: usize, vector: &CommitmentVector) -> bool {
    let from = |events: &[Event], sender| -> Vec<Vec<u8>> {
        events.iter().filter_map(|event| broadcast_of(event, sender)).collect()
    };
    let named = |data: &[u8]| data.get(1).map(|member| usize::from(*member)).filter(|member| *member < transcript.n);
    let malformed_complaint = |data: &Vec<u8>| data[0] == 2 && (data.len() != 2 || named(data).is_none());
    let all = from(&transcript.events, dealer);
    let mut entries = BTreeSet::from([transcript.observer]);
    for sender in 0..transcript.n {
        for data in from(complaining(transcript), sender) {
            match (data.first(), named(&data)) {
                (Some(2), Some(accused)) if accused == dealer && sender != dealer => drop(entries.insert(sender)),
                (Some(3), Some(member)) if sender == dealer => drop(entries.insert(member)),
                _ => {}
            }
        }
    }
    if entries.len() > transcript.t || all.iter().any(|data| !matches!(data.first(), Some(1..=3))) {
        return false;
    }
    if from(complaining(transcript), dealer).iter().any(malformed_complaint) {
        return false;
    }
    let mut answers: BTreeMap<usize, bool> = BTreeMap::new();
    for data in all.iter().filter(|data| data[0] == 3) {
        let (34, Some(member)) = (data.len(), named(data)) else { return false };
        let Ok(share) = Scalar::from_be_bytes(&data[2..]) else {
            if answers.contains_key(&member) { continue } else { return false }
        };
        let image = vector.evaluate(Index::from_position(member).unwrap());
        answers.entry(member).or_insert_with(|| share_matches(&image, &share));
    }
    (0..transcript.n)
        .filter(|&member| member != transcript.observer && member != dealer)
        .filter(|&member| from(complaining(transcript), member).contains(&vec![2, dealer as u8]))
        .all(|member| answers.get(&member) == Some(&true))
}

/// Difference 3. The reference answers each complaint at once, and so publishes its secret when more than `t` complain; ours
/// waits until phase 2 has ended, and then makes no answer that cannot save it.
fn answers_held_back(transcript: &Transcript, expected: &mut Expected) {
    let me = transcript.observer as u8;
    let complainers = (0..transcript.n).filter(|&member| member != transcript.observer).filter(|&member| {
        complaining(transcript).iter().any(|event| broadcast_of(event, member).is_some_and(|data| data == [2, me]))
    });
    if complainers.count() > transcript.t {
        expected.broadcasts.retain(|data| data.first() != Some(&3));
    }
}

/// The events up to the end of phase 2: complaints that come later do not count.
fn complaining(transcript: &Transcript) -> &[Event] {
    until_end_of_phase(transcript, 2)
}

fn until_end_of_phase(transcript: &Transcript, phase: usize) -> &[Event] {
    let ends_phase = |event: &Event| event.kind == "next_timeout" && event.error.is_none();
    let ends = transcript.events.iter().enumerate().filter(|(_, event)| ends_phase(event));
    let end = ends.map(|(position, _)| position).nth(phase - 1).unwrap_or(transcript.events.len());
    &transcript.events[..end]
}

fn broadcast_of(event: &Event, sender: usize) -> Option<Vec<u8>> {
    let from = event.from.and_then(|from| usize::try_from(from).ok());
    let ours = event.kind == "broadcast" && from == Some(sender);
    if ours { hex::decode(event.hex.as_deref().unwrap_or_default()) } else { None }
}

/// The vector a dealer broadcast first, if it is one and came in time. The observer's own is among its outputs.
fn vector_of(transcript: &Transcript, dealer: usize) -> Option<CommitmentVector> {
    let data = if dealer == transcript.observer {
        let outputs = transcript.events.iter().flat_map(|event| &event.outputs);
        let posted = outputs.filter(|output| output.kind == "broadcast");
        posted.filter_map(|output| hex::decode(output.hex.as_deref()?)).find(|data| data.first() == Some(&1))?
    } else {
        let from_dealer = |event| broadcast_of(event, dealer);
        let in_time = until_end_of_phase(transcript, 1).iter();
        in_time.filter_map(from_dealer).find(|data| data.first() == Some(&1))?
    };
    UncheckedVector::decode(&data[1..], transcript.t + 1).ok()?.check_subgroup().ok()
}

fn disqualified(outcome: &Outcome) -> BTreeSet<usize> {
    outcome.disqualified.iter().map(|(dealer, _)| usize::from(*dealer)).collect()
}

fn compare(transcript: &Transcript, replayed: Replayed) -> Result<(), String> {
    let expected = expect(transcript);
    let private: Vec<(usize, Vec<u8>)> = transcript
        .events
        .iter()
        .flat_map(|event| &event.outputs)
        .filter(|output| output.kind == "private_send")
        .map(|output| (output.to.unwrap(), hex::decode(output.hex.as_deref().unwrap()).unwrap()))
        .collect();
    if replayed.private != private {
        return Err("other private messages".into());
    }
    if replayed.broadcasts != expected.broadcasts {
        let show = |set: &BTreeSet<Vec<u8>>| set.iter().map(|d| hex::encode(&d[..d.len().min(6)])).collect::<Vec<_>>();
        return Err(format!("broadcasts {:?} instead of {:?}", show(&replayed.broadcasts), show(&expected.broadcasts)));
    }
    let outcome = replayed.outcome.ok_or("the run did not end")?;
    if disqualified(&outcome) != expected.disqualified {
        return Err(format!("disqualified {:?} instead of {:?}", outcome.disqualified, expected.disqualified));
    }
    match (outcome.result, expected.keys) {
        (Ok(keys), ExpectedKeys::AsRecorded(record)) => compare_keys(keys, &record),
        (Err(failure), ExpectedKeys::AsRecorded(record)) => match record.failure.as_deref() {
            Some("dkg_failure") => Ok(()),
            other => Err(format!("failed ({failure}) instead of {other:?}")),
        },
        (Ok(keys), ExpectedKeys::Of(vectors)) => {
            let sum = CommitmentVector::sum(&vectors).ok_or("no vectors")?;
            let me = Index::from_position(transcript.observer).unwrap();
            let OurShare::Held(share) = keys.share.handed_all() else { return Err("no private share".into()) };
            let shares: Vec<PublicKey> = sum.evaluate_all(transcript.n).into_iter().map(PublicKey::from).collect();
            let equal = keys.group_key == PublicKey::from(sum.constant_term())
                && keys.key_shares == shares
                && share.public_key() == PublicKey::from(sum.evaluate(me));
            if equal { Ok(()) } else { Err("other keys than those of the qualified vectors".into()) }
        }
        (Err(failure), ExpectedKeys::Of(_)) => Err(format!("failed: {failure}")),
    }
}

fn compare_keys(keys: Keys, record: &ResultRecord) -> Result<(), String> {
    let hexed = |key: &PublicKey| hex::encode(&key.to_flow_bytes());
    let OurShare::Held(share) = keys.share.handed_all() else { return Err("no private share".into()) };
    let equal = record.failure.is_none()
        && record.group_public_key == Some(hexed(&keys.group_key))
        && record.public_key_shares == Some(keys.key_shares.iter().map(hexed).collect())
        && record.private_share == Some(hex::encode(&share.scalar().to_be_bytes()[..]));
    if equal { Ok(()) } else { Err(format!("other keys; the record says {:?}", record.failure)) }
}
