//! What the API says of the node and the cluster, which every resource of this node carries.

use std::time::Duration;

use ipnet::IpNet;
use kube::{Api, Client};

use super::api::{self, map};
use super::client::chain;
use super::text;
use crate::identify::late::LateFacts;
use crate::names::attribute::{CLOUD_AVAILABILITY_ZONE, CLOUD_REGION, K8S_CLUSTER_NAME, K8S_CLUSTER_UID, K8S_NODE_UID};

/// How long to wait before asking again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is known of the node.
#[derive(Clone, Default, Debug)]
pub struct OfNode {
    /// Attributes: uid, zone, region.
    pub attributes: Vec<(&'static str, String)>,
    /// The ranges that its pods have addresses from.
    pub pod_ranges: Vec<IpNet>,
    /// These, and its own addresses.
    pub prefixes: Vec<IpNet>,
}

/// The ranges that a node's pods have addresses from, each once.
pub fn pod_ranges(node: &api::Node) -> impl Iterator<Item = IpNet> + use<'_> {
    let (all, first) = (&node.spec.pod_cidrs, node.spec.pod_cidr.as_ref());
    all.iter().chain(first.filter(|first| !all.contains(first))).filter_map(|range| range.parse().ok())
}

/// Reads what is used of a node.
pub fn of_node(node: &api::Node) -> OfNode {
    let labels = map(node.metadata.labels.as_ref());
    let of =
        |name: &'static str, value: Option<&str>| Some((name, text::value(value.filter(|value| !value.is_empty())?)));
    let label = |label: &str| labels.get(label).map(String::as_str);
    let attributes = [
        of(K8S_NODE_UID, node.metadata.uid.as_deref()),
        of(CLOUD_REGION, label("topology.kubernetes.io/region")),
        of(CLOUD_AVAILABILITY_ZONE, label("topology.kubernetes.io/zone")),
    ];
    OfNode {
        attributes: attributes.into_iter().flatten().collect(),
        pod_ranges: pod_ranges(node).collect(),
        prefixes: super::nodes::prefixes(node),
    }
}

/// Asks for the node and the cluster until both are known or refused, and tells `late`; the node is returned.
pub async fn learn(client: &Client, node: &str, cluster_name: Option<&str>, late: &LateFacts) -> OfNode {
    let mut attributes: Vec<(&'static str, String)> = Vec::new();
    attributes.extend(cluster_name.map(|name| (K8S_CLUSTER_NAME, name.to_owned())));
    let nodes: Api<api::Node> = Api::all(client.clone());
    let found = ask("this node", "its uid, zone and region are not told", || nodes.get(node)).await;
    let of_node = found.as_ref().map(of_node).unwrap_or_default();
    attributes.extend(of_node.attributes.iter().cloned());
    late.set(attributes.iter().map(|(name, value)| (*name, &**value)));
    let namespaces: Api<api::Namespace> = Api::all(client.clone());
    let system =
        ask("the namespace kube-system", "k8s.cluster.uid is not told", || namespaces.get_metadata("kube-system"))
            .await;
    if let Some(uid) = system.and_then(|system| system.metadata.uid) {
        attributes.push((K8S_CLUSTER_UID, text::value(&uid)));
        late.set(attributes.iter().map(|(name, value)| (*name, &**value)));
    }
    of_node
}

/// Asks until there is an answer or a refusal, which is said in one line.
async fn ask<T, F>(what: &str, lost: &str, mut question: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let mut wait = AGAIN.0;
    loop {
        match question().await {
            Ok(answer) => return Some(answer),
            Err(kube::Error::Api(refused)) if matches!(refused.code, 403 | 404) => {
                tracing::warn!("the API server does not tell of {what} ({}): {lost}", text::value(&refused.message));
                return None;
            }
            Err(error) => tracing::debug!("asking for {what}: {}", chain(&error)),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN.1);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_gives_its_uid_place_and_ranges() {
        let node: api::Node = serde_json::from_value(json!({
            "metadata": {"name": "node-a", "uid": "n-1", "labels": {"topology.kubernetes.io/region": "eu-1", "topology.kubernetes.io/zone": "eu-1b"}},
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64", "nonsense"]},
        }))
        .expect("node");
        let known = of_node(&node);
        assert_eq!(known.attributes.len(), 3);
        assert_eq!(known.attributes[2], ("cloud.availability_zone", "eu-1b".to_owned()));
        assert!(known.pod_ranges.contains(&"fd00:10:244:1::/64".parse().expect("range")));
        let bare: api::Node = serde_json::from_value(json!({"metadata": {}})).expect("node");
        assert!(of_node(&bare).attributes.is_empty());
    }
}
