//! What is said to etcd's JSON gateway and what it answers, as values (etcd v3, `/v3/kv`, `/v3/watch`, `/v3/auth`). Nothing
//! that it answers is trusted: what does not make sense is an error, and what is not ours is passed over.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Numbers of 64 bits travel as strings; zero is left out.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Text(String),
        Plain(u64),
    }
    match Number::deserialize(deserializer)? {
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
        Number::Plain(number) => Ok(number),
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

/// One key with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    #[serde(deserialize_with = "bytes")]
    pub(super) key: Vec<u8>,
    #[serde(deserialize_with = "bytes")]
    pub(super) value: Vec<u8>,
    #[serde(deserialize_with = "number")]
    pub(super) create_revision: u64,
    #[serde(deserialize_with = "number")]
    pub(super) mod_revision: u64,
    #[serde(deserialize_with = "number")]
    pub(super) version: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    #[serde(deserialize_with = "number")]
    pub(super) revision: u64,
}

/// The answer to a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) header: Header,
    pub(super) kvs: Vec<KeyValue>,
}

/// The answer to a put that must not overwrite, or to a look at several keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Txn {
    pub(super) header: Header,
    pub(super) succeeded: bool,
    responses: Vec<TxnResponse>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct TxnResponse {
    response_range: Range,
}

/// One line of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct WatchLine {
    pub(super) result: WatchResult,
    pub(super) error: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct WatchResult {
    pub(super) header: Header,
    pub(super) created: bool,
    pub(super) canceled: bool,
    #[serde(deserialize_with = "number")]
    pub(super) compact_revision: u64,
    pub(super) cancel_reason: String,
    /// More of what happened at the same revision follows with the next line.
    pub(super) fragment: bool,
    pub(super) events: Vec<Event>,
}

/// Something that happened to a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) kv: KeyValue,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Token {
    pub(super) token: String,
}

/// What etcd says when it does not do what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) error: String,
}

/// What a refusal means for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The token is not taken any more, or one is needed now: log in again.
    LoginIsOld,
    /// The user or the password is not the cluster's at present.
    LoginIsWrong,
    /// The user may not do this at present.
    NoRight,
    /// What was asked for is not done, today and tomorrow.
    TooLarge,
    /// One endpoint's trouble: ask another, or later.
    Other,
}

/// The class of an answer that is not 200, by its status and what etcd says (its texts are in `api/v3rpc/rpctypes/error.go`).
pub(super) fn class(status: u16, said: &str) -> Class {
    // Older versions have other texts and statuses for the same, and in a watch that is cancelled there is no status.
    let old =
        ["revision of auth store is old", "revision in header is old", "invalid auth token", "user name is empty"];
    match status {
        401 => Class::LoginIsOld,
        _ if old.iter().any(|text| said.contains(text)) => Class::LoginIsOld,
        400 if said.contains("authentication failed") => Class::LoginIsWrong,
        400 if said.contains("request is too large") => Class::TooLarge,
        403 => Class::NoRight,
        _ => Class::Other,
    }
}

impl Txn {
    /// What was asked for with [`values`], in the same order.
    pub(super) fn into_values(self) -> impl Iterator<Item = Option<KeyValue>> {
        self.responses.into_iter().map(|response| response.response_range.kvs.into_iter().next())
    }

    /// The revision at which the key was created, now or when the same put got through before; `None` if something else
    /// stands there.
    pub(super) fn created_at(&self, value: &[u8]) -> Option<u64> {
        if self.succeeded {
            return Some(self.header.revision);
        }
        let there = self.responses.first()?.response_range.kvs.first()?;
        (there.version == 1 && there.value == value).then_some(there.create_revision)
    }
}

/// Creates the key, or tells what is there.
pub(super) fn create(key: &str, value: &[u8]) -> Value {
    let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
    json!({
        "compare": [{ "target": "CREATE", "result": "EQUAL", "key": key, "create_revision": "0" }],
        "success": [{ "request_put": { "key": key, "value": value } }],
        "failure": [{ "request_range": { "key": key } }],
    })
}

/// The first key after all that begin with this prefix, which is of characters of one byte.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

fn under(prefix: &str) -> (String, String) {
    (STANDARD.encode(prefix), STANDARD.encode(range_end(prefix)))
}

/// At which revision the cluster is, as more than half of its members see it: no key is looked at but the prefix itself.
pub(super) fn now(prefix: &str) -> Value {
    json!({ "key": STANDARD.encode(prefix), "count_only": true })
}

/// The keys under the prefix from this one on, in their own order, as they were at a revision (0: as they are).
pub(super) fn keys(prefix: &str, from: &[u8], revision: u64, limit: usize) -> Value {
    let (_, range_end) = under(prefix);
    json!({
        "key": STANDARD.encode(from), "range_end": range_end, "revision": revision.to_string(), "limit": limit.to_string(),
        "keys_only": true,
    })
}

/// These keys with their values, as they were at a revision.
pub(super) fn values<'a>(keys: impl Iterator<Item = &'a [u8]>, revision: u64) -> Value {
    let get = |key| json!({ "request_range": { "key": STANDARD.encode(key), "revision": revision.to_string() } });
    json!({ "success": keys.map(get).collect::<Vec<_>>() })
}

/// All that happens under the prefix, from this revision on.
pub(super) fn watch(prefix: &str, revision: u64) -> Value {
    let (key, range_end) = under(prefix);
    json!({ "create_request": { "key": key, "range_end": range_end, "start_revision": revision.to_string(), "fragment": true } })
}

/// Asks for a token. The only copy of the password is wiped.
pub(super) fn login(name: &str, password: &str) -> Zeroizing<Vec<u8>> {
    #[derive(Serialize)]
    struct Login<'a> {
        name: &'a str,
        password: &'a str,
    }
    // Room for all of it at once, since what is outgrown is not wiped; no character takes more than six when it is escaped.
    let mut body = Zeroizing::new(Vec::with_capacity(6 * (name.len() + password.len()) + 64));
    // A struct of two strings has a JSON form, and a vector takes it.
    let _ = serde_json::to_writer(&mut *body, &Login { name, password });
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_etcd_writes_them() {
        let landed = r#"{"header":{"cluster_id":"1","revision":"3"},"succeeded":true,"responses":[{"response_put":{"header":{"revision":"3"}}}]}"#;
        let again = r#"{"header":{"revision":"7"},"responses":[{"response_range":{"kvs":[{"key":"a2V5","create_revision":"3","mod_revision":"3","version":"1","value":"bTE="}],"count":"1"}}]}"#;
        let other = again.replace("\"version\":\"1\"", "\"version\":\"2\"");
        let txn = |text: &str| serde_json::from_str::<Txn>(text).unwrap();
        assert_eq!(txn(landed).created_at(b"m1"), Some(3));
        assert_eq!(txn(again).created_at(b"m1"), Some(3), "a retry finds its own entry");
        assert_eq!(txn(again).created_at(b"m2"), None);
        assert_eq!(txn(&other).created_at(b"m1"), None, "it has been overwritten since");
        let line = r#"{"result":{"header":{"revision":"10"},"events":[{"kv":{"key":"a2V5","create_revision":"4","mod_revision":"4","version":"1","value":"eDE="}},{"type":"DELETE","kv":{"key":"a2V5","mod_revision":"10"}}]}}"#;
        let line: WatchLine = serde_json::from_str(line).unwrap();
        assert_eq!(line.result.events.len(), 2);
        assert_eq!((line.result.events[0].kv.value.as_slice(), line.result.events[0].kv.version), (&b"x1"[..], 1));
        assert_eq!(line.result.events[1].kind, "DELETE");
        let gone: WatchLine = serde_json::from_str(r#"{"result":{"canceled":true,"compact_revision":"6"}}"#).unwrap();
        assert_eq!((gone.result.canceled, gone.result.compact_revision), (true, 6));
        assert!(serde_json::from_str::<WatchLine>(r#"{"result":{"events":[{"kv":{"value":"%%"}}]}}"#).is_err());
        assert!(serde_json::from_str::<WatchLine>(r#"{"result":{"compact_revision":"-1"}}"#).is_err());
    }

    #[test]
    fn only_a_request_that_is_too_large_is_refused_for_good() {
        for (status, said, expected) in [
            (400, "etcdserver: revision of auth store is old", Class::LoginIsOld),
            (400, "etcdserver: user name is empty", Class::LoginIsOld),
            (401, "etcdserver: invalid auth token", Class::LoginIsOld),
            (500, "auth: revision in header is old", Class::LoginIsOld),
            (500, "auth: invalid auth token", Class::LoginIsOld),
            (400, "etcdserver: authentication failed, invalid user ID or password", Class::LoginIsWrong),
            (400, "etcdserver: authentication is not enabled", Class::Other),
            (403, "etcdserver: permission denied", Class::NoRight),
            (400, "etcdserver: request is too large", Class::TooLarge),
            (429, "etcdserver: mvcc: database space exceeded", Class::Other),
            (503, "etcdserver: no leader", Class::Other),
        ] {
            assert_eq!(class(status, said), expected, "{status} {said}");
        }
        for status in 400..=599 {
            assert_ne!(class(status, "anything"), Class::TooLarge, "{status}");
        }
    }

    #[test]
    fn a_range_covers_the_prefix_and_nothing_beside_it() {
        assert_eq!(range_end("wb/dkg7/"), b"wb/dkg70");
    }
}
