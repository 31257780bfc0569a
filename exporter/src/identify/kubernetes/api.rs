//! The parts of the API's objects that are read. All else is skipped while an answer is parsed, and never stored.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Serialize};

/// A pod (`v1/Pod`).
#[derive(Clone, Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct Pod {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: PodSpec,
    #[serde(default)]
    pub status: PodStatus,
}

/// `PodSpec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct PodSpec {
    pub node_name: Option<String>,
    pub host_network: bool,
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<Container>,
    #[serde(deserialize_with = "or_default")]
    pub init_containers: Vec<Container>,
}

/// `Container`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct Container {
    pub name: String,
    #[serde(deserialize_with = "telling")]
    pub env: Vec<Variable>,
}

/// `EnvVar`; one with `valueFrom` has no value here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct Variable {
    pub name: String,
    pub value: Option<String>,
}

/// `PodStatus`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct PodStatus {
    pub phase: String,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    #[serde(rename = "podIPs", deserialize_with = "or_default")]
    pub pod_ips: Vec<PodIp>,
    pub start_time: Option<Time>,
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<PodCondition>,
    #[serde(deserialize_with = "or_default")]
    pub container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    pub init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// `PodIP`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct PodIp {
    pub ip: String,
}

/// `PodCondition`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct PodCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub last_transition_time: Option<Time>,
}

/// `ContainerStatus`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct ContainerStatus {
    pub name: String,
    #[serde(rename = "containerID")]
    pub container_id: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub state: ContainerState,
}

/// `ContainerState`: one of these at most.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct ContainerState {
    pub running: Option<Started>,
    pub terminated: Option<Started>,
}

/// `ContainerStateRunning`, `ContainerStateTerminated`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct Started {
    pub started_at: Option<Time>,
}

/// A node (`v1/Node`).
#[derive(Clone, Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct Node {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: NodeSpec,
    #[serde(default)]
    pub status: NodeStatus,
}

/// `NodeSpec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", deserialize_with = "or_default")]
    pub pod_cidrs: Vec<String>,
}

/// `NodeStatus`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct NodeStatus {
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<NodeAddress>,
}

/// `NodeAddress`: a `type` of `InternalIP` or `ExternalIP` has an address, the others a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct NodeAddress {
    #[serde(rename = "type")]
    pub kind: String,
    pub address: String,
}

/// A service (`v1/Service`).
#[derive(Clone, Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct Service {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: ServiceSpec,
}

/// `ServiceSpec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    pub cluster_ips: Vec<String>,
}

/// An endpoint slice (`discovery.k8s.io/v1/EndpointSlice`).
#[derive(Clone, Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct EndpointSlice {
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint>,
}

/// `Endpoint`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct Endpoint {
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
}

/// An object of which only the metadata is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct ReplicaSet {
    pub metadata: ObjectMeta,
}

/// A namespace (`v1/Namespace`), of which only the metadata is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the API's own reference")]
pub struct Namespace {
    pub metadata: ObjectMeta,
}

/// `null` and a key that is not there are the same to the API.
fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Of a container's environment only what says who it is: the rest is none of our business, and is not kept.
fn telling<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Variable>, D::Error> {
    let all: Vec<Variable> = or_default(from)?;
    let wanted = |variable: &Variable| matches!(&*variable.name, "OTEL_SERVICE_NAME" | "OTEL_RESOURCE_ATTRIBUTES");
    Ok(all.into_iter().filter(wanted).collect())
}

/// What kube needs to know of a kind.
macro_rules! resource {
    ($type:ty, $kind:literal, $group:literal, $plural:literal, $scope:ty) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Pod, "Pod", "", "pods", kube::core::NamespaceResourceScope);
resource!(Node, "Node", "", "nodes", kube::core::ClusterResourceScope);
resource!(Namespace, "Namespace", "", "namespaces", kube::core::ClusterResourceScope);
resource!(Service, "Service", "", "services", kube::core::NamespaceResourceScope);
resource!(EndpointSlice, "EndpointSlice", "discovery.k8s.io", "endpointslices", kube::core::NamespaceResourceScope);
resource!(ReplicaSet, "ReplicaSet", "apps", "replicasets", kube::core::NamespaceResourceScope);

/// The annotations that become attributes (OpenTelemetry semantic conventions, "Kubernetes attributes").
pub const RESOURCE_ANNOTATION: &str = "resource.opentelemetry.io/";

/// Labels or annotations, empty where the object has none.
pub fn map(of: Option<&BTreeMap<String, String>>) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    of.unwrap_or(&NONE)
}
