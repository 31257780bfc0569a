//! What came since the last line, in one line.

use std::fmt::Write as _;
use std::time::Duration;

use super::text::duration;
use crate::capture::observation::Mono;
use crate::track::attempt::Attempt;
use crate::track::verdict::Outcome;

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts attempts between two lines.
#[derive(Debug, Default)]
pub struct Summary {
    since: Option<Mono>,
    attempts: u64,
    established: u64,
    failed: u64,
    shown: u64,
    total: Duration,
    longest: Duration,
}

impl Summary {
    /// Counts an attempt.
    pub fn count(&mut self, attempt: &Attempt, shown: bool) {
        self.attempts += 1;
        self.shown += u64::from(shown);
        self.failed += u64::from(attempt.failed());
        if attempt.verdict.outcome == Outcome::Established {
            self.established += 1;
            self.total = self.total.saturating_add(attempt.duration());
            self.longest = self.longest.max(attempt.duration());
        }
    }

    /// The line, if its time has come and there is anything to say.
    pub fn due(&mut self, now: Mono) -> Option<String> {
        let since = *self.since.get_or_insert(now);
        if now.since(since) < INTERVAL {
            return None;
        }
        self.since = Some(now);
        let heading = format!("last {:.0} s", now.since(since).as_secs_f64());
        self.take(&heading)
    }

    /// The line for what came since the last one.
    pub fn rest(&mut self) -> Option<String> {
        self.take("since then")
    }

    /// The line for what came since the last one, under another heading.
    pub fn all(&mut self, heading: &str) -> Option<String> {
        self.take(heading)
    }

    fn take(&mut self, heading: &str) -> Option<String> {
        let of = std::mem::replace(self, Self { since: self.since, ..Self::default() });
        if of.attempts == 0 {
            return None;
        }
        let mut line =
            format!("{heading}: {} attempt{}, {} established", of.attempts, plural(of.attempts), of.established);
        if of.established > 0 {
            let mean = Duration::from_secs_f64(of.total.as_secs_f64() / of.established as f64);
            // Writing to a string cannot fail.
            let _ = write!(line, " (mean {}, longest {})", duration(mean), duration(of.longest));
        }
        let _ = write!(line, ", {} failed, {} shown", of.failed, of.shown);
        Some(line)
    }
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
