//! Sequence number arithmetic, modulo 2^32 (RFC 9293, 3.4).

/// The largest window TCP can have: 2^16 scaled by 2^14 is less than 2^30, but no tracker should
/// take so much of the space for one connection; the design bounds it to 2^24.
pub const MAX_WINDOW: u32 = 1 << 24;

/// How far beyond a SYN's own acknowledgement an ACK may lie and still be taken for data of this very
/// connection: an initial window of jumbo frames (RFC 6928: ten segments) with some room.
const INITIAL_FLIGHT: u32 = 1 << 17;

/// Whether an acknowledgement answers a SYN: it acknowledges something in (ISN, what was sent], data
/// in the SYN included (RFC 9293, 3.10.7.3).
pub fn answers_syn(isn: u32, syn_payload: u32, ack: u32) -> bool {
    let acknowledged = ack.wrapping_sub(isn);
    acknowledged >= 1 && acknowledged <= syn_payload.saturating_add(1)
}

/// Whether an acknowledgement is for data just beyond this connection's own ISN, so that segments of
/// this very connection were missed.
pub fn just_beyond(isn: u32, ack: u32) -> bool {
    let beyond = ack.wrapping_sub(isn);
    (1..=INITIAL_FLIGHT).contains(&beyond)
}

/// Whether two numbers are at most `window` apart, in either direction.
pub fn within(a: u32, b: u32, window: u32) -> bool {
    a.wrapping_sub(b) <= window || b.wrapping_sub(a) <= window
}

/// The later of two sequence numbers, if they are less than 2^31 apart.
pub fn later(a: u32, b: u32) -> u32 {
    if a.wrapping_sub(b) < (1 << 31) { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_is_answered_only_inside_what_it_sent() {
        assert!(answers_syn(100, 0, 101));
        assert!(!answers_syn(100, 0, 100));
        assert!(!answers_syn(100, 0, 102));
        // The RST that refuses a Fast Open SYN with 5 bytes acknowledges ISN + 6.
        assert!(answers_syn(100, 5, 106));
        assert!(!answers_syn(100, 5, 107));
        // An ISN may be 0, and may be the last number there is.
        assert!(answers_syn(0, 0, 1));
        assert!(answers_syn(u32::MAX, 0, 0));
    }

    #[test]
    fn numbers_wrap() {
        assert!(within(5, u32::MAX - 4, 10));
        assert!(!within(6, u32::MAX - 4, 10));
        assert_eq!(later(3, u32::MAX), 3);
        assert_eq!(later(u32::MAX, 3), 3);
        assert!(just_beyond(u32::MAX, 14));
        assert!(!just_beyond(100, 100));
    }
}
