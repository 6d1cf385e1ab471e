//! What is left of a log: the keys that are there, read a bounded piece at a time. For where the history has been compacted.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::client::Client;
use super::lines::ANSWER_TOO_LONG;
use super::wire::{self, KeyValue, Range, Txn};
use crate::chain::log::LogError;
use crate::chain::log::endpoints::{Trouble, clean};

/// How many keys are asked for at a time; fewer where the answer would be too long. Some versions of etcd look at all that come
/// after for every answer, so that many at a time are fewer looks.
const KEYS_PER_CALL: usize = 4096;
/// As long as strings may be, so many make no answer that is too long.
const KEYS_AT_LEAST: usize = 128;
/// How many values are asked for at a time; etcd takes 128 operations in a transaction.
pub(super) const VALUES_PER_CALL: usize = 64;
/// The most keys of a log that are looked at.
const MAX_KEYS: usize = 1 << 27;
/// How many keys are put into their order at a time.
const KEYS_PER_PIECE: usize = 1 << 16;

/// A key that is left.
pub(super) struct Left {
    pub(super) created: u64,
    pub(super) key: Vec<u8>,
    /// How often it was written.
    pub(super) version: u64,
}

/// Looks at every key of the log, as they were at a revision, without their values.
fn each_key(client: &Client, revision: u64, each: &mut dyn FnMut(KeyValue)) -> Result<(), LogError> {
    let prefix = &client.config.prefix;
    let mut from = prefix.as_bytes().to_vec();
    let limit = Cell::new(KEYS_PER_CALL);
    for _ in 0..MAX_KEYS.div_ceil(KEYS_AT_LEAST) {
        let page: Range = client.ask(|endpoint| {
            loop {
                let body = wire::keys(prefix, &from, revision, limit.get());
                match client.call(endpoint, "/v3/kv/range", &body) {
                    Err(Trouble::Endpoint(said)) if said == ANSWER_TOO_LONG && limit.get() > KEYS_AT_LEAST => {
                        limit.set(limit.get() / 2);
                    }
                    page => return page,
                }
            }
        })?;
        let is_last = page.kvs.len() < limit.get();
        for kv in page.kvs {
            if kv.key < from {
                let key = clean(&String::from_utf8_lossy(&kv.key));
                return Err(LogError::Unavailable(format!("the etcd cluster does not list its keys in order: {key}")));
            }
            from.clone_from(&kv.key);
            from.push(0);
            each(kv);
        }
        if is_last {
            return Ok(());
        }
    }
    Err(LogError::Unavailable(format!("the etcd cluster has more than {MAX_KEYS} keys under {prefix}")))
}

/// The first keys that were created from one revision on and were there at another, in the order of the log; and whether there
/// are more after them.
pub(super) fn piece(client: &Client, from: u64, at: u64) -> Result<(Vec<Left>, bool), LogError> {
    let (mut first, mut more) = (BTreeMap::new(), false);
    each_key(client, at, &mut |kv| {
        if kv.create_revision >= from {
            first.insert((kv.create_revision, kv.key), kv.version);
        }
        if first.len() > KEYS_PER_PIECE {
            more = true;
            first.pop_last();
        }
    })?;
    if more && let Some(((last, _), _)) = first.last_key_value() {
        // Some that were created together with it may be missing.
        let last = *last;
        first.retain(|(created, _), _| *created < last);
        if first.is_empty() {
            return Err(LogError::Unavailable(format!(
                "at revision {last} of the etcd cluster more keys were created at once than a member takes"
            )));
        }
    }
    let left = first.into_iter().map(|((created, key), version)| Left { created, key, version });
    Ok((left.collect(), more))
}

/// The values of at most [`VALUES_PER_CALL`] keys, as they were at a revision.
pub(super) fn values(client: &Client, keys: &[&Left], at: u64) -> Result<Vec<Vec<u8>>, LogError> {
    let body = wire::values(keys.iter().map(|left| &left.key[..]), at);
    client.ask(|endpoint| {
        let done: Txn = client.call(endpoint, "/v3/kv/txn", &body)?;
        let there: Vec<_> = done.into_values().flatten().collect();
        let fits = |(kv, left): (&KeyValue, &&Left)| (&kv.key, kv.create_revision) == (&left.key, left.created);
        if there.len() != keys.len() || !there.iter().zip(keys).all(fits) {
            return Err(Trouble::Endpoint("it has other keys than it said".to_owned()));
        }
        Ok(there.into_iter().map(|kv| kv.value).collect())
    })
}
