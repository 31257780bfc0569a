//! The cgroup that is watched, and the lock that keeps a second agent away from it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::StartError;
use crate::capture::probe::{self, mounts};

/// Where cgroup2 is mounted: where the machine's root is in sight, which in a container's own cgroup namespace is not
/// the mount that calls itself the root; /sys/fs/cgroup/unified on hybrid systems.
///
/// # Errors
///
/// [`StartError::NoCgroup2`] if it is mounted nowhere, or the mounts cannot be read.
pub fn find_mount() -> Result<PathBuf, StartError> {
    let mounts = mounts::read().map_err(|e| StartError::NoCgroup2 { source: Some(e) })?;
    let mount = probe::cgroup::find_mount(&mounts).ok_or(StartError::NoCgroup2 { source: None })?;
    Ok(mount.at.clone())
}

/// A cgroup's directory, locked for this agent until it is dropped.
#[derive(Debug)]
pub struct Root {
    lock: Flock<File>,
}

impl Root {
    /// Opens and locks the directory.
    ///
    /// # Errors
    ///
    /// [`StartError::Held`] with the holder's name if another agent has it, [`StartError::Cgroup`] if it
    /// cannot be opened.
    pub fn lock(path: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::Cgroup { path: path.to_owned(), source };
        let directory = File::open(path).map_err(failed)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { lock }),
            Err((directory, Errno::EWOULDBLOCK)) => {
                Err(StartError::Held { path: path.to_owned(), holder: holder(&directory) })
            }
            Err((_, errno)) => Err(failed(io::Error::from(errno))),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Name and pid of the process that holds the lock on `file`, as far as this one may know.
fn holder(file: &File) -> Option<String> {
    let meta = file.metadata().ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = holder_in(&locks, meta.dev(), meta.ino())?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", if name.trim().is_empty() { "a process" } else { name.trim() }))
}

/// The pid that holds the flock on a file in the text of /proc/locks (proc(5)); it is 0 or absent where
/// the process is in another pid namespace.
fn holder_in(locks: &str, dev: u64, ino: u64) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{ino}", libc::major(dev), libc::minor(dev));
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, found, ..] = fields.as_slice() else { return None };
        if *found != file {
            return None;
        }
        pid.parse().ok().filter(|pid| *pid != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 500 00:1a:1 0 EOF
2: FLOCK  ADVISORY  WRITE 812 00:1a:1 0 EOF
2: -> FLOCK  ADVISORY  WRITE 813 00:1a:1 0 EOF
3: FLOCK  ADVISORY  WRITE 0 00:1a:2 0 EOF
";
        let dev = libc::makedev(0, 0x1a);
        assert_eq!(holder_in(locks, dev, 1), Some(812));
        assert_eq!(holder_in(locks, dev, 2), None);
        assert_eq!(holder_in(locks, dev, 3), None);
    }

    #[test]
    fn a_second_lock_is_refused_and_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = Root::lock(dir.path()).unwrap();
        let error = Root::lock(dir.path()).unwrap_err();
        let StartError::Held { holder, .. } = &error else { panic!("{error}") };
        assert!(holder.as_ref().unwrap().contains(&format!("pid {}", std::process::id())), "{holder:?}");
        drop(first);
        Root::lock(dir.path()).unwrap();
    }
}
