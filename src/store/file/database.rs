//! The database: its tables, and the boundary behind which it may fail in its own ways.

use std::path::{Path, PathBuf};

use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};

use super::medium::{Backend, Medium};
use super::{FileError, MAX_OWNER_CHAIN_ID_BYTES, Owner, SCHEMA_VERSION};
use crate::committee::NodeId;
use crate::store::RecordId;
use crate::store::seal::SealedKey;
use crate::sync::catch_panic;
use crate::wire;

/// What the store is: see the names below.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Sealed records by [`RecordId::to_bytes`].
const RECORDS: TableDefinition<'_, &[u8; RecordId::BYTES], &[u8]> = TableDefinition::new("records");
/// The schema's version, four bytes, big-endian: what every version can read of any other.
const VERSION: &str = "schema version";
/// Whose store it is, and the sealed key, with a checksum: what is read before anything is opened.
const HEADER: &str = "header";
/// How many commits there have been, sealed. What opens it is the store's data key.
const GENERATION: &str = "generation";

/// The most bytes of a header.
const MAX_HEADER_BYTES: usize = 1024;
/// Bytes that every database begins with.
const MAGIC_BYTES: usize = 9;
/// What the database keeps of the file in memory, at most.
const CACHE_BYTES: usize = 4 << 20;

/// Changes to records: sealed bytes, or none where it goes.
pub(super) type Changes = [(RecordId, Option<Vec<u8>>)];

/// Who a store belongs to, and what opens it.
pub(super) struct Header {
    pub(super) owner: Owner,
    pub(super) key: SealedKey,
    /// Sealed.
    pub(super) generation: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    chain_id: String,
    member: NodeId,
    key: SealedKey,
}

/// An open database. Behind this, nothing panics.
pub(super) struct Database {
    path: PathBuf,
    /// There until it is dropped.
    inner: Option<redb::Database>,
}

impl Database {
    /// Opens what is on the medium; begins a new database if it is empty. Checks every page.
    pub(super) fn open(path: &Path, medium: impl Medium) -> Result<Self, FileError> {
        let open = || {
            let mut builder = redb::Builder::new();
            builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
            Ok(builder.create_with_backend(Backend(medium))?)
        };
        Ok(Database { path: path.to_owned(), inner: Some(guard(path, open)?) })
    }

    /// Makes one durable commit: a new generation, a new header where there is one, and all changes in their order.
    pub(super) fn write(
        &self,
        generation: &[u8],
        header: Option<(&Owner, &SealedKey)>,
        changes: &Changes,
    ) -> Result<(), FileError> {
        let header = header.map(|(owner, key)| self.encode(owner, key)).transpose()?;
        self.run(|database| {
            let transaction = database.begin_write()?;
            {
                let mut meta = transaction.open_table(META)?;
                if let Some(header) = &header {
                    meta.insert(VERSION, &SCHEMA_VERSION.to_be_bytes()[..])?;
                    meta.insert(HEADER, &header[..])?;
                }
                meta.insert(GENERATION, generation)?;
                let mut records = transaction.open_table(RECORDS)?;
                for (id, sealed) in changes {
                    match sealed {
                        Some(sealed) => records.insert(&id.to_bytes(), &sealed[..])?,
                        None => records.remove(&id.to_bytes())?,
                    };
                }
            }
            Ok(transaction.commit()?)
        })
    }

    /// What was written first; `None` if nothing was ever.
    pub(super) fn read_header(&self) -> Result<Option<Header>, FileError> {
        let read = self.run(|database| {
            let meta = match database.begin_read()?.open_table(META) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                meta => meta?,
            };
            let value = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|value| value.value().to_vec()));
            Ok(Some([value(VERSION)?, value(HEADER)?, value(GENERATION)?]))
        })?;
        let Some([version, header, generation]) = read else { return Ok(None) };
        let damaged = |reason: &str| FileError::Damaged { path: self.path.clone(), reason: reason.to_owned() };
        let version = version.ok_or_else(|| damaged("it names no schema version"))?;
        let version = version.try_into().map_err(|_| damaged("its schema version is no number"))?;
        match u32::from_be_bytes(version) {
            SCHEMA_VERSION => {}
            found => return Err(FileError::OtherSchema { path: self.path.clone(), found }),
        }
        let header = header.ok_or_else(|| damaged("it has no header"))?;
        let header = decode(&header).ok_or_else(|| damaged("its header is not what was written"))?;
        let owner = Owner { chain_id: header.chain_id, member: header.member };
        let generation = generation.ok_or_else(|| damaged("it names no generation"))?;
        Ok(Some(Header { owner, key: header.key, generation }))
    }

    /// The sealed bytes of a record.
    pub(super) fn read(&self, id: RecordId) -> Result<Option<Vec<u8>>, FileError> {
        self.run(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            Ok(records.get(&id.to_bytes())?.map(|sealed| sealed.value().to_vec()))
        })
    }

    pub(super) fn list(&self) -> Result<Vec<RecordId>, FileError> {
        let names = self.run(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let names = records.iter()?.map(|entry| Ok(RecordId::from_bytes(entry?.0.value())));
            names.collect::<Result<Option<Vec<_>>, redb::Error>>()
        })?;
        let reason = "it has a record under a name that no record has".to_owned();
        names.ok_or_else(|| FileError::Damaged { path: self.path.clone(), reason })
    }

    fn run<T>(&self, body: impl FnOnce(&redb::Database) -> Result<T, redb::Error>) -> Result<T, FileError> {
        let closed = || FileError::Panicked(self.path.clone());
        let database = self.inner.as_ref().ok_or_else(closed)?;
        guard(&self.path, || body(database))
    }

    fn encode(&self, owner: &Owner, key: &SealedKey) -> Result<Vec<u8>, FileError> {
        let bytes = owner.chain_id.len();
        let too_long = || FileError::ChainIdTooLong { path: self.path.clone(), bytes };
        if bytes > MAX_OWNER_CHAIN_ID_BYTES {
            return Err(too_long());
        }
        let encoded = Encoded { chain_id: owner.chain_id.clone(), member: owner.member, key: key.clone() };
        let mut header = wire::encode(&encoded, MAX_HEADER_BYTES).map_err(|_| too_long())?;
        let checksum = Sha3_256::digest(&header);
        header.extend_from_slice(&checksum);
        Ok(header)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let inner = self.inner.take();
        if catch_panic(|| drop(inner)).is_err() {
            log::error!("{}", FileError::Panicked(self.path.clone()));
        }
    }
}

/// Whether the medium is as it was before a database was made on it: what a database begins with is written last.
pub(super) fn is_blank(medium: &impl Medium) -> std::io::Result<bool> {
    let mut first = [0; MAGIC_BYTES];
    let size = medium.size()?;
    if size < MAGIC_BYTES as u64 {
        return Ok(size == 0);
    }
    medium.read(0, &mut first)?;
    Ok(first == [0; MAGIC_BYTES])
}

fn decode(bytes: &[u8]) -> Option<Encoded> {
    let (header, checksum) = bytes.split_last_chunk::<32>()?;
    if Sha3_256::digest(header)[..] != checksum[..] {
        return None;
    }
    wire::decode(header, MAX_HEADER_BYTES).ok()
}

/// Runs the database's code; what it makes of a damaged file may be a panic.
fn guard<T>(path: &Path, body: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, FileError> {
    match catch_panic(body) {
        Ok(result) => result.map_err(|error| FileError::from_redb(path, error)),
        Err(_) => Err(FileError::Panicked(path.to_owned())),
    }
}
