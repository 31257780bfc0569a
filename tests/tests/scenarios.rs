//! Every scenario once, with both families, against the agent. Needs root, network namespaces and BPF:
//! where one is missing it fails and says which.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the reason")]

use std::path::PathBuf;
use std::process::Command;

/// The agent's program: `SYNSPAN_AGENT`, or the one beside the lab's own program.
fn agent() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_lab")).with_file_name("synspan");
    let agent = std::env::var_os("SYNSPAN_AGENT").map_or(beside, PathBuf::from);
    assert!(agent.is_file(), "no agent at {}: `cargo build -p synspan` first, or set SYNSPAN_AGENT", agent.display());
    agent
}

#[test]
fn every_scenario_gets_its_verdict() {
    assert!(nix::unistd::geteuid().is_root(), "the scenarios need root: they make network namespaces and cgroups");
    assert!(
        PathBuf::from("/sys/kernel/btf/vmlinux").exists(),
        "the scenarios need a kernel with BPF and its type information (/sys/kernel/btf/vmlinux)"
    );
    for tool in ["ip", "nft", "ss", "nstat", "conntrack", "tc", "bpftool", "bash", "nsenter", "unshare"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        assert!(found.status.success(), "the scenarios need the program `{tool}`");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_lab")).arg("run").arg("--agent").arg(agent()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "some scenarios went wrong:\n{text}\n{errors}");
}

#[test]
fn the_scenarios_faults_are_real_without_any_agent() {
    assert!(nix::unistd::geteuid().is_root(), "the scenarios need root: they make network namespaces and cgroups");
    let lab = env!("CARGO_BIN_EXE_lab");
    let output = Command::new(lab).args(["run", "--no-agent", "reuse-never-closed", "refused"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
