//! Keeps the registry up to date: one list and one watch of this node's pods, and of a ReplicaSet's metadata where a
//! pod's name does not tell its owner; and what else of the cluster is asked for.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

use super::client::chain;
use super::facts;
use super::follow::{Follower, follow, hint};
use super::nodes::{self, Listed};
use super::owner::deployment;
use super::pod::{Pod, Rules, deletion_asked};
use super::registry::{Registry, Times};
use super::services::Services;
use super::status::SharedStatus;
use super::{api, watch_services};
use crate::capture::observation::Mono;
use crate::identify::clock::WallClock;
use crate::identify::covered::Covered;
use crate::identify::late::LateFacts;

/// Most ReplicaSets whose owner is remembered.
const MAX_OWNERS: usize = 4_096;

/// What is watched.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's name in the API.
    pub node: String,
    /// How names are chosen.
    pub rules: Rules,
    /// `kubernetes.cluster_name`.
    pub cluster_name: Option<String>,
    /// Which nodes are asked for their addresses.
    pub nodes: Listed,
    /// All pods of the cluster are watched, and not this node's alone.
    pub cluster_pods: bool,
}

/// What is kept up to date.
#[derive(Clone)]
pub struct Kept {
    /// The pods.
    pub registry: Arc<Mutex<Registry>>,
    /// The Services, where they are watched.
    pub services: Option<Arc<Mutex<Services>>>,
    /// How the watch of pods stands.
    pub status: SharedStatus,
    /// What is found out about the node.
    pub late: LateFacts,
    /// Which addresses have an agent.
    pub covered: Covered,
}

/// Watches for as long as it is polled.
pub async fn run(client: Client, options: Options, kept: Kept, now: fn() -> Mono) {
    let learn = async {
        let node = facts::learn(&client, &options.node, options.cluster_name.as_deref(), &kept.late).await;
        locked(&kept.registry).set_ranges(node.pod_ranges);
        nodes::keep(&client, options.nodes, &node.prefixes, &kept.covered).await;
    };
    let mut watch = Watch {
        client: client.clone(),
        options: &options,
        registry: &kept.registry,
        status: &kept.status,
        now,
        owners: HashMap::new(),
        listed: HashSet::new(),
        gap: None,
        told: now(),
        owners_told: true,
        link_at_list: None,
    };
    let of_node = format!("spec.nodeName={}", options.node);
    let fields = (!options.cluster_pods).then_some(&*of_node);
    let pods = follow::<api::Pod>(Api::all(client.clone()), fields, &mut watch);
    let services = async {
        if let Some(services) = &kept.services {
            watch_services::run(&client, services, now).await;
        }
    };
    futures_util::future::join3(learn, pods, services).await;
}

struct Watch<'a> {
    client: Client,
    options: &'a Options,
    registry: &'a Mutex<Registry>,
    status: &'a SharedStatus,
    now: fn() -> Mono,
    /// Owners of ReplicaSets that were asked for, by namespace and name.
    owners: HashMap<(String, String), Option<String>>,
    /// The uids of a list that is being received.
    listed: HashSet<Arc<str>>,
    /// From when on events may have been missed, while a list is being received.
    gap: Option<Mono>,
    /// When the watch was last known to be whole.
    told: Mono,
    /// Whether ReplicaSets may be asked for.
    owners_told: bool,
    /// The highest index of an interface, while a list is being received.
    link_at_list: Option<u32>,
}

impl Follower<api::Pod> for Watch<'_> {
    async fn take(&mut self, event: Event<api::Pod>) {
        let now = (self.now)();
        match event {
            Event::Init => {
                self.gap = Some(self.told);
                self.link_at_list = None;
                self.listed.clear();
            }
            Event::InitApply(pod) => self.apply(&pod, now),
            Event::InitDone => {
                let gap = self.gap.take().unwrap_or(self.told);
                let listed = std::mem::take(&mut self.listed);
                locked(self.registry).keep_only(&listed, gap, now);
                let first = self.status.update(|status| {
                    status.lists += 1;
                    !std::mem::replace(&mut status.synced, true)
                });
                if first {
                    tracing::info!(pods = listed.len(), node = %self.options.node, "names come from the Kubernetes API");
                }
                self.ask_owners().await;
            }
            Event::Apply(pod) => {
                self.apply(&pod, now);
                self.ask_owners().await;
            }
            Event::Delete(pod) => {
                if let Some(uid) = pod.metadata.uid.as_deref() {
                    // The kubelet let the address go some time before its object went: before the deletion was asked
                    // for no other pod can have had it.
                    let since = deletion_asked(&pod.metadata).map(|asked| monotonic(asked, now));
                    locked(self.registry).delete(uid, since.unwrap_or(now), now);
                }
            }
        }
        self.told = now;
    }

    fn failed(&mut self, error: &watcher::Error) {
        let said = chain(error);
        if let Some(age) = self.status.lost(&said) {
            let still = match age.as_secs() / 60 {
                0 => String::new(),
                minutes => format!(" for {minutes} minutes now"),
            };
            tracing::warn!(
                "the API server cannot be asked for pods{still} ({said}); what is known stays known, and it is tried again{}",
                hint(error)
            );
        }
    }
}

impl Watch<'_> {
    fn apply(&mut self, object: &api::Pod, now: Mono) {
        let Some(mut pod) = Pod::new(object, self.options.rules) else { return };
        let asked = pod.asks_for().and_then(|name| self.owners.get(&(pod.namespace.to_string(), name.to_owned())));
        if let Some(owner) = asked.cloned() {
            pod.owned_by(owner.as_deref());
        }
        if self.gap.is_some() {
            self.listed.insert(Arc::clone(&pod.uid));
        }
        let times = Times {
            started: pod.started.map(|started| monotonic(started, now)),
            networked: pod.networked.map(|networked| monotonic(networked, now)),
            terminating: pod.terminating.map(|asked| monotonic(asked, now)),
            gap: self.gap,
            newest_link: self.newest_link(&pod),
        };
        locked(self.registry).apply(pod, times, now);
    }

    /// The highest index of an interface as a pod's address is told; read once for a list.
    fn newest_link(&mut self, pod: &Pod) -> Option<u32> {
        if *pod.node != self.options.node || !locked(self.registry).is_new_address(pod) {
            return None;
        }
        if self.gap.is_some() && self.link_at_list.is_some() {
            return self.link_at_list;
        }
        let links = nix::net::if_::if_nameindex().ok()?;
        let newest = links.iter().map(|link| link.index()).max();
        self.link_at_list = newest.filter(|_| self.gap.is_some());
        newest
    }

    /// Asks for the owners of ReplicaSets whose names do not tell them, of this node's pods.
    async fn ask_owners(&mut self) {
        if !self.owners_told {
            return;
        }
        let questions = locked(self.registry).questions();
        for (namespace, name) in questions {
            let key = (namespace, name);
            if !self.owners.contains_key(&key) {
                let sets: Api<api::ReplicaSet> = Api::namespaced(self.client.clone(), &key.0);
                let owner = match sets.get_metadata(&key.1).await {
                    Ok(set) => deployment(&set.metadata),
                    Err(kube::Error::Api(refused)) if refused.code == 403 => {
                        tracing::warn!(
                            "the API server does not tell of ReplicaSets ({}): pods of one whose name is not its Deployment's and a hash are named by the ReplicaSet",
                            super::text::value(&refused.message)
                        );
                        self.owners_told = false;
                        return;
                    }
                    Err(kube::Error::Api(refused)) if refused.code == 404 => None,
                    Err(error) => {
                        // Asked again with the next event.
                        tracing::debug!("asking for the owner of ReplicaSet {}/{}: {}", key.0, key.1, chain(&error));
                        continue;
                    }
                };
                if self.owners.len() >= MAX_OWNERS {
                    self.owners.clear();
                }
                self.owners.insert(key.clone(), owner);
            }
            let owner = self.owners.get(&key).cloned().flatten();
            locked(self.registry).owned_by(&key.0, &key.1, owner.as_deref());
        }
    }
}

fn locked(registry: &Mutex<Registry>) -> std::sync::MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A wall-clock second as monotonic time, by the clocks as they are now.
pub fn monotonic(second: i64, now: Mono) -> Mono {
    let wall = WallClock::now().unix_nanos(now) / 1_000_000_000;
    let ago = i64::try_from(wall).unwrap_or(i64::MAX).saturating_sub(second);
    let ago = Duration::from_secs(u64::try_from(ago).unwrap_or(0));
    Mono(now.0.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_second_becomes_monotonic_time_and_never_the_future() {
        let now = crate::capture::live::monotonic();
        let wall = i64::try_from(WallClock::now().unix_nanos(now) / 1_000_000_000).expect("fits");
        assert_eq!(monotonic(wall + 100, now), now);
        assert!(now.since(monotonic(wall - 5, now)) >= Duration::from_secs(4));
        assert_eq!(monotonic(0, now), Mono(0));
    }
}
