//! Keeps the registry up to date: one list and one watch of this node's pods, and of a ReplicaSet's metadata where a
//! pod's name does not tell its owner.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};

use super::api;
use super::client::chain;
use super::facts;
use super::owner::deployment;
use super::pod::{Pod, Rules};
use super::registry::Registry;
use super::status::SharedStatus;
use crate::capture::observation::Mono;
use crate::identify::clock::WallClock;
use crate::identify::late::LateFacts;

/// Most ReplicaSets whose owner is remembered.
const MAX_OWNERS: usize = 4_096;
/// Pods a page, where the API server does not stream lists.
const PAGE: u32 = 500;

/// What is watched.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's name in the API.
    pub node: String,
    /// How names are chosen.
    pub rules: Rules,
    /// `kubernetes.cluster_name`.
    pub cluster_name: Option<String>,
}

/// Watches for as long as it is polled.
pub async fn run(
    client: Client,
    options: Options,
    registry: Arc<Mutex<Registry>>,
    status: SharedStatus,
    late: LateFacts,
    now: fn() -> Mono,
) {
    let learn = async {
        let node = facts::learn(&client, &options.node, options.cluster_name.as_deref(), &late).await;
        locked(&registry).set_ranges(node.pod_ranges);
    };
    let pods = Watch {
        client: client.clone(),
        options: &options,
        registry: &registry,
        status: &status,
        now,
        owners: HashMap::new(),
        listed: HashSet::new(),
        gap: None,
        told: now(),
        owners_told: true,
    };
    futures_util::future::join(learn, pods.run()).await;
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
}

impl Watch<'_> {
    async fn run(mut self) {
        let mut streaming = true;
        loop {
            let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.options.node));
            // What the API server has in its cache is as good as any: a node that starts costs etcd nothing.
            let config = if streaming { config.streaming_lists() } else { config.any_semantic().page_size(PAGE) };
            let pods: Api<api::Pod> = Api::all(self.client.clone());
            let mut events = watch(pods, config).default_backoff().boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => self.take(event).await,
                    Err(error) if streaming && no_streams(&error) => {
                        tracing::info!("the API server does not stream lists: pods are listed by pages");
                        streaming = false;
                        break;
                    }
                    Err(error) => self.failed(&error),
                }
            }
        }
    }

    async fn take(&mut self, event: Event<api::Pod>) {
        let now = (self.now)();
        match event {
            Event::Init => {
                self.gap = Some(self.told);
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
                    let since = pod.metadata.deletion_timestamp.as_ref().map(|time| monotonic(time.0.as_second(), now));
                    locked(self.registry).delete(uid, since.unwrap_or(now), now);
                }
            }
        }
        self.told = now;
    }

    fn apply(&mut self, object: &api::Pod, now: Mono) {
        let Some(mut pod) = Pod::new(object, self.options.rules) else { return };
        let asked = pod.asks_for().and_then(|name| self.owners.get(&(pod.namespace.to_string(), name.to_owned())));
        if let Some(owner) = asked.cloned() {
            pod.owned_by(owner.as_deref());
        }
        if self.gap.is_some() {
            self.listed.insert(Arc::clone(&pod.uid));
        }
        let started = pod.started.map(|started| monotonic(started, now));
        locked(self.registry).apply(pod, started, self.gap, now);
    }

    /// Asks for the owners of ReplicaSets whose names do not tell them.
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

    fn failed(&mut self, error: &watcher::Error) {
        let said = chain(error);
        // 410 Gone: the watch is older than what the API server remembers. A new list follows.
        if is_gone(error) {
            tracing::debug!("the watch is listed anew: {said}");
            return;
        }
        if self.status.lost(&said) {
            let hint =
                if is_refused(error) { "; does the service account have the rights that k8s/base gives?" } else { "" };
            tracing::warn!(
                "the API server cannot be asked for pods ({said}); what is known stays known, and it is tried again{hint}"
            );
        }
    }
}

fn locked(registry: &Mutex<Registry>) -> std::sync::MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A wall-clock second as monotonic time, by the clocks as they are now.
fn monotonic(second: i64, now: Mono) -> Mono {
    let wall = WallClock::now().unix_nanos(now) / 1_000_000_000;
    let ago = i64::try_from(wall).unwrap_or(i64::MAX).saturating_sub(second);
    let ago = Duration::from_secs(u64::try_from(ago).unwrap_or(0));
    Mono(now.0.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)))
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// An API server that does not know `sendInitialEvents` says that the request is invalid, or forbids it.
fn no_streams(error: &watcher::Error) -> bool {
    matches!(code(error), Some(400 | 422))
}

fn is_gone(error: &watcher::Error) -> bool {
    code(error) == Some(410)
}

fn is_refused(error: &watcher::Error) -> bool {
    matches!(code(error), Some(401 | 403))
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
