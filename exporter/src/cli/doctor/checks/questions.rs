//! What the kernel can be asked, and which verdicts rest on it.

use super::{Checks, tried};
use crate::capture::probe::Facts;

/// A line for each.
pub fn check(facts: &Facts, checks: &mut Checks) {
    let questions = &facts.questions;
    tried(
        checks,
        "connection tracking",
        &questions.conntrack,
        "NAT where only one side of it is watched; a full table, lost races and exhausted ranges of SNAT ports",
        "a kernel with CONFIG_NF_CT_NETLINK (modprobe nf_conntrack_netlink), if this node translates addresses",
    );
    tried(
        checks,
        "sockets",
        &questions.sock_diag,
        "full accept queues, and connections that were open before the start",
        "a kernel with CONFIG_INET_DIAG (modprobe tcp_diag)",
    );
    tried(
        checks,
        "other network namespaces",
        &questions.namespaces,
        "accept queues of pods, and their connections that were open before the start",
        "hostPID: true, or the host's /run/netns mounted into the container",
    );
    tried(
        checks,
        "sequence numbers",
        &questions.numbers,
        "proof that a reused port's connection is still open on the other side, where its end was never seen",
        "a kernel of 5.10 or later",
    );
    tried(
        checks,
        "kernel symbols",
        &questions.symbols,
        "the kernel function that dropped a segment; its reason stays, where the kernel gives one",
        "CAP_SYSLOG, and kernel.kptr_restrict below 2",
    );
}
