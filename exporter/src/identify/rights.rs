//! What the API server lets an agent ask, as plain facts: for whoever judges them, with or without Kubernetes built in.

/// A right at the API server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// To list this node's pods.
    ListPods,
    /// To watch them.
    WatchPods,
    /// To get this node.
    GetNode,
    /// To get the namespace kube-system.
    GetKubeSystem,
    /// To get ReplicaSets.
    GetReplicaSets,
    /// To list all nodes.
    ListNodes,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::ListPods, Self::WatchPods, Self::GetNode, Self::GetKubeSystem, Self::GetReplicaSets, Self::ListNodes];

    /// Its verb, API group, resource, and the one object that it is for.
    pub fn asks(self, node: &str) -> (&'static str, &'static str, &'static str, Option<String>) {
        match self {
            Self::ListPods => ("list", "", "pods", None),
            Self::WatchPods => ("watch", "", "pods", None),
            Self::GetNode => ("get", "", "nodes", Some(node.to_owned())),
            Self::GetKubeSystem => ("get", "", "namespaces", Some("kube-system".to_owned())),
            Self::GetReplicaSets => ("get", "apps", "replicasets", None),
            Self::ListNodes => ("list", "", "nodes", None),
        }
    }
}

/// Whether a node object of the configured name is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeObject {
    /// It is.
    There,
    /// It is not.
    Absent,
    /// The API server does not tell, and why.
    Untold(String),
}

/// What an API server that answers says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answers {
    /// The node object.
    pub node: NodeObject,
    /// Each right, and whether it is there, or why that could not be found out.
    pub rights: Vec<(Right, Result<bool, String>)>,
}
