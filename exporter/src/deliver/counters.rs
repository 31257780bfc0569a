//! What delivery counts: nothing is lost silently.

use std::time::Instant;

use super::parcel::Signal;

/// Why records were dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DropReason {
    /// The exporter's queue was full.
    QueueFull,
    /// All queues together were full.
    MemoryLimit,
    /// The backend took the rest of the request and said that it rejected these (partial success).
    Rejected,
    /// The backend refused the request in a way that OTLP says not to retry.
    Permanent,
    /// Tried until `max_elapsed_time`, or once where retry is off.
    RetriesExhausted,
    /// A record larger than a request may be.
    TooLarge,
    /// Not sent by the end of the shutdown, or offered after it.
    Shutdown,
}

impl DropReason {
    /// All of them, in the order of [`Counters::dropped`].
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::MemoryLimit,
        Self::Rejected,
        Self::Permanent,
        Self::RetriesExhausted,
        Self::TooLarge,
        Self::Shutdown,
    ];

    /// Its name in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::MemoryLimit => "memory_limit",
            Self::Rejected => "rejected",
            Self::Permanent => "permanent",
            Self::RetriesExhausted => "retries_exhausted",
            Self::TooLarge => "too_large",
            Self::Shutdown => "shutdown",
        }
    }
}

/// How an exporter fares.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// Nothing was sent yet.
    #[default]
    Untried,
    /// The last request was taken.
    Ok,
    /// The last request was not taken: why, and what to check.
    Failing(String),
}

/// What one exporter did with one signal. Records are spans, log records or data points.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Records offered.
    pub offered: u64,
    /// Records taken by the backend.
    pub sent: u64,
    /// Requests taken by the backend.
    pub requests: u64,
    /// Bytes of those requests before compression.
    pub bytes: u64,
    /// Requests that failed, each try.
    pub failures: u64,
    /// Those of them by status, as they first came.
    pub failures_by: Vec<(&'static str, u64)>,
    /// Failed requests whose records went back into the queue.
    pub retries: u64,
    /// Records dropped, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Records in the queue now.
    pub queued: u64,
    /// Bytes in the queue now.
    pub queued_bytes: u64,
    /// Records on their way now.
    pub in_flight: u64,
    /// How it fares.
    pub health: Health,
    /// How often it changed between well and failing.
    pub health_changes: u64,
    /// Since when every request has failed; none while it is well.
    pub failing_since: Option<Instant>,
    /// The last request that failed, when and why, also of one that is well again.
    pub last_failure: Option<(Instant, String)>,
}

impl Counters {
    /// Records dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Records dropped for any reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Notes how the last request fared. Returns whether that is a change between well and failing.
    pub(super) fn note(&mut self, health: Health, now: Instant) -> bool {
        let was_failing = matches!(self.health, Health::Failing(_));
        if let Health::Failing(why) = &health {
            self.failing_since.get_or_insert(now);
            self.last_failure = Some((now, why.clone()));
        } else {
            self.failing_since = None;
        }
        let changed = was_failing != self.failing_since.is_some();
        self.health_changes += u64::from(changed);
        self.health = health;
        changed
    }

    /// Notes a request that failed.
    pub(super) fn fail(&mut self, status: &'static str) {
        self.failures += 1;
        match self.failures_by.iter_mut().find(|(known, _)| *known == status) {
            Some((_, count)) => *count += 1,
            None => self.failures_by.push((status, 1)),
        }
    }

    pub(super) fn drop(&mut self, reason: DropReason, records: usize) {
        self.dropped[reason as usize] += records as u64;
    }
}

/// The counters of one exporter and signal, at one time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The exporter's id.
    pub exporter: String,
    /// The signal.
    pub signal: Signal,
    /// Its counters. `offered` is always `sent`, dropped, `queued` and `in_flight` together.
    pub counters: Counters,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_of_a_row_of_failures_says_since_when_and_the_last_one_why() {
        let (mut counters, start) = (Counters::default(), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        let failing = |why: &str| Health::Failing(why.to_owned());
        assert!(!counters.note(Health::Ok, start), "nothing was wrong");
        assert!(counters.note(failing("refused"), later(1)));
        assert!(!counters.note(failing("timed out"), later(5)));
        assert_eq!(counters.failing_since, Some(later(1)));
        assert_eq!(counters.last_failure, Some((later(5), "timed out".to_owned())));
        assert!(counters.note(Health::Ok, later(9)));
        assert_eq!((counters.failing_since, counters.health_changes), (None, 2));
        assert_eq!(counters.last_failure, Some((later(5), "timed out".to_owned())), "what was is not forgotten");
        assert!(counters.note(failing("refused"), later(20)));
        assert_eq!(counters.failing_since, Some(later(20)));
    }
}
