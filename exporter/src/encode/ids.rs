//! Span ids: keyed hashes, so that every node gives the same span the same id with no coordination
//! (design section 6).

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

use crate::track::trace_id::{IdKey, TraceId};

/// A span id: 8 bytes, never all zero (W3C Trace Context, 3.2.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The spans that one node makes of an attempt, besides `tcp connect`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanRole {
    /// `tcp forward`.
    Forward,
    /// `tcp accept`.
    Accept,
}

impl SpanRole {
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Forward => b"forward",
            Self::Accept => b"accept",
        }
    }
}

/// The id of a trace's `tcp connect` span: of the trace id alone, so that any node can name it as a
/// parent.
pub fn connect(key: &IdKey, trace: TraceId) -> SpanId {
    hash(key, &[b"connect", &trace.0])
}

/// The id of any other span: of trace id, node, role and point (an interface's name, or nothing).
pub fn span(key: &IdKey, trace: TraceId, node: &str, role: SpanRole, point: &str) -> SpanId {
    hash(key, &[role.tag(), &trace.0, node.as_bytes(), point.as_bytes()])
}

fn hash(key: &IdKey, parts: &[&[u8]]) -> SpanId {
    let mut hasher = SipHasher24::new_with_key(&key.0);
    for part in parts {
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        hasher.write(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.write(part);
    }
    let bytes = hasher.finish().to_be_bytes();
    // All zero is no valid id; the chance is 2^-64, the rule is absolute.
    SpanId(if bytes == [0; 8] { [1; 8] } else { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::trace_id::DEFAULT_KEY;

    const TRACE: TraceId = TraceId([7; 16]);

    #[test]
    fn connect_ids_need_the_trace_and_the_key_alone() {
        assert_eq!(connect(&DEFAULT_KEY, TRACE), connect(&DEFAULT_KEY, TRACE));
        assert_ne!(connect(&DEFAULT_KEY, TRACE), connect(&DEFAULT_KEY, TraceId([8; 16])));
        assert_ne!(connect(&DEFAULT_KEY, TRACE), connect(&IdKey([0; 16]), TRACE));
    }

    #[test]
    fn ids_are_stable_across_releases() {
        assert_eq!(connect(&DEFAULT_KEY, TRACE).to_string(), "f6086c5aa9f1f966");
        assert_eq!(span(&DEFAULT_KEY, TRACE, "node-1", SpanRole::Accept, "").to_string(), "4af172114191cb65");
    }

    #[test]
    fn other_ids_differ_by_node_role_and_point() {
        let id = |node, role, point| span(&DEFAULT_KEY, TRACE, node, role, point);
        let ids = [
            connect(&DEFAULT_KEY, TRACE),
            id("a", SpanRole::Forward, "eth0"),
            id("b", SpanRole::Forward, "eth0"),
            id("a", SpanRole::Accept, "eth0"),
            id("a", SpanRole::Forward, "eth1"),
            id("ae", SpanRole::Forward, "th0"),
        ];
        for (at, one) in ids.iter().enumerate() {
            assert!(!ids[at + 1..].contains(one), "{one}");
        }
    }
}
