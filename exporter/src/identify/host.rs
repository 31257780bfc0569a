//! Processes of the host: who they are by systemd unit, else by executable.
//!
//! `/proc` tells only of processes that live, so a process is to be asked for soon after its
//! connect() ([`super::describe::Describer::notice`]); the answer is kept for when the attempt ends.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::cgroup::CgroupPaths;
use super::node::Node;
use super::unit;
use super::{Answer, End, Identify, Identity};
use crate::capture::observation::{Mono, Process};
use crate::names::attribute::{PROCESS_EXECUTABLE_NAME, SERVICE_NAME};

/// How long an answer is taken without a new look at `/proc`: a process may call execve(), and its
/// number may be given to another.
const FRESH: Duration = Duration::from_secs(5);
/// How long the answer for a process that is gone still serves attempts that it began.
const KEPT: Duration = Duration::from_secs(600);
/// Most processes remembered.
const CACHE_LIMIT: usize = 8_192;

/// The processes of this host.
pub struct HostProcesses {
    proc: Option<PathBuf>,
    node: Node,
    paths: Option<Arc<CgroupPaths>>,
    cache: Mutex<HashMap<(u32, u64), Entry>>,
}

#[derive(Clone, Default)]
struct Entry {
    read: Mono,
    executable: Option<Arc<str>>,
    identity: Option<Arc<Identity>>,
}

impl HostProcesses {
    /// Reads processes in `proc`: usually `/proc`, and none where that is not the initial pid namespace's, by whose
    /// numbers the kernel tells processes: any other's are of other processes.
    pub fn new(proc: Option<PathBuf>, node: Node, paths: Option<Arc<CgroupPaths>>) -> Self {
        Self { proc, node, paths, cache: Mutex::default() }
    }

    /// The file name of a process's executable; none if it is gone and was not asked for in time.
    pub fn executable(&self, process: &Process, at: Mono) -> Option<Arc<str>> {
        self.entry(process, at).executable
    }

    /// The cached facts of a process, read anew if they are old and it still lives.
    fn entry(&self, process: &Process, at: Mono) -> Entry {
        let key = (process.pid, process.cgroup);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let before = cache.get(&key);
        if let Some(entry) = before
            && at.since(entry.read) < FRESH
        {
            return entry.clone();
        }
        let executable = self.read_executable(process.pid);
        let entry = match before {
            // Gone by now: what was read while it lived holds.
            Some(entry) if executable.is_none() && at.since(entry.read) < KEPT => entry.clone(),
            // The same program still: its identity holds too, and is not built again.
            Some(entry) if entry.executable.is_some() && entry.executable == executable => {
                Entry { read: at, ..entry.clone() }
            }
            _ => Entry { read: at, executable, identity: None },
        };
        if cache.len() >= CACHE_LIMIT {
            cache.retain(|_, entry| at.since(entry.read) < FRESH);
            if cache.len() >= CACHE_LIMIT {
                cache.clear();
            }
        }
        cache.insert(key, entry.clone());
        entry
    }

    /// A file of a process.
    fn file(&self, pid: u32, name: &str) -> Option<PathBuf> {
        Some(self.proc.as_ref()?.join(pid.to_string()).join(name))
    }

    fn read_executable(&self, pid: u32) -> Option<Arc<str>> {
        let link = std::fs::read_link(self.file(pid, "exe")?).ok()?;
        let name = link.file_name()?.to_string_lossy();
        let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
        (!name.is_empty()).then(|| Arc::from(name))
    }

    fn read_name(&self, process: &Process) -> Option<String> {
        // `comm` is the calling thread's name, which is the process's own only for its first thread.
        let name = if process.tid == process.pid {
            let end = process.comm.iter().position(|&byte| byte == 0).unwrap_or(process.comm.len());
            String::from_utf8_lossy(&process.comm[..end]).into_owned()
        } else {
            std::fs::read_to_string(self.file(process.pid, "comm")?).ok()?
        };
        let name = name.trim();
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn unit(&self, process: &Process, at: Mono) -> Option<String> {
        let path = self.paths.as_ref().and_then(|paths| paths.path(process.cgroup, at));
        if let Some(unit) = path.as_deref().and_then(unit::of_path) {
            return Some(unit.to_owned());
        }
        // On hybrid hosts systemd sorts processes in a v1 hierarchy of its own.
        let lines = std::fs::read_to_string(self.file(process.pid, "cgroup")?).ok()?;
        unit::of_proc_cgroup(&lines).map(str::to_owned)
    }

    fn build(&self, process: &Process, executable: Option<&str>, at: Mono) -> Option<Identity> {
        let name = match self.unit(process, at) {
            Some(unit) => unit,
            None => match executable {
                Some(executable) => executable.to_owned(),
                None => self.read_name(process)?,
            },
        };
        let executable = executable.map(|executable| (PROCESS_EXECUTABLE_NAME, executable));
        Some(self.node.here([(SERVICE_NAME, name.as_str())].into_iter().chain(executable)))
    }
}

impl Identify for HostProcesses {
    fn identify(&self, end: &End<'_>, at: Mono) -> Answer {
        let process = end.process.filter(|process| process.pid != 0);
        Answer::of(process.and_then(|process| self.identity(process, at)))
    }
}

impl HostProcesses {
    fn identity(&self, process: &Process, at: Mono) -> Option<Arc<Identity>> {
        let entry = self.entry(process, at);
        if entry.identity.is_some() {
            return entry.identity;
        }
        let identity = Arc::new(self.build(process, entry.executable.as_deref(), at)?);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = cache.get_mut(&(process.pid, process.cgroup)) {
            entry.identity = Some(Arc::clone(&identity));
        }
        Some(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        root: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            Self { root: tempfile::tempdir().expect("directory") }
        }

        fn run(&self, pid: u32, exe: &str, comm: &str, cgroup: &str) {
            let directory = self.root.path().join(pid.to_string());
            let _ = std::fs::remove_dir_all(&directory);
            std::fs::create_dir(&directory).expect("directory");
            std::os::unix::fs::symlink(exe, directory.join("exe")).expect("link");
            std::fs::write(directory.join("comm"), format!("{comm}\n")).expect("comm");
            std::fs::write(directory.join("cgroup"), cgroup).expect("cgroup");
        }

        fn end(&self, pid: u32) {
            std::fs::remove_dir_all(self.root.path().join(pid.to_string())).expect("remove");
        }

        fn processes(&self) -> HostProcesses {
            HostProcesses::new(Some(self.root.path().into()), Node::new("host-1", false, &[]), None)
        }
    }

    fn process(pid: u32, tid: u32, comm: &str) -> Process {
        let mut bytes = [0; 16];
        bytes[..comm.len()].copy_from_slice(comm.as_bytes());
        Process { cgroup: 9, pid, tid, comm: bytes }
    }

    fn seconds(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn name(processes: &HostProcesses, process: &Process, at: Mono) -> Option<String> {
        processes.identity(process, at)?.get(SERVICE_NAME).map(str::to_owned)
    }

    #[test]
    fn a_unit_comes_before_the_executable() {
        let host = Host::new();
        host.run(7, "/usr/sbin/nginx (deleted)", "nginx", "1:name=systemd:/system.slice/web.service\n0::/\n");
        let processes = host.processes();
        let found = processes.identity(&process(7, 7, "nginx"), seconds(1)).expect("identity");
        assert_eq!(found.get(SERVICE_NAME), Some("web"));
        assert_eq!(found.get(PROCESS_EXECUTABLE_NAME), Some("nginx"));
        assert_eq!(found.get("host.name"), Some("host-1"));
    }

    #[test]
    fn a_threads_name_is_never_the_service() {
        let host = Host::new();
        host.run(7, "/opt/app/server", "server", "0::/\n");
        let processes = host.processes();
        assert_eq!(name(&processes, &process(7, 8, "tokio-worker"), seconds(1)).as_deref(), Some("server"));
        // No executable to read: the thread group leader's name.
        host.run(9, "/", "leader", "0::/\n");
        assert_eq!(name(&processes, &process(9, 10, "worker"), seconds(1)).as_deref(), Some("leader"));
        assert_eq!(name(&processes, &process(11, 11, "gone"), seconds(1)).as_deref(), Some("gone"));
        assert_eq!(name(&processes, &process(12, 13, "worker"), seconds(1)), None);
    }

    #[test]
    fn what_was_read_while_it_lived_holds_when_it_is_gone() {
        let host = Host::new();
        host.run(7, "/usr/bin/curl", "curl", "0::/\n");
        let processes = host.processes();
        let curl = process(7, 7, "curl");
        assert_eq!(name(&processes, &curl, seconds(1)).as_deref(), Some("curl"));
        host.end(7);
        assert_eq!(processes.executable(&curl, seconds(130)).as_deref(), Some("curl"));
    }

    #[test]
    fn in_another_pid_namespace_no_file_is_taken_for_a_process() {
        let processes = HostProcesses::new(None, Node::new("host-1", false, &[]), None);
        let found = processes.identity(&process(1, 1, "systemd"), seconds(1)).expect("identity");
        assert_eq!(found.get(SERVICE_NAME), Some("systemd"), "as the kernel told");
        assert_eq!(found.get(PROCESS_EXECUTABLE_NAME), None);
    }

    #[test]
    fn a_process_number_given_to_another_program_is_read_anew() {
        let host = Host::new();
        host.run(7, "/usr/bin/curl", "curl", "0::/\n");
        let processes = host.processes();
        assert_eq!(name(&processes, &process(7, 7, "curl"), seconds(1)).as_deref(), Some("curl"));
        host.run(7, "/usr/bin/wget", "wget", "0::/\n");
        assert_eq!(name(&processes, &process(7, 7, "wget"), seconds(10)).as_deref(), Some("wget"));
    }
}
