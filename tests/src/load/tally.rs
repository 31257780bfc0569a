//! Counts of attempts by workload and outcome: what was done, and what each signal says.

use std::collections::BTreeMap;
use std::fmt;

/// What becomes of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// It is established.
    Taken,
    /// It is refused.
    Refused,
    /// Nobody answers, and the application gives up.
    Dark,
    /// It is established, with a port that another workload's connection had.
    Again,
    /// It is established by its second SYN, since the first was lost.
    Lost,
}

/// Workload, outcome, cause; whether the port was used again.
pub type Key = (String, String, String, bool);

/// Attempts by key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally(pub BTreeMap<Key, u64>);

impl Tally {
    /// Counts so many more.
    pub fn add(&mut self, key: Key, count: u64) {
        if count > 0 {
            *self.0.entry(key).or_default() += count;
        }
    }

    /// As totals tell it, which do not say what was used again.
    pub fn without_reuse(&self) -> Self {
        let mut all = Self::default();
        for ((workload, outcome, cause, _), count) in &self.0 {
            all.add((workload.clone(), outcome.clone(), cause.clone(), false), *count);
        }
        all
    }

    /// Those whose outcome is one that is wanted.
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let of = self.0.iter().filter(|((_, outcome, ..), _)| wanted(outcome));
        Self(of.map(|(key, count)| (key.clone(), *count)).collect())
    }

    /// Those that were not established.
    pub fn failed(&self) -> Self {
        self.only(|outcome| outcome != "established")
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((workload, outcome, cause, again), count) in &self.0 {
            let again = if *again { " reuse" } else { "" };
            writeln!(f, "  {workload:<16} {outcome:<12} {cause:<20}{again:<6} {count:>8}")?;
        }
        writeln!(f, "  {:<50}{:>14}", "in all", self.total())
    }
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Truth(Tally);

impl Truth {
    /// So many attempts more.
    pub fn add(&mut self, workload: &str, kind: Kind, count: u64) {
        let (outcome, cause, again) = match kind {
            Kind::Taken => ("established", "", false),
            Kind::Again => ("established", "", true),
            Kind::Refused => ("refused", "connection_refused", false),
            Kind::Lost => ("established", "syn_lost", false),
            Kind::Dark => ("aborted", "no_response", false),
        };
        self.0.add((workload.to_owned(), outcome.to_owned(), cause.to_owned(), again), count);
    }

    /// As each signal must have it.
    pub fn tally(&self) -> &Tally {
        &self.0
    }
}
