//! What the wire alone tells of an attempt, where no socket is in sight: which way its SYNs went, whether the handshake
//! was completed, and when its client has given up.

use std::time::Duration;

use super::open::{MAX_TURNS, Open};
use crate::capture::observation::{Direction, Mono, PointKind, Segment};

/// The wait for a SYN where the last gap is not known: Linux waits no longer than 120 s.
const UNKNOWN_GAP: Duration = Duration::from_secs(125);
/// The least wait after anything that was heard.
const LEAST_WAIT: Duration = Duration::from_millis(2_500);
/// Times to live with which packets are sent: these have passed nobody.
const FRESH: [u8; 3] = [64, 128, 255];

impl Open {
    /// A SYN that goes into a pod, and was seen at the node's interface alone before, came in there: captures
    /// tell no directions, and how far a SYN has come does not tell a neighbour's from one that the node passed on.
    pub fn turn(&mut self, segment: &Segment, kind: PointKind) {
        let [first] = self.sightings.as_mut_slice() else { return };
        let into_pod = kind == PointKind::PodNic && segment.direction == Direction::Egress;
        if self.wire_only && into_pod && first.kind != PointKind::PodNic && first.direction == Direction::Egress {
            first.direction = Direction::Ingress;
            self.turned = Some(first.ifindex);
        }
    }

    /// Whether this is its first SYN again, on its way out of the interface by which it came: rewritten, and one
    /// hop further. Then its directions there are put right.
    pub fn turns_back(&mut self, segment: &Segment) -> bool {
        let further = self.syn_ttl.is_some_and(|ttl| segment.ttl < ttl && !FRESH.contains(&ttl));
        let stamped = segment.timestamps.is_some_and(|t| self.tsvals.contains(&t.val));
        let [first] = self.sightings.as_mut_slice() else { return false };
        let back = further && stamped && first.ifindex == segment.ifindex && first.tuple != segment.tuple;
        if back {
            first.direction = Direction::Ingress;
            self.turned = Some(segment.ifindex);
        }
        back
    }

    /// Whether the handshake was seen to its end, and nobody took it back: what can be said where no socket
    /// is in sight.
    pub fn wire_complete(&self) -> bool {
        self.syn_ack.is_some() && self.handshake_reset.is_none() && (self.client_acked || self.assumed_acked)
    }

    /// Takes the handshake for complete whose last segment is not in the capture, as where tcpdump was asked
    /// for SYN, FIN and RST alone: the answer went all the way that is watched, and neither side sent its part
    /// again in the time in which it would have.
    pub fn assume_acked(&mut self, now: Mono) {
        let Some(syn_ack) = self.syn_ack else { return };
        let arrived = self.client_nic().is_none() || self.syn_ack_seen.out_pod;
        let again = self.syn_acks_again > 0 || self.syn_times.last().is_some_and(|&last| last > syn_ack.time);
        self.assumed_acked = self.wire_only && arrived && !again && self.overdue(now);
    }

    /// Whether its client has given up by `now`, as far as the wire tells.
    pub fn overdue(&self, now: Mono) -> bool {
        now > self.overdue_at()
    }

    /// When the client's next SYN is overdue: timers double at most (RFC 6298, 5.5), and start at three seconds at
    /// most (RFC 1122). The server's own timers go on after that, and do not count.
    pub fn overdue_at(&self) -> Mono {
        let wait = match *self.syn_times.as_slice() {
            [.., before, last] if self.syn_times.len() < MAX_TURNS => last.since(before).mul_f64(2.5),
            [_] => Duration::from_secs(4),
            _ => UNKNOWN_GAP,
        };
        let last = self.sightings.iter().map(|sighting| sighting.last).max().unwrap_or(self.touched);
        last.plus(wait).max(self.touched.plus(LEAST_WAIT))
    }
}
