//! Compares what the agents sent with what a scenario wants.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use super::attempted::{Attempted, OUTCOME, is_attempt, of};
use super::far;
use super::judged::{Judged, Judgement, live};
use super::model::{Expect, Owner, OwnerWant, Scenario, TraceWant, Want};
use crate::seen::Span;

const STATUS_ERROR: i32 = 2;
/// Compares everything: what is wrong, and how each connect was judged.
pub fn judge(scenario: &Scenario, attempted: &[Attempted], spans: &[Span]) -> Judgement {
    let mut wrong = Vec::new();
    let (mut judged, mut told_live) = (Vec::new(), Vec::new());
    let mut named = HashSet::new();
    let somewhere = attempted.iter().any(|attempt| {
        let expects = scenario.expect.iter().filter(|expect| expect.some && expect.connect == attempt.connect.name);
        let met =
            |expect: &Expect| of(attempt, spans).iter().any(|span| compare(expect, span, attempted, spans).is_empty());
        expects.into_iter().any(met)
    });
    // The traces of which a cause is expected, on whatever node.
    let mut known = HashSet::new();
    for attempt in attempted {
        let expects = || scenario.expect.iter().filter(|expect| expect.connect == attempt.connect.name);
        let near = of(attempt, spans);
        named.extend(near.iter().map(|span| span.id.as_str()));
        let control = clean(&attempt.connect.name);
        let mut views: Vec<(&Expect, Vec<&Span>)> = Vec::new();
        for expect in expects() {
            match &expect.at {
                Some(node) => views.push((expect, far::of(attempt, node, &near, spans))),
                None => views.push((expect, near.clone())),
            }
        }
        let outside = far::outside(scenario, attempt);
        if !outside && views.iter().all(|(expect, _)| expect.at.is_some()) {
            // Whatever the far node says, for the client it is a control.
            views.push((&control, near.clone()));
        } else if let (true, true, Some(node)) = (outside, views.is_empty(), far::servers_node(scenario, attempt)) {
            views.push((&control, far::of(attempt, node, &near, spans)));
        }
        if expects().next().is_some() {
            known.extend(views.iter().flat_map(|(_, spans)| spans.iter().map(|span| span.trace.clone())));
            known.extend(near.iter().flat_map(|span| span.links_of("syn_retry").map(|link| link.trace.clone())));
        }
        for (expect, found) in views {
            let mut faults = told(expect, attempt, &found, attempted, spans);
            if expect.some && somewhere && faults.complete {
                // Those of which it does not hold were spared, and are controls.
                faults.forgive(&told(&control, attempt, &found, attempted, spans));
            }
            judged.extend(Judged::of(expect, attempt, &found, &faults));
            told_live.extend(live(Some(expect), &found));
            wrong.extend(faults.said());
        }
    }
    for span in spans.iter().filter(|span| is_attempt(span) && !named.contains(span.id.as_str())) {
        told_live.extend(live(None, &[span]));
        let cause = span.get("synspan.cause");
        if cause.is_some() || span.status == STATUS_ERROR {
            wrong
                .push(format!("an attempt of `{}` that the scenario did not make has cause {cause:?}", span.service()));
        }
    }
    // What the other nodes said of connects, though nothing is expected of it.
    for span in spans.iter().filter(|span| far::is_verdict(span)) {
        if !told_live.iter().any(|live| (&live.node, &live.trace_id) == (&span.node, &span.trace)) {
            told_live.extend(live(None, &[span]));
        }
    }
    wrong.extend(far::strays(&known, scenario.agents.strangers, spans));
    wrong.extend(orphans(spans));
    Judgement { wrong, judged, live: told_live }
}

/// What is wrong with the spans of a connect.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// That there are too many spans or too few.
    missing: Option<String>,
    /// Which of the spans are wrong, by their places, and in words.
    pub spans: BTreeMap<usize, Vec<String>>,
    /// Whether there are as many spans as there must be.
    pub complete: bool,
}

impl Faults {
    /// Keeps what is wrong by `other` too, in its words.
    fn forgive(&mut self, other: &Self) {
        self.spans = other
            .spans
            .iter()
            .filter(|(at, _)| self.spans.contains_key(at))
            .map(|(at, said)| (*at, said.clone()))
            .collect();
    }

    /// In words, the first few.
    fn said(self) -> impl Iterator<Item = String> {
        self.missing.into_iter().chain(self.spans.into_values().flatten()).take(5)
    }
}

/// What is wrong with the spans of a connect as one node tells it.
fn told(expect: &Expect, attempt: &Attempted, found: &[&Span], attempted: &[Attempted], spans: &[Span]) -> Faults {
    let at = expect.at.as_ref().map(|node| format!(" at {node}")).unwrap_or_default();
    let name = format!("{}{at}", attempt.connect.name);
    let wanted = expect.spans.unwrap_or(attempt.results.len());
    if found.len() != wanted {
        let said = format!("{name}: {} spans of {} attempts, not {wanted}", found.len(), attempt.results.len());
        return Faults { missing: Some(said), ..Faults::default() };
    }
    let faults = found.iter().map(|span| compare(expect, span, attempted, spans)).enumerate();
    let wrong = faults.filter(|(_, said)| !said.is_empty());
    let spans = wrong.map(|(at, said)| (at, said.into_iter().map(|fault| format!("{name}: {fault}")).collect()));
    Faults { missing: None, spans: spans.collect(), complete: true }
}

/// What holds for a control: it came up, and nothing was wrong.
fn clean(name: &str) -> Expect {
    let is = |word: &str| Want::Is(word.to_owned());
    Expect {
        connect: name.to_owned(),
        outcome: is("established"),
        cause: is("none"),
        evidence: Want::OneOf(vec!["none".into()]),
        status: is("unset"),
        ..Expect::default()
    }
}

fn compare(expect: &Expect, span: &Span, attempted: &[Attempted], spans: &[Span]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ask = |name: &str, value: Option<&str>, want: &Want| {
        if !want.met(value) {
            wrong.push(format!("{name} is {}, not {want}", value.unwrap_or("none")));
        }
    };
    ask("outcome", span.get(OUTCOME), &expect.outcome);
    ask("cause", span.get("synspan.cause"), &expect.cause);
    // An attempt with no cause may say that it has no evidence, in a word or by silence.
    ask("evidence", span.get("synspan.evidence").filter(|word| *word != "none"), &expect.evidence);
    ask("responsible", span.get("synspan.responsible"), &expect.responsible);
    ask("status", Some(if span.status == STATUS_ERROR { "error" } else { "unset" }), &expect.status);
    for (name, want) in &expect.attributes {
        ask(name, span.get(name), want);
    }
    for event in expect.events.iter().filter(|event| span.events.iter().all(|(name, _)| name != *event)) {
        wrong.push(format!("there is no event {event}"));
    }
    let mut ask = |name: &str, value: Option<&str>, want: &Want| {
        if !want.met(value) {
            wrong.push(format!("{name} is {}, not {want}", value.unwrap_or("none")));
        }
    };
    match &expect.owner {
        None => {}
        Some(OwnerWant::Word(word)) => {
            let want = Want::Is(word.clone());
            ask("previous owner", span.get("synspan.previous_owner.service.name"), &want);
            ask("previous owner's span", span.get("synspan.previous_owner.span_id"), &want);
        }
        Some(OwnerWant::Owner(owner)) => wrong.extend(compare_owner(owner, span, attempted, spans)),
    }
    if let Some(want) = &expect.trace {
        wrong.extend(compare_trace(want, span, spans));
    }
    wrong
}

fn compare_owner(owner: &Owner, span: &Span, attempted: &[Attempted], spans: &[Span]) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(old) = attempted.iter().find(|attempt| attempt.connect.name == owner.connect) else {
        return vec![format!("the scenario has no connect `{}`", owner.connect)];
    };
    let prefix = "synspan.previous_owner";
    let mut ask = |name: &str, want: &Want| {
        let value = span.get(&format!("{prefix}.{name}"));
        if !want.met(value) {
            wrong.push(format!("previous owner's {name} is {}, not {want}", value.unwrap_or("none")));
        }
    };
    ask("service.name", &Want::Is(old.connect.from.clone()));
    ask("server_state", &owner.server_state);
    ask("closed_by", &owner.closed_by);
    let ids: Vec<(&str, &str)> = of(old, spans).iter().map(|span| (span.trace.as_str(), span.id.as_str())).collect();
    let mut links = span.links_of("previous_owner");
    match links.next() {
        None => wrong.push("there is no link of type previous_owner".into()),
        Some(link) if !ids.contains(&(link.trace.as_str(), link.span.as_str())) => {
            wrong.push(format!("the link leads to {}/{}, and the owner's spans are {ids:?}", link.trace, link.span));
        }
        Some(link) => {
            let said = (span.get(&format!("{prefix}.trace_id")), span.get(&format!("{prefix}.span_id")));
            if said != (Some(link.trace.as_str()), Some(link.span.as_str())) {
                wrong.push(format!("the attributes name {said:?} and the link {}/{}", link.trace, link.span));
            }
        }
    }
    if links.next().is_some() {
        wrong.push("there are several links of type previous_owner".into());
    }
    wrong
}

fn compare_trace(want: &TraceWant, span: &Span, spans: &[Span]) -> Vec<String> {
    let mut wrong = Vec::new();
    // Where a later SYN was the one answered, the server's half is in that SYN's trace, and linked.
    let mut traces = vec![span.trace.as_str()];
    traces.extend(span.links_of("syn_retry").map(|link| link.trace.as_str()));
    let inside = |name: &'static str| {
        let traces = traces.clone();
        spans.iter().filter(move |other| other.is(name) && traces.contains(&other.trace.as_str()))
    };
    if let Some(server) = &want.accept {
        let accepts: Vec<&Span> = inside("tcp accept").filter(|accept| accept.service() == server).collect();
        match accepts.as_slice() {
            [accept] => {
                let parent = spans.iter().find(|other| other.trace == accept.trace && other.id == accept.parent);
                if !parent.is_some_and(|parent| parent.is("tcp connect")) {
                    wrong.push("the parent of tcp accept is no tcp connect".into());
                }
                if accept.node == span.node {
                    wrong.push(format!("tcp accept came from {}, the client's node", accept.node));
                }
            }
            others => wrong.push(format!("{} spans `tcp accept` of `{server}` in the trace, not 1", others.len())),
        }
    }
    for node in &want.forwards {
        let count = inside("tcp forward").filter(|forward| forward.node == *node).count();
        if count != 1 {
            wrong.push(format!("{count} spans `tcp forward` of {node} in the trace, not 1"));
        }
    }
    wrong
}

/// Spans whose parent never came, and spans with one id.
fn orphans(spans: &[Span]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ids = HashSet::new();
    for span in spans {
        if !ids.insert((span.trace.as_str(), span.id.as_str())) {
            wrong.push(format!(
                "two spans have the id {}/{}; one is `{}` of {}",
                span.trace, span.id, span.name, span.node
            ));
        }
    }
    for span in spans.iter().filter(|span| !span.parent.is_empty()) {
        if !ids.contains(&(span.trace.as_str(), span.parent.as_str())) {
            wrong.push(format!(
                "`{}` of {} has a parent that never came: {}/{}",
                span.name, span.node, span.trace, span.parent
            ));
        }
    }
    wrong
}

/// The spans for people, the first hundred.
pub fn table(spans: &[Span]) -> String {
    let mut text = String::new();
    for span in spans.iter().take(100) {
        let _ = write!(text, "  {} {} `{}` {}/{}", span.node, span.service(), span.name, &span.trace, span.id);
        let _ = write!(text, " parent {:?} status {} {:?}", span.parent, span.status, span.attributes);
        for link in &span.links {
            let _ = write!(text, " link {}/{} {:?}", link.trace, link.span, link.attributes);
        }
        text.push('\n');
        for (name, attributes) in &span.events {
            let _ = writeln!(text, "      {name} {attributes:?}");
        }
    }
    if spans.len() > 100 {
        let _ = writeln!(text, "  and {} more", spans.len() - 100);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::scenario::catalog;
    use crate::scenario::model::Step;
    use crate::seen::{Attributes, Link};
    use crate::worker::protocol::Connected;

    const CASE: &str = "
about: the case
topology: {nodes: [{name: node-a, pods: [cart, vehicle-control]}]}
steps:
  - connect: {as: old, from: cart, port: 8443}
  - connect: {as: late, from: vehicle-control, port: 8443}
  - connect: {as: control, from: vehicle-control, port: 8443}
expect:
  - connect: late
    outcome: established
    cause: source_port_reuse
    evidence: exact
    responsible: node
    status: unset
    owner: {connect: old, server_state: never_closed, closed_by: client}
";

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn span(id: &str, service: &str, port: u16, more: &[(&str, &str)]) -> Span {
        let port = port.to_string();
        let mut all = attributes(&[
            ("network.peer.address", "192.168.60.20"),
            ("network.peer.port", "8443"),
            ("network.local.port", &port),
            ("synspan.outcome", "established"),
        ]);
        all.extend(attributes(more));
        Span {
            node: "node-a".into(),
            resource: attributes(&[("service.name", service)]),
            name: "tcp connect".into(),
            trace: format!("trace-{id}"),
            id: id.into(),
            start: 1_000_000_000,
            attributes: all,
            ..Span::default()
        }
    }

    fn attempt(scenario: &Scenario, name: &str, port: u16) -> Attempted {
        let connect = scenario.steps.iter().find_map(|step| match step {
            Step::Connect(connect) if connect.name == name => Some(connect.clone()),
            _ => None,
        });
        let local = Some(SocketAddr::from(([10, 244, 1, 11], port)));
        Attempted {
            connect: connect.unwrap(),
            to: "192.168.60.20:8443".parse().unwrap(),
            began: Duration::from_secs(1),
            ended: None,
            at: Instant::now(),
            results: vec![Connected { result: "ok".into(), local, took_us: 100 }],
        }
    }

    /// The scenario of the case, what it did, and the spans that are right for it.
    fn case() -> (Scenario, Vec<Attempted>, Vec<Span>) {
        let scenario = catalog::read("case", CASE).unwrap();
        let attempted =
            vec![attempt(&scenario, "old", 1), attempt(&scenario, "late", 2), attempt(&scenario, "control", 3)];
        let mut late = span(
            "b",
            "vehicle-control",
            2,
            &[
                ("synspan.cause", "source_port_reuse"),
                ("synspan.evidence", "exact"),
                ("synspan.responsible", "node"),
                ("synspan.previous_owner.service.name", "cart"),
                ("synspan.previous_owner.server_state", "never_closed"),
                ("synspan.previous_owner.closed_by", "client"),
                ("synspan.previous_owner.trace_id", "trace-a"),
                ("synspan.previous_owner.span_id", "a"),
            ],
        );
        let kind = attributes(&[("synspan.link.type", "previous_owner")]);
        late.links = vec![Link { trace: "trace-a".into(), span: "a".into(), attributes: kind }];
        let spans = vec![span("a", "cart", 1, &[]), late, span("c", "vehicle-control", 3, &[])];
        (scenario, attempted, spans)
    }

    #[test]
    fn the_right_spans_are_right() {
        let (scenario, attempted, spans) = case();
        let judgement = judge(&scenario, &attempted, &spans);
        assert_eq!(judgement.wrong, Vec::<String>::new());
        let cells: Vec<_> =
            judgement.judged.iter().map(|j| (j.expected.as_str(), j.reported.as_str(), j.right)).collect();
        let none = ("none", "none", true);
        assert_eq!(cells, [none, ("source_port_reuse", "source_port_reuse", true), none]);
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        type Spoil = fn(&mut Vec<Span>);
        let breaks: &[(&str, Spoil)] = &[
            ("0 spans of 1 attempts", |spans| drop(spans.remove(0))),
            ("2 spans of 1 attempts", |spans| spans.push(Span { id: "d".into(), ..spans[1].clone() })),
            ("evidence is tuple", |spans| drop(spans[1].attributes.insert("synspan.evidence".into(), "tuple".into()))),
            ("control: cause is no_response", |spans| {
                spans[2].attributes.insert("synspan.cause".into(), "no_response".into());
            }),
            ("control: status is error", |spans| spans[2].status = STATUS_ERROR),
            ("no link of type previous_owner", |spans| spans[1].links.clear()),
            ("the link leads to", |spans| spans[1].links[0].span = "x".into()),
            ("the attributes name", |spans| {
                spans[1].attributes.insert("synspan.previous_owner.span_id".into(), "x".into());
            }),
            ("a parent that never came", |spans| spans[0].parent = "x".into()),
            ("two spans have the id", |spans| {
                let twin = spans[0].clone();
                spans.push(Span { name: "tcp accept".into(), ..twin });
            }),
            ("an attempt of `browser` that the scenario did not make", |spans| {
                spans.push(span("e", "browser", 9, &[("synspan.cause", "no_response")]));
            }),
        ];
        for (said, spoil) in breaks {
            let (scenario, attempted, mut spans) = case();
            spoil(&mut spans);
            let wrong = judge(&scenario, &attempted, &spans).wrong;
            assert!(wrong.iter().any(|text| text.contains(said)), "{said}: {wrong:?}");
        }
    }
}
