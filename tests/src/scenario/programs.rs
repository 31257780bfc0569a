//! Steps that hang BPF programs at a node's interfaces, as CNIs and others do: translation, short cuts, and foreign
//! programs at the agent's own hook.

use std::net::IpAddr;

use super::run::Run;
use crate::bench::kernel::Constant;
use crate::error::{Error, Result, lab};
use crate::topology::{Family, node_address};
use crate::world::{UPLINK, VETH, veth_name};

/// TCX_PASS: no program behind runs.
const PASS: i32 = 0;

/// The words of an address in memory as the kernel holds them.
fn words(address: IpAddr) -> Vec<u32> {
    let bytes = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}

impl Run<'_> {
    /// The interface index of a node's interface.
    fn index(&self, node: &str, interface: &str) -> Result<String> {
        let text = self.world.netns(node)?.run("ip", &["-o", "link", "show", "dev", interface])?;
        Ok(text.split(':').next().unwrap_or_default().trim().to_owned())
    }

    /// Attaches programs of one object, each `(hook, section)`, to an interface by clsact. Its filters run after what
    /// hangs at tcx, and after filters of a lower preference.
    fn filters(&self, node: &str, interface: &str, object: &str, hooks: &[(&str, &str)]) -> Result<()> {
        let mut line = format!("mount -t bpf bpf /sys/fs/bpf\ntc qdisc add dev {interface} clsact\n");
        for (hook, section) in hooks {
            line.push_str(&format!(
                "tc filter add dev {interface} {hook} pref 50000 bpf da obj {object} sec {section}\n"
            ));
        }
        // The BPF file system, where programs share their maps, is for these commands alone: not for all to see.
        self.world.netns(node)?.run("unshare", &["--mount", "sh", "-ec", &line]).map(drop)
    }

    /// Redirects what a pod sends past its node's uplink.
    pub(super) fn redirect(&self, pod: &str) -> Result<()> {
        let Some((_, node)) = self.scenario.topology.node_of(pod) else { return lab(format!("`{pod}` is on no node")) };
        let uplink = self.index(&node.name, UPLINK)?;
        let object = self.compile("redirect", include_str!("redirect.c"), &format!("-DUPLINK={uplink}"))?;
        self.filters(&node.name, &veth_name(pod), &object, &[("ingress", "tc")])
    }

    /// Keeps what a pod sends to a port at its node's end of the veth, as no drop that the kernel would tell of.
    pub(super) fn swallow(&self, pod: &str, port: u16) -> Result<()> {
        let Some((_, node)) = self.scenario.topology.node_of(pod) else { return lab(format!("`{pod}` is on no node")) };
        let object = self.compile("swallow", include_str!("swallow.c"), &format!("-DPORT={port}"))?;
        self.filters(&node.name, &veth_name(pod), &object, &[("ingress", "tc")])
    }

    /// Redirects what comes for a pod past the node's end of its veth.
    pub(super) fn redirect_replies(&self, pod: &str) -> Result<()> {
        let Some((_, node)) = self.scenario.topology.node_of(pod) else { return lab(format!("`{pod}` is on no node")) };
        let last = |family| -> Result<u32> {
            let of = words(self.address(pod, family)?);
            of.last().copied().ok_or_else(|| Error::Lab(format!("`{pod}` has no address")))
        };
        let (v4, v6) = (last(Family::V4)?, last(Family::V6)?);
        let veth = self.index(&node.name, &veth_name(pod))?;
        let text = format!("#define POD4 {v4}u\n#define POD6 {v6}u\n{}", include_str!("shortcut.c"));
        let object = self.compile("shortcut", &text, &format!("-DVETH={veth}"))?;
        self.filters(&node.name, UPLINK, &object, &[("ingress", "tc")])
    }

    /// Translates what a node's pods send out to its address, with no connection tracking.
    pub(super) fn translate_by_program(&self, node: &str) -> Result<()> {
        let Some((number, _)) = self.scenario.topology.node_of(node) else { return lab(format!("no node `{node}`")) };
        let v4 = words(node_address(number, Family::V4));
        let v6: Vec<String> = words(node_address(number, Family::V6)).iter().map(|word| format!("{word}u")).collect();
        let v4 = v4.first().copied().unwrap_or_default();
        let text = format!("#define NODE4 {v4}u\n#define NODE6 {}\n{}", v6.join(", "), include_str!("translate.c"));
        let object = self.compile("translate", &text, "-DLAB")?;
        self.filters(node, UPLINK, &object, &[("egress", "tc/out"), ("ingress", "tc/in")])
    }

    /// Hangs a foreign program that lets all pass, and so ends the row, at tcx of all of a node's interfaces.
    pub(super) fn foreign(&mut self, node: &str) -> Result<()> {
        let netns = self.world.netns(node)?;
        let text = netns.run("ip", &["-br", "link"])?;
        let names = text.lines().filter_map(|line| line.split_whitespace().next()?.split('@').next());
        let points: Vec<&str> = names.filter(|name| *name == UPLINK || name.starts_with(VETH)).collect();
        let foreign = Constant::attach(netns.name(), &points, PASS)?;
        self.foreign.push(foreign);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_bytes_in_memory() {
        let v4 = words("10.244.1.11".parse().unwrap());
        assert_eq!(v4[0].to_ne_bytes(), [10, 244, 1, 11]);
        assert_eq!(words("fd00::1".parse().unwrap()).len(), 4);
    }
}
