//! The cgroup v2 hierarchy: where it is, whether its root is the machine's, and who else watches it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::mounts::Mount;

/// The initial cgroup namespace's inode (`PROC_CGROUP_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFB;

/// The cgroup v2 root's inode, which is also its cgroup id (`fs/kernfs`: the first node of a tree).
/// A directory that another cgroup namespace shows as its root has another.
const HOST_ROOT: u64 = 1;

/// The cgroup that capture attaches to, and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cgroup {
    /// The directory, given or found; none if no cgroup2 is mounted.
    pub root: Option<PathBuf>,
    /// Whether the directory was given by configuration rather than found.
    pub given: bool,
    /// Whether that directory is the root of the machine's hierarchy; programs attached elsewhere see
    /// only the processes below.
    pub is_host_root: bool,
    /// Whether this mount is read-only; programs attach to it all the same.
    pub read_only: bool,
    /// Whether cgroup v1 hierarchies are mounted as well (hybrid).
    pub hybrid: bool,
    /// Whether this process is in a cgroup namespace other than the machine's.
    pub private_namespace: bool,
    /// Why the directory cannot be used, if so.
    pub error: Option<String>,
    /// Who has the agent's lock on the directory.
    pub lock: Lock,
}

/// Who has the exclusive lock (flock(2)) that an agent takes on its cgroup root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Lock {
    /// Nobody.
    #[default]
    Free,
    /// A process.
    Held {
        /// Its id as this pid namespace numbers it; none if it lies outside.
        pid: Option<u32>,
        /// The name of its main thread, where `/proc` tells.
        name: Option<String>,
    },
}

impl Cgroup {
    /// Looks at the directory given, else at the cgroup2 mount found.
    pub fn gather(given: Option<&Path>, mounts: &[Mount]) -> Self {
        let mount = find_mount(mounts);
        let root = given.map(Path::to_owned).or_else(|| mount.map(|mount| mount.at.clone()));
        let mut facts = Self {
            given: given.is_some(),
            read_only: root.as_deref().is_some_and(|root| is_read_only(root, mounts)),
            hybrid: mounts.iter().any(|mount| mount.kind == "cgroup"),
            private_namespace: fs::metadata("/proc/self/ns/cgroup").is_ok_and(|meta| meta.ino() != INITIAL_NAMESPACE),
            ..Self::default()
        };
        if let Some(root) = &root {
            match usable(root) {
                Ok(inode) => {
                    facts.is_host_root = inode == HOST_ROOT;
                    facts.lock = lock_of(root).unwrap_or_default();
                }
                Err(error) => facts.error = Some(format!("{}: {error}", root.display())),
            }
        }
        facts.root = root;
        facts
    }
}

/// The cgroup2 mount to attach to: one that shows the machine's root, else the first.
pub fn find_mount(mounts: &[Mount]) -> Option<&Mount> {
    find(mounts, |path| fs::metadata(path).is_ok_and(|meta| meta.ino() == HOST_ROOT))
}

fn find(mounts: &[Mount], is_host_root: impl Fn(&Path) -> bool) -> Option<&Mount> {
    let all = || mounts.iter().filter(|mount| mount.kind == "cgroup2");
    all().find(|mount| is_host_root(&mount.at)).or_else(|| all().next())
}

/// By the mount that holds the path: the longest that is its prefix, the later of equals.
fn is_read_only(path: &Path, mounts: &[Mount]) -> bool {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.at))
        .max_by_key(|mount| mount.at.as_os_str().len())
        .is_some_and(|mount| mount.read_only)
}

/// The inode of a cgroup v2 directory.
fn usable(root: &Path) -> io::Result<u64> {
    let directory = File::open(root)?;
    let kind = nix::sys::statfs::fstatfs(&directory)?.filesystem_type();
    if kind != nix::sys::statfs::CGROUP2_SUPER_MAGIC {
        return Err(io::Error::other("is no cgroup v2 directory"));
    }
    Ok(directory.metadata()?.ino())
}

/// Who has the lock on a directory.
///
/// `/proc/locks` shows the holders that this pid namespace can see. To find one that it cannot, the
/// lock is taken for an instant, only where `/proc/locks` could be hiding one.
///
/// # Errors
/// Where the directory cannot be opened.
pub fn lock_of(directory: &Path) -> io::Result<Lock> {
    let file = File::open(directory)?;
    let meta = file.metadata()?;
    let (major, minor) = (nix::sys::stat::major(meta.dev()), nix::sys::stat::minor(meta.dev()));
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    if let Some(pid) = holder(&locks, major, minor, meta.ino()) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned());
        return Ok(Lock::Held { pid: (pid > 0).then_some(pid), name });
    }
    if super::kernel::in_initial_pid_namespace() && !locks.is_empty() {
        return Ok(Lock::Free);
    }
    match file.try_lock() {
        Ok(()) => Ok(Lock::Free),
        Err(fs::TryLockError::WouldBlock) => Ok(Lock::Held { pid: None, name: None }),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Finds `1: FLOCK  ADVISORY  WRITE 1234 00:26:1 0 EOF`; device numbers are hexadecimal, the inode is
/// decimal. Lines of those who wait (`1: -> FLOCK ...`) do not hold it.
fn holder(locks: &str, major: u64, minor: u64, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, "FLOCK", _, "WRITE", pid, place, ..] = fields.as_slice() else { return None };
        let mut parts = place.split(':');
        let same = u64::from_str_radix(parts.next()?, 16).ok()? == major
            && u64::from_str_radix(parts.next()?, 16).ok()? == minor
            && parts.next()?.parse::<u64>().ok()? == inode;
        same.then(|| pid.parse().unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(at: &str, kind: &str, read_only: bool) -> Mount {
        Mount { root: "/".into(), at: at.into(), kind: kind.into(), read_only }
    }

    #[test]
    fn the_lock_is_found_by_device_and_inode() {
        let locks = "1: FLOCK  ADVISORY  WRITE 700 00:26:2 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 701 00:26:1 0 EOF\n\
                     3: FLOCK  ADVISORY  READ  702 00:26:1 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 703 00:26:1 0 EOF\n\
                     4: -> FLOCK  ADVISORY  WRITE 704 00:26:1 0 EOF\n";
        assert_eq!(holder(locks, 0, 0x26, 1), Some(703));
        assert_eq!(holder(locks, 0, 0x26, 2), Some(700));
        assert_eq!(holder(locks, 0, 0x27, 1), None);
        assert_eq!(holder("", 0, 0x26, 1), None);
    }

    #[test]
    fn a_holder_outside_this_pid_namespace_is_still_a_holder() {
        assert_eq!(holder("1: FLOCK ADVISORY WRITE -1 00:26:1 0 EOF", 0, 0x26, 1), Some(0));
    }

    #[test]
    fn a_mount_of_the_machines_root_is_preferred() {
        let mounts = [
            mount("/sys/fs/cgroup", "cgroup2", true),
            mount("/host/cgroup", "cgroup2", false),
            mount("/x", "tmpfs", false),
        ];
        let at = |found: Option<&Mount>| found.map(|mount| mount.at.clone());
        assert_eq!(at(find(&mounts, |path| path == Path::new("/host/cgroup"))), Some("/host/cgroup".into()));
        assert_eq!(at(find(&mounts, |_| false)), Some("/sys/fs/cgroup".into()));
        assert_eq!(at(find(&mounts[2..], |_| true)), None);
    }

    #[test]
    fn read_only_is_that_of_the_innermost_mount() {
        let mounts =
            [mount("/", "ext4", false), mount("/sys", "sysfs", true), mount("/sys/fs/cgroup", "cgroup2", false)];
        assert!(!is_read_only(Path::new("/sys/fs/cgroup/a"), &mounts));
        assert!(is_read_only(Path::new("/sys/kernel"), &mounts));
    }
}
