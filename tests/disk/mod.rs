//! Disks that remember what was done to them, and the images that a crash can leave of that.

#![allow(dead_code)]

use std::io;
use std::sync::Arc;

use dkg_engine::store::file::Medium;
use parking_lot::Mutex;

/// What was done to a file.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Write { file: usize, offset: u64, bytes: Vec<u8> },
    Resize { file: usize, size: u64 },
    Sync { file: usize },
}

/// The bytes of the database and of its witness.
pub(crate) type Image = [Vec<u8>; 2];

/// Two files on one disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    image: Image,
    done: Vec<Operation>,
    /// What was read of each file: where, how many bytes.
    read: [Vec<(usize, usize)>; 2],
    /// The operation from which on nothing works any more.
    broken_from: Option<usize>,
    /// The first operation that did not work.
    refused: Option<Operation>,
}

#[derive(Debug)]
pub(crate) struct FileOnDisk {
    disk: Disk,
    file: usize,
}

impl Disk {
    pub(crate) fn with(image: Image) -> Self {
        Disk(Arc::new(Mutex::new(Inner { image, ..Inner::default() })))
    }

    /// The database's medium and the witness'.
    pub(crate) fn files(&self) -> (FileOnDisk, FileOnDisk) {
        let file = |file| FileOnDisk { disk: self.clone(), file };
        (file(0), file(1))
    }

    pub(crate) fn done(&self) -> Vec<Operation> {
        self.0.lock().done.clone()
    }

    pub(crate) fn steps(&self) -> usize {
        self.0.lock().done.len()
    }

    pub(crate) fn image(&self) -> Image {
        self.0.lock().image.clone()
    }

    /// What was read of a file: where, how many bytes.
    pub(crate) fn read_ranges(&self, file: usize) -> Vec<(usize, usize)> {
        self.0.lock().read[file].clone()
    }

    /// The operation at which it broke, if it came to that.
    pub(crate) fn refused(&self) -> Option<Operation> {
        self.0.lock().refused.clone()
    }

    /// Nothing works any more after so many further operations.
    pub(crate) fn break_after(&self, operations: usize) {
        let mut inner = self.0.lock();
        inner.broken_from = Some(inner.done.len() + operations);
    }
}

impl Inner {
    fn take(&mut self, operation: Operation) -> io::Result<()> {
        if self.broken_from.is_some_and(|from| self.done.len() >= from) {
            self.refused.get_or_insert(operation);
            return Err(io::Error::other("the disk is gone"));
        }
        apply(&mut self.image, &operation);
        self.done.push(operation);
        Ok(())
    }
}

/// What an operation makes of the files.
pub(crate) fn apply(image: &mut Image, operation: &Operation) {
    match operation {
        Operation::Write { file, offset, bytes } => {
            let (start, file) = (usize::try_from(*offset).unwrap(), &mut image[*file]);
            if file.len() < start + bytes.len() {
                file.resize(start + bytes.len(), 0);
            }
            file[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Operation::Resize { file, size } => image[*file].resize(usize::try_from(*size).unwrap(), 0),
        Operation::Sync { .. } => {}
    }
}

/// The first half of a write; nothing of anything else.
pub(crate) fn torn(operation: &Operation) -> Option<Operation> {
    match operation {
        Operation::Write { file, offset, bytes } => {
            Some(Operation::Write { file: *file, offset: *offset, bytes: bytes[..bytes.len() / 2].to_vec() })
        }
        _ => None,
    }
}

impl Medium for FileOnDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().image[self.file].len() as u64)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        let start = usize::try_from(offset).unwrap();
        inner.read[self.file].push((start, bytes.len()));
        let there = start.checked_add(bytes.len()).and_then(|end| inner.image[self.file].get(start..end));
        bytes.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let bytes = bytes.to_vec();
        self.disk.0.lock().take(Operation::Write { file: self.file, offset, bytes })
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        self.disk.0.lock().take(Operation::Resize { file: self.file, size })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.0.lock().take(Operation::Sync { file: self.file })
    }
}
