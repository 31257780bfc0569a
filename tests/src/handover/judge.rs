//! Every span of the handed-on address against what is known of it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::{LOAD, Truth};
use crate::seen::Span;

/// How far a span's start may be from the time of its call: the clocks are one, the reading of them is not.
const NEAR: u64 = 20_000_000;

/// What became of all of it.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Connects with a process in the agent's sight that have the right pod, and without.
    pub right: (usize, usize),
    /// The same, with no pod.
    pub nameless: (usize, usize),
    /// The same, with no span: where nothing but the pod's interface could tell, and that was not watched yet.
    pub unseen: (usize, usize),
    /// Those with another pod's uid, in words.
    pub wrong: Vec<String>,
    /// Ends that went out nameless, as the agent counted them.
    pub counted: usize,
    /// Spans of the load, and those of them that were not its own.
    pub of_load: (usize, usize),
    /// The load's connects.
    pub load: u64,
}

impl Judgement {
    /// Judges the spans of clients at an address; `logs` is what the agent said.
    pub fn new(truth: &[Truth], spans: &[Span], address: &str, logs: &str) -> Self {
        let mut found = Self { counted: counted(logs), ..Self::default() };
        let mut by_port: HashMap<&str, Vec<&Span>> = HashMap::new();
        let connects = spans.iter().filter(|span| span.is("tcp connect"));
        for span in connects {
            if span.get("network.local.address") == Some(address) {
                by_port.entry(span.get("network.local.port").unwrap_or_default()).or_default().push(span);
            } else {
                found.of_load.0 += 1;
                found.of_load.1 += usize::from(span.service() != LOAD);
            }
        }
        let mut taken = HashSet::new();
        for call in truth {
            let port = call.port.to_string();
            let near = |span: &&&Span| {
                (call.called.0.saturating_sub(NEAR)..=call.called.1 + NEAR).contains(&span.start)
                    && !taken.contains(&span.id)
            };
            let side = |pair: &mut (usize, usize)| if call.seen { pair.0 += 1 } else { pair.1 += 1 };
            match by_port.get(port.as_str()).and_then(|spans| spans.iter().find(near)) {
                None => side(&mut found.unseen),
                Some(span) => {
                    taken.insert(span.id.clone());
                    match span.resource.get("k8s.pod.uid") {
                        None => side(&mut found.nameless),
                        Some(uid) if *uid == call.uid => side(&mut found.right),
                        Some(uid) => found.wrong.push(format!("port {port} of pod {} has {uid}", call.uid)),
                    }
                }
            }
        }
        let strangers = by_port.values().flatten().filter(|span| !taken.contains(&span.id));
        found.wrong.extend(strangers.map(|span| {
            format!("a span of {address}:{} belongs to no call", span.get("network.local.port").unwrap_or_default())
        }));
        found
    }

    /// What is not as it must be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.wrong.clone();
        if self.counted != self.nameless.0 + self.nameless.1 {
            faults.push(format!(
                "{} have no pod, and the agent counted {}",
                self.nameless.0 + self.nameless.1,
                self.counted
            ));
        }
        if self.nameless.0 + self.unseen.0 > 0 {
            faults.push(format!(
                "{} with a process in sight have no pod, and {} no span",
                self.nameless.0, self.unseen.0
            ));
        }
        if self.of_load.1 > 0 {
            faults.push(format!("{} spans of the load have another's name", self.of_load.1));
        }
        if self.right.0 == 0 || self.right.1 == 0 || self.load == 0 {
            faults.push("nothing was tried".to_owned());
        }
        faults
    }
}

/// "17 ends of connections went out with no name" to 17.
fn counted(logs: &str) -> usize {
    let line = logs.lines().find(|line| line.contains("ends of connections went out with no name"));
    let before = line.and_then(|line| line.split(" ends of connections").next());
    before.and_then(|before| before.split_whitespace().last()?.parse().ok()).unwrap_or(0)
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "process in sight:  {} right, {} with no pod, {} with no span",
            self.right.0, self.nameless.0, self.unseen.0
        )?;
        writeln!(
            f,
            "interface alone:   {} right, {} with no pod, {} with no span",
            self.right.1, self.nameless.1, self.unseen.1
        )?;
        writeln!(f, "wrong:             {}", self.wrong.len())?;
        writeln!(f, "counted nameless:  {}", self.counted)?;
        write!(
            f,
            "load:              {} connects, {} spans, {} of them misnamed",
            self.load, self.of_load.0, self.of_load.1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(port: u16, uid: Option<&str>, id: &str) -> Span {
        let mut span = Span { name: "tcp connect".into(), id: id.into(), start: 1_000_000_000, ..Span::default() };
        span.attributes.insert("network.local.address".into(), "10.0.0.1".into());
        span.attributes.insert("network.local.port".into(), port.to_string());
        span.resource.extend(uid.map(|uid| ("k8s.pod.uid".to_owned(), uid.to_owned())));
        span
    }

    fn call(port: u16, seen: bool) -> Truth {
        Truth { uid: "a".into(), port, called: (1_000_000_000, 1_001_000_000), seen }
    }

    #[test]
    fn right_none_missing_wrong_and_strangers_are_told_apart() {
        let truth = [call(1, true), call(2, false), call(3, false), call(4, false)];
        let spans = [span(1, Some("a"), "1"), span(2, None, "2"), span(4, Some("b"), "4"), span(5, Some("a"), "5")];
        let found = Judgement::new(&truth, &spans, "10.0.0.1", "INFO 1 ends of connections went out with no name: x");
        assert_eq!((found.right, found.nameless, found.unseen), ((1, 0), (0, 1), (0, 1)));
        assert_eq!((found.wrong.len(), found.counted), (2, 1));
        assert!(found.faults().iter().any(|fault| fault.contains("belongs to no call")));
    }
}
