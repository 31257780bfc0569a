//! Which pod was behind a cgroup, a network namespace, an interface or an address at a time.
//!
//! An address is the weakest of these: it goes from pod to pod, and what the API says of it comes late. So a pod
//! holds an address from when the kubelet took the pod until the API says that it is gone, but for the parts of that
//! time in which another pod may have had it already there is no answer by address alone: a wrong name is worse
//! than none. What is in doubt is counted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::cgroup_path::PodPath;
use super::pod::Pod;
use super::tenure::{Claim, Held, Tenures};
use crate::capture::observation::Mono;
use crate::identify::node::Node;
use crate::identify::{Answer, Identity};
use crate::names::attribute::{CONTAINER_ID, K8S_NODE_NAME, K8S_POD_UID, SERVICE_NAME};
use crate::names::service::UNKNOWN_SERVICE;

/// Most pods remembered after they are gone; the oldest go first.
const MAX_GONE: usize = 512;
/// Most network namespaces and interfaces remembered of one pod: sandboxes are made again now and then.
const MAX_PLACES: usize = 4;
/// Most containers whose identity is kept ready, of one pod.
const MAX_READY: usize = 16;

/// What is known of an end besides its process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Cookie of its network namespace, 0 if not known.
    pub netns: u64,
    /// The host side of the interface by which it is reached.
    pub ifindex: Option<u32>,
    /// Its address.
    pub address: Option<IpAddr>,
}

/// How often something was not as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Two pods claimed an address at once; the later one had it from then on.
    pub conflicts: u64,
    /// Events that were older than what was known, and were left out.
    pub out_of_order: u64,
    /// Questions by address that had no sure answer, since the address may have been another's already.
    pub doubtful: u64,
}

/// The times that belong to what the API says of a pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// When the kubelet took it: not before that it had an address.
    pub started: Option<Mono>,
    /// When it surely had its address.
    pub networked: Option<Mono>,
    /// When its deletion was asked for.
    pub terminating: Option<Mono>,
    /// From when on events may have been missed, if this is part of a new list.
    pub gap: Option<Mono>,
    /// The highest index of an interface in the node's network namespace at this time: the kernel counts them upwards,
    /// so a pod that has its address by now has none above.
    pub newest_link: Option<u32>,
}

/// The pods of a node; those of the others too, where the whole cluster is watched.
pub struct Registry {
    node: Node,
    host_netns: u64,
    ranges: Vec<ipnet::IpNet>,
    pods: HashMap<Arc<str>, Entry>,
    by_cgroup_uid: HashMap<Arc<str>, Arc<str>>,
    by_netns: HashMap<u64, Arc<str>>,
    by_ifindex: HashMap<u32, Arc<str>>,
    tenures: Tenures,
    gone: VecDeque<Arc<str>>,
    counts: Counts,
}

struct Entry {
    pod: Pod,
    gone: bool,
    /// Its interface is none above this.
    newest_link: Option<u32>,
    netns: Vec<u64>,
    ifindexes: Vec<u32>,
    ready: Vec<(Option<Arc<str>>, Arc<Identity>)>,
}

impl Registry {
    /// `host_netns` is the cookie of the node's own network namespace, 0 if not known.
    pub fn new(node: Node, host_netns: u64) -> Self {
        Self {
            node,
            host_netns,
            ranges: Vec::new(),
            pods: HashMap::new(),
            by_cgroup_uid: HashMap::new(),
            by_netns: HashMap::new(),
            by_ifindex: HashMap::new(),
            tenures: Tenures::default(),
            gone: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The ranges that this node gives its pods addresses from: an address in them that nobody has is one that is
    /// not known yet.
    pub fn set_ranges(&mut self, ranges: Vec<ipnet::IpNet>) {
        self.ranges = ranges;
    }

    /// Whether these addresses of a pod are told for the first time.
    pub fn is_new_address(&self, pod: &Pod) -> bool {
        !pod.addresses.is_empty() && self.pods.get(&pod.uid).is_none_or(|entry| entry.pod.addresses != pod.addresses)
    }

    /// The API says that a pod is there, or has changed.
    pub fn apply(&mut self, mut pod: Pod, times: Times, now: Mono) {
        if let Some(entry) = self.pods.get(&pod.uid) {
            if pod.version < entry.pod.version {
                self.counts.out_of_order += 1;
                return;
            }
            // An owner that was asked for stays answered.
            if entry.pod.asks_for().is_none() && pod.asks_for().is_some() {
                let known = entry.pod.deployment().map(str::to_owned);
                pod.owned_by(known.as_deref());
            }
        }
        let uid = Arc::clone(&pod.uid);
        let holds: &[IpAddr] = if pod.finished { &[] } else { &pod.addresses };
        self.tenures.keep_only(&uid, holds, now);
        let from = times.started.map_or(now, |started| started.min(now));
        // One that had another address before has had this one since it was last told of, at the earliest.
        let moved = self.pods.get(&uid).is_some_and(|entry| !entry.pod.addresses.is_empty());
        let networked = times.networked.filter(|_| !moved).map_or(now, |networked| networked.clamp(from, now));
        for &address in holds {
            let claim = Claim { from, networked, gap: times.gap.is_some() };
            if self.tenures.claim(address, &uid, claim, now) {
                self.counts.conflicts += 1;
            }
        }
        if let Some(asked) = times.terminating {
            self.tenures.doubt(&uid, asked.min(now));
        }
        if let Some(alias) = &pod.cgroup_uid {
            self.by_cgroup_uid.insert(Arc::clone(alias), Arc::clone(&uid));
        }
        let newest_link = times.newest_link.filter(|_| !holds.is_empty());
        match self.pods.get_mut(&uid) {
            Some(entry) => {
                if entry.gone {
                    entry.gone = false;
                    self.gone.retain(|gone| *gone != uid);
                }
                if entry.pod.addresses != pod.addresses {
                    entry.newest_link = newest_link;
                }
                entry.pod = pod;
                entry.ready.clear();
            }
            None => {
                let (netns, ifindexes, ready) = (Vec::new(), Vec::new(), Vec::new());
                self.pods.insert(uid, Entry { pod, gone: false, newest_link, netns, ifindexes, ready });
            }
        }
    }

    /// The API says that a pod is gone; `since` is from when on that may have been so.
    pub fn delete(&mut self, uid: &str, since: Mono, now: Mono) {
        let Some((uid, entry)) = self.pods.get_key_value(uid).map(|(uid, _)| Arc::clone(uid)).and_then(|uid| {
            let entry = self.pods.get_mut(&uid)?;
            Some((uid, entry))
        }) else {
            return;
        };
        if entry.gone {
            return;
        }
        entry.gone = true;
        self.tenures.doubt(&uid, since);
        self.tenures.keep_only(&uid, &[], now);
        self.gone.push_back(uid);
        while self.gone.len() > MAX_GONE {
            if let Some(oldest) = self.gone.pop_front() {
                self.forget(&oldest);
            }
        }
    }

    /// A new list is complete: pods that are not in it went at some time since `gap`.
    pub fn keep_only(&mut self, listed: &HashSet<Arc<str>>, gap: Mono, now: Mono) {
        let missing: Vec<_> = self
            .pods
            .iter()
            .filter(|(uid, entry)| !entry.gone && !listed.contains(*uid))
            .map(|(uid, _)| Arc::clone(uid))
            .collect();
        for uid in missing {
            self.delete(&uid, gap, now);
        }
    }

    /// The owner of a ReplicaSet, for all its pods.
    pub fn owned_by(&mut self, namespace: &str, replica_set: &str, deployment: Option<&str>) {
        for entry in self.pods.values_mut() {
            if &*entry.pod.namespace == namespace && entry.pod.asks_for() == Some(replica_set) {
                entry.pod.owned_by(deployment);
                entry.ready.clear();
            }
        }
    }

    /// The ReplicaSets that have to be asked for their owners, as namespace and name.
    pub fn questions(&self) -> HashSet<(String, String)> {
        let asking = self.pods.values().filter(|entry| !entry.gone);
        asking.filter_map(|e| Some((e.pod.namespace.to_string(), e.pod.asks_for()?.to_owned()))).collect()
    }

    /// Who a process is, by its cgroup; `place` is where its socket is, which is remembered as the pod's.
    pub fn by_cgroup(&mut self, path: &PodPath, place: Place) -> Answer {
        let uid = self.by_cgroup_uid.get(path.uid.as_str()).cloned().unwrap_or_else(|| path.uid.as_str().into());
        let container = path.container.as_deref();
        if !self.pods.contains_key(&uid) {
            // Surely that pod and no other, whoever has had its address.
            let own = [(SERVICE_NAME, UNKNOWN_SERVICE), (K8S_POD_UID, &*uid)];
            let id = container.map(|id| (CONTAINER_ID, id));
            return Answer::Later(Some(Arc::new(self.node.here(own.into_iter().chain(id)))));
        }
        self.remember_place(&uid, place);
        let identity = self.identity(&uid, container);
        let entry = &self.pods[&uid];
        // A container's id reaches the API a second or two after its start.
        let complete = entry.gone || entry.pod.finished || container.is_none_or(|id| entry.pod.has_container(id));
        if complete { Answer::Known(identity) } else { Answer::Later(Some(identity)) }
    }

    /// Who is at a place: by its network namespace, its interface, its address.
    pub fn at(&mut self, place: Place, at: Mono) -> Answer {
        let of_netns = (!self.is_host(place.netns)).then(|| self.by_netns.get(&place.netns)).flatten();
        if let Some(uid) = of_netns.or_else(|| self.by_ifindex.get(&place.ifindex?)).cloned() {
            self.remember_place(&uid, place);
            return Answer::Known(self.identity(&uid, None));
        }
        let Some(address) = place.address.map(|address| address.to_canonical()) else { return Answer::Unknown };
        let pods = &self.pods;
        // A pod that is known by another network namespace or interface is not at this one, nor at one that was made when
        // it had its address already: what the API says of an end may come late.
        let fits = |uid: &str| {
            let Some(entry) = pods.get(uid) else { return true };
            let netns = place.netns == 0 || entry.netns.is_empty() || entry.netns.contains(&place.netns);
            let link = place.ifindex.is_none_or(|index| {
                let newer = entry.newest_link.is_some_and(|newest| index > newest);
                if entry.ifindexes.is_empty() { !newer } else { entry.ifindexes.contains(&index) }
            });
            netns && link
        };
        match self.tenures.holder(address, at, fits) {
            Held::By(uid) => {
                self.remember_place(&uid, place);
                Answer::Known(self.identity(&uid, None))
            }
            Held::InDoubt => {
                self.counts.doubtful += 1;
                Answer::Later(None)
            }
            // Only an end that is surely a pod's of this node is worth waiting for.
            Held::ByNobody if place.ifindex.is_some() || self.ranges.iter().any(|range| range.contains(&address)) => {
                Answer::Later(None)
            }
            Held::ByNobody => Answer::Unknown,
        }
    }

    /// How often something was not as it should be.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many pods are there, without those that are gone.
    pub fn len(&self) -> usize {
        self.pods.len() - self.gone.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes all of it takes.
    pub fn weight(&self) -> usize {
        let ready = |entry: &Entry| entry.ready.len() * 1_024;
        let pods: usize = self.pods.values().map(|entry| entry.pod.weight() + ready(entry) + 128).sum();
        pods + self.tenures.weight() + 64 * (self.by_netns.len() + self.by_ifindex.len() + self.by_cgroup_uid.len())
    }

    fn is_host(&self, netns: u64) -> bool {
        netns == 0 || netns == self.host_netns
    }

    fn identity(&mut self, uid: &Arc<str>, container: Option<&str>) -> Arc<Identity> {
        let Some(entry) = self.pods.get_mut(uid) else { return Arc::new(self.node.unknown()) };
        if let Some((_, ready)) = entry.ready.iter().find(|(id, _)| id.as_deref() == container) {
            return Arc::clone(ready);
        }
        let attributes = entry.pod.attributes(container);
        let attributes = attributes.iter().map(|(name, value)| (&**name, &**value));
        let identity = if is_far(&self.node, &entry.pod) {
            self.node.anywhere(attributes.chain([(K8S_NODE_NAME, &*entry.pod.node)]))
        } else {
            self.node.here(attributes)
        };
        let identity = Arc::new(identity);
        if entry.ready.len() >= MAX_READY {
            entry.ready.clear();
        }
        entry.ready.push((container.map(Arc::from), Arc::clone(&identity)));
        identity
    }

    fn remember_place(&mut self, uid: &Arc<str>, place: Place) {
        let host = self.is_host(place.netns);
        let node = &self.node;
        let own = |pod: &Pod| !pod.host_network && !is_far(node, pod);
        let Some(entry) = self.pods.get_mut(uid).filter(|entry| own(&entry.pod)) else { return };
        if !host && !entry.netns.contains(&place.netns) {
            if entry.netns.len() >= MAX_PLACES {
                self.by_netns.remove(&entry.netns.remove(0));
            }
            entry.netns.push(place.netns);
            self.by_netns.insert(place.netns, Arc::clone(uid));
        }
        if let Some(ifindex) = place.ifindex
            && !entry.ifindexes.contains(&ifindex)
        {
            if entry.ifindexes.len() >= MAX_PLACES {
                self.by_ifindex.remove(&entry.ifindexes.remove(0));
            }
            entry.ifindexes.push(ifindex);
            self.by_ifindex.insert(ifindex, Arc::clone(uid));
        }
    }

    fn forget(&mut self, uid: &Arc<str>) {
        let Some(entry) = self.pods.remove(uid) else { return };
        self.by_netns.retain(|_, of| of != uid);
        self.by_ifindex.retain(|_, of| of != uid);
        if let Some(alias) = &entry.pod.cgroup_uid
            && self.by_cgroup_uid.get(alias) == Some(uid)
        {
            self.by_cgroup_uid.remove(alias);
        }
        self.tenures.forget(uid);
    }
}

/// Whether a pod is on another node.
fn is_far(node: &Node, pod: &Pod) -> bool {
    !pod.node.is_empty() && pod.node != *node.name()
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
