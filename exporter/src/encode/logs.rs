//! Attempts as log records: the events `synspan.connect` and `synspan.connect.stalled`.
//!
//! A record says what the attempt's span says, so that one is enough where the other is missing, and leads to it by trace
//! and span id.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;

use super::attributes::{Attributes, cut};
use super::ids::SpanId;
use super::verdict_text::explanation;
use super::wire;
use crate::capture::address_text::AddressText;
use crate::capture::tuple::Endpoint;
use crate::identify::Identity;
use crate::identify::describe::Described;
use crate::names::attribute;
use crate::track::attempt::Attempt;
use crate::track::trace_id::TraceId;
use crate::track::verdict::{Evidence, Outcome};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the data model's words say it")]
pub enum Severity {
    Info,
    Warn,
    Error,
}

impl Severity {
    /// Of an attempt: ERROR where it failed, WARN where it came late or its port was reused.
    pub fn of(attempt: &Attempt) -> Self {
        let faulty = attempt.verdict.cause.is_some_and(|cause| cause.entry().fault);
        if attempt.failed() {
            Self::Error
        } else if attempt.slow() || attempt.reused || faulty || attempt.verdict.outcome == Outcome::Pending {
            Self::Warn
        } else {
            Self::Info
        }
    }

    fn number(self) -> SeverityNumber {
        match self {
            Self::Info => SeverityNumber::Info,
            Self::Warn => SeverityNumber::Warn,
            Self::Error => SeverityNumber::Error,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// What every record has.
pub struct Event<'a> {
    /// Its name.
    pub name: &'a str,
    /// How bad it is.
    pub severity: Severity,
    /// When it happened, in nanoseconds since 1970.
    pub time: u64,
    /// One line for people.
    pub body: String,
    /// The span that it belongs to.
    pub span: Option<(TraceId, SpanId)>,
    /// Whether that span was kept.
    pub sampled: bool,
}

impl Event<'_> {
    /// The record with these attributes and the event's name, which is one too. Of LogRecord `time_unix_nano` is field 1,
    /// `severity_number` 2, `severity_text` 3, `body` 5, `attributes` 6, `flags` 8, `trace_id` 9, `span_id` 10,
    /// `observed_time_unix_nano` 11, `event_name` 12; of AnyValue `string_value` is field 1.
    pub fn record(self, attributes: &[&Attributes]) -> Vec<u8> {
        let mut name = Attributes::with_capacity(1);
        name.str(attribute::EVENT_NAME, self.name);
        // A name may hold anything, and the body is one line.
        let body = cut(&self.body);
        let clean;
        let body = if body.contains(char::is_control) {
            clean = body.replace(char::is_control, " ");
            &clean
        } else {
            body
        };
        let mut text = Vec::with_capacity(body.len() + 4);
        wire::framed(&mut text, 1, body.as_bytes());
        let written: usize = attributes.iter().map(|list| list.written()).sum();
        let mut out = Vec::with_capacity(written + body.len() + 160);
        wire::fixed64(&mut out, 1, self.time);
        wire::varint(&mut out, 2, self.severity.number() as u64);
        wire::bytes(&mut out, 3, self.severity.text().as_bytes());
        wire::framed(&mut out, 5, &text);
        attributes.iter().for_each(|list| list.write(6, &mut out));
        name.write(6, &mut out);
        if let Some((trace, span)) = self.span {
            wire::fixed32(&mut out, 8, if self.sampled { super::links::TRACE_FLAGS } else { 0 });
            wire::bytes(&mut out, 9, &trace.0);
            wire::bytes(&mut out, 10, &span.0);
        }
        wire::fixed64(&mut out, 11, self.time);
        wire::bytes(&mut out, 12, self.name.as_bytes());
        out
    }
}

/// The line of an attempt: who, where to, what came of it, why.
pub fn line(described: &Described) -> String {
    let attempt = &*described.attempt;
    let mut line = String::with_capacity(160);
    line.push_str("tcp connect ");
    let client = described.client.as_ref().and_then(|client| client.display_name());
    match (&client, attempt.client_tuple()) {
        (Some(name), _) => line.push_str(name),
        (None, Some(tuple)) => line.push_str(&AddressText::of_endpoint(tuple.src)),
        (None, None) => line.push('?'),
    }
    line.push_str(" -> ");
    let far = described.server.as_ref().or(described.peer.as_ref());
    put_far(&mut line, far, attempt.destination());
    line.push(' ');
    line.push_str(match attempt.verdict.outcome {
        Outcome::TimedOut => "timed out",
        Outcome::Aborted => "given up by the application",
        Outcome::Pending => "still open",
        other => other.as_str(),
    });
    put_age(&mut line, attempt.duration());
    if attempt.syns > 1 {
        // Writing to a string cannot fail.
        let _ = write!(line, " and {} SYNs", attempt.syns);
    }
    if let Some(cause) = attempt.verdict.cause {
        line.push_str(": ");
        line.push_str(cause.as_str());
        if attempt.verdict.evidence != Evidence::None {
            line.extend([" (", attempt.verdict.evidence.as_str(), ")"]);
        }
    } else if attempt.failed() {
        line.push_str(": no cause found");
    }
    if let Some(why) = explanation(described) {
        line.extend(["; ", &why]);
    }
    line
}

/// A far end by its name, with the address in brackets, or by that alone.
pub fn put_far(line: &mut String, identity: Option<&Arc<Identity>>, end: Option<Endpoint>) {
    let end = end.map(AddressText::of_endpoint);
    let end = end.as_deref().unwrap_or("?");
    match identity.and_then(|identity| identity.display_name()) {
        Some(name) => line.extend([name.as_str(), " (", end, ")"]),
        None => line.push_str(end),
    }
}

/// ` after 0.004 s`.
pub fn put_age(line: &mut String, age: Duration) {
    let millis = (age.as_micros() + 500) / 1_000;
    // Writing to a string cannot fail.
    let _ = write!(line, " after {}.{:03} s", millis / 1_000, millis % 1_000);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use prost::Message as _;

    use super::*;
    use crate::identify::fixtures;
    use crate::names::event;

    #[test]
    fn the_line_stands_alone() {
        let line = line(&fixtures::case());
        assert!(line.starts_with("tcp connect shop/vehicle-control -> "), "{line}");
        for part in ["192.168.50.20:8443", "established after 1.013 s", "source_port_reuse (exact)", "shop/cart had it"]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn severity_follows_what_the_application_got() {
        assert_eq!(Severity::of(&fixtures::clean().attempt), Severity::Info);
        assert_eq!(Severity::of(&fixtures::case().attempt), Severity::Warn);
        assert_eq!(Severity::of(&fixtures::refused().attempt), Severity::Error);
    }

    #[test]
    fn a_name_with_line_breaks_leaves_one_line() {
        let mut described = fixtures::clean();
        described.client = Some(fixtures::pod("shop", "a\nb", "a"));
        let event = Event {
            name: event::SYNSPAN_CONNECT,
            severity: Severity::Info,
            time: 0,
            body: line(&described),
            span: None,
            sampled: false,
        };
        let record = LogRecord::decode(&event.record(&[])[..]).expect("a record");
        let body = record.body.and_then(|body| body.value);
        assert!(matches!(body, Some(Value::StringValue(text)) if text.contains("a b") && !text.contains('\n')));
    }
}
