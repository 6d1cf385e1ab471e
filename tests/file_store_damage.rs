//! Files that are not as they were written: an error that names the file or the record, or the right records; never a
//! panic, and never anything else.
#![cfg(feature = "file-store")]

mod disk;
mod folder;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use disk::{Disk, Image};
use dkg_engine::SecretBytes;
use dkg_engine::bls::Index;
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::store::seal::create_key_file;
use dkg_engine::store::{Change, FileError, FileStore, Owner, RecordId, Store, StoreError, Unlock};
use folder::Folder;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};

/// How many bytes are tried of those that nothing is in.
const SAMPLES: usize = 1500;
const PAGE: usize = 4096;

type Records = BTreeMap<RecordId, Vec<u8>>;

fn name() -> &'static Path {
    Path::new("the store")
}

fn owner() -> Owner {
    Owner { chain_id: "test".into(), member: NodeId::new([7; 32]) }
}

fn seed() -> u64 {
    let seed = std::env::var("DAMAGE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| SysRng.try_next_u64().unwrap());
    println!("DAMAGE_SEED={seed}");
    seed
}

/// A small store that was closed, and one that a crash has left open.
struct Small {
    _folder: Folder,
    unlock: Unlock,
    records: Records,
    closed: Image,
    open: Image,
}

impl Small {
    fn new() -> Self {
        let folder = Folder::new();
        create_key_file(&folder.path().join("key")).unwrap();
        let unlock = Unlock::KeyFile(folder.path().join("key"));
        let disk = Disk::default();
        let (database, witness) = disk.files();
        let store = FileStore::create_on(name(), database, witness, &owner(), &unlock).unwrap();
        let epoch = EpochCounter(3);
        let shares = (0..4).map(|dealer| RecordId::share(epoch, Index::from_position(dealer).unwrap()));
        let mut records = Records::new();
        for (number, id) in [RecordId::dealing(epoch), RecordId::key(epoch)].into_iter().chain(shares).enumerate() {
            let record = vec![u8::try_from(number).unwrap() + 1; 64];
            store.commit(vec![Change::Put(id, SecretBytes::new(record.clone()))]).unwrap();
            records.insert(id, record);
        }
        let open = disk.image();
        drop(store);
        Small { _folder: folder, unlock, records, closed: disk.image(), open }
    }

    /// Opens and reads all of it. What it says where it is not all right; nothing where it is.
    fn read(&self, disk: &Disk) -> Option<String> {
        let (database, witness) = disk.files();
        let store = match FileStore::open_on(name(), database, witness, &owner(), &self.unlock) {
            Ok(store) => store,
            Err(error) => {
                assert!(!matches!(error, FileError::Unfinished { .. }), "it would be removed");
                return Some(error.to_string());
            }
        };
        let listed = match store.list() {
            Ok(listed) => listed,
            Err(error) => return Some(error.to_string()),
        };
        let mut said = None;
        for id in listed {
            match store.read(id) {
                Ok(record) => {
                    let record = record.map(|record| record.expose().to_vec());
                    assert_eq!(record.as_ref(), self.records.get(&id), "another record");
                }
                Err(StoreError::Damaged { record, reason }) => {
                    assert_eq!(record, id);
                    said = Some(reason);
                }
                Err(error) => said = Some(error.to_string()),
            }
        }
        // A record that is silently gone is another state.
        assert!(said.is_some() || store.list().unwrap().len() == self.records.len(), "a record is missing");
        said
    }

    fn check(&self, image: Image, what: &str) -> bool {
        let said =
            catch_unwind(AssertUnwindSafe(|| self.read(&Disk::with(image)))).unwrap_or_else(|_| panic!("{what}"));
        if let Some(said) = &said {
            assert!(said.contains("the store"), "{what}: {said}");
        }
        said.is_some()
    }

    /// Every byte that is looked at when all is read, and some of the rest.
    fn places(&self, image: &Image, file: usize, random: &mut StdRng) -> BTreeSet<usize> {
        let disk = Disk::with(image.clone());
        assert_eq!(self.read(&disk), None);
        let read = disk.read_ranges(file).into_iter();
        let mut places: BTreeSet<usize> = read.flat_map(|(offset, bytes)| offset..offset + bytes).collect();
        places.extend((0..SAMPLES).map(|_| random.random_range(0..image[file].len())));
        places
    }
}

#[test]
fn any_bit_flipped_is_an_error_that_names_the_file_or_the_record_or_does_no_harm() {
    let small = Small::new();
    let mut random = StdRng::seed_from_u64(seed());
    for (how, image) in [("closed", &small.closed), ("open", &small.open)] {
        assert!(!small.check(image.clone(), how));
        for (file, bytes) in image.iter().enumerate() {
            let mut places = small.places(image, file, &mut random);
            if how == "open" && file == 0 {
                // What is repaired is found by the first page; of the rest, other bytes in every run of the test.
                places.retain(|place| *place < PAGE || random.random_ratio(1, 6));
            }
            let mut refused = 0;
            for place in &places {
                let bit = random.random_range(0..8);
                let mut flipped = image.clone();
                flipped[file][*place] ^= 1 << bit;
                refused += usize::from(small.check(flipped, &format!("{how}, file {file}, byte {place}, bit {bit}")));
            }
            println!("{how}, file {file}: {} flips in {} bytes, {refused} refused", places.len(), bytes.len());
            assert!(refused > 30);
        }
    }
}

#[test]
fn a_file_cut_short_anywhere_is_an_error_that_names_it_or_has_lost_nothing() {
    let small = Small::new();
    for (how, image) in [("closed", &small.closed), ("open", &small.open)] {
        for (file, bytes) in image.iter().enumerate() {
            let mut refused = 0;
            for end in 0..bytes.len() {
                let mut cut = image.clone();
                cut[file].truncate(end);
                refused += usize::from(small.check(cut, &format!("{how}, file {file}, cut at {end}")));
            }
            println!("{how}, file {file}: cut at {} places, {refused} refused", bytes.len());
            assert!(refused > bytes.len() / 2);
        }
    }
}

#[test]
fn a_file_with_other_bytes_in_a_whole_page_is_an_error_that_names_it_or_does_no_harm() {
    let small = Small::new();
    let mut random = StdRng::seed_from_u64(seed());
    for (how, image) in [("closed", &small.closed), ("open", &small.open)] {
        for (file, bytes) in image.iter().enumerate() {
            for page in 0..bytes.len().div_ceil(PAGE) {
                let range = page * PAGE..((page + 1) * PAGE).min(bytes.len());
                let mut images = [(); 3].map(|()| image.clone());
                images[0][file][range.clone()].fill(0);
                images[1][file][range.clone()].fill(0xff);
                images[2][file][range].iter_mut().for_each(|byte| *byte = random.random());
                for (number, image) in images.into_iter().enumerate() {
                    small.check(image, &format!("{how}, file {file}, page {page}, filled in way {number}"));
                }
            }
        }
    }
}
