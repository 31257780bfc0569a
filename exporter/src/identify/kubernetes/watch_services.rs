//! Keeps what is known of Services up to date: a list and a watch of them, and of their endpoint slices.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};

use super::api;
use super::client::chain;
use super::follow::{Follower, follow, hint};
use super::services::Services;
use super::watch::monotonic;
use crate::capture::observation::Mono;

/// Watches for as long as it is polled.
pub async fn run(client: &Client, services: &Mutex<Services>, now: fn() -> Mono) {
    let (mut of_services, mut of_slices) = (Watch::new(services, now), Watch::new(services, now));
    futures_util::future::join(
        follow::<api::Service>(Api::all(client.clone()), None, &mut of_services),
        follow::<api::EndpointSlice>(Api::all(client.clone()), None, &mut of_slices),
    )
    .await;
}

/// What follows one of the two kinds.
struct Watch<'a> {
    services: &'a Mutex<Services>,
    now: fn() -> Mono,
    listed: HashSet<Arc<str>>,
    /// It was said that the API server does not answer.
    lost: bool,
}

impl<'a> Watch<'a> {
    fn new(services: &'a Mutex<Services>, now: fn() -> Mono) -> Self {
        Self { services, now, listed: HashSet::new(), lost: false }
    }

    fn services(&self) -> MutexGuard<'a, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kind + Send> Follower<K> for Watch<'_> {
    async fn take(&mut self, event: Event<K>) {
        let now = (self.now)();
        self.lost = false;
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) | Event::Apply(object) => {
                let uid = object.apply(&mut self.services(), now);
                self.listed.extend(uid);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                K::keep_only(&mut self.services(), &listed, now);
            }
            Event::Delete(object) => {
                if let Some(uid) = object.meta().uid.as_deref() {
                    K::delete(&mut self.services(), uid, now);
                }
            }
        }
    }

    fn failed(&mut self, error: &watcher::Error) {
        if !std::mem::replace(&mut self.lost, true) {
            tracing::warn!(
                "the API server cannot be asked for {} ({}); what is known stays known, and it is tried again{}",
                K::WHAT,
                chain(error),
                hint(error)
            );
        }
    }
}

/// A kind of object that tells of Services.
trait Kind: Resource {
    /// What people call them.
    const WHAT: &'static str;

    /// It is there, or has changed. Returns its uid.
    fn apply(&self, services: &mut Services, now: Mono) -> Option<Arc<str>>;
    /// A new list of them is complete.
    fn keep_only(services: &mut Services, listed: &HashSet<Arc<str>>, now: Mono);
    /// One is gone.
    fn delete(services: &mut Services, uid: &str, now: Mono);
}

impl Kind for api::Service {
    const WHAT: &'static str = "Services";

    fn apply(&self, services: &mut Services, now: Mono) -> Option<Arc<str>> {
        let made = self.metadata.creation_timestamp.as_ref().map(|time| monotonic(time.0.as_second(), now));
        services.apply(self, made, now)
    }

    fn keep_only(services: &mut Services, listed: &HashSet<Arc<str>>, now: Mono) {
        services.keep_only(listed, now);
    }

    fn delete(services: &mut Services, uid: &str, now: Mono) {
        services.delete(uid, now);
    }
}

impl Kind for api::EndpointSlice {
    const WHAT: &'static str = "endpoint slices";

    fn apply(&self, services: &mut Services, now: Mono) -> Option<Arc<str>> {
        services.apply_slice(self, now)
    }

    fn keep_only(services: &mut Services, listed: &HashSet<Arc<str>>, now: Mono) {
        services.keep_only_slices(listed, now);
    }

    fn delete(services: &mut Services, uid: &str, now: Mono) {
        services.delete_slice(uid, now);
    }
}
