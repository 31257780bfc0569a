//! Keeps what is known of Services up to date: a list and a watch of them, and of their endpoint slices.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

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

    fn failed(&mut self, what: &str, error: &watcher::Error) {
        if !std::mem::replace(&mut self.lost, true) {
            tracing::warn!(
                "the API server cannot be asked for {what} ({}); what is known stays known, and it is tried again{}",
                chain(error),
                hint(error)
            );
        }
    }
}

impl Follower<api::Service> for Watch<'_> {
    async fn take(&mut self, event: Event<api::Service>) {
        let now = (self.now)();
        self.lost = false;
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) | Event::Apply(object) => {
                let made = object.metadata.creation_timestamp.as_ref().map(|time| monotonic(time.0.as_second(), now));
                let uid = self.services().apply(&object, made, now);
                self.listed.extend(uid);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.services().keep_only(&listed, now);
            }
            Event::Delete(object) => {
                if let Some(uid) = object.metadata.uid.as_deref() {
                    self.services().delete(uid, now);
                }
            }
        }
    }

    fn failed(&mut self, error: &watcher::Error) {
        self.failed("Services", error);
    }
}

impl Follower<api::EndpointSlice> for Watch<'_> {
    async fn take(&mut self, event: Event<api::EndpointSlice>) {
        let now = (self.now)();
        self.lost = false;
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) | Event::Apply(object) => {
                let uid = self.services().apply_slice(&object, now);
                self.listed.extend(uid);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.services().keep_only_slices(&listed, now);
            }
            Event::Delete(object) => {
                if let Some(uid) = object.metadata.uid.as_deref() {
                    self.services().delete_slice(uid, now);
                }
            }
        }
    }

    fn failed(&mut self, error: &watcher::Error) {
        self.failed("endpoint slices", error);
    }
}
