//! The resource of a workload's metrics: who it is, with one writer and no more.
//!
//! Two writers of one series break a Prometheus, so a resource of metrics is told by its service and an instance id that
//! is this agent's to use and never the application's own: a pod's uid, a host and a unit, a node's name.

use std::sync::Arc;

use crate::identify::Identity;
use crate::names::{attribute, service};

/// What tells two resources of metrics apart.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WorkloadKey {
    namespace: Option<Arc<str>>,
    name: Arc<str>,
    instance: Arc<str>,
}

/// Facts of one container, or of one process: a pod's metrics are those of all of them.
const NOT_OF_ALL: [&str; 4] = [
    attribute::K8S_CONTAINER_NAME,
    attribute::CONTAINER_ID,
    attribute::PROCESS_EXECUTABLE_NAME,
    "k8s.container.restart_count",
];

/// The key and the resource of an identity's metrics, on the node of that name.
pub fn of(identity: &Identity, node: &str) -> (WorkloadKey, Identity) {
    let name = identity.get(attribute::SERVICE_NAME).unwrap_or(service::UNKNOWN_SERVICE);
    let instance: Arc<str> = match (identity.get(attribute::K8S_POD_UID), identity.get(attribute::K8S_POD_NAME)) {
        (Some(uid), _) => uid.into(),
        // One that the static list names: as unique as its name on its node.
        (None, Some(pod)) => format!("{node}/{pod}").into(),
        (None, None) if name == service::NODE_NETWORK || name == service::UNKNOWN_SERVICE => node.into(),
        (None, None) => format!("{node}/{name}").into(),
    };
    let key = WorkloadKey {
        namespace: identity.get(attribute::SERVICE_NAMESPACE).map(Arc::from),
        name: name.into(),
        instance: instance.clone(),
    };
    let kept = identity.attributes.iter().filter(|(name, _)| {
        !NOT_OF_ALL.contains(&&**name) && !name.starts_with("container.") && !name.starts_with("process.")
    });
    let own = (Arc::from(attribute::SERVICE_INSTANCE_ID), instance);
    // Of a name given twice the last holds: an instance id of the application's own is not ours to use.
    (key, Identity::new(kept.cloned().chain([own])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(pairs: &[(&'static str, &'static str)]) -> Identity {
        Identity::new(pairs.iter().copied())
    }

    fn instance(pairs: &[(&'static str, &'static str)]) -> String {
        of(&identity(pairs), "node-1").1.get(attribute::SERVICE_INSTANCE_ID).unwrap_or_default().to_owned()
    }

    #[test]
    fn two_containers_of_a_pod_are_one_resource_and_the_applications_instance_is_not_used() {
        let pod = [("service.name", "cart"), ("k8s.pod.uid", "u-1"), ("k8s.pod.name", "cart-1")];
        let of_container = |name: &'static str| {
            let own =
                [("k8s.container.name", name), ("container.id", name), ("service.instance.id", "shop.cart-1.app")];
            of(&Identity::new(pod.into_iter().chain(own)), "node-1")
        };
        let (one, other) = (of_container("app"), of_container("proxy"));
        assert_eq!(one, other);
        assert_eq!(one.1.get("service.instance.id"), Some("u-1"));
        assert_eq!(one.1.get("container.id"), None);
    }

    #[test]
    fn each_kind_has_an_instance_of_its_own() {
        assert_eq!(instance(&[("service.name", "sshd.service"), ("host.name", "node-1")]), "node-1/sshd.service");
        assert_eq!(instance(&[("service.name", "node-network"), ("host.name", "node-1")]), "node-1");
        assert_eq!(instance(&[("service.name", "cart"), ("k8s.pod.name", "cart-7d")]), "node-1/cart-7d");
        assert_eq!(instance(&[]), "node-1");
    }
}
