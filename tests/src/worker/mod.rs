//! The processes that own the sockets: one for each pod, host process and server, commanded by JSON
//! lines, so that a socket's process, cgroup and network namespace are those of a real workload.

pub mod client;
mod options;
pub mod protocol;
pub mod raw;
pub mod serve;
pub mod socket;
pub mod spoof;
mod storm;
mod uring;
pub mod way;
