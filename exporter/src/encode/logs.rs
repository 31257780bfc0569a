//! Attempts as log records: the events `synspan.connect` and `synspan.connect.stalled`.
//!
//! A record says what the attempt's span says, so that one is enough where the other is missing, and leads to it by trace
//! and span id.

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};

use super::attributes::{Attributes, cut};
use super::envelope;
use super::ids::SpanId;
use super::verdict_text::explanation;
use crate::identify::Identity;
use crate::identify::describe::Described;
use crate::names::{SCHEMA_URL, attribute};
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
    /// The record with these attributes besides the event's name, which they get too.
    pub fn record(self, mut attributes: Attributes) -> LogRecord {
        attributes.str(attribute::EVENT_NAME, self.name);
        let (trace_id, span_id) = match self.span {
            Some((trace, span)) => (trace.0.to_vec(), span.0.to_vec()),
            None => (Vec::new(), Vec::new()),
        };
        // A name may hold anything, and the body is one line.
        let body = cut(&self.body).replace(|c: char| c.is_control(), " ");
        LogRecord {
            time_unix_nano: self.time,
            observed_time_unix_nano: self.time,
            severity_number: self.severity.number().into(),
            severity_text: self.severity.text().to_owned(),
            body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
            attributes: attributes.finish(),
            dropped_attributes_count: 0,
            flags: if self.sampled && !trace_id.is_empty() { super::links::TRACE_FLAGS } else { 0 },
            trace_id,
            span_id,
            event_name: self.name.to_owned(),
        }
    }
}

/// A record in the envelope of its resource.
pub fn enclose(resource: &Identity, record: LogRecord) -> ResourceLogs {
    let (scope, log_records) = (envelope::scope(), vec![record]);
    ResourceLogs {
        resource: envelope::resource(resource),
        scope_logs: vec![ScopeLogs { scope, log_records, schema_url: SCHEMA_URL.to_owned() }],
        schema_url: SCHEMA_URL.to_owned(),
    }
}

/// The line of an attempt: who, where to, what came of it, why.
pub fn line(described: &Described) -> String {
    let attempt = &*described.attempt;
    let client = described.client.as_ref().and_then(|client| client.display_name());
    let client = client.or_else(|| attempt.client_tuple().map(|tuple| tuple.src.to_string()));
    let to = attempt.destination().map(|end| end.to_string()).unwrap_or_else(|| "?".to_owned());
    let far = described.server.as_ref().or(described.peer.as_ref()).and_then(|far| far.display_name());
    let to = far.map_or_else(|| to.clone(), |name| format!("{name} ({to})"));
    let outcome = match attempt.verdict.outcome {
        Outcome::TimedOut => "timed out",
        Outcome::Aborted => "given up by the application",
        Outcome::Pending => "still open",
        other => other.as_str(),
    };
    let seconds = attempt.duration().as_secs_f64();
    let mut line = format!("tcp connect {} -> {to} {outcome} after {seconds:.3} s", client.as_deref().unwrap_or("?"));
    if attempt.syns > 1 {
        line.push_str(&format!(" and {} SYNs", attempt.syns));
    }
    if let Some(cause) = attempt.verdict.cause {
        line.push_str(&format!(": {}", cause.as_str()));
        if attempt.verdict.evidence != Evidence::None {
            line.push_str(&format!(" ({})", attempt.verdict.evidence.as_str()));
        }
    } else if attempt.failed() {
        line.push_str(": no cause found");
    }
    if let Some(why) = explanation(described) {
        line.push_str(&format!("; {why}"));
    }
    line
}

#[cfg(test)]
mod tests {
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
        let body = event.record(Attributes::default()).body.and_then(|body| body.value);
        assert!(matches!(body, Some(Value::StringValue(text)) if text.contains("a b") && !text.contains('\n')));
    }
}
