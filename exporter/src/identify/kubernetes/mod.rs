//! Pods: who is behind a socket of this node, by what its API server says.
//!
//! [`registry`] holds what is known and answers, with no clock and no connection; [`watch`] keeps it up to date.
//! The strongest evidence comes first: the cgroup of the process, then the network namespace and the interface that
//! were a pod's before, then the address at that time.

mod api;
mod cgroup_path;
pub mod client;
mod declared;
mod facts;
mod follow;
pub mod nodes;
mod owner;
pub mod pod;
pub mod registry;
pub mod rights;
pub mod services;
pub mod status;
mod tenure;
mod text;
mod token;
pub mod watch;
mod watch_services;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::cgroup_path::PodPath;
use self::registry::{Place, Registry};
use super::cgroup::CgroupPaths;
use super::{Answer, End, Identify};
use crate::capture::observation::{Mono, Process};

/// Most processes whose cgroup is remembered.
const MAX_PROCESSES: usize = 8_192;
/// How long it is remembered of a process that its cgroup names no pod: one may be moved to a pod's after its start.
const PLAIN: Duration = Duration::from_secs(5);

/// What a process's cgroup names, and when it was read.
type Known = (Mono, Option<Arc<PodPath>>);

/// The pods of this node as a source of identities.
pub struct Pods {
    registry: Arc<Mutex<Registry>>,
    paths: Option<Arc<CgroupPaths>>,
    /// Where processes' v1 cgroups are read; none where all cgroups are of v2.
    proc: Option<PathBuf>,
    processes: Mutex<HashMap<(u32, u64), Known>>,
}

impl Pods {
    /// `paths` finds the v2 cgroups' paths; `proc` is where the v1 cgroups of processes are read, on hosts that have
    /// them.
    pub fn new(registry: Arc<Mutex<Registry>>, paths: Option<Arc<CgroupPaths>>, proc: Option<PathBuf>) -> Self {
        Self { registry, paths, proc, processes: Mutex::default() }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path_of(&self, process: &Process, at: Mono) -> Option<Arc<PodPath>> {
        let key = (process.pid, process.cgroup);
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, path)) = processes.get(&key)
            && (path.is_some() || at.since(*when) < PLAIN)
        {
            return path.clone();
        }
        let path = self.read_path(process, at).map(Arc::new);
        if processes.len() >= MAX_PROCESSES {
            processes.clear();
        }
        processes.insert(key, (at, path.clone()));
        path
    }

    fn read_path(&self, process: &Process, at: Mono) -> Option<PodPath> {
        let path = self.paths.as_ref().and_then(|paths| paths.path(process.cgroup, at));
        path.as_deref().and_then(cgroup_path::read).or_else(|| {
            let file = self.proc.as_ref()?.join(process.pid.to_string()).join("cgroup");
            cgroup_path::read_proc(&std::fs::read_to_string(file).ok()?)
        })
    }
}

impl Identify for Pods {
    fn identify(&self, end: &End<'_>, at: Mono) -> Answer {
        let place = Place { netns: end.netns, ifindex: end.ifindex, address: end.address };
        match end.process.and_then(|process| self.path_of(process, at)) {
            Some(path) => self.registry().by_cgroup(&path, place),
            None => self.registry().at(place, at),
        }
    }
}

/// Whether this host sorts processes in v1 hierarchies too (cgroups(7)): one line for each in `/proc/self/cgroup`.
pub fn has_v1_cgroups(own: &str) -> bool {
    own.lines().any(|line| !line.starts_with("0::"))
}
