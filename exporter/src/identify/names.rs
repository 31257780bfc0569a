//! Names of resource attributes (OpenTelemetry semantic conventions 1.44).

/// Logical name of the service.
pub const SERVICE_NAME: &str = "service.name";
/// Namespace of [`SERVICE_NAME`].
pub const SERVICE_NAMESPACE: &str = "service.namespace";
/// The node's name in Kubernetes.
pub const K8S_NODE_NAME: &str = "k8s.node.name";
/// Kubernetes namespace.
pub const K8S_NAMESPACE_NAME: &str = "k8s.namespace.name";
/// Name of the pod.
pub const K8S_POD_NAME: &str = "k8s.pod.name";
/// Uid of the pod in the API.
pub const K8S_POD_UID: &str = "k8s.pod.uid";
/// Name of the container in its pod's specification.
pub const K8S_CONTAINER_NAME: &str = "k8s.container.name";
/// Id of the container, as its runtime made it.
pub const CONTAINER_ID: &str = "container.id";
/// Uid of the node in the API.
pub const K8S_NODE_UID: &str = "k8s.node.uid";
/// Name of the cluster: no API tells it, so it is configured.
pub const K8S_CLUSTER_NAME: &str = "k8s.cluster.name";
/// Uid of the cluster: that of the namespace kube-system.
pub const K8S_CLUSTER_UID: &str = "k8s.cluster.uid";
/// Region of the cloud.
pub const CLOUD_REGION: &str = "cloud.region";
/// Zone within the region.
pub const CLOUD_AVAILABILITY_ZONE: &str = "cloud.availability_zone";
/// Name of a Service.
pub const K8S_SERVICE_NAME: &str = "k8s.service.name";
/// Name of the host.
pub const HOST_NAME: &str = "host.name";
/// File name of the process's executable.
pub const PROCESS_EXECUTABLE_NAME: &str = "process.executable.name";

/// [`SERVICE_NAME`] of a node's network: what happens between a pod's interface and the node's.
pub const NODE_NETWORK: &str = "node-network";
/// [`SERVICE_NAME`] of a workload that nothing knows: the conventions' default. Its address is a span
/// attribute and never part of the name.
pub const UNKNOWN_SERVICE: &str = "unknown_service";
