//! Where names come from: whether the Kubernetes API is one of the sources, and its watch.

use std::sync::{Arc, Mutex};

use tokio::runtime::Runtime;

use crate::capture::live::monotonic;
use crate::cli::stages;
use crate::config::{Config, Enabled};
use crate::identify::kubernetes::client::{self, Error};
use crate::identify::kubernetes::pod::Rules;
use crate::identify::kubernetes::registry::Registry;
use crate::identify::kubernetes::status::SharedStatus;
use crate::identify::kubernetes::watch;
use crate::identify::late::LateFacts;
use crate::identify::node::Node;

/// What the telemetry thread needs of it.
pub struct Names {
    /// This node.
    pub node: Node,
    /// This node's pods, where Kubernetes is asked.
    pub registry: Option<Arc<Mutex<Registry>>>,
    /// What is found out about the node.
    pub late: LateFacts,
}

/// Starts the watch where the configuration or the surroundings say that this is a node of a cluster. `host_netns` is
/// the cookie of the node's own network namespace.
///
/// # Errors
///
/// Where Kubernetes is to be asked and the file or the service account for it cannot be used.
pub fn start(config: &Config, host_netns: u64, runtime: &Runtime) -> Result<(Names, SharedStatus), Error> {
    let kubernetes = &config.kubernetes;
    let status = SharedStatus::default();
    let wanted = match kubernetes.enabled {
        Enabled::Yes => true,
        Enabled::No => false,
        Enabled::Auto => kubernetes.kubeconfig.is_some() || client::is_in_cluster(),
    };
    let name = stages::node_name(config);
    let node = Node::new(&name, wanted, &config.resource_attributes);
    let late = LateFacts::default();
    if !wanted {
        return Ok((Names { node, registry: None, late }, status));
    }
    let client = runtime.block_on(client::connect(kubernetes.kubeconfig.as_deref(), &status))?;
    let registry = Arc::new(Mutex::new(Registry::new(node.clone(), host_netns)));
    let options = watch::Options {
        node: name,
        rules: Rules { pod_env: kubernetes.pod_env, label_names: kubernetes.label_names },
        cluster_name: kubernetes.cluster_name.clone(),
    };
    runtime.spawn(watch::run(client, options, Arc::clone(&registry), status.clone(), late.clone(), monotonic));
    Ok((Names { node, registry: Some(registry), late }, status))
}
