//! From a cgroup v2 id to the path below the cgroup2 mount.
//!
//! The id is what `bpf_get_current_cgroup_id` gives: the kernfs node's id, and so the inode number of
//! the cgroup's directory. kernfs numbers are 64 bits wide and not used twice, so a path once found
//! stays true even after the cgroup is gone.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::capture::observation::Mono;

/// Handle type of kernfs (`include/linux/exportfs.h`, `FILEID_KERNFS`): 8 bytes of node id.
const FILEID_KERNFS: i32 = 0xfe;
/// How long an id that was not found is not asked for again.
const NEGATIVE_LIFE: Duration = Duration::from_secs(5);
/// Least time between two walks of the tree.
const WALK_PAUSE: Duration = Duration::from_secs(1);
/// Most directories that one walk looks at.
const WALK_LIMIT: usize = 50_000;
/// Most ids remembered.
const CACHE_LIMIT: usize = 16_384;

/// Finds the paths of cgroups, and remembers them.
pub struct CgroupPaths {
    mount: PathBuf,
    handle: Option<File>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    known: HashMap<u64, Known>,
    walked: Option<Mono>,
}

#[derive(Clone)]
enum Known {
    Path(Arc<str>),
    NotFound(Mono),
}

enum Lookup {
    Found(String),
    Gone,
    Unsupported,
}

/// `struct file_handle` of open_by_handle_at(2), with room for a kernfs id.
#[repr(C)]
struct KernfsHandle {
    bytes: u32,
    kind: i32,
    id: [u8; 8],
}

impl CgroupPaths {
    /// Finds paths below `mount`, the place where cgroup2 is mounted. It need not exist: nothing is
    /// found then.
    pub fn new(mount: impl Into<PathBuf>) -> Self {
        let mount = mount.into();
        let handle =
            std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(&mount).ok();
        Self { mount, handle, cache: Mutex::default() }
    }

    /// The path of a cgroup below the mount, with a leading slash; `/` is the mount itself. None if no
    /// such cgroup is there, or it is not known (any more).
    pub fn path(&self, id: u64, at: Mono) -> Option<Arc<str>> {
        if id == 0 {
            return None;
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        match cache.known.get(&id) {
            Some(Known::Path(path)) => return Some(Arc::clone(path)),
            Some(Known::NotFound(when)) if at.since(*when) < NEGATIVE_LIFE => return None,
            _ => {}
        }
        let found = match self.by_handle(id) {
            Lookup::Found(path) => Some(path),
            Lookup::Gone => None,
            Lookup::Unsupported => {
                if cache.walked.is_some_and(|walked| at.since(walked) < WALK_PAUSE) {
                    return None;
                }
                cache.walked = Some(at);
                // All that it passes is kept: the next id need not wait for the next walk.
                let mut walked = walk(&self.mount).unwrap_or_default();
                let found = walked.remove(&id);
                for (id, path) in walked {
                    cache.make_room(at);
                    cache.known.insert(id, Known::Path(path.as_str().into()));
                }
                found
            }
        };
        cache.make_room(at);
        let known = found.map(|path| Arc::<str>::from(path.as_str()));
        let entry = known.clone().map_or(Known::NotFound(at), Known::Path);
        cache.known.insert(id, entry);
        known
    }

    fn by_handle(&self, id: u64) -> Lookup {
        let Some(mount) = &self.handle else { return Lookup::Unsupported };
        let fd = match open_kernfs(mount.as_raw_fd(), id) {
            Ok(fd) => fd,
            Err(error) => {
                // ESTALE and ENOENT are the kernel's word that no such node lives; anything else is
                // a right or a feature that is missing.
                return match error.raw_os_error() {
                    Some(libc::ESTALE | libc::ENOENT) => Lookup::Gone,
                    _ => Lookup::Unsupported,
                };
            }
        };
        let Ok(link) = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) else {
            return Lookup::Unsupported;
        };
        below(&self.mount, &link).map_or(Lookup::Unsupported, Lookup::Found)
    }
}

impl Cache {
    /// Keeps the cache bounded: what was not found goes first, then everything.
    fn make_room(&mut self, at: Mono) {
        if self.known.len() < CACHE_LIMIT {
            return;
        }
        self.known.retain(|_, known| match known {
            Known::Path(_) => true,
            Known::NotFound(when) => at.since(*when) < NEGATIVE_LIFE,
        });
        if self.known.len() >= CACHE_LIMIT {
            self.known.clear();
        }
    }
}

fn open_kernfs(mount: RawFd, id: u64) -> io::Result<OwnedFd> {
    let mut handle = KernfsHandle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
    // SAFETY: `handle` has the layout of struct file_handle with `bytes` bytes behind its two integers,
    // it lives over the call, and the kernel only reads it; `mount` is open for as long as `self` lives.
    let fd = unsafe {
        libc::open_by_handle_at(
            mount,
            (&raw mut handle).cast::<libc::file_handle>(),
            libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The path of `found` below `mount`, with a leading slash.
fn below(mount: &Path, found: &Path) -> Option<String> {
    let text = found.to_str()?;
    let found = Path::new(text.strip_suffix(" (deleted)").unwrap_or(text));
    let rest = match found.strip_prefix(mount) {
        Ok(rest) => rest.to_path_buf(),
        // The mount may be named by a path with symbolic links in it.
        Err(_) => found.strip_prefix(std::fs::canonicalize(mount).ok()?).ok()?.to_path_buf(),
    };
    Some(format!("/{}", rest.to_str()?))
}

/// The paths of the directories below `mount` by inode number, and its own; breadth first.
fn walk(mount: &Path) -> io::Result<HashMap<u64, String>> {
    let mut found = HashMap::from([(std::fs::metadata(mount)?.ino(), "/".to_owned())]);
    let mut open = std::collections::VecDeque::from([mount.to_path_buf()]);
    while let Some(directory) = open.pop_front() {
        // A cgroup that goes while we walk is no error.
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if found.len() > WALK_LIMIT {
                return Ok(found);
            }
            let path = entry.path();
            if let Some(below) = below(mount, &path) {
                found.insert(std::os::unix::fs::DirEntryExt::ino(&entry), below);
            }
            open.push_back(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, u64) {
        let root = tempfile::tempdir().expect("directory");
        let deep = root.path().join("system.slice/cart.service");
        std::fs::create_dir_all(&deep).expect("directories");
        let id = std::fs::metadata(&deep).expect("metadata").ino();
        (root, id)
    }

    #[test]
    fn a_walk_finds_a_directory_by_its_inode() {
        let (root, id) = tree();
        let found = walk(root.path()).expect("walk");
        assert_eq!(found[&id], "/system.slice/cart.service");
        assert!(!found.contains_key(&u64::MAX));
        let own = std::fs::metadata(root.path()).expect("metadata").ino();
        assert_eq!(found[&own], "/");
    }

    #[test]
    fn one_walk_serves_all_that_are_there() {
        let (root, id) = tree();
        let paths = CgroupPaths { handle: None, ..CgroupPaths::new(root.path()) };
        let slice = std::fs::metadata(root.path().join("system.slice")).expect("metadata").ino();
        assert_eq!(paths.path(id, Mono(0)).as_deref(), Some("/system.slice/cart.service"));
        assert_eq!(paths.path(slice, Mono(1)).as_deref(), Some("/system.slice"), "without another walk");
    }

    #[test]
    fn what_was_not_found_is_asked_again_only_after_a_while() {
        let (root, _) = tree();
        // No handle: as where the right to open by handle is missing.
        let paths = CgroupPaths { handle: None, ..CgroupPaths::new(root.path()) };
        let later = root.path().join("later");
        let ask = |id, seconds: u64| paths.path(id, Mono(seconds * 1_000_000_000));
        let missing = std::fs::create_dir(&later).and_then(|()| std::fs::metadata(&later)).expect("metadata").ino();
        std::fs::rename(&later, root.path().with_extension("moved")).expect("rename");
        assert_eq!(ask(missing, 100), None);
        std::fs::rename(root.path().with_extension("moved"), &later).expect("rename");
        assert_eq!(ask(missing, 102), None, "remembered as not found");
        assert_eq!(ask(missing, 106).as_deref(), Some("/later"));
        std::fs::remove_dir(&later).expect("remove");
        assert_eq!(ask(missing, 200).as_deref(), Some("/later"), "a path once found stays true");
    }

    #[test]
    fn a_mount_that_is_not_there_finds_nothing() {
        assert_eq!(CgroupPaths::new("/no/such/mount").path(7, Mono(0)), None);
    }

    #[test]
    fn the_kernel_opens_a_cgroup_by_its_id() {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(fields[1]))
        });
        let mount = mount.expect("cgroup2 is not mounted");
        let name = format!("synspan-test-{}", std::process::id());
        std::fs::create_dir(mount.join(&name)).expect("making a cgroup needs root");
        let id = std::fs::metadata(mount.join(&name)).expect("metadata").ino();
        let paths = CgroupPaths::new(&mount);
        let by_handle = paths.by_handle(id);
        let by_walk = walk(&mount).expect("walk").remove(&id);
        std::fs::remove_dir(mount.join(&name)).expect("remove");
        let gone = paths.by_handle(id);
        let wanted = format!("/{name}");
        assert!(matches!(by_handle, Lookup::Found(path) if path == wanted));
        assert_eq!(by_walk, Some(wanted));
        assert!(matches!(gone, Lookup::Gone), "the kernel says that it is gone, and no walk is needed");
    }

    #[test]
    fn deleted_and_root_paths_are_read_right() {
        let mount = Path::new("/sys/fs/cgroup");
        assert_eq!(below(mount, Path::new("/sys/fs/cgroup")).as_deref(), Some("/"));
        assert_eq!(below(mount, Path::new("/sys/fs/cgroup/a.slice (deleted)")).as_deref(), Some("/a.slice"));
        assert_eq!(below(mount, Path::new("/sys/fs/cgroup2/a")), None);
    }
}
