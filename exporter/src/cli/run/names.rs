//! Where names come from: whether the Kubernetes API is one of the sources, and its watch.

use std::sync::{Arc, Mutex};

use tokio::runtime::Runtime;

use crate::capture::live::monotonic;
use crate::cli::stages;
use crate::config::{Config, Enabled};
use crate::identify::covered::Covered;
use crate::identify::kubernetes::client::{self, Error};
use crate::identify::kubernetes::nodes::Listed;
use crate::identify::kubernetes::pod::Rules;
use crate::identify::kubernetes::registry::Registry;
use crate::identify::kubernetes::services::Services;
use crate::identify::kubernetes::status::SharedStatus;
use crate::identify::kubernetes::watch::{self, Kept};
use crate::identify::late::LateFacts;
use crate::identify::node::Node;

/// What the telemetry thread needs of it.
pub struct Names {
    /// This node.
    pub node: Node,
    /// This node's pods, where Kubernetes is asked.
    pub registry: Option<Arc<Mutex<Registry>>>,
    /// The cluster's Services, where they are watched.
    pub services: Option<Arc<Mutex<Services>>>,
    /// What is found out about the node.
    pub late: LateFacts,
    /// Which addresses have an agent.
    pub covered: Covered,
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
    let wanted = stages::asks_kubernetes(config);
    let name = stages::node_name(config);
    let node = Node::new(&name, wanted, &config.resource_attributes);
    let (late, covered) = (LateFacts::default(), stages::covered(config));
    if !wanted {
        return Ok((Names { node, registry: None, services: None, late, covered }, status));
    }
    let client = runtime.block_on(client::connect(kubernetes.kubeconfig.as_deref(), &status))?;
    let registry = Arc::new(Mutex::new(Registry::new(node.clone(), host_netns)));
    let options = watch::Options {
        node: name,
        rules: Rules { pod_env: kubernetes.pod_env, label_names: kubernetes.label_names },
        cluster_name: kubernetes.cluster_name.clone(),
        nodes: match kubernetes.nodes {
            Enabled::Auto => Listed::IfFew,
            Enabled::Yes => Listed::All,
            Enabled::No => Listed::No,
        },
        cluster_pods: kubernetes.cluster_pods,
    };
    let services = kubernetes.services.then(|| Arc::new(Mutex::new(Services::new(node.clone()))));
    let kept = Kept {
        registry: Arc::clone(&registry),
        services: services.clone(),
        status: status.clone(),
        late: late.clone(),
        covered: covered.clone(),
    };
    runtime.spawn(watch::run(client, options, kept, monotonic));
    Ok((Names { node, registry: Some(registry), services, late, covered }, status))
}
