//! What a node stands on and does not keep itself: the committee file that it was started with, and room on its disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::chain::log::CommitteeFile;
use crate::hex;

/// The committee file as it is on the disk now, beside the one that the node follows.
pub(super) struct CommitteeOnDisk {
    file: PathBuf,
    identity: [u8; 32],
    /// What was found at the last look, for a file of this age and length.
    looked: Mutex<Option<(Stamp, Option<String>)>>,
}

type Stamp = Result<(SystemTime, u64), String>;

impl CommitteeOnDisk {
    /// The file that a chain of this identity was read from.
    pub(super) fn new(file: &Path, identity: [u8; 32]) -> Self {
        CommitteeOnDisk { file: file.to_owned(), identity, looked: Mutex::default() }
    }

    /// What is wrong with it, if anything is. Reads it only where it has been touched since the last look.
    pub(super) fn trouble(&self) -> Option<String> {
        let stamp = fs::metadata(&self.file).and_then(|data| Ok((data.modified()?, data.len())));
        let stamp = stamp.map_err(|error| error.to_string());
        let mut looked = self.looked.lock();
        if let Some((before, found)) = &*looked
            && *before == stamp
        {
            return found.clone();
        }
        let found = match CommitteeFile::read(&self.file) {
            Ok(file) if *file.chain().identity() == self.identity => None,
            Ok(file) => Some(format!(
                "{} is another committee file than the one that this node follows: its hash is {}",
                self.file.display(),
                hex::encode(file.chain().identity())
            )),
            Err(error) => Some(error.to_string()),
        };
        *looked = Some((stamp, found.clone()));
        found
    }
}

/// How many bytes a node may still write to the disk with this folder, if the system says.
#[cfg(unix)]
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// How many bytes a node may still write to the disk with this folder, if the system says.
#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committee_file_that_is_gone_is_told_and_so_is_its_return() {
        let file = std::env::temp_dir().join(format!("dkg-ground-{}.toml", std::process::id()));
        let ground = CommitteeOnDisk::new(&file, [0; 32]);
        let gone = ground.trouble().expect("it is not there");
        assert!(gone.contains(&file.display().to_string()), "{gone}");
        fs::write(&file, "no committee").expect("a file");
        let nonsense = ground.trouble();
        fs::remove_file(&file).expect("it was there");
        assert!(nonsense.as_ref().is_some_and(|told| *told != gone), "{nonsense:?}");
        assert_eq!(ground.trouble(), Some(gone));
    }

    #[cfg(unix)]
    #[test]
    fn a_disk_says_how_much_room_it_has() {
        assert!(free_bytes(&std::env::temp_dir()).is_some_and(|free| free > 0));
        assert_eq!(free_bytes(Path::new("/nowhere")), None);
    }
}
