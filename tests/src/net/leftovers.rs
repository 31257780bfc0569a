//! The mark of a living lab, and the removal of what dead ones left.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::cgroup;
use super::cleanup::{self, Leftover};
use crate::error::{Context, Result};

/// Starts the name of all that a lab makes; its process id follows.
pub const PREFIX: &str = "synspan-lab-";

const RUN: &str = "/run/synspan-lab";

/// A lab's directory, with a lock that tells that it lives.
#[derive(Debug)]
pub struct Mark {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Mark {
    /// Makes the directory of this process.
    pub fn create() -> Result<Self> {
        let dir = Path::new(RUN).join(std::process::id().to_string());
        std::fs::create_dir_all(&dir).context(format_args!("make {} (needs root)", dir.display()))?;
        cleanup::register(Leftover::Directory(dir.clone()));
        let file = File::create(dir.join("lock")).context("make the lab's lock")?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .context("lock the lab's directory")?;
        Ok(Self { dir, _lock: lock })
    }

    /// The directory, for files that go with the lab.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A name for something of this lab.
    pub fn name(part: &str) -> String {
        format!("{PREFIX}{}-{part}", std::process::id())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        cleanup::remove(&Leftover::Directory(self.dir.clone()));
    }
}

/// The process id in a name that a lab gave.
fn owner(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.split('-').next()?.parse().ok()
}

/// Whether the lab of that process lives: it holds its lock.
fn alive(pid: u32) -> bool {
    let Ok(file) = File::open(Path::new(RUN).join(pid.to_string()).join("lock")) else { return false };
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
}

/// Removes what dead labs left, and says what.
pub fn clean() -> Result<Vec<String>> {
    let names = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut found = Vec::new();
    for name in names(Path::new("/run/netns")) {
        found.extend(owner(&name).map(|pid| (pid, Leftover::Netns(name))));
    }
    let mount = cgroup::mount_point()?;
    for name in names(&mount) {
        found.extend(owner(&name).map(|pid| (pid, Leftover::Cgroup(mount.join(name)))));
    }
    for name in names(Path::new(RUN)) {
        found.extend(name.parse().ok().map(|pid| (pid, Leftover::Directory(Path::new(RUN).join(name)))));
    }
    let mut removed = Vec::new();
    for (pid, what) in found {
        if !alive(pid) {
            what.remove();
            removed.push(format!("{what:?}"));
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_name_is_its_process() {
        assert_eq!(owner("synspan-lab-123-node-a"), Some(123));
        assert_eq!(owner("synspan-lab-123"), Some(123));
        assert_eq!(owner("synspan-lab-x-node"), None);
        assert_eq!(owner("another-123"), None);
    }
}
