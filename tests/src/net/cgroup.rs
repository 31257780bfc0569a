//! A cgroup subtree for each lab, with one for each node in it.

use std::path::{Path, PathBuf};

use super::cleanup::{self, Leftover};
use crate::error::{Context, Result, lab};

/// A cgroup of the lab, removed on drop with what is below it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    mount: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup of that name at the root of the cgroup2 mount.
    pub fn create(name: &str) -> Result<Self> {
        let mount = mount_point()?;
        let path = mount.join(name);
        std::fs::create_dir(&path).context(format_args!("make cgroup {}", path.display()))?;
        cleanup::register(Leftover::Cgroup(path.clone()));
        Ok(Self { path, mount })
    }

    /// Makes one below it; it goes with this one.
    pub fn child(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).context(format_args!("make cgroup {}", path.display()))?;
        Ok(path)
    }

    /// A path below the mount as the kernel names it: `/name/...`.
    pub fn kernel_name(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.mount).unwrap_or(path);
        format!("/{}", below.display())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        cleanup::remove(&Leftover::Cgroup(self.path.clone()));
    }
}

/// Moves the calling process into a cgroup.
pub fn enter(path: &Path) -> Result<()> {
    let file = path.join("cgroup.procs");
    std::fs::write(&file, "0").context(format_args!("enter cgroup {}", path.display()))
}

/// Where cgroup2 is mounted.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    match find_mount(&mounts) {
        Some(path) => Ok(path),
        None => lab("no cgroup2 file system is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup/unified"),
    }
}

/// The first cgroup2 mount of its own root in the text of mountinfo (proc(5)).
fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (after.split(' ').next()? == "cgroup2" && root == "/").then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup2_mount_is_found_among_others() {
        let text = "24 30 0:22 / /sys rw shared:7 - sysfs sysfs rw\n\
                    33 32 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    35 32 0:30 /a /mnt/part rw - cgroup2 cgroup2 rw\n\
                    34 32 0:30 / /sys/fs/cgroup/unified rw shared:2 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(find_mount("24 30 0:22 / /sys rw - sysfs sysfs rw\n"), None);
    }
}
