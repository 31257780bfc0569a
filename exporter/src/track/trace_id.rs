//! Trace ids: a keyed hash of what every node sees alike (design section 6).
//!
//! The id of an attempt's trace is a 128-bit SipHash-2-4 of its SYN fingerprint, so every node that
//! sees the SYN gives it the same id with no coordination, across source and destination NAT.

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::capture::tuple::Tuple;

/// The fixed key, version 1. It changes only with a major release: nodes of different versions must
/// agree. A fleet may replace it by a secret (`tracking.id_key`).
pub const DEFAULT_KEY: IdKey = IdKey(*b"synspan id key 1");

/// The key of the hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdKey(pub [u8; 16]);

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(..)")
    }
}

/// A trace id: 16 bytes, never all zero (W3C Trace Context, 3.2.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a trace id is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seed {
    /// ISN and TCP timestamp value of the SYN: survives NAT.
    Fingerprint {
        /// Initial sequence number.
        isn: u32,
        /// Timestamp value.
        tsval: u32,
    },
    /// The SYN has no timestamp option: the wire tuple takes its place.
    Wire {
        /// Initial sequence number.
        isn: u32,
        /// The tuple at the outermost watched point, client to server.
        tuple: Tuple,
    },
    /// Seen on no wire: network namespace and boot id take its place.
    Namespace {
        /// Initial sequence number.
        isn: u32,
        /// The socket's tuple.
        tuple: Tuple,
        /// Cookie of the network namespace.
        netns: u64,
        /// The kernel's boot id.
        boot: u128,
    },
    /// connect() failed before any SYN.
    Call {
        /// The socket's cookie.
        cookie: u64,
        /// When connect() was called, monotonic nanoseconds.
        time: u64,
        /// The kernel's boot id.
        boot: u128,
    },
}

impl Seed {
    /// Whether another node that sees the SYN after NAT makes the same id of it.
    pub fn survives_nat(&self) -> bool {
        matches!(self, Self::Fingerprint { .. })
    }

    /// The trace id of this seed.
    pub fn trace_id(&self, key: &IdKey) -> TraceId {
        let mut hasher = SipHasher24::new_with_key(&key.0);
        let tuple_into = |hasher: &mut SipHasher24, tuple: &Tuple| {
            for end in [tuple.src, tuple.dst] {
                hasher.write(&end.addr.0);
                hasher.write(&end.port.to_be_bytes());
            }
        };
        match self {
            Self::Fingerprint { isn, tsval } => {
                hasher.write(b"f");
                hasher.write(&isn.to_be_bytes());
                hasher.write(&tsval.to_be_bytes());
            }
            Self::Wire { isn, tuple } => {
                hasher.write(b"w");
                hasher.write(&isn.to_be_bytes());
                tuple_into(&mut hasher, tuple);
            }
            Self::Namespace { isn, tuple, netns, boot } => {
                hasher.write(b"n");
                hasher.write(&isn.to_be_bytes());
                tuple_into(&mut hasher, tuple);
                hasher.write(&netns.to_be_bytes());
                hasher.write(&boot.to_be_bytes());
            }
            Self::Call { cookie, time, boot } => {
                hasher.write(b"c");
                hasher.write(&cookie.to_be_bytes());
                hasher.write(&time.to_be_bytes());
                hasher.write(&boot.to_be_bytes());
            }
        }
        let bytes = hasher.finish128().as_u128().to_be_bytes();
        // All zero is no valid id; the chance is 2^-128, the rule is absolute.
        TraceId(if bytes == [0; 16] { [1; 16] } else { bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_across_releases() {
        let id = Seed::Fingerprint { isn: 225_467_756, tsval: 1_234_567 }.trace_id(&DEFAULT_KEY);
        assert_eq!(
            id.to_string(),
            Seed::Fingerprint { isn: 225_467_756, tsval: 1_234_567 }.trace_id(&DEFAULT_KEY).to_string()
        );
        assert_ne!(id, Seed::Fingerprint { isn: 225_467_756, tsval: 1_234_568 }.trace_id(&DEFAULT_KEY));
        assert_ne!(id, Seed::Fingerprint { isn: 225_467_756, tsval: 1_234_567 }.trace_id(&IdKey([7; 16])));
    }
}
