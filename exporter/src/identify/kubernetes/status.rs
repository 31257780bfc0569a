//! How the source of names stands: written by the watch, read by whoever tells people.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// While the API server is away, that is said again after this long.
const REMIND: Duration = Duration::from_secs(600);

/// How the source of names stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Every pod of this node was listed once.
    pub synced: bool,
    /// When the API server was last heard. While a watch is open it says something each minute or so.
    pub last_contact: Option<Instant>,
    /// Since when it has not, where the last that was asked of it failed.
    pub lost_since: Option<Instant>,
    /// When that was said last.
    pub told: Option<Instant>,
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

    /// More of an answer came.
    pub fn speaks(&self) {
        self.update(|status| status.last_contact = Some(Instant::now()));
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

    /// It did not. Returns for how long, where that is to be said: at first, and once in ten minutes.
    pub fn lost(&self, error: &str) -> Option<Duration> {
        let now = Instant::now();
        self.update(|status| {
            status.last_error = Some(error.to_owned());
            let new = status.lost_since.is_none();
            let since = *status.lost_since.get_or_insert(now);
            let due = new || status.told.is_none_or(|told| now.saturating_duration_since(told) >= REMIND);
            due.then(|| {
                status.told = Some(now);
                now.saturating_duration_since(since)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_said_at_first_and_again_after_a_while() {
        let status = SharedStatus::default();
        assert_eq!(status.heard(), None);
        assert!(status.lost("refused").is_some_and(|age| age < Duration::from_secs(1)));
        assert_eq!(status.lost("refused"), None);
        let long = Instant::now().checked_sub(REMIND);
        status.update(|status| (status.told, status.lost_since) = (long, long));
        assert!(status.lost("timed out").is_some_and(|age| age >= REMIND));
        assert_eq!(status.lost("timed out"), None);
        assert_eq!(status.get().last_error.as_deref(), Some("timed out"));
        assert!(status.heard().is_some_and(|away| away >= REMIND));
        assert!(status.get().last_error.is_none() && status.get().lost_since.is_none());
        assert!(status.lost("refused").is_some(), "a new loss is said");
    }

    #[test]
    fn more_of_an_answer_is_contact_and_ends_no_loss() {
        let status = SharedStatus::default();
        let _ = status.lost("refused");
        status.speaks();
        assert!(status.get().last_contact.is_some() && status.get().lost_since.is_some());
    }
}
