//! Keys in files of their own: written whole and durable or not at all, never over another file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;

use super::sync_folder;
use crate::hex;

/// Why a file with a key was not written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct ShareFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// Writes a file that is not there yet, readable by its owner alone, and returns when it is durable.
///
/// The bytes go to a temporary name beside it, which becomes the file's by a hard link: that never replaces a file, and
/// leaves no half-written one under the name. A crash can leave the temporary file (`.<name>.<random>.tmp`), to be removed.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), ShareFileError> {
    let failed =
        |what: &str, error: io::Error| ShareFileError { path: path.to_owned(), reason: format!("{what}: {error}") };
    let occupied = || ShareFileError {
        path: path.to_owned(),
        reason: "there is a file already, and it is not overwritten; choose another name or move it away".into(),
    };
    let temporary = temporary_beside(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary).map_err(|error| failed("cannot be written in its folder", error))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    // What goes wrong here leaves a file too many, and not one too few.
    let removed = fs::remove_file(&temporary);
    linked.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => occupied(),
        _ => failed("cannot be written", error),
    })?;
    removed.and_then(|()| sync_folder(path)).map_err(|error| failed("is written, but perhaps not for good", error))
}

/// A name in the same folder that nothing has.
fn temporary_beside(path: &Path) -> Result<PathBuf, ShareFileError> {
    let failed = |reason: String| ShareFileError { path: path.to_owned(), reason };
    let name = path.file_name().ok_or_else(|| failed("this is no name of a file".into()))?;
    let mut random = [0; 8];
    SysRng
        .try_fill_bytes(&mut random)
        .map_err(|error| failed(format!("the operating system gives no randomness: {error}")))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", hex::encode(&random)));
    Ok(path.with_file_name(temporary))
}

/// Reads a text file of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, ShareFileError> {
    let failed = |reason: String| ShareFileError { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| failed(format!("cannot be read: {error}")))?;
    if bytes.len() > limit {
        return Err(failed(format!("it has more than the {limit} bytes that such a file may have")));
    }
    String::from_utf8(bytes).map_err(|_| failed("it is not text".into()))
}
