//! The witness: the newest generation that was reported, in a file of its own. Why and when: see the room's own page.

use std::path::{Path, PathBuf};

use super::medium::Medium;
use super::{FileError, Owner, Place, open_number, seal_number};
use crate::store::seal::{DataKey, SEAL_OVERHEAD};

/// Bytes of a sealed generation.
const SEALED_BYTES: usize = 8 + SEAL_OVERHEAD;
/// Where the second place begins: on another page of any disk, which a torn write of the first does not touch.
const STRIDE: u64 = 4096;
/// The two places. Even generations are in the first, odd ones in the second.
const PLACES: [u64; 2] = [0, 1];

pub(super) struct Witness {
    path: PathBuf,
    medium: Box<dyn Medium>,
}

impl Witness {
    pub(super) fn new(path: PathBuf, medium: impl Medium) -> Self {
        Witness { path, medium: Box::new(medium) }
    }

    /// Whether nothing has ever been written to it.
    pub(super) fn is_blank(&self) -> Result<bool, FileError> {
        Ok(self.bytes()?.as_flattened().iter().all(|byte| *byte == 0))
    }

    /// The newest generation it names.
    pub(super) fn newest(&self, key: &DataKey, owner: &Owner) -> Result<Option<u64>, FileError> {
        Ok(self.seen(key, owner)?.into_iter().flatten().max())
    }

    /// Holds a database's generation against what was seen; brings the witness up to a database that is newer.
    pub(super) fn compare(&self, found: u64, database: &Path, key: &DataKey, owner: &Owner) -> Result<(), FileError> {
        let seen = self.seen(key, owner)?;
        let whole = seen.iter().all(Option::is_some);
        let (database, witness) = (database.to_owned(), self.path.clone());
        match seen.into_iter().flatten().max() {
            Some(expected) if found < expected => Err(FileError::RolledBack { database, witness, found, expected }),
            Some(expected) if found > expected => self.write(found, key, owner),
            Some(_) if whole => Ok(()),
            // The store's creation was cut off before it was witnessed. Taken for good, a copy of the new store would be, too,
            // beside a witness that somebody has emptied.
            None if found == 0 && self.is_blank()? => Err(FileError::Unfinished { database, witness }),
            // What does not read was the write after this one, and before it the database had become durable: it should be
            // one further. Or nothing reads.
            _ => Err(FileError::WitnessDamaged { database, witness }),
        }
    }

    /// Names a generation, durably. Until then, the one before stands.
    pub(super) fn write(&self, generation: u64, key: &DataKey, owner: &Owner) -> Result<(), FileError> {
        self.write_at(generation % 2, generation, key, owner)
    }

    /// Names this generation alone, in both places.
    pub(super) fn begin(&self, generation: u64, key: &DataKey, owner: &Owner) -> Result<(), FileError> {
        PLACES.into_iter().try_for_each(|place| self.write_at(place, generation, key, owner))
    }

    fn write_at(&self, place: u64, generation: u64, key: &DataKey, owner: &Owner) -> Result<(), FileError> {
        let sealed = seal_number(&self.path, key, owner, &Place::Witness, generation)?;
        let write = || {
            let size = STRIDE + SEALED_BYTES as u64;
            if self.medium.size()? < size {
                self.medium.resize(size)?;
            }
            self.medium.write(place * STRIDE, &sealed)?;
            self.medium.sync()
        };
        write().map_err(|error| FileError::from_io(&self.path, &error))
    }

    /// What each place names; `None` where it does not read.
    fn seen(&self, key: &DataKey, owner: &Owner) -> Result<[Option<u64>; 2], FileError> {
        Ok(self.bytes()?.map(|bytes| open_number(key, owner, &Place::Witness, &bytes)))
    }

    /// What is at the two places; zeros where it is too short.
    fn bytes(&self) -> Result<[[u8; SEALED_BYTES]; 2], FileError> {
        let read = || {
            let size = self.medium.size()?;
            let mut bytes = [[0; SEALED_BYTES]; 2];
            for (place, bytes) in PLACES.into_iter().zip(&mut bytes) {
                let room = size.saturating_sub(place * STRIDE).min(SEALED_BYTES as u64);
                let room = usize::try_from(room).unwrap_or(SEALED_BYTES);
                if room > 0 {
                    self.medium.read(place * STRIDE, &mut bytes[..room])?;
                }
            }
            Ok(bytes)
        };
        read().map_err(|error| FileError::from_io(&self.path, &error))
    }
}
