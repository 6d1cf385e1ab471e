//! Signatures that have been verified before. A search comes by the same post in thousands of states, and most of its time
//! would be pairings.
//!
//! The answer depends on nothing but what it is filed under: all of the message and the key. Only the thread of a search
//! keeps any, for as long as its [`Memo`] lives; everywhere else signatures are verified as ever.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::bls::PublicKey;
use crate::envelope::BroadcastMessage;

/// Answers that are kept at most: some 300 MB.
const LIMIT: usize = 500_000;

type Answers = HashMap<(BroadcastMessage, [u8; 96]), bool>;

thread_local! {
    static ANSWERS: RefCell<Option<Answers>> = const { RefCell::new(None) };
}

/// While it lives, this thread keeps answers.
pub(super) struct Memo(());

impl Memo {
    pub(super) fn keep() -> Memo {
        ANSWERS.set(Some(Answers::new()));
        Memo(())
    }
}

impl Drop for Memo {
    fn drop(&mut self) {
        ANSWERS.set(None);
    }
}

/// Whether `key` has signed `message`: as `verify` says, or has said.
pub(crate) fn verified(message: &BroadcastMessage, key: &PublicKey, verify: impl FnOnce() -> bool) -> bool {
    ANSWERS.with_borrow_mut(|answers| match answers {
        Some(answers) if answers.len() < LIMIT => {
            *answers.entry((message.clone(), key.to_flow_bytes())).or_insert_with(verify)
        }
        _ => verify(),
    })
}
