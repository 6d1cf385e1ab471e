//! Files with secrets, and who besides their owner may read them: one rule for key files, passphrases, passwords, private keys
//! and sealed identities.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};

/// Who may read a file with a secret. Nobody but its owner may ever write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretAccess {
    /// Its owner alone.
    #[default]
    Owner,
    /// Others too where the file is root's, as a secret that a container is given (mode 0440 or 0444): who is let in there is
    /// decided by whoever mounts it.
    Mounted,
}

/// A file with a secret that is open to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedFile {
    /// Which file.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Who was to be allowed to read it.
    pub access: SecretAccess,
}

impl fmt::Display for ExposedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, mode) = (self.path.display(), self.mode);
        write!(f, "{path} holds a secret and is open to others (mode {mode:03o}); ")?;
        match self.access {
            SecretAccess::Owner => write!(
                f,
                "make it yours alone with: chmod 600 {path}; or where it is a secret that is mounted read-only, root's and written by \
                 nobody else, say so with mounted_secrets = true in the node's configuration (--mounted-secrets of dkg keys)"
            ),
            SecretAccess::Mounted => write!(
                f,
                "a mounted secret may be read by others where it is root's, and written by nobody else: mount it with mode 0440, or \
                 make it yours alone with: chmod 600 {path}"
            ),
        }
    }
}

impl std::error::Error for ExposedFile {}

/// Why a file with a secret is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFileError {
    /// Others may read or write it.
    #[error(transparent)]
    Exposed(#[from] ExposedFile),
    /// It cannot be opened.
    #[error("{}: it cannot be read: {reason}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// Opens a file with a secret, if it is closed to others. What is no file, but a pipe or a terminal, is its owner's business.
///
/// # Errors
/// See [`SecretFileError`].
pub fn open_secret(path: &Path, access: SecretAccess) -> Result<File, SecretFileError> {
    let failed = |error: std::io::Error| SecretFileError::Io { path: path.to_owned(), reason: error.to_string() };
    let file = File::open(path).map_err(failed)?;
    check_access(path, &file.metadata().map_err(failed)?, access)?;
    Ok(file)
}

/// As [`open_secret`], for a file that is sealed and read elsewhere. One that is not there is not exposed.
///
/// # Errors
/// Others may read or write it.
pub fn check_sealed(path: &Path, access: SecretAccess) -> Result<(), ExposedFile> {
    fs::metadata(path).map_or(Ok(()), |metadata| check_access(path, &metadata, access))
}

#[cfg(unix)]
pub(super) fn check_access(path: &Path, metadata: &Metadata, access: SecretAccess) -> Result<(), ExposedFile> {
    use std::os::unix::fs::MetadataExt;
    let mode = metadata.mode() & 0o777;
    if !metadata.is_file() || is_closed(mode, metadata.uid(), access) {
        Ok(())
    } else {
        Err(ExposedFile { path: path.to_owned(), mode, access })
    }
}

/// Elsewhere, who may read a file is not a matter of mode bits.
#[cfg(not(unix))]
pub(super) fn check_access(_: &Path, _: &Metadata, _: SecretAccess) -> Result<(), ExposedFile> {
    Ok(())
}

/// Whether a file of this mode and owner can be trusted with a secret.
#[cfg(unix)]
fn is_closed(mode: u32, owner: u32, access: SecretAccess) -> bool {
    const ROOT: u32 = 0;
    let others_may = mode & 0o077;
    others_may == 0 || (access == SecretAccess::Mounted && owner == ROOT && others_may & 0o033 == 0)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn others_may_read_a_secret_where_it_is_roots_and_the_owner_says_so() {
        let (root, user) = (0, 1000);
        for mode in [0o600, 0o400] {
            assert!([root, user].iter().all(|owner| is_closed(mode, *owner, SecretAccess::Owner)));
            assert!([root, user].iter().all(|owner| is_closed(mode, *owner, SecretAccess::Mounted)));
        }
        for mode in [0o440, 0o444, 0o640, 0o644] {
            assert!(is_closed(mode, root, SecretAccess::Mounted), "{mode:o}");
            assert!(!is_closed(mode, user, SecretAccess::Mounted), "{mode:o}");
            assert!(!is_closed(mode, root, SecretAccess::Owner), "{mode:o}");
        }
        for mode in [0o660, 0o602, 0o666, 0o777, 0o601] {
            assert!(!is_closed(mode, root, SecretAccess::Mounted), "{mode:o}");
        }
    }
}
