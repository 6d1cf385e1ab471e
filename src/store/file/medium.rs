//! What a store is kept on.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::FileError;
use crate::sync::Mutex;

/// Bytes that outlive the process: what a store needs of a file. Implement it to keep a store on something else.
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// How many bytes there are.
    ///
    /// # Errors
    /// It cannot be found out.
    fn size(&self) -> io::Result<u64>;

    /// Fills `bytes` with what is at `offset`.
    ///
    /// # Errors
    /// It cannot be read; `UnexpectedEof` where there is less.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Puts `bytes` at `offset`.
    ///
    /// # Errors
    /// They cannot be written, or not all of them.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes it as long as this: cuts it short, or adds zeros.
    ///
    /// # Errors
    /// There is no room.
    fn resize(&self, size: u64) -> io::Result<()>;

    /// Returns when all that was written before will survive the machine's death.
    ///
    /// # Errors
    /// That is not certain.
    fn sync(&self) -> io::Result<()>;
}

/// A file, for this handle alone.
#[derive(Debug)]
pub(super) struct FileMedium(Mutex<File>);

impl FileMedium {
    pub(super) fn create(path: &Path) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
            io::ErrorKind::NotFound => FileError::NoFolder(path.to_owned()),
            _ => FileError::from_io(path, &error),
        })?;
        Self::locked(path, file)
    }

    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
            _ => FileError::from_io(path, &error),
        };
        // Asked before it is opened: opening a pipe would wait for who reads from it.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(FileError::Damaged { path: path.to_owned(), reason: "it is no file".into() });
        }
        Self::locked(path, OpenOptions::new().read(true).write(true).open(path).map_err(failed)?)
    }

    /// The lock belongs to this opening of the file, so that it holds within one process, too, and goes with it.
    fn locked(path: &Path, file: File) -> Result<Self, FileError> {
        match file.try_lock() {
            Ok(()) => Ok(FileMedium(Mutex::new(file))),
            Err(TryLockError::WouldBlock) => Err(FileError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(FileError::from_io(path, &error)),
        }
    }
}

impl Medium for FileMedium {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().metadata()?.len())
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut file = self.0.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.0.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        self.0.lock().set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.lock().sync_data()
    }
}

/// A medium as the database knows it.
#[derive(Debug)]
pub(super) struct Backend<M>(pub(super) M);

impl<M: Medium> redb::StorageBackend for Backend<M> {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, bytes)
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        self.0.resize(size)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }
}
