//! The cluster's nodes: the addresses that are theirs and their pods', since an agent runs on each.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use kube::api::ListParams;
use kube::{Api, Client};

use super::api;
use super::client::chain;
use crate::identify::covered::Covered;

/// A cluster with more nodes than this is not listed unless that is asked for: each of its agents would take in all
/// nodes, which grows as the square of their number.
pub const FEW: u32 = 100;
/// How often nodes are listed again; a fifth more or less, so that the agents of a cluster do not ask together.
const EVERY: Duration = Duration::from_secs(600);
/// How long to wait before asking again where the API server did not answer, at first.
const AGAIN: Duration = Duration::from_secs(5);

/// Whether the cluster's nodes are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// In a cluster of at most [`FEW`].
    IfFew,
    /// However many there are.
    All,
    /// Not at all: of this node alone is known what is its own.
    No,
}

/// The prefixes that are a node's own: its addresses, and what it gives its pods addresses from.
pub fn prefixes(node: &api::Node) -> Vec<IpNet> {
    let addresses = node.status.addresses.iter().filter(|address| address.kind.ends_with("IP"));
    let own = addresses.filter_map(|address| address.address.parse::<IpAddr>().ok()).map(IpNet::from);
    super::facts::pod_ranges(node).chain(own).collect()
}

/// Tells `covered` what the nodes say, again and again; `own` are this node's, known already.
pub async fn keep(client: &Client, listed: Listed, own: &[IpNet], covered: &Covered) {
    covered.learn(own.iter().copied());
    if listed == Listed::No {
        return;
    }
    let nodes: Api<api::Node> = Api::all(client.clone());
    let mut wait = AGAIN;
    loop {
        let pause = match list(&nodes, listed).await {
            Ok(Some(found)) => {
                covered.learn(own.iter().copied().chain(found.iter().flat_map(prefixes)));
                wait = AGAIN;
                EVERY.mul_f64(rand::random_range(0.8..1.2))
            }
            Ok(None) => {
                tracing::info!(
                    "the cluster has more than {FEW} nodes: which addresses other agents cover is not asked; name them in tracking.covered, or set kubernetes.nodes: true"
                );
                return;
            }
            Err(kube::Error::Api(refused)) if matches!(refused.code, 401 | 403) => {
                tracing::warn!(
                    "the API server does not tell of other nodes ({}): spans name no parent on a node that tracking.covered does not name",
                    super::text::value(&refused.message)
                );
                return;
            }
            Err(error) => {
                tracing::debug!("asking for the cluster's nodes: {}", chain(&error));
                wait = (wait * 2).min(EVERY);
                wait
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// All nodes by pages, or none where there are too many.
async fn list(nodes: &Api<api::Node>, listed: Listed) -> Result<Option<Vec<api::Node>>, kube::Error> {
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(FEW);
    loop {
        let part = nodes.list(&page).await?;
        found.extend(part.items);
        match part.metadata.continue_.filter(|token| !token.is_empty()) {
            None => return Ok(Some(found)),
            Some(_) if listed == Listed::IfFew => return Ok(None),
            Some(token) => page = page.continue_token(&token),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_nodes_addresses_and_ranges_are_its_own_and_its_names_are_not() {
        let node: api::Node = serde_json::from_value(json!({
            "metadata": {"name": "node-b"},
            "spec": {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24", "fd00:10:244:2::/64"]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "192.168.50.11"}, {"type": "InternalIP", "address": "fd00:50::11"},
                {"type": "ExternalIP", "address": "203.0.113.7"}, {"type": "Hostname", "address": "10.9.9.9"},
                {"type": "InternalIP", "address": "nonsense"},
            ]},
        }))
        .expect("node");
        let found: Vec<String> = prefixes(&node).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["10.244.2.0/24", "fd00:10:244:2::/64", "192.168.50.11/32", "fd00:50::11/128", "203.0.113.7/32"]
        );
    }

    #[test]
    fn a_node_that_says_nothing_has_nothing() {
        let node: api::Node =
            serde_json::from_value(json!({"metadata": {}, "status": {"addresses": null}})).expect("node");
        assert!(prefixes(&node).is_empty());
    }
}
