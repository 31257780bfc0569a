//! What a killed agent or doctor leaves behind, and how it is taken away.
//!
//! clsact filters stay attached when their agent dies; links (tcx, cgroup) do not. A filter is ours if
//! its program, asked by id, has our name and the filter's tag; whoever may not ask by id (that takes
//! `CAP_SYS_ADMIN`) goes by the [mark](bpf::mark) that the filter carries. It is left over if no process
//! holds that program. The qdisc stays in any case: another's filters may hang on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bpf::{self, Info};
use super::cgroup::{Cgroup, Lock};
use super::holders::Holders;
use super::hooks::{Owner, interfaces, owner};
use crate::capture::netlink::filters::{self, Filter};
use crate::capture::netlink::{Protocol, Socket};
use crate::capture::observation::Direction;

/// What doctor's own cgroups are named with; its process id follows.
pub const DOCTOR_CGROUP_PREFIX: &str = "synspan-doctor-";

/// Something to take away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Leftover {
    /// A clsact filter of ours that no living agent holds, or the one that [`Whose::Running`] means.
    Filter {
        /// The filter.
        filter: Filter,
        /// Its interface's name.
        interface: String,
        /// Its program's name.
        program: String,
    },
    /// An empty cgroup of a doctor that is gone.
    Cgroup(PathBuf),
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Filter { filter, interface, program } => f.write_str(&describe(filter, interface, program)),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
        }
    }
}

fn describe(filter: &Filter, interface: &str, program: &str) -> String {
    let way = match filter.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let preference = filter.preference();
    let id = filter.program.map(|id| format!(" id {id}")).unwrap_or_default();
    format!("filter {program}{id} on {interface} {way}, preference {preference}")
}

/// Something of ours, or that says so, which stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// To be taken away.
    pub leftovers: Vec<Leftover>,
    /// To be left alone.
    pub kept: Vec<Kept>,
}

/// Whose filters are to be taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Whose {
    /// Those of agents that are gone.
    #[default]
    Gone,
    /// Those as well of the agent that runs on the same cgroup.
    Running,
}

/// What is to become of a filter.
#[derive(PartialEq, Eq, Debug)]
enum Fate {
    Foreign,
    Keep(String),
    Remove(String),
}

/// How much is known of other processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sight {
    /// Every process of the machine was looked at.
    whole: bool,
    /// A living agent other than this process holds the lock on the cgroup.
    agent_lives: bool,
    /// Its process id, where that can be seen from here.
    agent: Option<u32>,
}

fn fate(filter: &Filter, program: io::Result<Info>, holders: &Holders, sight: Sight, whose: Whose) -> Fate {
    let info = match program {
        Ok(info) => info,
        Err(error) if owner(filter.name.as_deref()) == Owner::Ours => {
            return Fate::Keep(format!(
                "its program could not be asked ({error}; this needs CAP_SYS_ADMIN), and it carries no mark of ours"
            ));
        }
        Err(_) => return Fate::Foreign,
    };
    if owner(Some(&info.name)) != Owner::Ours {
        return Fate::Foreign;
    }
    let running = whose == Whose::Running && sight.agent_lives;
    if let Some(pid) = holders.of(info.id) {
        return match sight.agent {
            Some(agent) if running && holders.holds(agent, info.id) => Fate::Remove(info.name),
            _ => Fate::Keep(format!("process {pid} uses it")),
        };
    }
    if !sight.whole && sight.agent_lives && !running {
        return Fate::Keep(
            "an agent runs whose descriptors cannot be seen from here; run this in the host's pid \
                           namespace with CAP_SYS_PTRACE"
                .into(),
        );
    }
    Fate::Remove(info.name)
}

/// Looks through this network namespace's clsact hooks and the cgroup.
///
/// # Errors
/// Where route netlink cannot be used at all.
pub fn find(cgroup: &Cgroup, whose: Whose) -> io::Result<Found> {
    let mut found = Found::default();
    let mut socket = Socket::open(Protocol::Route, 0)?;
    let holders = Holders::gather();
    let sight = Sight {
        whole: super::kernel::in_initial_pid_namespace() && holders.unreadable == 0,
        agent_lives: match &cgroup.lock {
            Lock::Free => false,
            Lock::Held { pid, .. } => *pid != Some(std::process::id()),
        },
        agent: match &cgroup.lock {
            Lock::Free => None,
            Lock::Held { pid, .. } => *pid,
        },
    };
    for (ifindex, interface) in interfaces() {
        for direction in [Direction::Ingress, Direction::Egress] {
            for filter in filters::list(&mut socket, ifindex, direction)?.filters {
                if filter.kind != "bpf" {
                    continue;
                }
                match fate(&filter, bpf::program_of(&filter), &holders, sight, whose) {
                    Fate::Foreign => {}
                    Fate::Keep(why) => {
                        let program = filter.name.as_deref().unwrap_or_default();
                        found.kept.push(Kept { what: describe(&filter, &interface, program), why });
                    }
                    Fate::Remove(program) => {
                        let interface = interface.clone();
                        found.leftovers.push(Leftover::Filter { filter, interface, program });
                    }
                }
            }
        }
    }
    if let Some(root) = &cgroup.root {
        find_cgroups(root, &mut found);
    }
    Ok(found)
}

fn find_cgroups(root: &Path, found: &mut Found) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix(DOCTOR_CGROUP_PREFIX)).and_then(|pid| pid.parse().ok());
        let Some(pid) = pid else { continue };
        let path = entry.path();
        let what = || format!("cgroup {}", path.display());
        if is_alive(pid) {
            found.kept.push(Kept { what: what(), why: format!("doctor runs as process {pid}") });
        } else if fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|processes| !processes.trim().is_empty()) {
            found.kept.push(Kept { what: what(), why: "processes are in it".into() });
        } else {
            found.leftovers.push(Leftover::Cgroup(path));
        }
    }
}

fn is_alive(pid: i32) -> bool {
    // A process id that another user's process has answers EPERM: it lives.
    pid > 0 && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

/// Takes one away. What is gone already counts as taken.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`; for a cgroup, what rmdir(2) says.
pub fn remove(leftover: &Leftover) -> io::Result<()> {
    let result = match leftover {
        Leftover::Filter { filter, .. } => {
            Socket::open(Protocol::Route, 0).and_then(|mut socket| filters::remove(&mut socket, filter))
        }
        Leftover::Cgroup(path) => fs::remove_dir(path),
    };
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Sight = Sight { whole: true, agent_lives: false, agent: None };

    fn filter(name: &str) -> Filter {
        Filter {
            ifindex: 3,
            direction: Direction::Ingress,
            info: 1 << 16,
            handle: 1,
            chain: 0,
            kind: "bpf".into(),
            program: Some(9),
            name: Some(name.into()),
            tag: None,
            direct_action: true,
        }
    }

    fn info(name: &str) -> io::Result<Info> {
        Ok(Info { id: 9, name: name.into(), tag: [0; 8] })
    }

    fn held_by(pid: u32) -> Holders {
        let mut holders = Holders::default();
        holders.by_program.entry(9).or_default().insert(pid);
        holders
    }

    fn of_gone(filter: &Filter, program: io::Result<Info>, holders: &Holders, sight: Sight) -> Fate {
        fate(filter, program, holders, sight, Whose::Gone)
    }

    #[test]
    fn only_the_programs_own_name_makes_a_filter_ours() {
        let nobody = Holders::default();
        assert_eq!(of_gone(&filter("synspan_ingress"), info("other"), &nobody, WHOLE), Fate::Foreign);
        assert_eq!(
            of_gone(&filter("other"), info("synspan_egress"), &nobody, WHOLE),
            Fate::Remove("synspan_egress".into())
        );
    }

    #[test]
    fn what_a_living_process_holds_stays() {
        let fate = of_gone(&filter("x"), info("synspan_ingress"), &held_by(4242), WHOLE);
        assert_eq!(fate, Fate::Keep("process 4242 uses it".into()));
    }

    #[test]
    fn what_may_belong_to_an_agent_out_of_sight_stays() {
        let nobody = Holders::default();
        let hidden = Sight { whole: false, agent_lives: true, agent: None };
        assert!(matches!(of_gone(&filter("x"), info("synspan_ingress"), &nobody, hidden), Fate::Keep(_)));
        let seen = Sight { whole: true, agent_lives: true, agent: None };
        assert!(matches!(of_gone(&filter("x"), info("synspan_ingress"), &nobody, seen), Fate::Remove(_)));
    }

    #[test]
    fn of_those_that_run_only_the_agent_on_this_cgroup_loses_its_filters() {
        let removed = Fate::Remove("synspan_ingress".into());
        let running = |program: &str, holders: &Holders, sight: Sight| {
            fate(&filter("x"), info(program), holders, sight, Whose::Running)
        };
        let agent = Sight { whole: true, agent_lives: true, agent: Some(4242) };
        assert_eq!(running("synspan_ingress", &held_by(4242), agent), removed);
        assert_eq!(running("other", &held_by(4242), agent), Fate::Foreign);
        assert_eq!(running("synspan_ingress", &held_by(77), agent), Fate::Keep("process 77 uses it".into()));
        assert_eq!(running("synspan_ingress", &held_by(77), WHOLE), Fate::Keep("process 77 uses it".into()));
        let hidden = Sight { whole: false, agent_lives: true, agent: None };
        assert_eq!(running("synspan_ingress", &Holders::default(), hidden), removed);
    }

    #[test]
    fn a_program_that_cannot_be_asked_is_never_touched() {
        let denied = || Err(io::Error::from_raw_os_error(libc::EPERM));
        let nobody = Holders::default();
        assert!(matches!(of_gone(&filter("synspan_ingress"), denied(), &nobody, WHOLE), Fate::Keep(_)));
        assert_eq!(of_gone(&filter("other"), denied(), &nobody, WHOLE), Fate::Foreign);
    }

    #[test]
    fn cgroups_of_dead_doctors_are_found_and_those_of_living_ones_stay() {
        let root = tempfile::tempdir().expect("a directory");
        let alive = root.path().join(format!("{DOCTOR_CGROUP_PREFIX}{}", std::process::id()));
        let dead = root.path().join(format!("{DOCTOR_CGROUP_PREFIX}2147483647"));
        for path in [&alive, &dead, &root.path().join("synspan-doctor-x"), &root.path().join("other")] {
            fs::create_dir(path).expect("a directory");
        }
        let mut found = Found::default();
        find_cgroups(root.path(), &mut found);
        assert_eq!(found.leftovers, [Leftover::Cgroup(dead)]);
        assert_eq!(found.kept.len(), 1);
        assert!(found.kept[0].what.ends_with(&alive.display().to_string()));
    }
}
