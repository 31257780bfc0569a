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
pub mod covered;
pub mod describe;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod host;
#[cfg(feature = "live")]
pub mod kubernetes;
pub mod late;
pub mod node;
pub mod owners;
pub mod rights;
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

/// One end of a connection: whatever is known of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct End<'a> {
    /// The process that called connect(), if it was on this node and seen.
    pub process: Option<&'a Process>,
    /// Cookie of the socket's network namespace; 0 if not known.
    pub netns: u64,
    /// Index of the host side of the pod's interface by which it is reached, if its segments were seen there.
    pub ifindex: Option<u32>,
    /// Its address.
    pub address: Option<IpAddr>,
}

impl<'a> End<'a> {
    /// An end of which only the address is known.
    pub fn address(address: IpAddr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }

    /// An end of which only the process is known.
    pub fn process(process: &'a Process) -> Self {
        Self { process: Some(process), ..Self::default() }
    }
}

/// What a source says of an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// This is who it is.
    Known(Arc<Identity>),
    /// It is for this source to say, and it will know more soon; until then this much, if anything.
    Later(Option<Arc<Identity>>),
    /// Not known here.
    Unknown,
}

impl Answer {
    /// What is known now.
    pub fn now(self) -> Option<Arc<Identity>> {
        match self {
            Self::Known(identity) => Some(identity),
            Self::Later(identity) => identity,
            Self::Unknown => None,
        }
    }

    /// Known, or not.
    pub fn of(identity: Option<Arc<Identity>>) -> Self {
        identity.map_or(Self::Unknown, Self::Known)
    }
}

/// Something that knows who is who: the static list, Kubernetes, the host's processes.
pub trait Identify: Send + Sync {
    /// Who that was at that time.
    fn identify(&self, end: &End<'_>, at: Mono) -> Answer;
}
