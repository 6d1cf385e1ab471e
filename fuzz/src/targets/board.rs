//! The whiteboard contract: one result, and arbitrary calls.

use std::collections::BTreeSet;

use dkg_engine::chain::contract::{Contract, ContractError, KEY_HEX_DIGITS, SafePercentage};
use dkg_engine::chain::{BoardMessage, DkgResult};
use dkg_engine::committee::{Index, NodeId};
use dkg_engine::envelope::MAX_POST_BYTES;

use super::bytes::Choices;

fn node(number: u8) -> NodeId {
    NodeId::new([number; 32])
}

/// A result as bytes tell it: a group key, some key shares and some indices.
pub fn result(choices: &mut Choices<'_>) -> DkgResult {
    if choices.byte() == 0 {
        return DkgResult::Empty;
    }
    let group_key = key(choices);
    let key_shares = (0..choices.below(7)).map(|_| key(choices)).collect();
    let index_map = (0..choices.below(7))
        .map(|_| (node(choices.byte()), Index::from_byte(choices.byte() % 254).unwrap()))
        .collect();
    DkgResult::Complete { group_key, key_shares, index_map }
}

/// 96 bytes in either case, the same digits again and again, or any text.
fn key(choices: &mut Choices<'_>) -> String {
    match choices.byte() {
        0 => dkg_engine::hex::encode(&choices.array::<96>()),
        1 => dkg_engine::hex::encode(&choices.array::<96>()).to_uppercase(),
        2 => dkg_engine::hex::encode(&[choices.byte(); 96]),
        length => String::from_utf8_lossy(choices.take(usize::from(length))).into_owned(),
    }
}

fn is_key(text: &str) -> bool {
    text.len() == KEY_HEX_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the contract must take this result, and as what.
fn judge(result: &DkgResult, participants: &BTreeSet<NodeId>) -> Option<DkgResult> {
    let DkgResult::Complete { group_key, key_shares, index_map } = result else { return Some(DkgResult::Empty) };
    let indices: BTreeSet<usize> = index_map.values().map(|index| usize::from(*index)).collect();
    let fits = key_shares.len() == participants.len()
        && index_map.keys().eq(participants)
        && indices.into_iter().eq(0..participants.len())
        && is_key(group_key)
        && key_shares.iter().all(|share| is_key(share));
    fits.then(|| DkgResult::Complete {
        group_key: group_key.to_ascii_lowercase(),
        key_shares: key_shares.iter().map(|share| share.to_ascii_lowercase()).collect(),
        index_map: index_map.clone(),
    })
}

fn in_upper_case(result: &DkgResult) -> DkgResult {
    let DkgResult::Complete { group_key, key_shares, index_map } = result else { return result.clone() };
    DkgResult::Complete {
        group_key: group_key.to_uppercase(),
        key_shares: key_shares.iter().map(|share| share.to_uppercase()).collect(),
        index_map: index_map.clone(),
    }
}

/// One result, submitted to a run of two to six: taken if it fits, once a node, and counted with its equals.
pub fn contract_result(data: &[u8]) {
    let mut choices = Choices(data);
    let size = 2 + u8::try_from(choices.below(5)).unwrap();
    let participants: BTreeSet<NodeId> = (0..size).map(node).collect();
    let result = result(&mut choices);
    let mut contract = Contract::new();
    contract.start(participants.clone()).unwrap();
    let before = contract.clone();
    let judged = judge(&result, &participants);
    let checked = contract.check_submit(node(0), &result);
    assert_eq!(checked.as_ref().ok(), judged.as_ref());
    assert_eq!(contract.submit(node(0), &result).is_ok(), judged.is_some());
    let Some(judged) = judged else {
        assert!(matches!(checked, Err(ContractError::BadResult(..))) && contract == before);
        return;
    };
    assert_eq!(contract.submission_of(&node(0)), Some(&judged));
    assert_eq!(contract.submit(node(0), &result), Err(ContractError::AlreadySubmitted(node(0))));
    assert_eq!(contract.check_submit(node(1), &judged).as_ref(), Ok(&judged), "another way to write one result");
    contract.submit(node(1), &in_upper_case(&judged)).unwrap();
    assert!(contract.tallies().len() == 1 && contract.tallies()[0].count == 2);
    for other in 2..size {
        contract.submit(node(other), &judged).unwrap();
    }
    assert_eq!(contract.end().ok(), Some(judged).filter(|judged| *judged != DkgResult::Empty));
}

/// What the contract must hold, kept a second time in the plainest way.
#[derive(Default)]
struct Expected {
    running: bool,
    percentage: u32,
    participants: BTreeSet<NodeId>,
    messages: Vec<BoardMessage>,
    submissions: Vec<(NodeId, DkgResult)>,
    canonical: Option<DkgResult>,
}

impl Expected {
    fn needed(&self) -> usize {
        let n = self.participants.len();
        let half = if n == 2 { 1 } else { n.saturating_sub(1) / 2 };
        half.max(usize::try_from(u64::from(self.percentage) * n as u64 / 100_000_000).unwrap())
    }

    fn submit(&mut self, caller: NodeId, result: DkgResult) {
        self.submissions.push((caller, result.clone()));
        let count = self.submissions.iter().filter(|(_, submitted)| *submitted == result).count();
        if self.canonical.is_none() && result != DkgResult::Empty && count > self.needed() {
            self.canonical = Some(result);
        }
    }

    fn takes_part(&self, caller: NodeId) -> bool {
        self.running && self.participants.contains(&caller)
    }
}

/// Arbitrary calls: two replicas stay equal, and both are what the calls that were taken make of an empty contract.
pub fn whiteboard(data: &[u8]) {
    const CALLS: usize = 200;
    let mut choices = Choices(data);
    let (mut contract, mut replica) = (Contract::new(), Contract::new());
    let mut expected = Expected::default();
    for _ in 0..CALLS {
        if choices.is_empty() {
            break;
        }
        let operation = choices.byte() % 8;
        let caller = node(choices.byte() % 7);
        let before = contract.clone();
        let taken = match operation {
            0 => {
                let mask = choices.byte();
                let participants: BTreeSet<NodeId> = (0..7).filter(|bit| mask >> bit & 1 == 1).map(node).collect();
                let legal = !expected.running && participants.len() >= 2;
                assert_eq!(replica.start(participants.clone()).is_ok(), legal);
                if legal {
                    let percentage = expected.percentage;
                    let participants = participants.clone();
                    expected = Expected { running: true, percentage, participants, ..Expected::default() };
                }
                contract.start(participants).is_ok()
            }
            1 | 2 => {
                let content = match choices.byte() {
                    255 => "x".repeat(MAX_POST_BYTES + choices.below(2)),
                    length => String::from_utf8_lossy(choices.take(usize::from(length))).into_owned(),
                };
                let legal = expected.takes_part(caller) && !content.is_empty() && content.len() <= MAX_POST_BYTES;
                assert_eq!(contract.check_post(caller, &content).is_ok(), legal);
                assert_eq!(replica.post(caller, content.clone()).is_ok(), legal);
                if legal {
                    expected.messages.push(BoardMessage { node_id: caller, content: content.clone() });
                }
                contract.post(caller, content).is_ok()
            }
            3 | 4 => {
                let submitted = match choices.byte() % 4 {
                    0 => result(&mut choices),
                    kind => palette(choices.byte() % 4, &expected.participants, kind == 1),
                };
                let judged = judge(&submitted, &expected.participants);
                let first = expected.submissions.iter().all(|(node, _)| *node != caller);
                let legal = judged.filter(|_| expected.takes_part(caller) && first);
                assert_eq!(contract.check_submit(caller, &submitted).ok(), legal);
                assert_eq!(replica.submit(caller, &submitted).is_ok(), legal.is_some());
                if let Some(legal) = legal {
                    expected.submit(caller, legal);
                }
                contract.submit(caller, &submitted).is_ok()
            }
            5 => {
                let canonical = expected.canonical.clone().filter(|_| expected.running);
                let ended = contract.end();
                assert_eq!(replica.end(), ended);
                assert_eq!(ended.as_ref().ok(), canonical.as_ref());
                expected.running &= canonical.is_none();
                ended.is_ok()
            }
            6 => {
                assert_eq!(contract.force_end(), expected.canonical);
                assert_eq!(replica.force_end(), expected.canonical);
                expected.running = false;
                true
            }
            _ => {
                let parts = u32::from_le_bytes(choices.array()) % 110_000_000;
                let percentage = SafePercentage::from_hundred_millionths(parts);
                assert_eq!(percentage.is_ok(), parts < 100_000_000);
                let Ok(percentage) = percentage else { continue };
                let set = contract.set_safe_percentage(Some(percentage)).is_ok();
                assert_eq!(replica.set_safe_percentage(Some(percentage)).is_ok(), set);
                assert_eq!(set, !expected.running);
                if set {
                    expected.percentage = parts;
                }
                set
            }
        };
        assert!(taken || contract == before, "a refused call changes nothing");
        assert_eq!(contract, replica);
        check(&contract, &expected);
    }
}

/// One of four complete results of these participants, or the empty one.
fn palette(kind: u8, participants: &BTreeSet<NodeId>, upper: bool) -> DkgResult {
    if kind == 3 {
        return DkgResult::Empty;
    }
    let digits = dkg_engine::hex::encode(&[0xab + kind; 96]);
    let result = DkgResult::Complete {
        group_key: digits.clone(),
        key_shares: vec![digits; participants.len()],
        index_map: participants.iter().copied().zip(Index::all(254)).collect(),
    };
    if upper { in_upper_case(&result) } else { result }
}

fn check(contract: &Contract, expected: &Expected) {
    assert_eq!(contract.is_running(), expected.running);
    assert_eq!(contract.authorized(), &expected.participants);
    assert_eq!(contract.threshold(), expected.needed());
    assert_eq!(contract.message_count(), expected.messages.len());
    assert_eq!(contract.messages(0, usize::MAX), &expected.messages);
    let half = expected.messages.len() / 2;
    assert_eq!(contract.messages(half / 2, half), &expected.messages[half / 2..half]);
    assert_eq!(contract.messages(half + 1, half), []);
    assert_eq!(contract.canonical(), expected.canonical.as_ref());
    assert_eq!(contract.submissions().count(), expected.submissions.len());
    for (node, result) in &expected.submissions {
        assert_eq!(contract.submission_of(node), Some(result));
    }
    let counted: usize = contract.tallies().iter().map(|tally| tally.count).sum();
    assert_eq!(counted, expected.submissions.len());
    let distinct: BTreeSet<&DkgResult> = contract.tallies().iter().map(|tally| &tally.result).collect();
    assert_eq!(distinct.len(), contract.tallies().len());
}
