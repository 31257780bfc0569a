//! What an answer means for what was sent, by OTLP's rules (opentelemetry-proto, docs/specification.md,
//! "OTLP/gRPC Response"), and how long to wait before the next try.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};

use super::options::RetryOptions;

/// The answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Taken; a partial success rejected so many records, and says why.
    Taken {
        /// Records rejected.
        rejected: u64,
        /// The backend's message, empty if all is well.
        message: String,
    },
    /// Not taken.
    Failed(Failure),
}

/// Why a request was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What happened, in one line, without the endpoint.
    pub what: String,
    /// What to check.
    pub check: &'static str,
    /// Whether OTLP says to try again.
    pub retry: bool,
    /// The wait that the backend asked for (RetryInfo).
    pub after: Option<Duration>,
    /// The backend's status, by its name in the gRPC documentation; [`NO_ANSWER`] if there was none.
    pub status: &'static str,
}

/// In place of a status: the backend did not answer.
pub const NO_ANSWER: &str = "NO_ANSWER";

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what, self.check)
    }
}

impl Failure {
    /// A failure of the way to the backend rather than of the backend; always tried again.
    pub(super) fn transport(what: impl Into<String>, check: &'static str) -> Self {
        Self { what: what.into(), check, retry: true, after: None, status: NO_ANSWER }
    }

    /// A status that the backend sent.
    pub(super) fn status(status: &Status) -> Self {
        let after = retry_info(status.details());
        let retry = match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => true,
            Code::ResourceExhausted => after.is_some(),
            _ => false,
        };
        let check = match status.code() {
            Code::Unimplemented => "check that an OTLP receiver for this signal is enabled at this port",
            Code::Unauthenticated | Code::PermissionDenied => "check `headers` and the client certificate",
            Code::ResourceExhausted => {
                "check the backend's limits (message size, rate), and sending_queue.batch.max_size"
            }
            Code::Unavailable => "check the backend's own log",
            _ => "see the backend's own log",
        };
        Self {
            what: format!("{:?} ({}): {}", status.code(), status.code() as i32, one_line(status.message())),
            check,
            retry,
            after,
            status: name(status.code()),
        }
    }
}

/// A status by its name (gRPC, doc/statuscodes.md).
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Text of the outside in one line of bounded length, without control characters.
pub(super) fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let clean: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.is_empty() { "no message".to_owned() } else { clean }
}

/// google.rpc.Status, as `grpc-status-details-bin` carries it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// google.protobuf.Any.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// google.rpc.RetryInfo.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<ProtoDuration>,
}

/// google.protobuf.Duration.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoDuration {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// The type of RetryInfo in an Any.
pub(super) const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Longest wait that a backend may ask for, so that a slip there does not silence us for good.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    let nanos = u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999);
    Some(Duration::new(seconds, nanos).min(LONGEST_WAIT))
}

/// Exponential backoff of one exporter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    options: RetryOptions,
    next: Duration,
}

impl Backoff {
    pub fn new(options: RetryOptions) -> Self {
        Self { options, next: options.initial }
    }

    /// Back to the first wait.
    pub fn reset(&mut self) {
        self.next = self.options.initial;
    }

    /// The next wait, spread by `chance`, which is from 0 to 1; each call makes the one after longer.
    pub fn wait(&mut self, chance: f64) -> Duration {
        let wait = self.next.min(self.options.max);
        let grown = wait.as_secs_f64() * self.options.multiplier;
        self.next = Duration::try_from_secs_f64(grown).unwrap_or(self.options.max).min(self.options.max);
        let spread = 1.0 + self.options.randomization * (2.0 * chance - 1.0);
        Duration::try_from_secs_f64(wait.as_secs_f64() * spread).unwrap_or(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn details(seconds: i64) -> Vec<u8> {
        let info = RetryInfo { retry_delay: Some(ProtoDuration { seconds, nanos: 0 }) };
        let any = Any { type_url: RETRY_INFO.to_owned(), value: info.encode_to_vec() };
        RpcStatus { code: 8, message: "slow down".to_owned(), details: vec![any] }.encode_to_vec()
    }

    #[test]
    fn codes_as_the_specification_has_them() {
        let retried: Vec<i32> =
            (1..=16).filter(|code| Failure::status(&Status::new(Code::from(*code), "")).retry).collect();
        assert_eq!(retried, [1, 4, 10, 11, 14, 15]);
    }

    #[test]
    fn resource_exhausted_needs_retry_info() {
        let status = Status::with_details(Code::ResourceExhausted, "", details(7).into());
        let failure = Failure::status(&status);
        assert_eq!((failure.retry, failure.after), (true, Some(Duration::from_secs(7))));
        for (broken, after) in
            [(details(-1), Some(Duration::ZERO)), (details(i64::MAX), Some(LONGEST_WAIT)), (vec![0xff], None)]
        {
            let failure = Failure::status(&Status::with_details(Code::ResourceExhausted, "", broken.into()));
            assert_eq!((failure.retry, failure.after), (after.is_some(), after));
        }
    }

    #[test]
    fn waits_grow_to_the_limit() {
        let options = RetryOptions {
            enabled: true,
            initial: Duration::from_secs(5),
            randomization: 0.5,
            multiplier: 1.5,
            max: Duration::from_secs(10),
            max_elapsed: Duration::ZERO,
        };
        let mut backoff = Backoff::new(options);
        let waits: Vec<f64> = (0..4).map(|_| backoff.wait(0.5).as_secs_f64()).collect();
        assert_eq!(waits, [5.0, 7.5, 10.0, 10.0]);
        backoff.reset();
        assert_eq!(
            (backoff.wait(0.0), backoff.wait(1.0)),
            (Duration::from_millis(2500), Duration::from_millis(11_250))
        );
    }

    #[test]
    fn foreign_text_stays_in_its_line() {
        assert_eq!(one_line("a\nb\x1b[31m"), "a b [31m");
        assert_eq!(one_line(&"x".repeat(1000)).len(), 300);
    }
}
