//! How the source of names stands: written by the watch, read by whoever tells people.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How the source of names stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Every pod of this node was listed once.
    pub synced: bool,
    /// When the API server last answered.
    pub last_contact: Option<Instant>,
    /// Since when it has not, where the last that was asked of it failed.
    pub lost_since: Option<Instant>,
    /// Why.
    pub last_error: Option<String>,
    /// Requests sent.
    pub requests: u64,
    /// Complete lists that were received.
    pub lists: u64,
}

/// A [`Status`] that several hold.
#[derive(Clone, Debug, Default)]
pub struct SharedStatus(Arc<Mutex<Status>>);

impl SharedStatus {
    /// Changes it.
    pub fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As it is now.
    pub fn get(&self) -> Status {
        self.update(|status| status.clone())
    }

    /// The API server answered. Returns for how long it had not, if it had been lost.
    pub fn heard(&self) -> Option<std::time::Duration> {
        self.update(|status| {
            status.last_contact = Some(Instant::now());
            status.last_error = None;
            status.lost_since.take().map(|since| since.elapsed())
        })
    }

    /// It did not. Returns whether that is new.
    pub fn lost(&self, error: &str) -> bool {
        self.update(|status| {
            status.last_error = Some(error.to_owned());
            let new = status.lost_since.is_none();
            status.lost_since.get_or_insert_with(Instant::now);
            new
        })
    }
}
