//! How long captures must last, so that replay of them can judge what live judged by its sockets: until every attempt
//! that was not answered is overdue.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::segment::{ACK, RST, SYN};
use crate::tap::Seen;

/// Replay waits for 2.5 times the last gap of SYNs, at least so long after all that it heard.
const LEAST: Duration = Duration::from_millis(2_500);
/// And after a lone SYN so long.
const LONE: Duration = Duration::from_secs(4);
/// Clocks are read apart, and an ICMP error may come some time after the SYN.
const SLACK: Duration = Duration::from_secs(1);

/// One end's segments of one kind at the point that saw them first.
#[derive(Debug, Default)]
struct Times {
    point: Option<(usize, bool)>,
    last: Option<Instant>,
    gap: Duration,
}

impl Times {
    fn saw(&mut self, seen: &Seen) {
        let here = (seen.ifindex, seen.out);
        if *self.point.get_or_insert(here) != here {
            return;
        }
        if let Some(last) = self.last {
            self.gap = self.gap.max(seen.at.duration_since(last));
        }
        self.last = Some(seen.at);
    }
}

#[derive(Debug, Default)]
struct Attempt {
    syns: Times,
    answers: Times,
    over: bool,
}

/// When the last attempt of a node's wire is overdue; none if none pends.
pub fn due(all: &[Seen]) -> Option<Instant> {
    let mut attempts: HashMap<(SocketAddr, SocketAddr, u32), Attempt> = HashMap::new();
    // The last SYN of each pair of ends.
    let mut isns: HashMap<(SocketAddr, SocketAddr), u32> = HashMap::new();
    for seen in all {
        let segment = &seen.segment;
        let ends = (segment.src, segment.dst);
        match segment.flags & (SYN | ACK | RST) {
            SYN => {
                isns.insert(ends, segment.seq);
                attempts.entry((ends.0, ends.1, segment.seq)).or_default().syns.saw(seen);
            }
            flags if flags == SYN | ACK => {
                if let Some(attempt) = attempts.get_mut(&(ends.1, ends.0, segment.ack.wrapping_sub(1))) {
                    attempt.answers.saw(seen);
                }
            }
            flags if flags == RST | ACK => {
                if let Some(attempt) = attempts.get_mut(&(ends.1, ends.0, segment.ack.wrapping_sub(1))) {
                    attempt.over = true;
                }
            }
            ACK => {
                let attempt = isns.get(&ends).and_then(|&isn| attempts.get_mut(&(ends.0, ends.1, isn)));
                if let Some(attempt) = attempt.filter(|attempt| attempt.answers.last.is_some()) {
                    attempt.over = true;
                }
            }
            _ => {}
        }
    }
    attempts.values().filter(|attempt| !attempt.over).filter_map(Attempt::due).max()
}

impl Attempt {
    fn due(&self) -> Option<Instant> {
        let wait = if self.syns.gap.is_zero() { LONE } else { LEAST.max(self.syns.gap.mul_f64(2.5)) };
        let due = self.syns.last? + wait;
        Some(self.answers.last.map_or(due, |answer| due.max(answer + LEAST)) + SLACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Segment;

    #[test]
    fn what_is_not_answered_is_waited_for() {
        let start = Instant::now();
        let (client, server): (SocketAddr, SocketAddr) =
            ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let seen = |ms: u64, up: bool, flags: u8, seq: u32, ack: u32| {
            let (src, dst) = if up { (client, server) } else { (server, client) };
            let segment = Segment { src, dst, seq, ack, flags, payload: 0, timestamps: None };
            Seen { at: start + Duration::from_millis(ms), ifindex: 2, out: up, segment }
        };
        let after = |all: &[Seen]| due(all).map(|due| due.duration_since(start).as_millis());
        let syn = |ms| seen(ms, true, SYN, 100, 0);
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[syn(0)]), Some(5_000), "a lone SYN");
        assert_eq!(after(&[syn(0), syn(1_000)]), Some(4_500));
        assert_eq!(after(&[syn(0), syn(1_000), syn(4_000)]), Some(12_500));
        let answer = |ms| seen(ms, false, SYN | ACK, 7, 101);
        assert_eq!(after(&[syn(0), answer(1)]), Some(5_000), "answered, and not acknowledged");
        assert_eq!(after(&[syn(0), answer(1), seen(2, true, ACK, 101, 8)]), None);
        assert_eq!(after(&[syn(0), seen(1, false, RST | ACK, 0, 101)]), None, "refused");
        assert_eq!(after(&[syn(0), answer(1), answer(3_001)]), Some(6_501));
    }
}
