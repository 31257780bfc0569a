//! A cluster's API server, for runs in which the lab's pods are objects there: who started it says how to reach it, and
//! which cgroups the pods have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{Context, Error, Result};

/// The environment variable that names the file with a [`Cluster`] in JSON.
pub const FILE: &str = "SYNSPAN_LAB_CLUSTER";

/// A cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// By which agents ask it.
    pub kubeconfig: PathBuf,
    /// Where it listens, in the network namespace that the lab was started in. Nodes reach it by the same address.
    pub server: SocketAddr,
    /// Keys of the agents' `kubernetes` block besides those that say how to reach it.
    #[serde(default)]
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// The servers outside have no names of the lab's: the cluster knows them, or nobody does.
    #[serde(default)]
    pub names_all: bool,
    /// The containers' cgroups by the lab's names of pods, below their node's: as a kubelet and a container runtime name
    /// them.
    pub cgroups: BTreeMap<String, String>,
}

impl Cluster {
    /// The one that the environment names.
    pub fn from_environment() -> Result<Option<Self>> {
        let Some(file) = std::env::var_os(FILE) else { return Ok(None) };
        let file = PathBuf::from(file);
        let text = std::fs::read_to_string(&file).context(format_args!("read {} ({FILE})", file.display()))?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Error::Lab(format!("{} ({FILE}) names no cluster: {error}", file.display())))
    }
}
