//! What is measured: the agent and its peers, each a process in a cgroup of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bed::Bed;
use super::kernel;
use super::sink::Sink;
use crate::counters::Counters;
use crate::error::{Context, Error, Result, lab};
use crate::net::process::Process;

/// Who watches while the client runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, clap::ValueEnum)]
pub enum Kind {
    /// The agent, with its traces sent to a receiver.
    Synspan,
    /// tcplife of libbpf-tools: a line for each closed connection.
    Tcplife,
    /// tcpstates of libbpf-tools: a line for each change of a socket's state.
    Tcpstates,
    /// conntrack -E: a line for each event of connection tracking on the node.
    Conntrack,
}

impl Kind {
    /// All of them, in the report's order.
    pub const ALL: [Self; 4] = [Self::Synspan, Self::Tcplife, Self::Tcpstates, Self::Conntrack];

    /// Its key in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Synspan => "synspan",
            Self::Tcplife => "tcplife",
            Self::Tcpstates => "tcpstates",
            Self::Conntrack => "conntrack",
        }
    }
}

/// The agent's file: where this program is, as cargo puts them both.
pub fn agent_beside_us() -> Result<PathBuf> {
    let us = std::env::current_exe().context("find this program's own file")?;
    let agent = us.with_file_name("synspan");
    if agent.exists() {
        Ok(agent)
    } else {
        lab(format!("no agent at {}: build it, or name it by --agent", agent.display()))
    }
}

/// Processor time, in microseconds.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Cpu {
    /// In user mode.
    pub user: f64,
    /// In the kernel, on its behalf.
    pub system: f64,
}

/// A contender that runs and is ready.
#[derive(Debug)]
pub struct Running {
    kind: Kind,
    process: Process,
    cgroup: PathBuf,
    output: PathBuf,
    lines: Option<mpsc::Receiver<String>>,
    start: Cpu,
}

/// What it took, from ready to its end.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Processor time of the process.
    pub cpu: Cpu,
    /// Its largest resident memory so far, in MiB.
    pub rss_mib: f64,
    /// Lines that it wrote, where it writes lines.
    pub lines: Option<u64>,
    /// What it says it lost, where it says so.
    pub lost: Option<u64>,
    /// All that it says at its end; the agent alone does.
    pub counted: Option<Counted>,
}

impl Taken {
    /// What the agent counted; an error where it did not say.
    pub fn counted(&self) -> Result<Counted> {
        self.counted.ok_or_else(|| Error::Lab("the agent left no line `synspan counters`".to_owned()))
    }
}

/// What the agent's line `synspan counters {...}` says at its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Lost on the way from the kernel to the receiver: records that found the ring full or made no sense, attempts
    /// evicted, findings and records dropped.
    pub lost: u64,
    /// Tenancies that the ledger remembered.
    pub tenancies: u64,
    /// Spans that the receiver took.
    pub traces: u64,
    /// Log records that it took.
    pub logs: u64,
    /// Points of metrics that it took.
    pub metrics: u64,
}

impl Counted {
    /// Adds another run's; tenancies are those of the last.
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.tenancies = other.tenancies;
        self.traces += other.traces;
        self.logs += other.logs;
        self.metrics += other.metrics;
    }
}

/// Memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Resident now.
    pub now: f64,
    /// The same with each page counted once: the kernel maps a ring's pages twice.
    pub once: f64,
    /// Of it, what is not a page of a file.
    pub anonymous: f64,
    /// The most that was resident.
    pub peak: f64,
}

impl Running {
    /// Starts it and waits until it watches. `extra` goes into the agent's configuration.
    pub fn start(kind: Kind, bed: &Bed, agent: &Path, sink: &Sink, extra: &str) -> Result<Self> {
        Self::start_to(kind, bed, agent, sink.address, extra)
    }

    /// The same, with the agent's exports sent to any address.
    pub fn start_to(kind: Kind, bed: &Bed, agent: &Path, to: SocketAddr, extra: &str) -> Result<Self> {
        let output = bed.dir().join(format!("{}.out", kind.name()));
        let file = File::create(&output).context(format_args!("make {}", output.display()))?;
        let mut command = match kind {
            Kind::Synspan => agent_command(bed, agent, Some(to), extra)?,
            Kind::Tcplife => Command::new("tcplife"),
            Kind::Tcpstates => Command::new("tcpstates"),
            Kind::Conntrack => {
                let mut command = in_node(bed);
                command.args(["conntrack", "-E", "-p", "tcp"]);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(file);
        let errors = if kind == Kind::Synspan { Stdio::piped() } else { Stdio::inherit() };
        if kind == Kind::Conntrack {
            // It says at its end how many events it showed.
            command.stderr(Stdio::null());
        } else {
            command.stderr(errors);
        }
        let mut process = Process::spawn(command, kind.name())?;
        let cgroup = bed.account(kind.name())?;
        std::fs::write(cgroup.join("cgroup.procs"), process.id().to_string())
            .context(format_args!("move {} to its cgroup", kind.name()))?;
        let lines = process.child().stderr.take().map(read_lines);
        let mut running = Self { kind, process, cgroup, output, lines, start: Cpu::default() };
        running.wait_until_ready()?;
        running.start = read_cpu(&running.cgroup)?;
        Ok(running)
    }

    /// What it holds of memory.
    pub fn memory(&self) -> Result<Held> {
        let id = self.process.id();
        let of = |field| memory_mib(id, "status", field);
        let once = memory_mib(id, "smaps_rollup", "Pss:")?;
        Ok(Held { now: of("VmRSS:")?, once, anonymous: of("RssAnon:")?, peak: of("VmHWM:")? })
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        if let Some(lines) = &self.lines {
            wait_for_capture(lines)?;
            // The ledger's seeding and whatever else follows the start.
            std::thread::sleep(Duration::from_millis(300));
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        let attached = |id| match self.kind {
            Kind::Conntrack => true,
            _ => !kernel::programs_of(id).is_empty(),
        };
        while !attached(self.process.id()) {
            if let Some(status) = self.process.ended() {
                return lab(format!("{} ended at once: {status}", self.kind.name()));
            }
            if Instant::now() > deadline {
                return lab(format!("{} loaded no program in 20 s", self.kind.name()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // From loaded to attached, and its first line.
        std::thread::sleep(Duration::from_millis(700));
        match self.process.ended() {
            Some(status) => lab(format!("{} ended at once: {status}", self.kind.name())),
            None => Ok(()),
        }
    }

    /// Ends it as a user would, lets it finish its work, and says what it took.
    pub fn stop(mut self) -> Result<Taken> {
        // What it is behind with is its cost too; a line a tenth of a second late is still written.
        std::thread::sleep(Duration::from_millis(200));
        let rss_mib = memory_mib(self.process.id(), "status", "VmHWM:")?;
        if self.kind == Kind::Synspan {
            self.process.terminate(Duration::from_secs(20))?;
        } else {
            let pid = Pid::from_raw(self.process.id().cast_signed());
            kill(pid, Signal::SIGINT).context("interrupt a contender")?;
            let deadline = Instant::now() + Duration::from_secs(2);
            while self.process.ended().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            if self.process.ended().is_none() {
                self.process.terminate(Duration::from_secs(10))?;
            }
        }
        let end = read_cpu(&self.cgroup)?;
        let cpu = Cpu { user: end.user - self.start.user, system: end.system - self.start.system };
        let lines = match self.kind {
            Kind::Synspan => None,
            _ => Some(count_lines(&self.output)?),
        };
        let counted = self.lines.take().and_then(|lines| counted(lines.iter()));
        Ok(Taken { cpu, rss_mib, lines, lost: counted.map(|counted| counted.lost), counted })
    }

    /// Ends it by SIGKILL.
    pub fn kill(self) {
        drop(self.process);
    }
}

/// A command that runs in the node's network namespace, and is the program itself, not a child of it.
pub fn in_node(bed: &Bed) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", bed.node.path().display()));
    command
}

/// The agent's command line, with a configuration written for it.
pub fn agent_command(bed: &Bed, agent: &Path, to: Option<SocketAddr>, extra: &str) -> Result<Command> {
    let exporter = match to {
        Some(address) => format!("exporters:\n  otlp:\n    endpoint: {address}\n    tls:\n      insecure: true\n"),
        None => "exporters:\n  debug: {}\n".to_owned(),
    };
    let pipelines = if to.is_some() {
        "{traces: {exporters: [otlp]}, logs: {exporters: [otlp]}, metrics: {exporters: [otlp]}}"
    } else {
        "{traces: {exporters: [debug]}}"
    };
    let config = format!(
        "{exporter}service:\n  pipelines: {pipelines}\n\
         identity:\n  node_name: {}\ncapture:\n  cgroup: {}\n{extra}",
        bed.node_name,
        bed.node_cgroup.display()
    );
    let path = bed.dir().join("synspan.yaml");
    std::fs::write(&path, config).context(format_args!("write {}", path.display()))?;
    let mut command = in_node(bed);
    command.arg(agent).args(["run", "--config"]).arg(path);
    Ok(command)
}

/// Waits for the agent's line that says that it watches.
pub fn wait_for_capture(lines: &mpsc::Receiver<String>) -> Result<()> {
    let mut said = String::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("capture ready") => return Ok(()),
            Ok(line) => {
                said.push_str(&line);
                said.push('\n');
            }
            Err(_) => return lab(format!("the agent did not say `capture ready`. It said:\n{said}")),
        }
    }
}

/// The lines of a stream, read as they come, so that its writer never waits.
pub fn read_lines(stream: std::process::ChildStderr) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(std::result::Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn counted(lines: impl Iterator<Item = String>) -> Option<Counted> {
    let counters = Counters::of(&lines.collect::<Vec<_>>().join("\n"))?;
    let lost = ["/capture/lost", "/capture/undecodable", "/track/evicted_attempts", "/findings_dropped"];
    let lost: u64 = lost.iter().filter_map(|place| counters.get(place)).sum();
    Some(Counted {
        lost: lost + counters.undelivered(),
        tenancies: counters.get("/track/tenancies").unwrap_or(0),
        traces: counters.sent("traces"),
        logs: counters.sent("logs"),
        metrics: counters.sent("metrics"),
    })
}

/// A cgroup's processor time: exact, and complete when its processes are gone, unlike /proc/PID/stat.
fn read_cpu(cgroup: &Path) -> Result<Cpu> {
    let path = cgroup.join("cpu.stat");
    let text = std::fs::read_to_string(&path).context(format_args!("read {}", path.display()))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    match (field("user_usec"), field("system_usec")) {
        (Some(user), Some(system)) => Ok(Cpu { user, system }),
        _ => lab(format!("{} has no user_usec and system_usec", path.display())),
    }
}

/// A field of /proc/PID/status or /proc/PID/smaps_rollup in MiB (proc_pid_status(5), proc_pid_smaps(5)).
fn memory_mib(process: u32, file: &str, field: &str) -> Result<f64> {
    let path = format!("/proc/{process}/{file}");
    let text = std::fs::read_to_string(&path).context(format_args!("read {path}"))?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| Error::Lab(format!("{path} has no {field}")))
}

fn count_lines(path: &Path) -> Result<u64> {
    let text = std::fs::read(path).context(format_args!("read {}", path.display()))?;
    Ok(text.iter().filter(|byte| **byte == b'\n').count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_from_the_last_line_of_counters() {
        let lines = [
            r#"synspan counters {"capture": {"lost": 5}}"#,
            r#"INFO synspan counters {"capture": {"lost": 2, "flags_reasserted": 9}, "track": {"lost": 2},
               "findings_dropped": 1, "deliver": [{"sent": 7, "dropped": {"shutdown": 3, "queue_full": 4}}]} more"#,
            "bye",
        ];
        assert_eq!(counted(lines.iter().map(ToString::to_string)).map(|counted| counted.lost), Some(10));
        assert!(counted(std::iter::once("bye".to_owned())).is_none());
    }
}
