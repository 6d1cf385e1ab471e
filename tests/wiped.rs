//! What a secret has stood in is wiped before it is given back: an allocator of its own looks at every block that is freed.
//!
//! It looks for a few secrets that were named to it, as bytes: seeds, messages and stored scalars (big-endian, as they are
//! written). Not looked for: what is left on a thread's stack or in registers, scalars in the form that arithmetic has them
//! in, and the inner state of hashes and ciphers.
#![cfg(feature = "file-store")]
#![allow(unsafe_code, reason = "an allocator is unsafe by its nature; this one hands on to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};

use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, Scalar, SecretKey, VectorEncoding};
use dkg_engine::committee::NodeId;
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::epoch::{EpochCounter, View};
use dkg_engine::protocol::{Output, Parameters, Participant};
use dkg_engine::store::seal::{Argon2Cost, DataKey, SealedKey, create_key_file};
use dkg_engine::store::{
    Backup, Change, DkgState, EpochRecord, FileStore, KeyShare, MemoryStore, Owner, RecordId, Store, Unlock,
};

mod folder;
mod support;

const MARKER_BYTES: usize = 32;
const MAX_MARKERS: usize = 16;

/// A secret that no freed block may hold, and how many have.
struct Marker {
    known: AtomicBool,
    bytes: [AtomicU8; MARKER_BYTES],
    hits: AtomicUsize,
}

static MARKERS: [Marker; MAX_MARKERS] = [const {
    Marker {
        known: AtomicBool::new(false),
        bytes: [const { AtomicU8::new(0) }; MARKER_BYTES],
        hits: AtomicUsize::new(0),
    }
}; MAX_MARKERS];

/// What was freed while a secret was made that nobody could name before.
static FREED: [AtomicU8; 1 << 20] = [const { AtomicU8::new(0) }; 1 << 20];
static FREED_BYTES: AtomicUsize = AtomicUsize::new(0);
static KEEPING: AtomicBool = AtomicBool::new(false);

struct Watching;

// SAFETY: every call goes to the system's allocator as it came. `realloc` is the provided one: allocate, copy, free, so that
// the outgrown block is looked at too.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroed, so that all of a block can be read when it comes back.
        // SAFETY: the caller keeps to the contract of `alloc`, which is that of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is `layout.size()` bytes long, was initialized when it was allocated, and is nobody else's now.
        look(unsafe { std::slice::from_raw_parts(block, layout.size()) });
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Counts the markers that a block holds. Allocates nothing.
fn look(block: &[u8]) {
    if KEEPING.load(SeqCst) {
        let at = FREED_BYTES.fetch_add(block.len(), SeqCst);
        for (kept, byte) in FREED.iter().skip(at).zip(block) {
            kept.store(*byte, SeqCst);
        }
    }
    for marker in MARKERS.iter().filter(|marker| marker.known.load(SeqCst)) {
        let first = marker.bytes[0].load(SeqCst);
        let holds = |window: &[u8]| {
            window[0] == first && window.iter().zip(&marker.bytes).all(|(byte, marked)| *byte == marked.load(SeqCst))
        };
        if block.windows(MARKER_BYTES).any(holds) {
            marker.hits.fetch_add(1, SeqCst);
        }
    }
}

/// Makes 32 bytes a secret to look for.
fn watch(place: usize, secret: &[u8]) {
    let marker = &MARKERS[place];
    assert!(!marker.known.load(SeqCst) && secret.len() >= MARKER_BYTES);
    for (byte, secret) in marker.bytes.iter().zip(secret) {
        byte.store(*secret, SeqCst);
    }
    marker.known.store(true, SeqCst);
}

/// What `make` makes, and what was freed meanwhile.
fn freed_during<T>(make: impl FnOnce() -> T) -> (T, Vec<u8>) {
    KEEPING.store(true, SeqCst);
    let made = make();
    KEEPING.store(false, SeqCst);
    let length = FREED_BYTES.load(SeqCst);
    assert!((1..FREED.len()).contains(&length), "{length} bytes were freed");
    (made, FREED[..length].iter().map(|byte| byte.load(SeqCst)).collect())
}

fn hits(place: usize) -> usize {
    MARKERS[place].hits.load(SeqCst)
}

/// Bytes that stand nowhere else, as a secret that can be a scalar.
fn secret(number: u8) -> [u8; 32] {
    // A first byte below 64 keeps it below the group's order.
    std::array::from_fn(|place| {
        if place == 0 { number } else { number.wrapping_mul(37).wrapping_add((place as u8).wrapping_mul(11)) }
    })
}

fn at(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

const EPOCH: EpochCounter = EpochCounter(5);

fn owner() -> Owner {
    Owner { chain_id: "wiped".into(), member: NodeId::new([7; 32]) }
}

/// One test, since all of a process' threads share its allocator.
#[test]
fn no_block_is_freed_with_a_secret_in_it() {
    // The allocator sees what it is there to see.
    watch(0, &secret(1));
    drop(secret(1).to_vec());
    assert_eq!(hits(0), 1);
    let mut grown = secret(1).to_vec();
    grown.reserve_exact(1000);
    grown.fill(0);
    drop(grown);
    assert_eq!(hits(0), 2, "an outgrown block is looked at");

    let marked = |place: usize| {
        let bytes = secret(place as u8 + 1);
        watch(place, &bytes);
        bytes
    };
    // Counted from here on, with the names of those that were found.
    let mut found = Vec::new();
    let mut check = |name: &'static str, place: usize| {
        if hits(place) != 0 {
            found.push((name, hits(place)));
        }
    };

    let bytes = marked(1);
    let held = SecretBytes::new(bytes.to_vec());
    drop(held.clone());
    drop(PrivateMessage::protocol(held.clone(), "run"));
    drop(held);
    check("secret bytes and private messages", 1);

    let folder = folder::Folder::new();
    let path = |name: &str| folder.path().join(name);
    let (made, freed) = freed_during(|| create_key_file(&path("key")));
    made.unwrap();
    let digits = std::fs::read(path("key")).unwrap();
    watch(2, &digits);
    let key = dkg_engine::hex::decode(std::str::from_utf8(&digits[..64]).unwrap()).unwrap();
    watch(3, &key);
    for (name, secret) in [("the digits of a key file", &digits[..MARKER_BYTES]), ("the key of a key file", &key)] {
        assert!(!freed.windows(secret.len()).any(|window| window == secret), "{name} was freed while it was made");
    }
    // These two were read by the test itself, and are wiped by it.
    drop((SecretBytes::new(digits), SecretBytes::new(key)));
    let unlock = Unlock::KeyFile(path("key"));

    let bytes = marked(13);
    let digits = dkg_engine::hex::encode(&bytes);
    drop(SecretBytes::new(dkg_engine::hex::decode(&digits).unwrap()));
    assert_eq!(dkg_engine::hex::decode(&[&digits, "no"].concat()), None);
    check("bytes read from hex", 13);

    let bytes = marked(4);
    let key = DataKey::generate().unwrap();
    let sealed_key = SealedKey::seal(&key, &unlock).unwrap();
    let sealed = key.seal(b"here", &SecretBytes::new(bytes.to_vec())).unwrap();
    let again = sealed_key.open(&unlock).unwrap();
    assert_eq!(again.open(b"here", &sealed).unwrap().expose(), bytes);
    drop((key, again, sealed));
    check("sealing and opening", 4);

    // What is typed has its accent as a character of its own, and does not hold the marker.
    watch(14, "\u{e9} is one character of a passphrase in normal form".as_bytes());
    let typed = "e\u{301} is one character of a passphrase in normal form";
    let passphrase = Unlock::Passphrase(SecretBytes::new(typed.as_bytes().to_vec()));
    let key = DataKey::generate().unwrap();
    let sealed = SealedKey::seal_at(&key, &passphrase, Argon2Cost::new(8, 1, 1).unwrap()).unwrap();
    drop((key, sealed.open(&passphrase).unwrap(), sealed));
    check("a passphrase in its normal form", 14);

    let share =
        |place| KeyShare::new(at(2), SecretKey::from_scalar(Scalar::from_be_bytes(&marked(place)).unwrap()).unwrap());
    let run = |share: KeyShare| {
        let started = EpochRecord::new(EPOCH).start().unwrap();
        let completed = started.complete(share).unwrap();
        [started, completed]
    };
    let file = FileStore::create(&path("store"), &owner(), &unlock).unwrap();
    for (name, place, store) in [
        ("key records in memory", 5, Arc::new(MemoryStore::new()) as Arc<dyn Store>),
        ("key records in a file", 6, Arc::new(file)),
    ] {
        let records = run(share(place));
        let state = DkgState::new(store.clone());
        state.commit(&records).unwrap();
        assert!(state.record(EPOCH).unwrap().held().is_some());
        let backup = Backup::seal(&owner(), &records[1], &unlock).unwrap();
        let other = DkgState::new(Arc::new(MemoryStore::new()));
        backup.restore(&other, &owner(), &unlock, None).unwrap();
        backup.write(&path(&format!("backup{place}"))).unwrap();
        store.commit(vec![Change::Remove(RecordId::key(EPOCH))]).unwrap();
        drop((state, store, other, records));
        check(name, place);
    }
    let reopened = DkgState::new(Arc::new(FileStore::open(&path("store"), &owner(), &unlock).unwrap()));
    check("the key file's digits", 2);
    check("the key file's key", 3);

    journal(&DkgState::new(Arc::new(MemoryStore::new())), marked(7), marked(8));
    check("a seed in memory", 7);
    check("a received share in memory", 8);
    journal(&reopened, marked(9), marked(10));
    drop(reopened);
    check("a seed in a file", 9);
    check("a received share in a file", 10);

    let seed = SecretBytes::new([marked(11), [0; 32]].concat());
    let parameters = Parameters { size: 4, threshold: 1, me: at(0), encoding: VectorEncoding::Compressed };
    let (participant, outputs) = Participant::start(parameters, &seed).unwrap();
    let first = outputs.iter().find_map(|output| match output {
        Output::SendShare { message, .. } => Some(message),
        _ => None,
    });
    watch(12, first.unwrap().expose().last_chunk::<32>().unwrap());
    let asked = participant.share_for(at(1)).unwrap();
    drop((participant, outputs, asked, seed));
    check("a seed that is dealt from", 11);
    check("a dealt share", 12);

    assert!(found.is_empty(), "blocks were freed with a secret in them: {found:?}");
}

/// Writes a run's journal, reads it, and lets it go.
fn journal(state: &DkgState, seed: [u8; 32], message: [u8; 32]) {
    use dkg_engine::store::{Batch, Dealing, ReceivedShare};
    let dealing =
        Dealing::new(&support::setup(&support::committee(3), EPOCH.0, View(1)), SecretBytes::new(seed.to_vec()));
    let share = ReceivedShare { epoch: EPOCH, dealer: at(1), message: SecretBytes::new(message.to_vec()) };
    let batch = Batch { dealing: Some(dealing), shares: vec![share], ..Batch::default() };
    state.write(&batch).unwrap();
    drop(batch);
    let journal = state.journal(EPOCH).unwrap().unwrap();
    assert!(journal.dealing.seed().unwrap().expose() == seed && journal.shares.len() == 1);
    drop(journal);
    state.write(&Batch { closed: vec![EPOCH], ..Batch::default() }).unwrap();
}
