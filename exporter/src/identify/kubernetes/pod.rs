//! A pod as it is kept: what names it, and nothing else of what the API said.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::api::{self, RESOURCE_ANNOTATION, map};
use super::owner::{self, Owner};
use super::{declared, text};
use crate::names::attribute::{
    CONTAINER_ID, K8S_CONTAINER_NAME, K8S_NAMESPACE_NAME, K8S_POD_NAME, K8S_POD_UID, SERVICE_NAME, SERVICE_NAMESPACE,
};

/// Most attributes taken from one pod's annotations.
const MAX_ANNOTATIONS: usize = 32;
/// Most addresses taken of one pod: one of each family, and room for what is to come.
const MAX_ADDRESSES: usize = 8;

/// How names are chosen; all by the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The containers' own literal `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come first.
    pub pod_env: bool,
    /// The labels `app.kubernetes.io/instance` and `app.kubernetes.io/name` come before the owner's name.
    pub label_names: bool,
}

/// A pod.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Pod {
    /// Its uid in the API.
    pub uid: Arc<str>,
    /// The uid in its cgroup's path, where that is another: a static pod's, of which the API has a mirror.
    pub cgroup_uid: Option<Arc<str>>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// The node that it is on.
    pub node: Arc<str>,
    /// It has the node's own network: its address says nothing of it.
    pub host_network: bool,
    /// Succeeded or failed: it runs no more, and holds no address.
    pub finished: bool,
    /// When its deletion was asked for, in seconds of Unix time by the API server's clock: another may have its address
    /// at any time from then on.
    pub terminating: Option<i64>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// When the kubelet took it, in seconds of Unix time by its node's clock: before it had an address.
    pub started: Option<i64>,
    /// When it surely had its address, by the same clock: a container ran, or was about to.
    pub networked: Option<i64>,
    /// The object's version, which rises with each change.
    pub version: u64,
    /// What the labels and annotations say: attributes in rising precedence, `service.name` among them if they do.
    said: Vec<(Arc<str>, Arc<str>)>,
    owner: Owner,
    containers: Vec<Container>,
}

/// One of its containers.
#[derive(Clone, PartialEq, Debug)]
struct Container {
    name: Arc<str>,
    id: Option<Arc<str>>,
    declared: Vec<(String, String)>,
}

impl Pod {
    /// Prunes what the API said. None where it has no uid or name, which no API server sends.
    pub fn new(pod: &api::Pod, rules: Rules) -> Option<Self> {
        let meta = &pod.metadata;
        let annotations = map(meta.annotations.as_ref());
        let (spec, status) = (&pod.spec, &pod.status);
        let finished = matches!(&*status.phase, "Succeeded" | "Failed");
        let mut addresses: Vec<IpAddr> = Vec::new();
        if !spec.host_network {
            let all = status.pod_ips.iter().map(|address| &*address.ip).chain(status.pod_ip.as_deref());
            for address in all.filter_map(|text| text.parse::<IpAddr>().ok()).take(MAX_ADDRESSES) {
                if !addresses.contains(&address.to_canonical()) {
                    addresses.push(address.to_canonical());
                }
            }
        }
        Some(Self {
            uid: meta.uid.as_deref().filter(|uid| !uid.is_empty())?.into(),
            cgroup_uid: annotations.get("kubernetes.io/config.mirror").map(|hash| hash.as_str().into()),
            namespace: text::value(meta.namespace.as_deref().unwrap_or_default()).into(),
            name: text::value(meta.name.as_deref().filter(|name| !name.is_empty())?).into(),
            node: spec.node_name.as_deref().unwrap_or_default().into(),
            host_network: spec.host_network,
            finished,
            terminating: deletion_asked(meta),
            addresses,
            started: status.start_time.as_ref().map(|time| time.0.as_second()),
            networked: networked(status),
            version: meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0),
            said: said(pod, rules),
            owner: owner::of(meta),
            containers: containers(pod, rules),
        })
    }

    /// The ReplicaSet that must be asked for its owner.
    pub fn asks_for(&self) -> Option<&str> {
        self.owner.ask.as_deref()
    }

    /// That ReplicaSet's owner, when it has been asked.
    pub fn owned_by(&mut self, deployment: Option<&str>) {
        if self.owner.ask.take().is_some() {
            self.owner.chain.extend(deployment.map(|name| ("deployment", name.to_owned())));
        }
    }

    /// The Deployment it belongs to.
    pub fn deployment(&self) -> Option<&str> {
        self.owner.chain.iter().find(|(kind, _)| *kind == "deployment").map(|(_, name)| name.as_str())
    }

    /// Whether a container of that id is known.
    pub fn has_container(&self, id: &str) -> bool {
        self.containers.iter().any(|container| container.id.as_deref() == Some(id))
    }

    /// The attributes of the pod, or of one of its containers where the id is known: in rising precedence.
    pub fn attributes(&self, container_id: Option<&str>) -> Vec<(Arc<str>, Arc<str>)> {
        let mut found: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        let mut put = |name: &str, value: &str| found.push((name.into(), value.into()));
        let container = container_id.and_then(|id| self.containers.iter().find(|c| c.id.as_deref() == Some(id)));
        put(SERVICE_NAMESPACE, &self.namespace);
        put(SERVICE_NAME, self.owner.chain.last().map_or(&*self.name, |(_, name)| name));
        for (name, value) in &self.said {
            put(name, value);
        }
        match container {
            Some(container) => container.declared.iter().for_each(|(name, value)| put(name, value)),
            // Which of them it is is not known: what all of them say holds.
            None => self.declared_by_all().iter().for_each(|(name, value)| put(name, value)),
        }
        // What the API knows better than any annotation.
        put(K8S_NAMESPACE_NAME, &self.namespace);
        put(K8S_POD_NAME, &self.name);
        put(K8S_POD_UID, &self.uid);
        for (kind, name) in &self.owner.chain {
            put(&format!("k8s.{kind}.name"), &text::value(name));
        }
        if let Some(container) = container {
            put(K8S_CONTAINER_NAME, &container.name);
        }
        if let Some(id) = container_id {
            put(CONTAINER_ID, id);
        }
        found
    }

    /// What every container of it declares alike; init containers are left out, since they are gone by the time
    /// that others run.
    fn declared_by_all(&self) -> Vec<(String, String)> {
        let mut all = self.containers.iter().map(|container| &container.declared);
        let first = all.next().cloned().unwrap_or_default();
        if all.all(|declared| *declared == first) { first } else { Vec::new() }
    }

    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        let said: usize = self.said.iter().map(|(name, value)| name.len() + value.len() + 96).sum();
        let containers: usize = self.containers.iter().map(|c| 160 + c.declared.len() * 128).sum();
        size_of::<Self>() + said + containers + 64 * self.owner.chain.len() + 256
    }
}

/// When an object's deletion was asked for, in seconds of Unix time: `deletionTimestamp` is when it is to be complete
/// (`staging/src/k8s.io/apiserver/pkg/registry/rest/delete.go`, `BeforeDelete`).
pub fn deletion_asked(meta: &ObjectMeta) -> Option<i64> {
    let complete = meta.deletion_timestamp.as_ref()?.0.as_second();
    Some(complete.saturating_sub(meta.deletion_grace_period_seconds.unwrap_or(0).max(0)))
}

/// When a pod's network was there at the latest, in seconds of Unix time: its sandbox was ready, or a container was
/// started in it. Times in the API are cut to the second, so it is the one after.
fn networked(status: &api::PodStatus) -> Option<i64> {
    let ready =
        |condition: &&api::PodCondition| condition.kind == "PodReadyToStartContainers" && condition.status == "True";
    let sandbox =
        status.conditions.iter().filter(ready).filter_map(|condition| condition.last_transition_time.as_ref());
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    let states = containers.flat_map(|container| [&container.state.running, &container.state.terminated]);
    let started = states.flatten().filter_map(|state| state.started_at.as_ref());
    sandbox.chain(started).map(|time| time.0.as_second().saturating_add(1)).min()
}

/// What labels and annotations say, in rising precedence.
fn said(pod: &api::Pod, rules: Rules) -> Vec<(Arc<str>, Arc<str>)> {
    let (labels, annotations) = (map(pod.metadata.labels.as_ref()), map(pod.metadata.annotations.as_ref()));
    let mut said: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    if rules.label_names {
        let label =
            ["app.kubernetes.io/instance", "app.kubernetes.io/name"].into_iter().find_map(|name| labels.get(name));
        said.extend(label.filter(|name| !name.is_empty()).map(|name| (SERVICE_NAME.into(), text::value(name).into())));
    }
    said.extend(
        annotations
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(RESOURCE_ANNOTATION)?, value)))
            .filter(|(name, value)| text::is_name(name) && !value.is_empty() && is_open(name))
            .take(MAX_ANNOTATIONS)
            .map(|(name, value)| (name.into(), text::value(value).into())),
    );
    said
}

/// Whether a pod's author may say it: not where it runs, which the API knows, and not its instance, since a second
/// writer of the application's own series would break them.
fn is_open(name: &str) -> bool {
    !(name.starts_with("k8s.")
        || name.starts_with("container.")
        || name.starts_with("host.")
        || name == "service.instance.id")
}

fn containers(pod: &api::Pod, rules: Rules) -> Vec<Container> {
    let (spec, status) = (&pod.spec, &pod.status);
    let declared = |container: &api::Container| {
        let variable = |name| container.env.iter().rev().find(|v| v.name == name).and_then(|v| v.value.as_deref());
        let mut pairs = declared::attributes(variable("OTEL_SERVICE_NAME"), variable("OTEL_RESOURCE_ATTRIBUTES"));
        pairs.retain(|(name, _)| is_open(name));
        pairs
    };
    // Names are one among the regular and the init containers together; where a broken object has one twice, the
    // regular container holds.
    let mut specs: BTreeMap<&str, &api::Container> = BTreeMap::new();
    for container in spec.init_containers.iter().chain(&spec.containers) {
        specs.insert(&container.name, container);
    }
    let known = |name: &str| {
        let of = specs.get(name).filter(|_| rules.pod_env);
        of.map_or_else(Vec::new, |container| declared(container))
    };
    let mut found: Vec<Container> = Vec::new();
    let regular = spec.containers.iter().map(|container| &*container.name);
    for name in regular {
        let id = status.container_statuses.iter().find(|s| s.name == name).and_then(id);
        found.push(Container { name: text::value(name).into(), id, declared: known(name) });
    }
    // Init containers, sidecars among them, and ephemeral ones are known by their ids alone.
    for status in status.init_container_statuses.iter().chain(&status.ephemeral_container_statuses) {
        if let Some(id) = id(status) {
            let declared = if pod.spec.containers.iter().any(|c| c.name == status.name) {
                Vec::new()
            } else {
                known(&status.name)
            };
            found.push(Container { name: text::value(&status.name).into(), id: Some(id), declared });
        }
    }
    found
}

/// `containerd://ID`, `cri-o://ID`, `docker://ID` to the id.
fn id(status: &api::ContainerStatus) -> Option<Arc<str>> {
    let id = status.container_id.as_deref()?;
    let id = id.rsplit_once("://").map_or(id, |(_, id)| id);
    (!id.is_empty() && id.len() <= 128).then(|| id.into())
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
