//! The probe: what this machine offers capture, found by asking and by harmless trying.
//!
//! Each module finds facts of one kind and judges nothing; doctor does. All of it works with or
//! without the feature `live`, with or without privileges, and leaves nothing behind.

pub mod bpf;
pub mod cgroup;
pub mod connection;
pub mod holders;
pub mod hooks;
pub mod kernel;
pub mod leftovers;
pub mod mounts;
pub mod process;
pub mod programs;
pub mod questions;
pub mod tracepoint;

use std::collections::BTreeSet;
use std::path::PathBuf;

/// What to look at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// The cgroup that capture attaches to; none to find the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
}

/// Everything that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The kernel and its settings.
    pub kernel: kernel::Kernel,
    /// This process.
    pub process: process::Process,
    /// The cgroup hierarchy.
    pub cgroup: cgroup::Cgroup,
    /// What loads and attaches.
    pub programs: programs::Programs,
    /// Who is at the hooks.
    pub hooks: hooks::Hooks,
    /// What can be asked.
    pub questions: questions::Questions,
}

impl Facts {
    /// Gathers them, in some tens of milliseconds. Must not be called by a thread that minds a short
    /// wait; it needs no runtime. What cannot be found out stands in the facts as such.
    pub fn gather(options: &Options) -> Self {
        let mounts = mounts::gather();
        let cgroup = cgroup::Cgroup::gather(options.cgroup.as_deref(), &mounts);
        let agent = match cgroup.lock {
            cgroup::Lock::Held { pid: Some(pid), .. } => holders::of_process(pid),
            _ => BTreeSet::new(),
        };
        let usable = cgroup.root.as_deref().filter(|_| cgroup.error.is_none());
        let mut hooks = hooks::Hooks::gather(usable);
        hooks.claim(&agent);
        Self {
            kernel: kernel::Kernel::gather(&mounts),
            process: process::Process::gather(),
            programs: programs::Programs::gather(),
            hooks,
            questions: questions::Questions::gather(),
            cgroup,
        }
    }
}
