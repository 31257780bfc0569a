//! The socket's place in the file system: only root gets there, and no two agents share it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::os::fd::AsRawFd as _;

/// Why there is no socket; one line for people.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PlaceError {
    #[error("{0} names no file in a directory: give `agent.socket` an absolute path")]
    NoDirectory(PathBuf),
    #[error("cannot make the directory {0}: {1}")]
    Directory(PathBuf, io::Error),
    #[error(
        "{0} may be written by others than root, who could put a socket of their own there: take that right away, or name another directory by `agent.socket`"
    )]
    Open(PathBuf),
    #[error("another agent answers at {0}: give this one a path of its own by `agent.socket`")]
    Taken(PathBuf),
    #[error("{0} is there and is no socket: remove it, or name another path by `agent.socket`")]
    NoSocket(PathBuf),
    #[error("cannot listen at {0}: {1}")]
    Listen(PathBuf, io::Error),
}

/// A socket that listens; its file goes with it.
#[derive(Debug)]
pub struct Place {
    /// The socket.
    pub listener: UnixListener,
    file: SocketFile,
}

/// The socket's file, removed on drop.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: another agent may have taken the place meanwhile.
    id: Option<(u64, u64)>,
}

impl Place {
    /// Listens at a path, in a directory that is made where it is missing (mode 0700). What a dead agent
    /// left there is replaced.
    ///
    /// # Errors
    /// Where another agent answers there, or the path cannot be had or is not safe.
    pub fn take(path: &Path) -> Result<Self, PlaceError> {
        let directory = path.parent().filter(|parent| parent.is_absolute());
        let Some(directory) = directory.filter(|_| path.file_name().is_some()) else {
            return Err(PlaceError::NoDirectory(path.to_owned()));
        };
        let no_directory = |error| PlaceError::Directory(directory.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(no_directory)?;
        let opened = File::open(directory).map_err(no_directory)?;
        let about = opened.metadata().map_err(no_directory)?;
        let own = nix::unistd::geteuid().as_raw();
        if !(about.uid() == 0 || about.uid() == own) || about.mode() & 0o022 != 0 {
            return Err(PlaceError::Open(directory.to_owned()));
        }
        // Two agents that start at once must not both find the place free.
        let _lock = Flock::lock(opened, FlockArg::LockExclusive)
            .map_err(|(_, error)| PlaceError::Listen(path.to_owned(), error.into()))?;
        let failed = |error| PlaceError::Listen(path.to_owned(), error);
        match fs::symlink_metadata(path) {
            Ok(about) if !about.file_type().is_socket() => return Err(PlaceError::NoSocket(path.to_owned())),
            Ok(_) if answers(path).map_err(failed)? => return Err(PlaceError::Taken(path.to_owned())),
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = SocketFile { path: path.to_owned(), id: id(path) };
        // Until then nobody else can connect either: by the usual mask only the owner may write.
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, file })
    }

    /// The socket, and the file that is to be dropped after it.
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.id.is_some() && id(&self.path) == self.id {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

/// Whether somebody listens at a socket; never waits.
fn answers(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &UnixAddr::new(path)?) {
        // EAGAIN: it listens, and its queue is full.
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
