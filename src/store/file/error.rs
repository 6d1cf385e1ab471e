//! What can be wrong with a store's files, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::{Owner, SCHEMA_VERSION};
use crate::store::StoreError;
use crate::store::seal::SealError;

/// Why a store in a file cannot be made, opened or used. Nothing was started over and nothing was removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error(
        "there is no store at {}; bring back the node's own, or create one if this node never had any", .0.display()
    )]
    Missing(PathBuf),
    /// There is no folder for it.
    #[error("there is no folder for {}; make it first", .0.display())]
    NoFolder(PathBuf),
    /// There is something already.
    #[error(
        "{} is there already, and is kept: open the store it belongs to; a new one would forget what that one knows",
        .0.display()
    )]
    Exists(PathBuf),
    /// Another handle has it.
    #[error("{} is in use; stop the other process that has it open, a node has one process", .0.display())]
    InUse(PathBuf),
    /// The folder or the file may not be written.
    #[error("{} may not be read and written ({reason}); give this user the right to, for the file and its folder", path.display())]
    NoAccess {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// No room.
    #[error("there is no room on the disk of {}; make some and start again, nothing is lost", .0.display())]
    Full(PathBuf),
    /// It was never whole.
    #[error(
        "{} holds no store: making it was cut off before anything was kept in it. If this node never had another one, \
         remove it and {}, and create the store again", database.display(), witness.display()
    )]
    Unfinished {
        /// The database.
        database: PathBuf,
        /// Its witness.
        witness: PathBuf,
    },
    /// It is not what was written.
    #[error(
        "{} is damaged: {reason}. Keep it, check the disk, and bring back a whole copy of its newest state", path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its data key does not open, or something cannot be sealed.
    #[error("{}: {error}", path.display())]
    Unlock {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: SealError,
    },
    /// Somebody else's.
    #[error(
        "{} is the store of member {} on chain {}, not of member {} on chain {}; give each node its own file",
        path.display(), owner.member, owner.chain_id, asked.member, asked.chain_id
    )]
    OtherOwner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        owner: Box<Owner>,
        /// Whose it should be.
        asked: Box<Owner>,
    },
    /// A name that is too long.
    #[error("the chain id for {} has {bytes} bytes, which is too long", path.display())]
    ChainIdTooLong {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
    },
    /// Written by another version of this program.
    #[error(
        "{} has schema version {found}, and this program knows {SCHEMA_VERSION}; use the program that wrote it, or a newer one",
        path.display()
    )]
    OtherSchema {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// An older copy.
    #[error(
        "{} is an older copy: it is at generation {found}, and its witness {} has seen {expected}. Bring back the newest \
         database; with this one, a run could be dealt twice", database.display(), witness.display()
    )]
    RolledBack {
        /// The database.
        database: PathBuf,
        /// Its witness.
        witness: PathBuf,
        /// The database's generation.
        found: u64,
        /// The generation it had reached.
        expected: u64,
    },
    /// No witness.
    #[error(
        "the witness {} is gone, so that nothing shows whether {} is the newest state. Bring it back; or, if you know that \
         it is the newest, renew the witness", witness.display(), database.display()
    )]
    WitnessMissing {
        /// The database.
        database: PathBuf,
        /// Where the witness should be.
        witness: PathBuf,
    },
    /// A witness that says nothing.
    #[error(
        "the witness {} is damaged or another store's, so that nothing shows whether {} is the newest state. Bring back \
         its own; or, if you know that the database is the newest, renew the witness",
        witness.display(), database.display()
    )]
    WitnessDamaged {
        /// The database.
        database: PathBuf,
        /// Its witness.
        witness: PathBuf,
    },
    /// The system failed.
    #[error("{}: {reason}. Check the disk and start again", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
    /// The database's own code gave up.
    #[error(
        "the database in {} has failed within, which a damaged file can lead to. Keep it, check the disk, and start again",
        .0.display()
    )]
    Panicked(PathBuf),
}

impl FileError {
    pub(super) fn from_io(path: &Path, error: &io::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FileError::NoAccess { path, reason },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileError::Full(path),
            io::ErrorKind::UnexpectedEof => FileError::Damaged { path, reason: "it is cut short".into() },
            io::ErrorKind::InvalidData => FileError::Damaged { path, reason },
            _ => FileError::Io { path, reason },
        }
    }

    pub(super) fn from_redb(path: &Path, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => FileError::from_io(path, &error),
            redb::Error::DatabaseAlreadyOpen => FileError::InUse(path.to_owned()),
            error @ redb::Error::PreviousIo => FileError::Io { path: path.to_owned(), reason: error.to_string() },
            // Whatever else a database of ours answers is what nobody has written there.
            error => FileError::Damaged { path: path.to_owned(), reason: error.to_string() },
        }
    }
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        StoreError::Failed(error.to_string())
    }
}
