//! Identify: who is behind an address, a cgroup or a process at a time.
//!
//! Nothing else in the project knows Kubernetes, systemd or the static list: the rest asks
//! [`Identify`] and gets resource attributes.

#[cfg(target_os = "linux")]
pub mod cgroup;
#[cfg(not(target_os = "linux"))]
#[path = "no_cgroup.rs"]
pub mod cgroup;
pub mod chain;
pub mod clock;
pub mod describe;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod host;
pub mod names;
pub mod node;
pub mod static_list;
pub mod unit;

use std::net::IpAddr;
use std::sync::Arc;

use crate::capture::observation::{Mono, Process};

/// Resource attributes of one workload: OpenTelemetry names and string values, sorted by name, each
/// name once. The same workload gives the same `Arc` while it is remembered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Identity {
    /// The attributes (`service.name`, `k8s.pod.name`, ...).
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
}

impl Identity {
    /// An identity of attributes in any order; of a name given twice the last holds.
    pub fn new<K: Into<Arc<str>>, V: Into<Arc<str>>>(attributes: impl IntoIterator<Item = (K, V)>) -> Self {
        let sorted: std::collections::BTreeMap<Arc<str>, Arc<str>> =
            attributes.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { attributes: sorted.into_iter().collect() }
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes
            .binary_search_by(|(key, _)| key.as_ref().cmp(name))
            .ok()
            .map(|at| self.attributes[at].1.as_ref())
    }

    /// The name people know it by: `service.namespace/service.name`, or the name alone.
    pub fn display_name(&self) -> Option<String> {
        let name = self.get("service.name")?;
        Some(match self.get("service.namespace") {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        })
    }
}

/// Whom to identify.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The process behind a socket of this node.
    Process(&'a Process),
    /// The workload that has an address.
    Address(IpAddr),
}

/// Something that knows who is who: the static list, the host's processes, later Kubernetes.
pub trait Identify: Send + Sync {
    /// Who that was at that time; none if this source does not know.
    fn identify(&self, subject: Subject<'_>, at: Mono) -> Option<Arc<Identity>>;
}
