//! Steps that break what is not a rule of the node's: by any line of shell, by a cgroup program.

use std::path::Path;
use std::time::{Duration, Instant};

use super::run::Run;
use crate::error::{Context, Result, lab};
use crate::net::command;

/// How long a proof may take to show.
const PROOF_PATIENCE: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// Runs a line of shell in a namespace, again and again until it says what it must.
    pub(super) fn sh(&self, at: &str, line: &str, says: Option<&str>) -> Result<()> {
        let fill = |text: &str| self.scenario.topology.fill(text, self.family);
        let (line, says) = (fill(line), says.map(fill));
        let netns = self.world.netns(at)?;
        let deadline = Instant::now() + PROOF_PATIENCE;
        loop {
            let said = netns.run("sh", &["-ec", &line])?;
            match &says {
                Some(wanted) if !said.contains(wanted.as_str()) => {
                    if Instant::now() > deadline {
                        return lab(format!("`{line}` at {at} should say `{wanted}`, and says:\n{said}"));
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Waits until a counter of a namespace has come to so many.
    pub(super) fn counter(&self, at: &str, name: &str, least: u64) -> Result<()> {
        let netns = self.world.netns(at)?;
        let deadline = Instant::now() + PROOF_PATIENCE;
        loop {
            // Absolute, with those that are zero, and with no history kept.
            let text = netns.run("nstat", &["-asz", name])?;
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
            match value {
                Some(value) if value >= least => return Ok(()),
                Some(value) if Instant::now() > deadline => {
                    return lab(format!("{name} at {at} should come to {least}, and is {value}"));
                }
                Some::<u64>(_) => std::thread::sleep(Duration::from_millis(50)),
                None => return lab(format!("nstat knows no counter {name}")),
            }
        }
    }

    /// Compiles a BPF program in C, and gives the object's path.
    pub(super) fn compile(&self, name: &str, text: &str, define: &str) -> Result<String> {
        let at = |end: &str| self.world.dir().join(format!("{name}.{end}"));
        std::fs::write(at("c"), text).context(format_args!("write {name}.c"))?;
        let path = |path: &Path| path.display().to_string();
        let (source, object) = (path(&at("c")), path(&at("o")));
        let clang = ["clang-22", "clang"].into_iter().find(|name| command::run(name, &["--version"]).is_ok());
        let Some(clang) = clang else { return lab(format!("clang is needed to build {name}.c")) };
        command::run(clang, &["-O2", "-g", "-target", "bpf", define, "-c", &source, "-o", &object])?;
        Ok(object)
    }

    /// Attaches programs to a pod's cgroup that say EPERM to its connects to a port. They go with the cgroup.
    pub(super) fn deny(&self, pod: &str, port: u16) -> Result<()> {
        let Some((_, node)) = self.scenario.topology.node_of(pod) else { return lab(format!("`{pod}` is on no node")) };
        let cgroup = self.world.node_cgroup(&format!("{}/{pod}", node.name))?;
        let object = self.compile("deny", include_str!("deny.c"), &format!("-DPORT={port}"))?;
        // The BPF file system is mounted for these commands alone: not for all to see.
        let line = format!(
            "mount -t bpf bpf /sys/fs/bpf\n\
             bpftool prog loadall {object} /sys/fs/bpf/deny\n\
             bpftool cgroup attach {cgroup} connect4 pinned /sys/fs/bpf/deny/deny4 multi\n\
             bpftool cgroup attach {cgroup} connect6 pinned /sys/fs/bpf/deny/deny6 multi\n",
            cgroup = cgroup.display(),
        );
        command::run("unshare", &["--mount", "sh", "-ec", &line]).map(drop)
    }
}
