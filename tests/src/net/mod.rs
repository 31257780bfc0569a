//! What the lab takes from the kernel, each as a guard that gives it back: namespaces, cgroups,
//! processes, directories.

pub mod cgroup;
pub mod cleanup;
pub mod command;
pub mod conntrack;
pub mod leftovers;
pub mod netns;
pub mod process;
