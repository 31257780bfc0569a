//! Whether the spans of two agents agree, trace by trace.
//!
//! A trace whose random part is at or above the threshold of the ratio is kept, with all its spans, by each node that
//! its SYN came to. Below it only those are kept that are kept always, each with a threshold of zero: what failed, was
//! slow or sent a SYN again, and what used a port again. What both nodes see of that they keep alike. What one of them
//! alone can see it keeps alone: where the first SYN was lost between the nodes, the second node saw a clean connection
//! by the later SYN, in that SYN's trace; and a span that was sent because a link leads to it stands for itself. Of what
//! comes from outside and is refused a node tells ten attempts a listener in ten seconds one by one, and the sum of the
//! rest in `synspan.inbound`; the client's node tells of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{CLOSED, LOSSY, NODES, Outcome, node_of};
use crate::load::judge::{Judgement, within};
use crate::receiver::Kept;
use crate::seen::Span;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// Traces kept by the ratio, by both nodes.
    pub by_ratio: u64,
    /// Traces kept always, by why and by how many nodes.
    pub kept: BTreeMap<(Why, u8), u64>,
    /// The thresholds, by how many spans have them.
    pub thresholds: BTreeMap<String, u64>,
    /// The flags' lowest byte, by how many spans have it.
    pub flags: BTreeMap<u32, u64>,
    /// What is wrong.
    pub faults: Vec<String>,
}

/// All ids that the random part can tell apart (W3C Trace Context level 2): 56 bits.
const ALL: f64 = (1_u64 << 56) as f64;
/// The longest that a connect may take and not be slow: the agents' own rule.
const SLOW: u64 = 500_000_000;
/// The tracestate of what is kept whatever its id.
const ALWAYS: &str = "ot=th:0";
/// Sampled, and the id is random.
const FLAGS: u32 = 3;

/// The spans of one trace.
#[derive(Default)]
struct Trace<'a> {
    connect: Vec<&'a Span>,
    accept: Vec<&'a Span>,
    forward: Vec<&'a Span>,
    /// Sent since a link leads to it.
    late: Vec<&'a Span>,
}

impl<'a> Trace<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Span> {
        [&self.connect, &self.accept, &self.forward].into_iter().flatten().copied()
    }
}

/// The node whose agent sent a span.
fn node(span: &Span) -> &str {
    let own = || span.resource.get("host.name").or_else(|| span.resource.get("k8s.node.name"));
    node_of(span.service()).or_else(|| own().map(String::as_str)).unwrap_or("")
}

fn is(span: &Span, name: &str) -> bool {
    span.get(name) == Some("true")
}

/// The random part of a trace id.
fn random(trace: &str) -> Option<u64> {
    u64::from_str_radix(trace.get(18..32)?, 16).ok()
}

/// The threshold of a tracestate `ot=th:...`: trailing zeros are left out.
fn threshold(state: &str) -> Option<u64> {
    let digits = state.strip_prefix("ot=th:")?;
    (1..=14).contains(&digits.len()).then(|| u64::from_str_radix(&format!("{digits:0<14}"), 16).ok())?
}

/// Why a trace is kept whatever its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// The attempt failed.
    Failed,
    /// Its port had been another connection's.
    Again,
    /// Both nodes saw the SYN twice.
    Deaf,
    /// The first SYN was lost between the nodes.
    Lossy,
    /// It is the later SYN's own trace, and the server's node knows the attempt by that trace alone.
    Later,
    /// The same where that node knows it by the first SYN's trace.
    LaterKnown,
    /// It took long, which the client alone sees.
    Slow,
    /// A link leads to it.
    Linked,
}

impl Why {
    /// Of a client's span; none if it is kept by the ratio alone.
    fn of(connect: &Span) -> Option<Self> {
        let lossy = connect.get("server.port") == Some(&LOSSY.to_string());
        let again = connect.get("synspan.syns").and_then(|syns| syns.parse().ok()).is_some_and(|syns: u64| syns > 1);
        match connect.get("synspan.outcome") {
            _ if is(connect, "synspan.syn_retry") => Some(if lossy { Self::Later } else { Self::LaterKnown }),
            Some("established") if is(connect, "synspan.reuse") => Some(Self::Again),
            Some("established") if again => Some(if lossy { Self::Lossy } else { Self::Deaf }),
            Some("established") if connect.end - connect.start >= SLOW => Some(Self::Slow),
            Some("established") | None => None,
            Some(_) => Some(Self::Failed),
        }
    }

    /// What the server's node keeps of it: its `tcp accept` and `tcp forward`, the latter alone, or nothing. `kept` says
    /// that its random part is one that all nodes keep.
    fn fits(self, kept: bool, accepts: usize, there: usize) -> bool {
        match (self, accepts, there) {
            // Each by itself, or in a sum.
            (Self::Failed, 0, 0 | 1) | (Self::Again | Self::Deaf, 1, 1) | (Self::Lossy | Self::LaterKnown, 0, 0) => {
                true
            }
            // To that node it is any success.
            (Self::Later | Self::Slow, 1, 1) => kept,
            (Self::Later | Self::Slow, 0, 0) => !kept,
            _ => false,
        }
    }
}

/// Looks at all that came.
pub fn judge(outcome: &Outcome, kept: &Kept, said: &Judgement) -> Agreement {
    let (spans, records) = (kept.spans(), kept.records());
    let mut traces: BTreeMap<&str, Trace<'_>> = BTreeMap::new();
    for span in &spans {
        let trace = traces.entry(&span.trace).or_default();
        match span.name.as_str() {
            "tcp connect" if is(span, "synspan.late") => trace.late.push(span),
            "tcp connect" => trace.connect.push(span),
            "tcp accept" => trace.accept.push(span),
            _ => trace.forward.push(span),
        }
    }
    let mut found = Agreement::default();
    let least = (1.0 - outcome.pair.ratio) * ALL;
    for (id, trace) in &traces {
        for span in trace.all() {
            *found.thresholds.entry(span.state.clone()).or_default() += 1;
            *found.flags.entry(span.flags & 0xff).or_default() += 1;
        }
        match random(id) {
            Some(random) => found.trace(trace, random as f64 >= least),
            None => found.faults.push(format!("{id} is no trace id")),
        }
    }
    found.values(least);
    let ids: BTreeSet<(&str, &str)> = spans.iter().map(|span| (span.trace.as_str(), span.id.as_str())).collect();
    let links = spans.iter().flat_map(|span| &span.links);
    let nowhere = links.filter(|link| !ids.contains(&(link.trace.as_str(), link.span.as_str()))).count();
    if nowhere > 0 {
        found.faults.push(format!("{nowhere} links lead nowhere"));
    }
    let inbound = records.iter().filter(|record| record.event == "synspan.inbound");
    let refused = inbound.filter(|record| record.number("server.port") == u64::from(CLOSED));
    found.counts(outcome, said, refused.map(|record| record.number("synspan.inbound.syns")).sum());
    found
}

impl Agreement {
    /// Judges one trace; `kept` says that its random part is one that all nodes keep.
    fn trace(&mut self, trace: &Trace<'_>, kept: bool) {
        let Some(connect) = trace.connect.first() else {
            // With no connect of its own only what stands for itself may be there: no half of a trace is.
            if trace.late.is_empty() || trace.all().next().is_some() || kept {
                self.wrong("the client's node keeps nothing of it, and another does", trace);
            }
            *self.kept.entry((Why::Linked, 1)).or_default() += 1;
            return;
        };
        let here = node(connect);
        let at = |own: bool| trace.forward.iter().filter(|span| (node(span) == here) == own).count();
        let (own, there, accepts) = (at(true), at(false), trace.accept.len());
        // A later SYN's own trace has no more of the client's node than the span that a far node hangs its own on.
        let later = is(connect, "synspan.syn_retry");
        if trace.connect.len() > 1 || own != usize::from(!later) || trace.accept.iter().any(|span| node(span) == here) {
            self.wrong("the client's node keeps other spans of it than it must", trace);
        }
        let Some(why) = Why::of(connect) else {
            if !kept || accepts != 1 || there != 1 {
                self.wrong("both nodes must keep all of it, or nothing", trace);
            }
            if !trace.all().all(|span| span.state == connect.state && span.state != ALWAYS) {
                self.wrong("the nodes do not give it the same threshold", trace);
            }
            self.by_ratio += 1;
            return;
        };
        if !why.fits(kept, accepts, there) {
            self.wrong(&format!("the server's node keeps other spans of it than it must, {why:?}"), trace);
        }
        // The server's node gives it the threshold of a success where it sees nothing else in it.
        let success = matches!(why, Why::Later | Why::Slow);
        let right = |span: &&Span| (span.state == ALWAYS) != (success && node(span) != here);
        if !trace.all().all(|span| right(&span)) {
            self.wrong("its spans' thresholds are not what they must be", trace);
        }
        *self.kept.entry((why, if there > 0 { 2 } else { 1 })).or_default() += 1;
    }

    fn wrong(&mut self, what: &str, trace: &Trace<'_>) {
        let spans = trace.all().chain(trace.late.iter().copied()).map(line).collect::<Vec<_>>().join("\n    ");
        self.faults.push(format!("{what}:\n    {spans}"));
    }

    /// Whether thresholds and flags are those that they must be.
    fn values(&mut self, least: f64) {
        for state in self.thresholds.keys() {
            let near = |threshold: u64| threshold == 0 || (threshold as f64 - least).abs() < 1e-9 * ALL;
            if !threshold(state).is_some_and(near) {
                self.faults.push(format!("a span's tracestate is `{state}`"));
            }
        }
        if self.flags.keys().any(|flags| *flags != FLAGS) {
            self.faults.push(format!("spans' flags are {:?}, and not all {FLAGS}", self.flags));
        }
    }

    /// Whether as many were kept and left out as there were.
    fn counts(&mut self, outcome: &Outcome, said: &Judgement, summed: u64) {
        let pair = outcome.pair;
        let by = |why, nodes| self.kept.get(&(why, nodes)).copied().unwrap_or(0);
        let of = |why| by(why, 1) + by(why, 2);
        let plain = u64::from(pair.taken) + u64::from(pair.back) + u64::from(pair.again) - of(Why::Slow);
        let by_ratio = self.by_ratio;
        let mut equal = vec![
            ("failed attempts".to_owned(), of(Why::Failed), pair.refused.into()),
            ("refused ones, by themselves or in a sum".into(), by(Why::Failed, 2) + summed, pair.refused.into()),
            ("attempts with a port used again".into(), by(Why::Again, 2), pair.again.into()),
            ("attempts whose first SYN the server did not take".into(), by(Why::Deaf, 2), pair.deaf.into()),
            ("their later SYNs".into(), of(Why::LaterKnown), pair.deaf.into()),
            ("attempts whose first SYN was lost between the nodes".into(), by(Why::Lossy, 1), pair.lossy.into()),
            ("their later SYNs".into(), of(Why::Later), pair.lossy.into()),
            ("links to a previous owner that lead nowhere".into(), said.dangling, 0),
            ("what came twice, or went back".into(), said.twice + said.went_back, 0),
        ];
        // What each node left out by the ratio: the server's also what it took for any success.
        let left = plain - by_ratio;
        for ((node, _), left) in NODES.iter().zip([left, left + by(Why::Later, 1) + by(Why::Slow, 1)]) {
            let Some(counters) = outcome.counters.get(*node) else { continue };
            let by_ratio = counters.get("/untold/by_ratio").unwrap_or(u64::MAX);
            equal.push((format!("what {node} left out by the ratio"), by_ratio, left));
            equal.push((format!("what {node} lost"), counters.lost() + counters.undelivered(), 0));
        }
        for (what, is, must) in equal.into_iter().filter(|(_, is, must)| is != must) {
            self.faults.push(format!("{what}: {is}, and it must be {must}"));
        }
        if !within(by_ratio, plain, pair.ratio) {
            self.faults.push(format!("of {plain} successes {by_ratio} were kept, and the ratio is {}", pair.ratio));
        }
        let done = outcome.truth.tally().without_reuse();
        if said.attempts != done {
            self.faults
                .push(format!("the totals of synspan.connect.attempts are not what was done:\n{}", said.attempts));
        }
    }
}

fn line(span: &Span) -> String {
    let Span { trace, name, state, .. } = span;
    let of = |name| span.get(name).unwrap_or("-");
    format!(
        "{trace} {name} of {} at {}, {state}, {} {}, SYNs {}",
        span.service(),
        node(span),
        of("synspan.outcome"),
        of("synspan.cause"),
        of("synspan.syns")
    )
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "traces that both nodes keep by the ratio: {}", self.by_ratio)?;
        for ((why, nodes), count) in &self.kept {
            writeln!(f, "traces kept always, {why:?}, by {nodes} of the nodes: {count}")?;
        }
        writeln!(f, "tracestates {:?}, flags {:?}", self.thresholds, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_and_the_random_part_are_read_as_the_specification_has_them() {
        assert_eq!(threshold("ot=th:0"), Some(0));
        assert_eq!(threshold("ot=th:8"), Some(1 << 55));
        assert_eq!(threshold("ot=th:e6666666666668"), Some(0xe6_6666_6666_6668));
        assert_eq!((threshold(""), threshold("ot=th:"), threshold("ot=th:123456789abcdef")), (None, None, None));
        assert_eq!(random("ffffffffffffffffffe6666666666667"), Some(0xe6_6666_6666_6667));
        assert_eq!(random("ff"), None);
    }

    fn span(trace: &str, name: &str, service: &str, state: &str) -> Span {
        let mut span = Span {
            trace: trace.into(),
            id: format!("{name} {service}"),
            name: name.into(),
            state: state.into(),
            flags: FLAGS,
            ..Span::default()
        };
        let node = node_of(service).unwrap_or(service);
        let service = if name == "tcp forward" { "node-network" } else { service };
        span.resource.extend([("service.name".into(), service.into()), ("host.name".into(), node.into())]);
        if name == "tcp connect" {
            let facts = [("synspan.outcome", "established"), ("synspan.syns", "1"), ("server.port", "8443")];
            span.attributes.extend(facts.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        span
    }

    /// What is wrong with one trace of these spans.
    fn wrong(spans: &[Span]) -> Vec<String> {
        let mut trace = Trace::default();
        for span in spans {
            match span.name.as_str() {
                "tcp connect" => trace.connect.push(span),
                "tcp accept" => trace.accept.push(span),
                _ => trace.forward.push(span),
            }
        }
        let mut found = Agreement::default();
        found.trace(&trace, random(&spans[0].trace).unwrap() as f64 >= 0.9 * ALL);
        found.faults
    }

    #[test]
    fn half_a_trace_and_another_threshold_are_faults() {
        let (high, low) = ("00".repeat(9) + &"ff".repeat(7), "00".repeat(15) + "01");
        let state = "ot=th:e6666666666668";
        let whole = |trace: &str, state: &str| {
            [("tcp connect", "cart"), ("tcp forward", "node-a"), ("tcp forward", "node-b"), ("tcp accept", "web")]
                .map(|(name, service)| span(trace, name, service, state))
                .to_vec()
        };
        assert!(wrong(&whole(&high, state)).is_empty());
        assert_eq!(wrong(&whole(&high, state)[..3]).len(), 1, "no accept");
        assert_eq!(wrong(&whole(&high, state)[1..]).len(), 1, "no connect");
        assert_eq!(wrong(&whole(&low, state)).len(), 1, "the ratio leaves it out");
        let mut other = whole(&high, state);
        other[3].state = "ot=th:8".into();
        assert_eq!(wrong(&other).len(), 1, "another threshold");
        // One that used a port again is kept whatever its id, by both.
        let mut again = whole(&low, ALWAYS);
        again[0].attributes.insert("synspan.reuse".into(), "true".into());
        assert!(wrong(&again).is_empty());
        assert_eq!(wrong(&again[..2]).len(), 1, "by one node alone");
    }

    #[test]
    fn what_the_other_node_cannot_see_it_keeps_by_the_ratio() {
        for (kept, accepts, there, fits) in
            [(true, 1, 1, true), (true, 0, 0, false), (false, 0, 0, true), (false, 1, 1, false)]
        {
            assert_eq!((Why::Later.fits(kept, accepts, there), Why::Slow.fits(kept, accepts, there)), (fits, fits));
        }
        assert!(Why::Failed.fits(false, 0, 0) && Why::Failed.fits(true, 0, 1) && !Why::Failed.fits(true, 1, 1));
        assert!(Why::Deaf.fits(false, 1, 1) && !Why::Deaf.fits(true, 0, 1) && !Why::Lossy.fits(true, 0, 1));
    }
}
