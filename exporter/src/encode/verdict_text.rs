//! What an attempt's end is called: `error.type` for machines, a sentence for people.

use crate::capture::tuple::Endpoint;
use crate::identify::describe::Described;
use crate::track::attempt::Attempt;
use crate::track::verdict::{Cause, Outcome};

/// `error.type` of an attempt: what the application got, never the cause; none where it did not fail.
///
/// The error number decides where the kernel gave one; the words are those of .NET's `socket connect`
/// span, and `_OTHER` (the conventions' own fallback) for numbers that have none. Else the outcome
/// decides; an application that gave up itself got no error from anybody, which is called `aborted`.
pub fn error_type(attempt: &Attempt) -> Option<&'static str> {
    if !attempt.failed() {
        return None;
    }
    if let Some(errno) = attempt.verdict.errno {
        return Some(of_errno(errno));
    }
    Some(match attempt.verdict.outcome {
        Outcome::Refused => "connection_refused",
        Outcome::TimedOut => "timed_out",
        Outcome::Unreachable => "host_unreachable",
        Outcome::Aborted => "aborted",
        Outcome::Failed | Outcome::Established | Outcome::Pending => "_OTHER",
    })
}

/// By the numbers of Linux (errno(3)), whatever system this is: they come from Linux kernels.
fn of_errno(errno: i32) -> &'static str {
    match errno {
        111 => "connection_refused",
        110 => "timed_out",
        113 => "host_unreachable",
        101 => "network_unreachable",
        98 => "address_already_in_use",
        99 => "address_not_available",
        104 => "connection_reset",
        103 => "connection_aborted",
        1 | 13 => "access_denied",
        100 => "network_down",
        112 => "host_down",
        _ => "_OTHER",
    }
}

/// The verdict in a sentence for people; none where nothing is to be explained.
pub fn explanation(described: &Described) -> Option<String> {
    let attempt = &described.attempt;
    let cause = attempt.verdict.cause?;
    let mut text = cause.entry().sentence.to_owned();
    if let Some(owner) = &attempt.previous_owner {
        let who = described.previous_owner.as_ref().and_then(|identity| identity.display_name());
        let who = who.unwrap_or_else(|| match owner.tuple.src {
            unknown if unknown == Endpoint::default() => "another connection".to_owned(),
            src => src.to_string(),
        });
        match owner.gap {
            Some(gap) => text.push_str(&format!("; {who} had it until {:.3} s before", gap.as_secs_f64())),
            None => text.push_str(&format!("; {who} has it still")),
        }
        if matches!(cause, Cause::SourcePortReuse | Cause::SourcePortReuseSuspected) {
            text.push_str("; ");
            text.push_str(owner.server_state.sentence());
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::fixtures;

    #[test]
    fn the_error_number_comes_before_the_outcome() {
        let mut attempt = *fixtures::refused().attempt;
        attempt.verdict.errno = Some(113);
        assert_eq!(error_type(&attempt), Some("host_unreachable"));
        attempt.verdict.errno = None;
        assert_eq!(error_type(&attempt), Some("connection_refused"));
        attempt.verdict.errno = Some(9_999);
        assert_eq!(error_type(&attempt), Some("_OTHER"));
    }

    #[test]
    fn giving_up_is_a_failure_only_where_something_was_wrong() {
        let mut attempt = *fixtures::aborted().attempt;
        assert_eq!(error_type(&attempt), Some("aborted"));
        attempt.verdict.cause = Some(Cause::ClientAborted);
        assert_eq!(error_type(&attempt), None);
        attempt.verdict.cause = None;
        attempt.syns = 1;
        assert_eq!(error_type(&attempt), None);
        attempt.syns = 2;
        assert_eq!(error_type(&attempt), Some("aborted"));
    }

    #[test]
    fn success_has_no_error_however_late() {
        assert_eq!(error_type(&fixtures::case().attempt), None);
    }

    #[test]
    fn the_sentence_names_the_previous_owner() {
        let text = explanation(&fixtures::case()).expect("explained");
        assert!(text.contains("shop/cart had it until 0.162 s before"), "{text}");
        assert!(text.ends_with("(CLOSE_WAIT)"), "{text}");
        assert_eq!(explanation(&fixtures::clean()), None);
    }
}
