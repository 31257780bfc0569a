//! All scenarios, in the program itself.

use super::model::{Scenario, Step};
use crate::error::{Error, Result, lab};
use crate::scenario::model::OwnerWant;

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".yaml")))),*]
    };
}

const FILES: &[(&str, &str)] = scenarios![
    "black-hole",
    "bpf-nat",
    "bpf-nat-reuse",
    "bridge",
    "bridge-reuse",
    "client-aborted",
    "conntrack-full",
    "dark-server",
    "dropped-in-node",
    "dropped-postrouting",
    "dropped-prerouting",
    "dropped-unseen",
    "dropped-without-witness",
    "foreign-program",
    "fully-random",
    "guard",
    "guard-known-port",
    "invalid-ack-dropped",
    "invalid-rst-dropped",
    "late-agent",
    "no-timestamps",
    "node-route-blackhole",
    "node-route-none",
    "node-route-prohibit",
    "node-route-unreachable",
    "old-segment",
    "one-tuple-many",
    "one-tuple-two-pods",
    "only-forwards",
    "only-forwards-drop",
    "pod-to-pod",
    "pods-come-and-go",
    "redirected",
    "refused",
    "rejected-icmp",
    "rejected-prohibited",
    "rejected-reset",
    "replies-redirected",
    "reply-dropped",
    "reuse-accepted",
    "reuse-cut-off",
    "reuse-host-processes",
    "reuse-never-closed",
    "reuse-no-timestamps",
    "reuse-other-port",
    "reuse-rst-lost",
    "reuse-same-pod",
    "reuse-suspected",
    "reuse-suspected-reset",
    "reuse-syn-ack",
    "reuse-two-nodes",
    "reuse-window",
    "service",
    "service-hairpin",
    "sidecar",
    "snat-exhausted",
    "snat-exhausted-remembered",
    "snat-race",
    "syn-lost",
    "syn-lost-two-nodes",
    "two-nodes",
    "two-nodes-snat",
    "unexpected-ack",
    "unexpected-ack-before-agent",
    "unexpected-ack-other-tuple",
    "zones",
];

/// Faults of the client's and the server's side, and what TCP does that one seldom sees.
const SIDES: &[(&str, &str)] = scenarios![
    "ephemeral-exhausted",
    "flood",
    "fast-open",
    "fast-open-refused",
    "simultaneous-open",
    "mptcp",
    "ways",
    "patience",
    "refused-ways",
    "accept-queue-full",
    "accept-queue-late",
    "accept-queue-abort",
    "deferred-accept",
    "syn-cookies",
    "syn-unanswered",
    "syn-unanswered-mute",
    "syn-ack-lost-two-nodes",
    "syn-ack-unanswered",
    "syn-backlog-full",
    "handshake-reset-server",
    "handshake-reset-scan",
    "health-check-resets",
    "icmp-host",
    "icmp-network",
    "icmp-prohibited",
    "icmp-prohibited-v6",
    "host-down",
    "local-port-conflict",
    "policy-cgroup",
    "route-blackhole",
    "route-none",
    "route-prohibit",
    "route-unreachable",
];

/// All scenarios, checked, with their impatient twins.
pub fn all() -> Result<Vec<Scenario>> {
    let mut all = Vec::new();
    for (name, text) in FILES.iter().chain(SIDES) {
        let scenario = read(name, text)?;
        let again = scenario.impatient_too.then(|| scenario.clone().impatient());
        all.push(scenario);
        all.extend(again);
    }
    Ok(all)
}

/// Reads a scenario and checks that it makes sense.
pub fn read(name: &str, text: &str) -> Result<Scenario> {
    let mut scenario: Scenario =
        serde_yaml::from_str(text).map_err(|error| Error::Lab(format!("scenario {name}: {error}")))?;
    name.clone_into(&mut scenario.name);
    scenario.topology.check()?;
    let connects: Vec<_> = scenario
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Connect(connect) => Some(connect),
            _ => None,
        })
        .collect();
    let expected = |name: &str| scenario.expect.iter().any(|expect| expect.connect == name);
    for (at, connect) in connects.iter().enumerate() {
        if connects[..at].iter().any(|other| other.name == connect.name) {
            return lab(format!("scenario {name}: two connects are called `{}`", connect.name));
        }
        if connect.result != "ok" && !expected(&connect.name) {
            return lab(format!("scenario {name}: `{}` fails, and no expectation says how", connect.name));
        }
    }
    for expect in &scenario.expect {
        let mut named = vec![&expect.connect];
        if let Some(OwnerWant::Owner(owner)) = &expect.owner {
            named.push(&owner.connect);
        }
        if let Some(missing) = named.into_iter().find(|name| connects.iter().all(|connect| connect.name != **name)) {
            return lab(format!("scenario {name}: it expects something of `{missing}`, which is no connect"));
        }
    }
    if connects.iter().all(|connect| expected(&connect.name)) {
        return lab(format!("scenario {name}: no connect of it is a healthy control"));
    }
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_read_and_has_a_control() {
        for scenario in all().unwrap() {
            assert!(!scenario.about.is_empty() && !scenario.families.is_empty(), "{}", scenario.name);
        }
    }

    #[test]
    fn the_impatient_twin_closes_by_itself() {
        let all = all().unwrap();
        let twin = all.iter().find(|scenario| scenario.name == "black-hole-app").unwrap();
        let dead = twin.steps.iter().find_map(|step| match step {
            Step::Connect(connect) if connect.name == "dead" => Some(connect),
            _ => None,
        });
        assert_eq!(dead.map(|dead| (dead.timeout, dead.result.as_str())), Some((Some(3000), "timeout")));
        assert!(twin.expect[0].outcome.met(Some("aborted")) && !twin.expect[0].outcome.met(Some("timed_out")));
    }

    #[test]
    fn a_failing_connect_needs_an_expectation() {
        let text = "about: x\ntopology: {nodes: [{name: n, pods: [a]}]}\nsteps:\n- connect: {as: c, from: a, port: 1, result: ETIMEDOUT}\n";
        let error = read("x", text).unwrap_err().to_string();
        assert!(error.contains("no expectation"), "{error}");
    }
}
