//! The programs at the hooks that capture uses: whose they are, and in which order they run.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::bpf;
use super::programs::Refusal;
use crate::capture::netlink::{Protocol, Socket, filters};
use crate::capture::observation::Direction;

/// What every program of ours is named with.
pub const OUR_PREFIX: &str = "synspan_";

/// Whose a program is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Ours, by its name.
    Ours,
    /// Another's.
    Foreign,
    /// Its name could not be asked (the kernel wants `CAP_SYS_ADMIN` for that).
    Unknown,
}

/// A program at a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Its id; none for a filter that is no BPF program.
    pub id: Option<u32>,
    /// Its name, or the classifier's kind for a filter that is no BPF program.
    pub name: Option<String>,
    /// Its tag.
    pub tag: Option<[u8; 8]>,
    /// Whose it is.
    pub owner: Owner,
    /// tc's preference of a clsact filter.
    pub preference: Option<u16>,
    /// Whether it is attached to an ancestor of the cgroup.
    pub inherited: bool,
}

/// Where a hook is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the kernel's names say it")]
pub enum Place {
    Connect4,
    Connect6,
    SockOps,
    Tcx { interface: String, direction: Direction },
    Clsact { interface: String, direction: Direction },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = |direction: &Direction| match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        match self {
            Self::Connect4 => f.write_str("cgroup connect4"),
            Self::Connect6 => f.write_str("cgroup connect6"),
            Self::SockOps => f.write_str("cgroup sock_ops"),
            Self::Tcx { interface, direction } => write!(f, "tcx {} on {interface}", way(direction)),
            Self::Clsact { interface, direction } => write!(f, "clsact {} on {interface}", way(direction)),
        }
    }
}

/// A hook with at least one program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Where.
    pub place: Place,
    /// Its programs in the order in which they run.
    pub programs: Vec<Program>,
    /// Whether a program there lets no other in (a cgroup program attached without `BPF_F_ALLOW_MULTI`).
    pub exclusive: bool,
}

impl Hook {
    /// The programs of others (or of nobody known) that run before ours, or would run before ours:
    /// tcx lets us go first; a clsact filter takes the lowest free preference; in a cgroup what is
    /// attached there already runs first, what is attached to its ancestors last.
    pub fn ahead_of_ours(&self) -> Vec<&Program> {
        let ours = self.programs.iter().position(|program| program.owner == Owner::Ours);
        let end = ours.unwrap_or_else(|| match self.place {
            Place::Tcx { .. } => 0,
            Place::Clsact { .. } => {
                let free = self.lowest_free_preference();
                self.programs.iter().take_while(|program| program.preference < Some(free)).count()
            }
            _ => self.programs.iter().take_while(|program| !program.inherited).count(),
        });
        self.programs[..end].iter().collect()
    }

    /// The programs that are not ours.
    pub fn foreign(&self) -> Vec<&Program> {
        self.programs.iter().filter(|program| program.owner != Owner::Ours).collect()
    }

    fn lowest_free_preference(&self) -> u16 {
        let taken = |preference| self.programs.iter().any(|program| program.preference == Some(preference));
        (1..u16::MAX).find(|&preference| !taken(preference)).unwrap_or(u16::MAX)
    }
}

/// What is at the hooks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hooks {
    /// The hooks where something is.
    pub hooks: Vec<Hook>,
    /// Places that could not be asked, with the kernel's answer.
    pub unknown: Vec<(Place, Refusal)>,
    /// How many interfaces were looked at.
    pub interfaces: usize,
}

impl Hooks {
    /// Asks at the cgroup and at each interface of this network namespace.
    pub fn gather(cgroup: Option<&Path>) -> Self {
        let mut found = Self::default();
        if let Some(cgroup) = cgroup {
            for (place, attach_type) in [
                (Place::Connect4, bpf::ATTACH_CONNECT4),
                (Place::Connect6, bpf::ATTACH_CONNECT6),
                (Place::SockOps, bpf::ATTACH_SOCK_OPS),
            ] {
                let asked = at_cgroup(cgroup, attach_type);
                found.add(place, asked);
            }
        }
        let mut socket = Socket::open(Protocol::Route, 0);
        for (ifindex, interface) in interfaces() {
            found.interfaces += 1;
            for direction in [Direction::Ingress, Direction::Egress] {
                let place = Place::Tcx { interface: interface.clone(), direction };
                match at_tcx(ifindex, direction) {
                    // No tcx in this kernel, or the interface has just gone.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV)) => {}
                    asked => found.add(place, asked.map(|programs| (programs, false))),
                }
                let place = Place::Clsact { interface: interface.clone(), direction };
                let asked = match &mut socket {
                    Ok(socket) => filters::list(socket, ifindex, direction).map(|listing| listing.filters),
                    Err(error) => Err(io::Error::other(error.to_string())),
                };
                found.add(place, asked.map(|filters| (filters.iter().map(from_filter).collect(), false)));
            }
        }
        found
    }

    /// Takes programs whose names could not be asked for ours, if they are among these: the programs that the agent
    /// which holds the lock holds too.
    pub fn claim(&mut self, held: &BTreeSet<u32>) {
        for program in self.hooks.iter_mut().flat_map(|hook| &mut hook.programs) {
            if program.owner == Owner::Unknown && program.id.is_some_and(|id| held.contains(&id)) {
                program.owner = Owner::Ours;
            }
        }
    }

    fn add(&mut self, place: Place, asked: io::Result<(Vec<Program>, bool)>) {
        match asked {
            Ok((programs, _)) if programs.is_empty() => {}
            Ok((programs, exclusive)) => self.hooks.push(Hook { place, programs, exclusive }),
            Err(error) => self.unknown.push((place, error.into())),
        }
    }
}

/// The interfaces of this thread's network namespace: index and name, loopback included.
pub fn interfaces() -> Vec<(u32, String)> {
    let Ok(list) = nix::net::if_::if_nameindex() else { return Vec::new() };
    list.iter().map(|entry| (entry.index(), entry.name().to_string_lossy().into_owned())).collect()
}

fn at_cgroup(cgroup: &Path, attach_type: u32) -> io::Result<(Vec<Program>, bool)> {
    /// `BPF_F_ALLOW_MULTI`: others may attach beside it.
    const MULTI: u32 = 2;
    let directory = std::fs::File::open(cgroup)?;
    let target = directory.as_raw_fd().cast_unsigned();
    let own = bpf::query(target, attach_type, false)?;
    let effective = bpf::query(target, attach_type, true)?;
    let exclusive = !own.programs.is_empty() && own.flags & MULTI == 0;
    let programs =
        effective.programs.iter().map(|&id| Program { inherited: !own.programs.contains(&id), ..by_id(id) }).collect();
    Ok((programs, exclusive))
}

fn at_tcx(ifindex: u32, direction: Direction) -> io::Result<Vec<Program>> {
    let attach_type = match direction {
        Direction::Ingress => bpf::ATTACH_TCX_INGRESS,
        Direction::Egress => bpf::ATTACH_TCX_EGRESS,
    };
    Ok(bpf::query(ifindex, attach_type, false)?.programs.into_iter().map(by_id).collect())
}

fn by_id(id: u32) -> Program {
    let info = bpf::info_of(id).ok();
    Program {
        id: Some(id),
        owner: owner(info.as_ref().map(|info| info.name.as_str())),
        tag: info.as_ref().map(|info| info.tag),
        name: info.map(|info| info.name),
        preference: None,
        inherited: false,
    }
}

/// By the program's own name; by the filter's, which anyone may choose, only where that cannot be asked.
fn from_filter(filter: &filters::Filter) -> Program {
    let name = if filter.kind == "bpf" {
        bpf::program_of(filter).ok().map(|info| info.name).or_else(|| filter.name.clone())
    } else {
        Some(filter.kind.clone())
    };
    Program {
        id: filter.program,
        owner: owner(name.as_deref()),
        name,
        tag: filter.tag,
        preference: Some(filter.preference()),
        inherited: false,
    }
}

/// Whose a program of this name is.
pub fn owner(name: Option<&str>) -> Owner {
    match name {
        Some(name) if name.starts_with(OUR_PREFIX) => Owner::Ours,
        Some(_) => Owner::Foreign,
        None => Owner::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, preference: Option<u16>) -> Program {
        let owner = owner(Some(name));
        Program { id: Some(1), name: Some(name.into()), tag: None, owner, preference, inherited: false }
    }

    fn names(programs: Vec<&Program>) -> Vec<&str> {
        programs.into_iter().filter_map(|program| program.name.as_deref()).collect()
    }

    #[test]
    fn tcx_lets_us_go_first_unless_another_went_before_us() {
        let place = Place::Tcx { interface: "eth0".into(), direction: Direction::Ingress };
        let mut hook = Hook { place, programs: vec![program("cil_from_netdev", None)], exclusive: false };
        assert_eq!(names(hook.ahead_of_ours()), [""; 0]);
        hook.programs.push(program("synspan_ingress", None));
        assert_eq!(names(hook.ahead_of_ours()), ["cil_from_netdev"]);
        assert_eq!(names(hook.foreign()), ["cil_from_netdev"]);
    }

    #[test]
    fn clsact_puts_us_at_the_lowest_free_preference() {
        let place = Place::Clsact { interface: "eth0".into(), direction: Direction::Egress };
        let programs = vec![program("a", Some(1)), program("b", Some(2)), program("c", Some(9))];
        let hook = Hook { place, programs, exclusive: false };
        assert_eq!(names(hook.ahead_of_ours()), ["a", "b"]);
    }

    #[test]
    fn in_a_cgroup_those_attached_there_go_first_and_ancestors_last() {
        let mut above = program("above", None);
        above.inherited = true;
        let hook = Hook { place: Place::Connect4, programs: vec![program("here", None), above], exclusive: false };
        assert_eq!(names(hook.ahead_of_ours()), ["here"]);
    }

    #[test]
    fn what_the_agent_holds_is_ours_though_its_name_is_not_known() {
        let unknown = |id| Program { id: Some(id), name: None, owner: Owner::Unknown, ..program("", None) };
        let programs = vec![unknown(7), unknown(8), Program { id: Some(9), ..program("other", None) }];
        let mut hooks = Hooks::default();
        hooks.hooks.push(Hook { place: Place::Connect4, programs, exclusive: false });
        hooks.claim(&BTreeSet::from([8, 9]));
        let owners: Vec<_> = hooks.hooks[0].programs.iter().map(|program| program.owner).collect();
        assert_eq!(owners, [Owner::Unknown, Owner::Ours, Owner::Foreign]);
    }

    #[test]
    fn a_program_without_a_known_name_is_nobodys() {
        assert_eq!(owner(None), Owner::Unknown);
        assert_eq!(owner(Some("")), Owner::Foreign);
        assert_eq!(owner(Some("synspan_egress")), Owner::Ours);
    }
}
