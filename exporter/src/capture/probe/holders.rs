//! Which processes hold a BPF program or a link to one, from `/proc/PID/fdinfo`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// Who holds what, at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holders {
    /// Processes by program id.
    pub by_program: BTreeMap<u32, BTreeSet<u32>>,
    /// Processes whose descriptors could not be read: what they hold is not known.
    pub unreadable: usize,
}

impl Holders {
    /// Looks through every process that `/proc` shows. A process that ends meanwhile holds nothing.
    pub fn gather() -> Self {
        let mut holders = Self::default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            match programs_of(&entry.path()) {
                Ok(programs) => {
                    for program in programs {
                        holders.by_program.entry(program).or_default().insert(pid);
                    }
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
                Err(_) => holders.unreadable += 1,
            }
        }
        holders
    }

    /// A process that holds this program, if any was seen.
    pub fn of(&self, program: u32) -> Option<u32> {
        self.by_program.get(&program).and_then(|pids| pids.first().copied())
    }

    /// Whether this process was seen to hold the program.
    pub fn holds(&self, pid: u32, program: u32) -> bool {
        self.by_program.get(&program).is_some_and(|pids| pids.contains(&pid))
    }
}

/// The programs that this process holds; none where that cannot be seen.
pub fn of_process(pid: u32) -> BTreeSet<u32> {
    programs_of(&Path::new("/proc").join(pid.to_string())).unwrap_or_default()
}

fn programs_of(process: &Path) -> io::Result<BTreeSet<u32>> {
    let mut programs = BTreeSet::new();
    for entry in fs::read_dir(process.join("fd"))? {
        let entry = entry?;
        // Programs, links and raw tracepoints alone are read: `anon_inode:bpf-prog` and so on.
        let target = match fs::read_link(entry.path()) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // The list of a root's process may be read by any other root; what its entries are takes the right to
            // trace it (ptrace(2)).
            Err(error) => return Err(error),
        };
        if !target.to_string_lossy().starts_with("anon_inode:bpf") {
            continue;
        }
        match fs::read_to_string(process.join("fdinfo").join(entry.file_name())) {
            Ok(text) => programs.extend(program_id(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

fn program_id(fdinfo: &str) -> Option<u32> {
    fdinfo.lines().find_map(|line| line.strip_prefix("prog_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_descriptor_is_read() {
        assert_eq!(program_id("pos:\t0\nprog_type:\t3\nprog_tag:\ta04f5eef06a7f555\nprog_id:\t77\n"), Some(77));
        assert_eq!(program_id("pos:\t0\nflags:\t02\n"), None);
    }
}
