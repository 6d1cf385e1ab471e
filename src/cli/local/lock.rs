//! What keeps other processes out of a folder.

use std::fs::{File, TryLockError};

/// A file that this process alone has locked, for as long as this lives.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the file.
    ///
    /// # Errors
    /// Another process has, or it cannot be locked.
    pub(super) fn take(file: File) -> Result<Lock, TryLockError> {
        file.try_lock()?;
        Ok(Lock { _file: file })
    }
}
