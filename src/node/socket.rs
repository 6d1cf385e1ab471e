//! Sockets in the file system, also where their path is longer than the system takes for one.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// A path of so many bytes is taken everywhere: Linux takes 107, macOS 103.
const SHORT: usize = 100;

pub(super) fn bind(socket: &Path) -> io::Result<UnixListener> {
    by_short_path(socket, |socket| UnixListener::bind(socket))
}

pub(super) fn connect(socket: &Path) -> io::Result<UnixStream> {
    by_short_path(socket, |socket| UnixStream::connect(socket))
}

/// Goes by way of the folder as this process has it open, whatever its path.
#[cfg(target_os = "linux")]
fn by_short_path<T>(socket: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    match (socket.parent(), socket.file_name()) {
        (Some(folder), Some(name)) if socket.as_os_str().len() > SHORT => {
            let folder = std::fs::File::open(folder)?;
            act(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
        }
        _ => act(socket),
    }
}

#[cfg(not(target_os = "linux"))]
fn by_short_path<T>(socket: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    match socket.as_os_str().len() {
        0..=SHORT => act(socket),
        long => {
            Err(io::Error::other(format!("its path has {long} bytes, and {SHORT} are possible; name a shorter one")))
        }
    }
}
