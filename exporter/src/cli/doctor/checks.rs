//! From facts to judgements: pure.

mod hooks;
mod modes;
mod names;
mod questions;

use serde::Serialize;

use crate::capture::probe::Facts;
use crate::capture::probe::cgroup::{Cgroup, Lock};
use crate::capture::probe::kernel::Release;
use crate::capture::probe::process::Capability;
use crate::capture::probe::programs::{Refusal, Tcx, Tried};
use crate::cli::capabilities::{UNSEEN_PROCESSES, is_optional, lost_without};
use crate::cli::doctor::names::Names;

/// The oldest kernel that capture is made for.
const OLDEST: Release = Release { major: 5, minor: 10 };
/// From here on BPF memory is charged to the cgroup, not to `RLIMIT_MEMLOCK`.
const NO_MEMLOCK: Release = Release { major: 5, minor: 11 };

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// There.
    Ok,
    /// There, or not tried, with something to know.
    Warn,
    /// Not there.
    Missing,
}

impl Status {
    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
        }
    }
}

/// What a check is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the titles say it")]
pub enum Group {
    Process,
    Kernel,
    Programs,
    Cgroup,
    Hooks,
    Questions,
    Node,
    Names,
    Agent,
    Proof,
}

impl Group {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Process => "This process",
            Self::Kernel => "The kernel",
            Self::Programs => "What loads and attaches",
            Self::Cgroup => "The cgroup",
            Self::Hooks => "Others at the same hooks",
            Self::Questions => "What the kernel can be asked",
            Self::Node => "The node's network",
            Self::Names => "Names of pods",
            Self::Agent => "The agent that runs",
            Self::Proof => "The proof",
        }
    }
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// What it is about.
    pub group: Group,
    /// What was checked.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What is lost without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// How to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// All checks and what follows from them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnosis {
    /// Whether `synspan run` would work here, perhaps in a lower mode.
    pub works: bool,
    /// That, in a line.
    pub summary: String,
    /// What would be off.
    pub lowered: Vec<String>,
    /// The checks, grouped.
    pub checks: Vec<Check>,
}

/// Collects checks of one group.
struct Checks {
    list: Vec<Check>,
    group: Group,
}

impl Checks {
    fn add(&mut self, status: Status, name: &str, found: impl Into<String>, lost: &str, fix: &str) {
        let some = |text: &str| (status != Status::Ok && !text.is_empty()).then(|| text.to_owned());
        self.list.push(Check {
            group: self.group,
            name: name.into(),
            status,
            found: found.into(),
            lost: some(lost),
            fix: some(fix),
        });
    }

    fn ok(&mut self, name: &str, found: impl Into<String>) {
        self.add(Status::Ok, name, found, "", "");
    }
}

/// Judges the facts; `prove` is called only where capture has a chance.
pub fn diagnose(facts: &Facts, names: &Names, prove: impl FnOnce() -> Result<String, String>) -> Diagnosis {
    let mut checks = Checks { list: Vec::new(), group: Group::Process };
    process(facts, &mut checks);
    checks.group = Group::Kernel;
    kernel(facts, &mut checks);
    checks.group = Group::Programs;
    programs(facts, &mut checks);
    checks.group = Group::Cgroup;
    cgroup(&facts.cgroup, &mut checks);
    checks.group = Group::Hooks;
    hooks::check(&facts.hooks, &mut checks);
    checks.group = Group::Questions;
    questions::check(facts, &mut checks);
    checks.group = Group::Node;
    node(facts, &mut checks);
    let effect = names::check(names, &mut checks);
    checks.group = Group::Proof;
    let modes = modes::Modes::of(facts);
    let proven = modes::proof(facts, modes, prove, &mut checks);
    modes::conclude(facts, modes, effect, proven, checks.list)
}

fn process(facts: &Facts, checks: &mut Checks) {
    let process = &facts.process;
    if process.uid == 0 {
        checks.ok("user", "root");
    } else {
        checks.add(
            Status::Warn,
            "user",
            format!("user id {}", process.uid),
            "nothing, if the capabilities below are there",
            "run as root, or give the program the capabilities",
        );
    }
    if process.sees_all_processes {
        checks.ok("pid namespace", "the machine's own");
    } else {
        checks.add(
            Status::Warn,
            "pid namespace",
            "one of its own",
            UNSEEN_PROCESSES,
            "hostPID: true (docker --pid=host)",
        );
    }
    let counts_memlock = Release::parse(&facts.kernel.release).is_some_and(|release| release < NO_MEMLOCK);
    for capability in Capability::ALL {
        if process.capabilities.has(capability) {
            checks.ok(capability.name(), "held");
        } else if process.lacking(&[capability]).is_empty() {
            checks.ok(capability.name(), "not held, and CAP_SYS_ADMIN stands in");
        } else if capability == Capability::SysResource && !counts_memlock {
            checks.ok(capability.name(), "not held, and this kernel does not need it");
        } else {
            let status = if is_optional(capability) { Status::Warn } else { Status::Missing };
            let fix = if process.uid == 0 {
                "name it under securityContext.capabilities.add or CapabilityBoundingSet="
            } else {
                "run as root, or name it under securityContext.capabilities.add or AmbientCapabilities="
            };
            checks.add(status, capability.name(), "not held", lost_without(capability), fix);
        }
    }
    if counts_memlock {
        match process.memlock {
            Some(bytes) if !process.capabilities.has(Capability::SysResource) => checks.add(
                Status::Warn,
                "locked memory",
                format!("limited to {bytes} bytes"),
                "maps and programs do not fit: this kernel charges them to the limit",
                "LimitMEMLOCK=infinity or ulimit -l unlimited, or CAP_SYS_RESOURCE, with which the agent raises it",
            ),
            _ => checks.ok("locked memory", "not in the way"),
        }
    }
}

fn kernel(facts: &Facts, checks: &mut Checks) {
    let kernel = &facts.kernel;
    let found = format!("{} {}", kernel.release, kernel.machine);
    if Release::parse(&kernel.release).is_some_and(|release| release < OLDEST) {
        let lost = "capture is made for 5.10 and later; what loads is listed below";
        checks.add(Status::Missing, "release", found, lost, "a newer kernel");
    } else {
        checks.ok("release", found);
    }
    match &kernel.btf {
        Some(btf) => {
            let drops = if btf.drop_reasons { "with drop reasons" } else { "without drop reasons (from 5.17)" };
            checks.ok("BTF", format!("/sys/kernel/btf/vmlinux, {drops}"));
        }
        None => checks.add(
            Status::Missing,
            "BTF",
            "no /sys/kernel/btf/vmlinux",
            "the application's error and the kernel's drop reasons, whose layouts are read from it",
            "a kernel with CONFIG_DEBUG_INFO_BTF=y, and /sys mounted",
        ),
    }
    match &kernel.tracefs {
        Some(at) => checks.ok("tracefs", at.display().to_string()),
        None if facts.programs.connect_exit.is_ok() => {
            checks.ok("tracefs", "not mounted, and the agent may mount it where nobody else sees it");
        }
        None => checks.add(
            Status::Warn,
            "tracefs",
            "not mounted",
            "what connect() returns, see below; raw tracepoints serve without it",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
    match &kernel.bpffs {
        Some(at) => checks.ok("bpffs", at.display().to_string()),
        None => checks.ok("bpffs", "not mounted, and not needed"),
    }
    match kernel.bpf_stats {
        Some(true) => checks.add(
            Status::Warn,
            "kernel.bpf_stats_enabled",
            "on",
            "a little time: the kernel measures every run of every program",
            "sysctl kernel.bpf_stats_enabled=0, unless you are measuring",
        ),
        _ => checks.ok("kernel.bpf_stats_enabled", "off"),
    }
}

fn programs(facts: &Facts, checks: &mut Checks) {
    let programs = &facts.programs;
    let no_kernel = "a kernel with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF and CONFIG_NET_CLS_BPF, 5.10 or later";
    tried(checks, "ring buffer", &programs.ring_buffer, "nothing is captured", no_kernel);
    tried(checks, "sock_ops", &programs.sock_ops, "socket steps: start, result and flow records", no_kernel);
    let lost = "the process behind an attempt, and the address it asked for";
    tried(checks, "cgroup connect4", &programs.connect4, lost, no_kernel);
    tried(checks, "cgroup connect6", &programs.connect6, lost, no_kernel);
    tried(checks, "sched_cls", &programs.sched_cls, "segments at interfaces: NAT, stale ACKs, reuse", no_kernel);
    match &programs.tcx {
        Tcx::Attaches => checks.ok("tcx", "attaches"),
        Tcx::Known => checks.ok("tcx", "known to this kernel; an attach was not tried, for want of CAP_SYS_ADMIN"),
        Tcx::Missing => checks.add(
            Status::Warn,
            "tcx",
            "not in this kernel (from 6.6): clsact filters serve",
            "going first at an interface whatever others do, and detaching by itself when the agent is killed",
            "a kernel of 6.6 or later; until then `synspan clean` takes away what a killed agent left",
        ),
        Tcx::Unknown(refusal) => refused(checks, "tcx", refusal, "it cannot be told whether tcx serves", no_kernel),
    }
    let newer = "a kernel of 5.14 or later with tracepoints";
    tried(checks, "raw tracepoint", &programs.raw_tracepoint, "the application's error, drop reasons", newer);
    let lost = "the error the application got; the socket's last state stands in";
    tried(checks, "tracepoint inet_sk_error_report", &programs.error_report, lost, newer);
    let lost = "the kernel's own reason for a drop";
    tried(checks, "tracepoint kfree_skb", &programs.kfree_skb, lost, newer);
    tried(
        checks,
        "tracepoint sys_exit_connect",
        &programs.connect_exit,
        "what connect() returns: an attempt that fails before any SYN has no cause",
        "mount -t tracefs tracefs /sys/kernel/tracing; in a container the host's /sys/kernel/tracing (hostPath)",
    );
}

fn tried(checks: &mut Checks, name: &str, result: &Tried, lost: &str, fix: &str) {
    match result {
        Ok(()) => checks.ok(name, "works"),
        Err(refusal) => refused(checks, name, refusal, lost, fix),
    }
}

fn refused(checks: &mut Checks, name: &str, refusal: &Refusal, lost: &str, fix: &str) {
    let fix = if refusal.is_denied() { "the capabilities above" } else { fix };
    checks.add(Status::Missing, name, refusal.text.as_str(), lost, fix);
}

/// What helps where a container sees only its own part of the hierarchy.
const HOST_CGROUP: &str = "mount the host's /sys/fs/cgroup into the container (hostPath) and name it under capture.cgroup, \
                           or run in the host's cgroup namespace (docker --cgroupns=host)";

fn cgroup(cgroup: &Cgroup, checks: &mut Checks) {
    let lost = "socket steps and processes";
    let Some(root) = &cgroup.root else {
        let fix = "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1";
        return checks.add(Status::Missing, "cgroup2", "not mounted", lost, fix);
    };
    if let Some(error) = &cgroup.error {
        return checks.add(
            Status::Missing,
            "cgroup2",
            error.as_str(),
            lost,
            "name a cgroup v2 directory under capture.cgroup",
        );
    }
    let mut found = root.display().to_string();
    for (holds, words) in [
        (cgroup.given, ", as configured"),
        (cgroup.hybrid, ", beside v1 hierarchies (hybrid)"),
        (cgroup.read_only, ", mounted read-only (attaching works all the same)"),
    ] {
        if holds {
            found.push_str(words);
        }
    }
    checks.ok("cgroup2", found);
    match (cgroup.is_host_root, cgroup.given, cgroup.private_namespace) {
        (true, _, false) => checks.ok("reach", "the machine's root: every process"),
        (true, _, true) => checks.ok("reach", "the machine's root, from a private cgroup namespace: every process"),
        (false, true, _) => {
            let lost = "processes that are not below it are not seen";
            checks.add(Status::Warn, "reach", "below the configured directory only", lost, "leave out capture.cgroup");
        }
        (false, false, _) => {
            let found = "this is a private cgroup namespace: its root is not the machine's";
            let lost = "every process but this container's own: programs attach without error and see nobody else";
            checks.add(Status::Missing, "reach", found, lost, HOST_CGROUP);
        }
    }
    match &cgroup.lock {
        Lock::Free => checks.ok("other agents", "none on this cgroup"),
        Lock::Held { .. } => {
            let lost = "a second agent on the same cgroup refuses to start";
            checks.add(Status::Warn, "other agents", holder(&cgroup.lock), lost, "stop that one first");
        }
    }
}

/// Who holds the lock, in words.
fn holder(lock: &Lock) -> String {
    match lock {
        Lock::Free => "nobody".into(),
        Lock::Held { pid: Some(pid), name: Some(name) } => {
            format!("process {pid} ({name}) watches this cgroup already")
        }
        Lock::Held { pid: Some(pid), name: None } => format!("process {pid} watches this cgroup already"),
        Lock::Held { pid: None, .. } => "a process of another pid namespace watches this cgroup already".into(),
    }
}

fn node(facts: &Facts, checks: &mut Checks) {
    let kernel = &facts.kernel;
    match kernel.tcp_timestamps {
        Some(0) => checks.add(
            Status::Warn,
            "net.ipv4.tcp_timestamps",
            "off in this network namespace (pods have their own)",
            "one trace id on both sides of a translation: without the timestamp it does not survive NAT beyond the \
             node, and ISNs alone join the points",
            "sysctl net.ipv4.tcp_timestamps=1",
        ),
        Some(2) => checks.ok("net.ipv4.tcp_timestamps", "2: on, without random offsets"),
        Some(value) => checks.ok("net.ipv4.tcp_timestamps", format!("{value}: on")),
        None => checks.add(
            Status::Warn,
            "net.ipv4.tcp_timestamps",
            "could not be read",
            "it is not known whether trace ids survive NAT beyond the node",
            "mount /proc with its sys directory",
        ),
    }
    match kernel.local_ports {
        Some((first, last)) => checks.ok("net.ipv4.ip_local_port_range", format!("{first} to {last}")),
        None => {
            checks.add(Status::Warn, "net.ipv4.ip_local_port_range", "could not be read", "the size of the range", "")
        }
    }
    match kernel.conntrack {
        Some(table) => checks.ok("conntrack", format!("{} of {} entries", table.entries, table.limit)),
        None => checks.add(
            Status::Warn,
            "conntrack",
            "no table here",
            "nothing, unless the node translates addresses: the entries that confirm NAT, and the table's fill",
            "modprobe nf_conntrack",
        ),
    }
}
