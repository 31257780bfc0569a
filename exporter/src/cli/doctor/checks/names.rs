//! Names of pods, and the agent that runs: what is lost where something is missing, in the words of the agent's log.

use super::{Checks, Group, Status};
use crate::cli::doctor::names::{Agent, Api, Names};
use crate::health::page::one_line;
use crate::health::status::{Exporter, Status as AgentStatus, for_people, span};
use crate::identify::rights::{Answers, NodeObject, Right};

/// Where k8s/base has the rights.
const ROLE: &str = "in the agent's ClusterRole, as k8s/base has it";
/// What goes with the pods.
const NAMES: &str = "names of pods";

/// What follows for `synspan run`.
#[derive(Default)]
pub struct Effect {
    /// Why it would not start.
    pub fault: Option<String>,
    /// What would be off.
    pub lowered: Vec<String>,
}

/// The checks of names and of the agent.
pub fn check(names: &Names, checks: &mut Checks) -> Effect {
    checks.group = Group::Names;
    let effect = api(&names.api, checks);
    checks.group = Group::Agent;
    agent(&names.agent, checks);
    effect
}

fn api(api: &Api, checks: &mut Checks) -> Effect {
    const SERVER: &str = "Kubernetes API server";
    let off = || Effect { lowered: vec![NAMES.to_owned()], ..Effect::default() };
    match api {
        Api::NotAsked(why) => {
            checks.ok("Kubernetes", format!("not asked: {why}"));
            Effect::default()
        }
        Api::Unusable(why) => {
            let lost = "the agent does not start: it is to ask, and cannot";
            checks.add(
                Status::Missing,
                "Kubernetes",
                why.as_str(),
                lost,
                "what it names, or kubernetes.enabled: false",
            );
            Effect { fault: Some(format!("it would refuse to start: {why}")), ..Effect::default() }
        }
        Api::Asked { server, answers: Err(why), .. } => {
            let lost = "names of pods: capture goes on, and it is asked again until it answers";
            let fix =
                "the address and the credentials that kubectl would use, and no firewall or network policy between";
            checks.add(Status::Missing, SERVER, format!("{server} does not answer: {why}"), lost, fix);
            off()
        }
        Api::Asked { server, node, answers: Ok(answers) } => {
            checks.ok(SERVER, format!("{server} answers"));
            node_object(node, &answers.node, checks);
            for (right, there) in &answers.rights {
                self::right(*right, there, checks);
            }
            if blind(answers) { off() } else { Effect::default() }
        }
    }
}

/// Whether no pod would have a name.
fn blind(answers: &Answers) -> bool {
    let pods = |right: &Right| matches!(right, Right::ListPods | Right::WatchPods);
    answers.node == NodeObject::Absent || answers.rights.iter().any(|(right, there)| pods(right) && *there == Ok(false))
}

fn node_object(node: &str, found: &NodeObject, checks: &mut Checks) {
    let name = "identity.node_name";
    match found {
        NodeObject::There => checks.ok(name, format!("{node}: a node of that name is there")),
        NodeObject::Absent => checks.add(
            Status::Missing,
            name,
            format!("there is no node {node}"),
            "names of all pods: those of a node that does not exist are asked for",
            "set identity.node_name as `kubectl get nodes` has it; in a pod ${env:NODE_NAME}, from spec.nodeName by the \
             downward API",
        ),
        NodeObject::Untold(why) => checks.add(
            Status::Warn,
            name,
            format!("{node}: the API server does not tell ({why})"),
            "it is not known whether that name is right; with a wrong one no pod has a name",
            "compare it with `kubectl get nodes`",
        ),
    }
}

fn right(right: Right, there: &Result<bool, String>, checks: &mut Checks) {
    let (verb, group, resource, object) = right.asks("");
    let of = object.filter(|name| !name.is_empty()).map(|name| format!(" {name}")).unwrap_or_default();
    let name = format!("right to {verb} {resource}{of}");
    let (status, lost) = match right {
        Right::ListPods | Right::WatchPods => (Status::Missing, "names of pods: none is known"),
        Right::GetNode => (Status::Missing, "the node's uid, zone and region are not told"),
        Right::GetKubeSystem => (Status::Missing, "k8s.cluster.uid is not told"),
        Right::GetReplicaSets => (
            Status::Missing,
            "pods of a ReplicaSet whose name is not its Deployment's and a hash are named by the ReplicaSet",
        ),
        Right::ListNodes => (Status::Warn, "other nodes' pod ranges: only tracking.covered tells where synspan runs"),
    };
    match there {
        Ok(true) => checks.ok(&name, "there"),
        Ok(false) => {
            let fix = format!("apiGroups: [\"{group}\"], resources: [{resource}], verbs: [{verb}] {ROLE}");
            checks.add(status, &name, "not granted", lost, &fix);
        }
        Err(why) => {
            let fix = "the right to create selfsubjectaccessreviews, which system:basic-user gives to all";
            checks.add(Status::Warn, &name, format!("could not be found out: {why}"), lost, fix);
        }
    }
}

fn agent(agent: &Agent, checks: &mut Checks) {
    match agent {
        Agent::None(why) => checks.ok("agent", format!("none was asked: {why}")),
        Agent::Silent(why) => {
            let lost = "how it stands";
            checks.add(Status::Warn, "agent", why.as_str(), lost, "see its log, and restart it");
        }
        Agent::Says(status) => says(status, checks),
    }
}

fn says(status: &AgentStatus, checks: &mut Checks) {
    let since = for_people(&status.started);
    let found = format!("{}, process {}, since {since}", status.version, status.pid);
    match [&status.live, &status.ready].into_iter().find(|verdict| !verdict.ok) {
        None => checks.ok("agent", format!("{found}: {}", status.ready.says)),
        Some(verdict) => {
            let found = format!("{found}: {}", verdict.says);
            checks.add(Status::Warn, "agent", found, "what it sees and tells is not sure", "see `synspan status`");
        }
    }
    if let Some(kubernetes) = &status.names.kubernetes {
        let age = match &kubernetes.last_contact {
            Some(contact) => format!("heard {} ago", span(contact.ago_s)),
            None => "never heard".to_owned(),
        };
        match &kubernetes.away {
            None => checks.ok("its names", format!("the API server was {age}")),
            Some(away) => checks.add(
                Status::Warn,
                "its names",
                format!(
                    "the API server has told nothing since {}, {age}: {}",
                    for_people(&away.since),
                    one_line(&away.why)
                ),
                "names of pods that came since; what is known stays known, and gets older",
                "what it says; see the checks above",
            ),
        }
    }
    status.exporters.iter().for_each(|exporter| self::exporter(exporter, checks));
}

fn exporter(exporter: &Exporter, checks: &mut Checks) {
    let name = format!("its exporter {} ({})", exporter.exporter, exporter.signal);
    let dropped: u64 = exporter.dropped.iter().map(|dropped| dropped.records).sum();
    let counts = format!("{} sent, {} wait, {dropped} dropped", exporter.sent, exporter.queued);
    match (&exporter.failing_since, &exporter.last_failure) {
        (Some(since), last) => {
            let why = last.as_ref().map(|failed| one_line(&failed.why)).unwrap_or_default();
            let found = format!("fails since {}: {why}", for_people(since));
            let lost = format!("the backend has not what was seen: {counts}");
            checks.add(Status::Warn, &name, found, &lost, "`synspan check FILE --send` tries each exporter");
        }
        (None, _) => checks.ok(&name, counts),
    }
}
