//! The mounts of this process, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// The directory of the file system that is the mount's root, as this namespace sees it: `/` for
    /// the whole; for cgroups, something with `..` where it lies outside this cgroup namespace.
    pub root: PathBuf,
    /// Where it is mounted.
    pub at: PathBuf,
    /// The kind of file system.
    pub kind: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// This process's mounts, in the kernel's order; empty if they cannot be read.
pub fn gather() -> Vec<Mount> {
    read().unwrap_or_default()
}

/// This process's mounts, in the kernel's order.
///
/// # Errors
/// Where `/proc` is not mounted.
pub fn read() -> std::io::Result<Vec<Mount>> {
    std::fs::read("/proc/self/mountinfo").map(|text| parse(&text))
}

fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

/// `31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let root = unescape(fields.nth(3)?);
    let at = unescape(fields.next()?);
    let read_only = fields.next()?.split(|&b| b == b',').any(|option| option == b"ro");
    let kind = fields.skip_while(|&field| field != b"-").nth(1)?;
    Some(Mount { root, at, kind: String::from_utf8_lossy(kind).into_owned(), read_only })
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_optional_fields_are_read() {
        let mounts = parse(
            b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
              42 31 0:39 /../../x /mnt/a\\040b ro,nosuid shared:3 master:1 - cgroup2 none rw\n\
              broken line\n",
        );
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].kind, "cgroup2");
        assert_eq!(mounts[0].at, PathBuf::from("/sys/fs/cgroup/unified"));
        assert!(!mounts[0].read_only && mounts[1].read_only);
        assert_eq!(mounts[1].at, PathBuf::from("/mnt/a b"));
        assert_eq!(mounts[1].root, PathBuf::from("/../../x"));
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(b"a\\9z\\"), PathBuf::from("a\\9z\\"));
    }
}
