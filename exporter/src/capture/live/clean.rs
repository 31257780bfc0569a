//! What an agent that was killed has left behind: filters at clsact, which no process owns.
//! All else that synspan attaches ends with the process.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use super::PROGRAM_PREFIX;
use super::clsact::{self, Filter};
use super::netlink::Socket;
use crate::capture::observation::Direction;

/// A filter that was taken away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// Name of the interface.
    pub interface: String,
    /// Which side of it.
    pub direction: Direction,
    /// The filter's preference.
    pub priority: u16,
    /// The kernel's id of the program.
    pub program: u32,
    /// The program's name.
    pub name: String,
}

/// Takes away the filters of synspan programs in this network namespace that no process holds any more.
/// Filters of others, those of an agent that runs, and the qdisc stay.
///
/// A running agent is known by its open program, which needs this process to see the agent's: run it
/// in the same pid namespace, or the host's.
///
/// # Errors
///
/// Those of netlink; `EPERM` without `CAP_NET_ADMIN`, or where programs may not be listed.
pub fn remove_leftovers() -> io::Result<Vec<Removed>> {
    let mut socket = Socket::open(0)?;
    let mut found: Vec<(String, Filter)> = Vec::new();
    for (index, name) in clsact::links(&mut socket)? {
        for direction in [Direction::Ingress, Direction::Egress] {
            let filters = match clsact::list(&mut socket, index, direction) {
                // Gone since it was listed.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => continue,
                other => other?.filters,
            };
            found.extend(filters.into_iter().map(|f| (name.clone(), f)));
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let ours = our_programs()?;
    found.retain(|(_, filter)| ours.contains_key(&filter.program));
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let held = held_programs();
    found.retain(|(_, filter)| !held.contains(&filter.program));
    let mut removed = Vec::new();
    for (interface, filter) in found {
        filter.remove(&mut socket)?;
        removed.push(Removed {
            interface,
            direction: filter.direction,
            priority: filter.priority,
            program: filter.program,
            name: ours.get(&filter.program).cloned().unwrap_or_default(),
        });
    }
    Ok(removed)
}

/// The loaded programs with our names, by id.
fn our_programs() -> io::Result<HashMap<u32, String>> {
    let mut ours = HashMap::new();
    for program in aya::programs::loaded_programs() {
        let program = program.map_err(io::Error::other)?;
        if let Some(name) = program.name_as_str().filter(|name| name.starts_with(PROGRAM_PREFIX)) {
            ours.insert(program.id(), name.to_owned());
        }
    }
    Ok(ours)
}

/// The programs that some process has open, by id. Processes end while they are looked at; such are passed over.
fn held_programs() -> HashSet<u32> {
    let mut held = HashSet::new();
    let Ok(processes) = fs::read_dir("/proc") else { return held };
    for process in processes.flatten() {
        if !process.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        for file in files.flatten() {
            let is_program = fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().contains("bpf-prog"));
            if !is_program {
                continue;
            }
            let info = process.path().join("fdinfo").join(file.file_name());
            held.extend(fs::read_to_string(info).ok().as_deref().and_then(program_id));
        }
    }
    held
}

/// The program's id in the text of a fdinfo file.
fn program_id(info: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_from_fdinfo() {
        assert_eq!(program_id("pos:\t0\nflags:\t02000002\nprog_type:\t3\nprog_id:\t812\n"), Some(812));
        assert_eq!(program_id("pos:\t0\n"), None);
    }
}
