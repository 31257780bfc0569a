//! The node itself: its network's identity, and what holds for every resource of this node.

use std::sync::Arc;

use super::Identity;
use crate::names::attribute::{HOST_NAME, K8S_NODE_NAME, SERVICE_NAME};
use crate::names::service::{NODE_NETWORK, UNKNOWN_SERVICE};

/// This node, and the attributes that every resource carries.
#[derive(Clone, Debug)]
pub struct Node {
    name: Arc<str>,
    kubernetes: bool,
    common: Vec<(Arc<str>, Arc<str>)>,
}

impl Node {
    /// `name` is the node's name, `kubernetes` says whether it is one of a cluster, and
    /// `resource_attributes` are the pairs of `OTEL_RESOURCE_ATTRIBUTES`: environment, cluster, cloud.
    /// Pairs that say whose telemetry it is (see [`says_whose`]) are left out, since they would
    /// overrule what is found out about each workload.
    pub fn new(name: &str, kubernetes: bool, resource_attributes: &[(String, String)]) -> Self {
        let common = resource_attributes
            .iter()
            .filter(|(key, _)| !says_whose(key))
            .map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str())))
            .collect();
        Self { name: Arc::from(name), kubernetes, common }
    }

    /// The node's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The identity of the node's network.
    pub fn network(&self) -> Identity {
        self.here([(SERVICE_NAME, NODE_NETWORK)])
    }

    /// The identity of a client or server of this node that nothing knows.
    pub fn unknown(&self) -> Identity {
        self.here([(SERVICE_NAME, UNKNOWN_SERVICE)])
    }

    /// An identity of something on this node: `own` attributes, the node's name, what is common.
    pub fn here<'a>(&'a self, own: impl IntoIterator<Item = (&'a str, &'a str)>) -> Identity {
        let node = self.kubernetes.then_some((K8S_NODE_NAME, &*self.name));
        let place = [(HOST_NAME, &*self.name)].into_iter().chain(node);
        Identity::new(self.common().chain(place).chain(own))
    }

    /// An identity of something that may be anywhere: `own` attributes and what is common.
    pub fn anywhere<'a>(&'a self, own: impl IntoIterator<Item = (&'a str, &'a str)>) -> Identity {
        Identity::new(self.common().chain(own))
    }

    fn common(&self) -> impl Iterator<Item = (&str, &str)> {
        self.common.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// Whether a resource attribute says whose telemetry it is (a service, pod, container or process), and
/// so cannot hold for every resource.
pub fn says_whose(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["service.", "container.", "process.", "k8s.", "telemetry."];
    const PLACES: [&str; 2] = ["k8s.cluster.", "k8s.node."];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !PLACES.iter().any(|place| name.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn the_network_has_the_nodes_name_and_what_is_common() {
        let given = pairs(&[("deployment.environment.name", "prod"), ("k8s.cluster.name", "blue")]);
        let network = Node::new("node-1", true, &given).network();
        assert_eq!(network.get(SERVICE_NAME), Some("node-network"));
        assert_eq!(network.get(K8S_NODE_NAME), Some("node-1"));
        assert_eq!(network.get(HOST_NAME), Some("node-1"));
        assert_eq!(network.get("deployment.environment.name"), Some("prod"));
        assert_eq!(network.get("k8s.cluster.name"), Some("blue"));
    }

    #[test]
    fn outside_kubernetes_there_is_no_kubernetes_node() {
        assert_eq!(Node::new("host", false, &[]).network().get(K8S_NODE_NAME), None);
    }

    #[test]
    fn common_attributes_never_say_whose_it_is() {
        let given = pairs(&[("service.name", "synspan"), ("k8s.pod.name", "synspan-x"), ("process.pid", "7")]);
        let unknown = Node::new("host", false, &given).unknown();
        assert_eq!(unknown, Identity::new([(SERVICE_NAME, UNKNOWN_SERVICE), (HOST_NAME, "host")]));
    }
}
