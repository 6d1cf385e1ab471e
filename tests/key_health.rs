//! Recovery, the start-up check, the self-test and key health (spec section 6), through the store's door.

mod keys_support;

use std::sync::Arc;

use dkg_engine::SecretBytes;
use dkg_engine::epoch::{EpochCommit, EpochCounter};
use dkg_engine::store::{
    Change, DkgState, EpochRecord, HealthStatus, KeyCheck, KeyHealth, KeyStatus, KeyVerdict, MemoryStore, RecordId,
    SafeKey, Store, StoreError, TransitionError, recover,
};
use keys_support::*;

use KeyStatus::{Completed, Failed, KeyCommitted};

/// What the engine does at a start: finds the earlier record and recovers from it.
fn recovered(state: &DkgState, commit: &EpochCommit) -> Option<(EpochRecord, EpochCounter)> {
    let earlier = state.earlier_holder(commit, &ME).unwrap();
    let found = recover(&state.record(commit.epoch).unwrap(), earlier, commit, &ME)?;
    state.commit(std::slice::from_ref(&found.record)).unwrap();
    Some((state.record(commit.epoch).unwrap(), found.from))
}

fn safe_key(record: &EpochRecord) -> Option<(usize, String)> {
    match record.safe_key() {
        SafeKey::Key(key) => Some((usize::from(key.index()), in_hex(&key.public_key()))),
        SafeKey::NotYet | SafeKey::Never => None,
    }
}

#[test]
fn the_key_of_the_epoch_before_is_recovered_whatever_became_of_the_epochs_own_run() {
    for own in [new(6), started(6), failed(6), completed(6, 1), completed(6, 1).fail("other keys").unwrap()] {
        let state = state(&[committed(5, 0), own]);
        let (record, from) = recovered(&state, &commit_at(6, 0, 3)).unwrap();
        assert_eq!((record.status(), from), (KeyCommitted, EpochCounter(5)));
        assert_eq!(safe_key(&record), Some((3, in_hex(&KEYS[0].1))));
        // The earlier record is as it was.
        assert_eq!(safe_key(&state.record(EpochCounter(5)).unwrap()), Some((INDEX, in_hex(&KEYS[0].1))));
    }
}

#[test]
fn a_node_that_was_down_for_epochs_recovers_the_newest_record_with_the_key_that_is_named() {
    // Epoch 4's run was completed here and committed while the node was down; 5 and 6 it never saw.
    let state = state(&[committed(2, 0), committed(3, 1), completed(4, 2), failed(5)]);
    for (key, from) in [(0, 2), (1, 3), (2, 4)] {
        let commit = commit(7, key);
        let earlier = state.earlier_holder(&commit, &ME).unwrap();
        let found = recover(&new(7), earlier, &commit, &ME).unwrap();
        assert_eq!((found.from, safe_key(&found.record)), (EpochCounter(from), Some((INDEX, in_hex(&KEYS[key].1)))));
    }
    write(&state, &committed(6, 0));
    assert_eq!(recovered(&state, &commit(7, 0)).unwrap().1, EpochCounter(6));
}

#[test]
fn nothing_is_recovered_for_another_key_for_no_key_or_over_a_committed_key() {
    let state = state(&[committed(5, 0), committed(6, 1), committed(8, 2)]);
    assert!(recovered(&state, &commit(7, 3)).is_none(), "nobody has this key");
    assert!(recovered(&state, &foreign(7)).is_none(), "the chain has none of us");
    assert!(recovered(&state, &commit(7, 2)).is_none(), "a later epoch's");
    assert!(recovered(&state, &commit(6, 0)).is_none(), "there is a committed one");
    assert_eq!(safe_key(&state.record(EpochCounter(6)).unwrap()).unwrap().1, in_hex(&KEYS[1].1));
    assert!(recover(&committed(6, 0), [committed(5, 0)], &commit(6, 0), &ME).is_none(), "it is committed already");
    // Whatever the caller hands in.
    assert!(recover(&new(7), [committed(8, 2), committed(7, 2)], &commit(7, 2), &ME).is_none());
}

#[test]
fn a_damaged_earlier_record_is_an_error_only_where_the_key_is_not_found_elsewhere() {
    let store = Arc::new(MemoryStore::new());
    let state = DkgState::new(store.clone());
    write(&state, &committed(4, 0));
    store.commit(vec![Change::Put(RecordId::key(EpochCounter(5)), SecretBytes::new(vec![0; 80]))]).unwrap();
    assert_eq!(state.earlier_holder(&commit(6, 0), &ME).unwrap().map(|record| record.epoch()), Some(EpochCounter(4)));
    let Err(StoreError::Damaged { record, .. }) = state.earlier_holder(&commit(6, 1), &ME).map(|_| ()) else {
        panic!("the damaged record might have been it")
    };
    assert_eq!(record, RecordId::key(EpochCounter(5)));
}

#[test]
fn a_node_with_the_key_the_epoch_expects_or_of_which_none_is_expected_passes_either_check() {
    for mode in [KeyCheck::Strict, KeyCheck::Lenient { epoch: EpochCounter(9) }] {
        let held = KeyVerdict::Held { epoch: EpochCounter(5), index: at(INDEX) };
        assert_eq!(mode.check(Some(&commit(5, 0)), &ME, &committed(5, 0)), Ok(held));
        assert_eq!(mode.check(None, &ME, &new(5)), Ok(KeyVerdict::NotExpected));
        assert_eq!(mode.check(Some(&foreign(5)), &ME, &failed(5)), Ok(KeyVerdict::NotExpected));
    }
}

#[test]
fn a_strict_node_without_its_key_is_refused_with_what_is_expected_what_is_held_and_what_to_do() {
    let other_index = completed(5, 0).commit(&commit_at(5, 0, 1), &ME).unwrap();
    for (record, held) in [
        (new(5), "holds no key share for the epoch (state uninitialized)".to_owned()),
        (failed(5), "holds no key share for the epoch (state failed)".to_owned()),
        // A key that is not confirmed for this epoch is none, nor is another epoch's.
        (completed(5, 0), "holds that share, but not as confirmed by the chain (state completed)".to_owned()),
        (committed(4, 0), "holds no key share for the epoch (state uninitialized)".to_owned()),
        (other_index, "holds that share, but not as confirmed".to_owned()),
        (committed(5, 1), format!("holds the one with public key {} (state key_committed)", in_hex(&KEYS[1].1))),
    ] {
        let error = KeyCheck::Strict.check(Some(&commit(5, 0)), &ME, &record).unwrap_err();
        assert_eq!((error.epoch, error.index, error.expected), (EpochCounter(5), at(INDEX), KEYS[0].1));
        let said = error.to_string();
        let expected = in_hex(&KEYS[0].1);
        for part in ["epoch 5", "index 2", &expected, &held, "dkg keys import", "next epoch", "lenient"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains(&secret_hex(0)) && !said.contains(&secret_hex(1)), "{said}");
    }
}

#[test]
fn leniency_ends_with_the_epoch_it_was_granted_for() {
    let granted = KeyCheck::Lenient { epoch: EpochCounter(5) };
    let Ok(KeyVerdict::Granted(missing)) = granted.check(Some(&commit(5, 0)), &ME, &failed(5)) else {
        panic!("refused in the epoch itself")
    };
    assert_eq!((missing.epoch, missing.status, missing.held), (EpochCounter(5), Failed, None));
    for other in [4, 6, 7] {
        let error = granted.check(Some(&commit(other, 0)), &ME, &failed(other)).unwrap_err();
        assert_eq!(error.expired, Some(EpochCounter(5)));
        assert!(error.to_string().contains("granted for epoch 5"), "{error}");
    }
    // As an operator's settings keep it.
    let json = serde_json::to_string(&granted).unwrap();
    assert_eq!(serde_json::from_str::<KeyCheck>(&json).unwrap(), granted);
}

#[test]
fn a_key_read_back_from_the_store_passes_its_self_test_with_its_own_public_key_share_alone() {
    let state = state(&[committed(5, 0)]);
    let SafeKey::Key(key) = state.safe_key(EpochCounter(5)).unwrap() else { panic!("no key") };
    assert_eq!(key.self_test(&KEYS[0].1), Ok(()));
    let error = key.self_test(&KEYS[1].1).unwrap_err();
    let said = error.to_string();
    for part in ["epoch 5", "index 2", &in_hex(&KEYS[1].1), "dkg keys import"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn health_says_of_every_state_whether_it_is_good_and_what_to_do_if_not() {
    use HealthStatus::{Mismatch, Missing, NotExpected, Pending, Safe};
    let failed_with_key = completed(5, 0).fail("other keys").unwrap();
    for (record, commit, running, status, reason) in [
        // Before the chain has named the epoch's keys.
        (new(5), None, false, Pending, "has not begun"),
        (started(5), None, true, Pending, "is going on"),
        (started(5), None, false, Missing, "start the node"),
        (completed(5, 0), None, false, Pending, "still to confirm"),
        (failed(5), None, false, Missing, "the disk was full"),
        (failed_with_key.clone(), None, false, Pending, "a share is stored"),
        (committed(5, 0), None, false, Safe, "confirmed"),
        // After.
        (committed(5, 0), Some(commit(5, 0)), false, Safe, "confirmed"),
        (completed(5, 0), Some(commit(5, 0)), false, Pending, "next start"),
        (failed_with_key, Some(commit(5, 0)), false, Pending, "next start"),
        (started(5), Some(commit(5, 0)), true, Pending, "not over"),
        (started(5), Some(commit(5, 0)), false, Missing, "dkg keys import"),
        (new(5), Some(commit(5, 0)), false, Missing, "dkg keys import"),
        (failed(5), Some(commit(5, 0)), false, Missing, "the disk was full"),
        (completed(5, 1), Some(commit(5, 0)), false, Mismatch, "dkg keys import"),
        (committed(5, 1), Some(commit(5, 0)), false, Mismatch, "new store"),
        (new(5), Some(foreign(5)), false, NotExpected, "no key of this node"),
        // Of another epoch: no evidence about this one.
        (committed(5, 1), Some(commit(6, 0)), false, Safe, "confirmed"),
    ] {
        let health = KeyHealth::of(&record, commit.as_ref(), &ME, running);
        let case = format!("{} running {running}, {commit:?}: {health:?}", record.status());
        assert_eq!((health.epoch, health.status), (EpochCounter(5), status), "{case}");
        assert!(health.reason.contains(reason), "{case}");
        assert_eq!(health.status.is_bad(), matches!(status, Missing | Mismatch));
        assert_eq!(health.public_key, record.held().map(|share| share.public_key()), "{case}");
    }
}

#[test]
fn the_health_of_the_current_epoch_and_the_next_is_json_without_a_secret() {
    let state = state(&[committed(5, 0), started(6)]);
    let (current, next) =
        state.health(EpochCounter(5), Some(&commit_at(5, 0, INDEX)), None, &ME, Some(EpochCounter(6))).unwrap();
    let json = serde_json::to_value([Some(current), next]).unwrap();
    let key = in_hex(&KEYS[0].1);
    assert_eq!(
        json[0],
        serde_json::json!({
            "epoch": 5, "status": "safe", "index": 2, "public_key": key, "expected": key,
            "reason": "the share is stored, and the chain has confirmed it",
        })
    );
    assert_eq!((&json[1]["epoch"], &json[1]["status"]), (&6.into(), &"pending".into()));
    assert_eq!(json[1]["public_key"], serde_json::Value::Null);
    assert!(!json.to_string().contains(&secret_hex(0)));
    let (_, next) = state.health(EpochCounter(u64::MAX), None, None, &ME, None).unwrap();
    assert!(next.is_none());
}

#[test]
fn an_imported_share_is_not_safe_before_the_chain_has_confirmed_it() {
    for (before, after) in [(new(5), Completed), (started(5), Completed), (failed(5), Failed)] {
        let state = state(&[]);
        if before.status() != KeyStatus::Uninitialized {
            write(&state, &before);
        }
        state.commit(&before.import(share(0), None).unwrap()).unwrap();
        let record = state.record(EpochCounter(5)).unwrap();
        assert_eq!((record.status(), safe_key(&record)), (after, None));
        assert_eq!(record.commit(&commit(5, 1), &ME).err(), Some(TransitionError::EvidenceMismatch));
        let confirmed = record.commit(&commit_at(5, 0, 1), &ME).unwrap();
        state.commit(std::slice::from_ref(&confirmed)).unwrap();
        assert_eq!(safe_key(&state.record(EpochCounter(5)).unwrap()), Some((1, in_hex(&KEYS[0].1))));
    }
}

#[test]
fn an_imported_share_is_committed_at_once_with_evidence_and_refused_with_other_evidence() {
    for before in [new(5), started(5), failed(5)] {
        let state = state(&[]);
        if before.status() != KeyStatus::Uninitialized {
            write(&state, &before);
        }
        let import = |evidence: &EpochCommit| before.import(share(0), Some((evidence, &ME)));
        assert_eq!(import(&commit(5, 1)).err(), Some(TransitionError::EvidenceMismatch));
        assert_eq!(import(&commit(6, 0)).err(), Some(TransitionError::OtherEpoch(EpochCounter(6))));
        assert_eq!(import(&foreign(5)).err(), Some(TransitionError::NoEvidence));
        state.commit(&import(&commit(5, 0)).unwrap()).unwrap();
        assert_eq!(safe_key(&state.record(EpochCounter(5)).unwrap()), Some((INDEX, in_hex(&KEYS[0].1))));
    }
}

#[test]
fn an_import_never_takes_the_place_of_a_stored_share_not_even_the_same() {
    for stored in [completed(5, 0), committed(5, 0), completed(5, 0).fail("late").unwrap()] {
        for key in [0, 1] {
            assert_eq!(stored.import(share(key), None).err(), Some(TransitionError::Overwrite));
        }
    }
}

#[cfg(feature = "metrics")]
mod gauges {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use dkg_engine::store::record_metrics;
    use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    type Values = Arc<Mutex<BTreeMap<String, f64>>>;

    struct Recording(Values);

    struct One(Values, String);

    impl GaugeFn for One {
        fn increment(&self, _: f64) {}
        fn decrement(&self, _: f64) {}
        fn set(&self, value: f64) {
            self.0.lock().unwrap().insert(self.1.clone(), value);
        }
    }

    impl Recorder for Recording {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Gauge::from_arc(Arc::new(One(self.0.clone(), format!("{}{{{}}}", key.name(), labels.join(",")))))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn the_gauges_show_the_status_of_both_epochs_and_follow_it() {
        let values = Values::default();
        let health = |record: &EpochRecord| KeyHealth::of(record, None, &ME, false);
        metrics::with_local_recorder(&Recording(values.clone()), || {
            record_metrics(&health(&committed(5, 0)), Some(&health(&failed(6))));
            let first = values.lock().unwrap().clone();
            assert_eq!(first.len(), 2 * HealthStatus::ALL.len());
            let ones: Vec<&str> = first.iter().filter(|(_, value)| **value == 1.0).map(|(name, _)| &name[..]).collect();
            assert_eq!(
                ones,
                ["dkg_key_health{epoch=current,status=safe}", "dkg_key_health{epoch=next,status=missing}"]
            );
            record_metrics(&health(&failed(6)), None);
            let second = values.lock().unwrap().clone();
            let ones: Vec<&str> =
                second.iter().filter(|(_, value)| **value == 1.0).map(|(name, _)| &name[..]).collect();
            assert_eq!(ones, ["dkg_key_health{epoch=current,status=missing}"]);
        });
    }
}
