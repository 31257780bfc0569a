//! The tracker, and the encoder behind it, by a history of observations.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use synspan::capture::observation::{Interface, InterfaceChange, Mono, Observation, PointKind, What};
use synspan::encode::{self, Encoder};
use synspan::identify::chain::Identities;
use synspan::identify::clock::WallClock;
use synspan::identify::describe::Describer;
use synspan::identify::node::Node;
use synspan::track::attempt::{Attempt, Finding, MAX_STEPS};
use synspan::track::flow::FlowSide;
use synspan::track::trace_id::DEFAULT_KEY;
use synspan::track::verdict::Evidence;
use synspan::track::{Options, Tracker};

use crate::history::{self, NODE, POD_A, POD_B};

const MAX_ATTEMPTS: usize = 12;
const MAX_TENANCIES: usize = 10;
/// The first byte's lowest bits set the options; the rest is the history.
const ERRORS: u8 = 1;
const CALLS: u8 = 2;

/// Plays the history twice. The findings must be the same, bounded, and hold together.
pub fn run(data: &[u8]) {
    let Some((&options, data)) = data.split_first() else { return };
    let history = history::read(data);
    let found = play(options, &history);
    assert_eq!(format!("{found:?}"), format!("{:?}", play(options, &history)), "the same history, other findings");
    flows_add_up(&found);
    let mut serials = HashSet::new();
    let attempts = found.into_iter().filter_map(|finding| match finding {
        Finding::Attempt(attempt) => Some(attempt),
        _ => None,
    });
    let node = Node::new("node-1", false, &[]);
    let mut describer = Describer::new(Identities::new(vec![]), None, &node, 100);
    let encoder = Encoder::new(encode::Options {
        node_name: Arc::clone(node.name()),
        covered: synspan::identify::covered::Covered::default(),
        internal_kind: false,
        id_key: DEFAULT_KEY,
        replay: false,
    });
    for attempt in attempts {
        assert!(serials.insert(attempt.serial), "{} is reported twice", attempt.serial);
        holds_together(&attempt);
        let described = describer.describe_now(attempt, WallClock::fixed(0));
        let facts = encoder.facts(&described);
        for record in encoder.spans(&described, &facts, None) {
            let span = Span::decode(&record.bytes[..]).expect("a span");
            assert!(span.trace_id.len() == 16 && span.span_id.len() == 8 && span.span_id != [0; 8]);
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:#?}");
            assert_ne!(span.parent_span_id, span.span_id);
        }
        if let Some(record) = encoder.record(&described, &facts, true) {
            let record = LogRecord::decode(&record.bytes[..]).expect("a log record");
            assert!(record.trace_id.len() == 16 && record.span_id.len() == 8 && record.body.is_some());
        }
    }
}

fn play(options: u8, history: &[Observation]) -> Vec<Finding> {
    let mut tracker = Tracker::new(
        Options {
            max_attempts: MAX_ATTEMPTS,
            max_tenancies: MAX_TENANCIES,
            errors_seen: options & ERRORS != 0,
            calls_watched: options & CALLS != 0,
            host_netns: 1,
            ..Options::default()
        },
        Mono(0),
    );
    for (ifindex, kind) in [(POD_A, PointKind::PodNic), (POD_B, PointKind::PodNic), (NODE, PointKind::NodeNic)] {
        let now = Some(Interface { name: Arc::from("if"), kind });
        tracker.observe(&Observation { time: Mono(0), what: What::Interface(InterfaceChange { ifindex, now }) });
    }
    let mut found = Vec::new();
    for observation in history {
        tracker.observe(observation);
        tracker.advance(observation.time);
        let counts = tracker.counts();
        assert!(counts.open_attempts <= MAX_ATTEMPTS as u64, "{counts:?}");
        assert!(counts.tenancies <= MAX_TENANCIES as u64, "{counts:?}");
        drain(&mut tracker, &mut found);
    }
    tracker.finish_all();
    drain(&mut tracker, &mut found);
    assert_eq!(tracker.counts().open_attempts, 0, "all ends with the end");
    found
}

fn drain(tracker: &mut Tracker, found: &mut Vec<Finding>) {
    while let Some(finding) = tracker.next_finding() {
        if let Finding::Inbound(summary) = &finding {
            assert!(summary.syns > 0 && summary.syns >= summary.counted && summary.until >= summary.from);
        }
        found.push(finding);
    }
    let mut asked = HashSet::new();
    while let Some(question) = tracker.next_question() {
        assert!(asked.insert(question), "{question:?} is asked twice at once");
    }
}

/// A socket's totals never go back, its deltas add up to them, and it ends once.
fn flows_add_up(found: &[Finding]) {
    let mut known: HashMap<(u64, FlowSide), (u64, u64, bool)> = HashMap::new();
    for finding in found {
        let Finding::Flow(flow) = finding else { continue };
        if flow.serial == 0 {
            continue; // of several from before the start, which one is not told
        }
        let (sent, sum, ended) = known.entry((flow.serial, flow.side)).or_default();
        assert!(!*ended && flow.totals.sent_segments >= *sent, "{flow:#?}");
        *sum += flow.delta.sent_segments;
        (*sent, *ended) = (flow.totals.sent_segments, flow.end.is_some());
        assert_eq!(*sum, *sent, "{flow:#?}");
    }
}

/// What holds for every attempt, whatever it was.
fn holds_together(attempt: &Attempt) {
    let verdict = &attempt.verdict;
    assert!(attempt.steps.len() <= MAX_STEPS);
    assert!(attempt.ended >= attempt.started, "{attempt:#?}");
    assert!(attempt.steps.is_sorted_by_key(|step| step.time), "{attempt:#?}");
    assert!(attempt.steps.iter().all(|step| step.point.is_none_or(|at| at < attempt.sightings.len())));
    match verdict.cause {
        None => {
            assert_eq!(verdict.evidence, Evidence::None);
            assert!(verdict.also.is_empty() && verdict.responsible.is_none(), "{verdict:?}");
        }
        Some(cause) => {
            assert!(cause.entry().evidence.contains(&verdict.evidence), "{verdict:?}");
            assert!(verdict.responsible.is_some() && !verdict.also.contains(&cause), "{verdict:?}");
        }
    }
    if let Some(owner) = &attempt.previous_owner {
        assert_ne!(owner.serial, attempt.serial, "nobody is his own previous owner");
    }
}
