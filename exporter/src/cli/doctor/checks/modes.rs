//! What could run, the proof that it does, and the conclusion.

use super::names::Effect;
use super::{Check, Checks, Diagnosis, Status, holder, hooks};
use crate::capture::probe::Facts;
use crate::capture::probe::cgroup::Lock;
use crate::capture::probe::process::Capability;

/// What could run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Modes {
    sockets: bool,
    processes: bool,
    wire: bool,
    errors: bool,
    drops: bool,
    calls: bool,
    conntrack: bool,
    queues: bool,
    namespaces: bool,
    numbers: bool,
}

impl Modes {
    /// What these facts allow.
    pub fn of(facts: &Facts) -> Self {
        let (programs, cgroup) = (&facts.programs, &facts.cgroup);
        let ring = programs.ring_buffer.is_ok();
        let admin = facts.process.capabilities.has(Capability::NetAdmin);
        let reach = cgroup.root.is_some() && cgroup.error.is_none() && (cgroup.is_host_root || cgroup.given);
        let open = |hook: fn(&_) -> bool| !facts.hooks.hooks.iter().any(|at| at.exclusive && hook(&at.place));
        Self {
            sockets: ring && admin && reach && programs.sock_ops.is_ok() && open(hooks::is_sock_ops),
            processes: ring
                && admin
                && reach
                && programs.connect4.is_ok()
                && programs.connect6.is_ok()
                && open(hooks::is_connect),
            wire: ring && admin && programs.sched_cls.is_ok(),
            errors: ring && programs.error_report.is_ok() && facts.kernel.btf.is_some(),
            drops: ring && programs.kfree_skb.is_ok() && facts.kernel.btf.as_ref().is_some_and(|btf| btf.drop_reasons),
            calls: ring && programs.connect_exit.is_ok(),
            conntrack: facts.questions.conntrack.is_ok(),
            queues: facts.questions.sock_diag.is_ok(),
            namespaces: facts.questions.namespaces.is_ok(),
            numbers: facts.questions.numbers.is_ok(),
        }
    }

    fn lowered(self) -> Vec<String> {
        [
            (self.sockets, "socket steps and flow records"),
            (self.processes, "processes and the addresses they asked for"),
            (self.wire, "segments at interfaces"),
            (self.errors, "the application's errors"),
            (self.drops, "drop reasons"),
            (self.calls, "what connect() returns"),
            (self.conntrack, "connection tracking"),
            (self.queues, "accept queues"),
            (self.namespaces, "sockets in other network namespaces"),
            (self.numbers, "the sequence numbers of open connections"),
        ]
        .iter()
        .filter(|(on, _)| !on)
        .map(|&(_, what)| what.to_owned())
        .collect()
    }
}

/// Tries the proof; none if it could not be tried.
pub fn proof(
    facts: &Facts,
    modes: Modes,
    prove: impl FnOnce() -> Result<String, String>,
    checks: &mut Checks,
) -> Option<Result<(), String>> {
    const NAME: &str = "capture of a connection made for this test";
    let lost = "it is not known whether capture sees anything";
    if facts.cgroup.lock != Lock::Free {
        checks.add(
            Status::Warn,
            NAME,
            format!("not tried: {}", holder(&facts.cgroup.lock)),
            lost,
            "stop that one first",
        );
        return None;
    }
    if !(modes.sockets && modes.processes) {
        let found =
            "not tried: it needs sock_ops, connect4 and connect6 on the machine's cgroup root or a configured one";
        checks.add(Status::Missing, NAME, found, lost, "what is missing above");
        return None;
    }
    match prove() {
        Ok(found) => checks.ok(NAME, found),
        Err(error) => {
            checks.add(Status::Missing, NAME, error.as_str(), lost, "");
            return Some(Err(error));
        }
    }
    Some(Ok(()))
}

/// The summary: whether and how `synspan run` would work.
pub fn conclude(
    facts: &Facts,
    modes: Modes,
    names: Effect,
    proven: Option<Result<(), String>>,
    checks: Vec<Check>,
) -> Diagnosis {
    let mut lowered = modes.lowered();
    lowered.extend(names.lowered);
    let cgroup = &facts.cgroup;
    let private = cgroup.root.is_some() && cgroup.error.is_none() && !cgroup.is_host_root && !cgroup.given;
    let fault = if cgroup.lock != Lock::Free {
        Some(format!("it would refuse to start: {}", holder(&cgroup.lock)))
    } else if !modes.sockets && !modes.wire {
        Some("neither sockets nor segments could be captured".to_owned())
    } else if private {
        Some("the cgroup root here is not the machine's, so it would see nobody else's sockets".to_owned())
    } else if let Some(Err(error)) = proven {
        Some(format!("capture could not be proven: {error}"))
    } else {
        names.fault
    };
    let summary = match &fault {
        Some(fault) => format!("synspan run would not work here: {fault}."),
        None if lowered.is_empty() => "synspan run would work here, in full.".to_owned(),
        None => format!("synspan run would work here in a lower mode, without {}.", lowered.join("; without ")),
    };
    Diagnosis { works: fault.is_none(), summary, lowered, checks }
}
