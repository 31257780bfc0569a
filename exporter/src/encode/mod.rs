//! Encode: attempts in OpenTelemetry's words.
//!
//! [`Encoder`] makes spans and the log record of a described attempt, of the same [`facts`], so that all signals tell one
//! story; [`metrics`] sums up. Spans and records are written as bytes at once ([`wire`]).

pub mod attributes;
#[cfg(test)]
pub(crate) mod decoded;
pub mod envelope;
pub mod events;
pub mod facts;
pub mod flows;
pub mod forward;
pub mod ids;
pub mod links;
pub mod logs;
pub mod metrics;
pub mod prefix;
pub mod privacy;
pub mod spans;
pub mod summaries;
mod verdict_text;
pub mod volume;
pub mod wire;

#[cfg(test)]
pub(crate) use spans::arbitrary::any_described;
pub use spans::{Encoder, Options};
pub use verdict_text::{error_type, explanation};

use crate::track::attempt::Attempt;

/// What goes first when there is too much, and last when nothing fits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Priority {
    /// A clean success: subject to sampling, first to be dropped.
    Success,
    /// Failed, slow, or on a reused port: always kept, last to be dropped.
    Failure,
}

/// The priority of an attempt (design section 7, volume).
pub fn priority(attempt: &Attempt) -> Priority {
    let faulty = attempt.verdict.cause.is_some_and(|cause| cause.entry().fault);
    if attempt.failed() || attempt.slow() || attempt.reused || faulty { Priority::Failure } else { Priority::Success }
}
