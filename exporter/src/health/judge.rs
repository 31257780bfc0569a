//! Whether the agent lives and is ready: pure, so that the rules stand in one place.
//!
//! **Live**: the capture thread and the telemetry thread have each gone on within [`STUCK_AFTER`]. Both do so when
//! nothing happens, too.
//!
//! **Ready**: it lives; every interface of the start has been attached, or found impossible to attach; and names are
//! settled: Kubernetes is not asked, or its first list of pods is complete, or [`NAMES_PATIENCE`] has passed since the
//! start. Once attached it stays so when interfaces come later. What is ready but not whole says so in a remark.
//! Readiness means that capture works: an API server that is away or refuses, a hook that cannot be attached, or an
//! export that fails never takes it away for long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::status::{Moment, for_people};
use crate::capture::observation::Mono;
use crate::identify::clock::WallClock;

/// A thread that has not gone on for so long is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);
/// How long the first list of pods may keep the agent from being ready.
pub const NAMES_PATIENCE: Duration = Duration::from_secs(60);

/// What is judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The monotonic time.
    pub now: Mono,
    /// The wall-clock time for it.
    pub clock: WallClock,
    /// When the agent started.
    pub started: Mono,
    /// When the capture thread last went on.
    pub capture: Mono,
    /// When the telemetry thread last went on.
    pub telemetry: Mono,
    /// Whether every interface of the start has had its turn.
    pub attached: bool,
    /// Hooks that could not be attached.
    pub blind: u64,
    /// Where names come from.
    pub names: Names,
}

/// How names of pods stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Names {
    /// Kubernetes is not asked.
    NotAsked,
    /// The first list is complete.
    Synced,
    /// It is not, and why, if the API server did not answer or refused.
    Waiting(Option<String>),
}

/// A judgement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is so.
    pub ok: bool,
    /// One line: why not; or `ok`, perhaps with a remark.
    pub says: String,
}

impl Verdict {
    fn no(why: String) -> Self {
        Self { ok: false, says: why }
    }
}

/// Whether the agent lives.
pub fn live(facts: &Facts) -> Verdict {
    let threads = [("capture", facts.capture), ("telemetry", facts.telemetry)];
    let stuck: Vec<String> = threads
        .into_iter()
        .filter(|(_, last)| facts.now.since(*last) > STUCK_AFTER)
        .map(|(name, last)| {
            let since = Moment::at(last, facts.now, facts.clock);
            format!("the {name} thread is stuck since {}", for_people(&since))
        })
        .collect();
    if stuck.is_empty() { Verdict { ok: true, says: "ok".to_owned() } } else { Verdict::no(stuck.join("; ")) }
}

/// Whether it is ready.
pub fn ready(facts: &Facts) -> Verdict {
    let live = live(facts);
    if !live.ok {
        return live;
    }
    if !facts.attached {
        return Verdict::no("capture: the interfaces of the start are being attached".to_owned());
    }
    let mut says = "ok".to_owned();
    if facts.blind > 0 {
        says.push_str(&format!("; capture: hooks that could not be attached: {}", facts.blind));
    }
    if let Names::Waiting(why) = &facts.names {
        let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        if facts.now.since(facts.started) <= NAMES_PATIENCE {
            return Verdict::no(format!("names: the API server's first list of pods is not complete{why}"));
        }
        says.push_str(&format!("; names: capture goes on without the API server's list of pods{why}"));
    }
    Verdict { ok: true, says }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::testing::facts;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_thread_that_stalls_is_named_with_the_time() {
        let healthy = facts();
        assert_eq!(live(&healthy), Verdict { ok: true, says: "ok".to_owned() });
        let late = Facts { now: healthy.capture.plus(STUCK_AFTER), telemetry: healthy.now, ..healthy.clone() };
        assert!(live(&late).ok, "the bound itself is in time");
        let stuck = Facts { now: late.now.plus(12 * SECOND), telemetry: late.now, ..late };
        let said = live(&stuck);
        assert!(!said.ok && !ready(&stuck).ok);
        assert_eq!(said.says, "the capture thread is stuck since 1970-01-01 00:02:00 UTC (42.0 s)");
        let both = Facts { telemetry: Mono(0), ..stuck };
        assert_eq!(
            live(&both).says,
            "the capture thread is stuck since 1970-01-01 00:02:00 UTC (42.0 s); the telemetry thread is stuck since 1970-01-01 00:00:00 UTC (2 min 42 s)"
        );
    }

    #[test]
    fn ready_waits_for_the_interfaces() {
        let said = ready(&Facts { attached: false, ..facts() });
        assert_eq!((said.ok, said.says.as_str()), (false, "capture: the interfaces of the start are being attached"));
        let said = ready(&Facts { blind: 2, ..facts() });
        assert!(said.ok && said.says == "ok; capture: hooks that could not be attached: 2", "{}", said.says);
    }

    #[test]
    fn ready_waits_for_names_for_a_minute_and_then_says_that_they_lack() {
        for names in [Names::NotAsked, Names::Synced] {
            assert_eq!(ready(&Facts { names, ..facts() }).says, "ok");
        }
        let started = facts().now;
        let waiting = |seconds: u32, why: Option<&str>| {
            let now = started.plus(seconds * SECOND);
            let names = Names::Waiting(why.map(str::to_owned));
            ready(&Facts { now, started, capture: now, telemetry: now, names, ..facts() })
        };
        assert_eq!(
            waiting(60, None),
            Verdict::no("names: the API server's first list of pods is not complete".to_owned())
        );
        assert!(!waiting(3, Some("refused")).ok);
        let after = waiting(61, Some("pods is forbidden"));
        assert_eq!(after.says, "ok; names: capture goes on without the API server's list of pods (pods is forbidden)");
        assert!(after.ok);
    }
}
