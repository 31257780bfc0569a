//! The connections of a file, as far as they decide which segments matter.
//!
//! As live capture does, only SYN, SYN-ACK, RST, FIN and what answers a pending SYN goes on, and as here no
//! socket says that a connection came up, the client's first segment after the SYN-ACK; all else leaves after
//! one look-up here. Bounded: the oldest go first, and those that still waited are counted.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::FixedState;

use super::tcp::Head;
use crate::capture::observation::{Direction, Mono};
use crate::capture::tuple::{Endpoint, Tuple};

/// A slot is given up after so many answers that are not the SYN-ACK, as in live capture: a SYN seen
/// after its SYN-ACK would else have every segment of the connection reported.
const MOST_ANSWERS: u8 = 8;
/// For how long a SYN is worth waiting for, beyond the kernel's own patience.
const PATIENCE: Duration = Duration::from_secs(140);
/// The same SYN twice at one point within this time is one packet that was captured twice: no timer of
/// TCP is that short, and a client that was answered by a stale ACK sends its SYN with a new timestamp.
const TWICE: Duration = Duration::from_millis(2);
/// Points for which the direction of a connection's SYN is remembered.
const MOST_POINTS: usize = 4;

/// What a connection's numbers were when they were last seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Numbers {
    /// The last acknowledgement by the server.
    pub client_acked: Option<u32>,
    /// Where the client's stream stood.
    pub client_next: Option<u32>,
    /// Where the server's stream stood.
    pub server_next: Option<u32>,
    /// Its first SYN was not in the file.
    pub begun_before: bool,
    /// Both ends said goodbye, or one reset it.
    pub over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    /// Which of the two ends in the key is the client, if that is known.
    client_first: Option<bool>,
    isn: u32,
    syn_time: Mono,
    /// Point, direction and timestamp value of the last SYN.
    last_syn: Option<(u32, Direction, Option<u32>)>,
    /// Answers that are still worth telling; 0 when nothing is awaited.
    awaiting: u8,
    /// A SYN-ACK to this end was seen, and its acknowledgement of that is worth telling: the client's, and both
    /// ends' where SYNs crossed.
    completing: [bool; 2],
    points: [Option<(u32, Direction)>; MOST_POINTS],
    /// Acknowledgement and next sequence number of the first and the second end.
    acked: [Option<u32>; 2],
    next: [Option<u32>; 2],
    fins: [bool; 2],
    reset: bool,
    previous: Option<Numbers>,
}

/// What a segment is to the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    /// Nothing: most are.
    Nothing,
    /// To be told, with its direction at this point as far as that follows from the connection's SYN. The
    /// second tells what held the tuple before, if the file does not have its beginning.
    Told(Option<Direction>, Option<Numbers>),
}

/// The table.
pub struct Flows {
    map: HashMap<(Endpoint, Endpoint), Flow, FixedState>,
    order: VecDeque<(Endpoint, Endpoint)>,
    limit: usize,
    forgotten: u64,
}

impl Flows {
    /// A table of at most `limit` connections, some 250 bytes each.
    pub fn new(limit: usize, seed: u64) -> Self {
        let map = HashMap::with_hasher(FixedState::with_seed(seed));
        Self { map, order: VecDeque::new(), limit: limit.max(16), forgotten: 0 }
    }

    /// Connections that were forgotten while their SYN waited for an answer.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes in a segment at a point. `timestamp` and `direction` are those of a SYN, and asked for SYNs only.
    pub fn take(
        &mut self,
        time: Mono,
        point: u32,
        tuple: Tuple,
        head: Head,
        timestamp: impl FnOnce() -> Option<u32>,
        direction: impl FnOnce() -> Direction,
    ) -> Worth {
        let (key, first) = key(tuple);
        let flags = head.flags;
        if flags.syn() && !flags.ack() && !flags.rst() {
            return self.syn(time, point, (key, first), head, timestamp(), direction());
        }
        let notable = flags.syn() || flags.rst() || flags.fin();
        let Some(flow) = self.map.get_mut(&key) else {
            if !flags.rst() {
                self.insert(key, Flow::begun_before(time, first, head));
            }
            return if notable { Worth::Told(None, None) } else { Worth::Nothing };
        };
        flow.note(first, head);
        let answers = flow.answers(time, first, flags.syn() || flags.rst());
        let completes = flow.completes(first, head);
        if notable || answers || completes { Worth::Told(flow.direction(point, first), None) } else { Worth::Nothing }
    }

    fn syn(
        &mut self,
        time: Mono,
        point: u32,
        (key, first): ((Endpoint, Endpoint), bool),
        head: Head,
        timestamp: Option<u32>,
        direction: Direction,
    ) -> Worth {
        let fresh = Flow::new(time, first, head);
        let mut before = None;
        let flow = match self.map.get_mut(&key) {
            None => self.insert(key, fresh),
            Some(flow) if flow.isn == head.seq && flow.client_first == Some(first) => {
                let twice = flow.last_syn == Some((point, direction, timestamp)) && time.since(flow.syn_time) < TWICE;
                if twice && time >= flow.syn_time {
                    return Worth::Nothing;
                }
                Some(flow)
            }
            Some(flow) => {
                let numbers = flow.numbers(first);
                before = numbers.filter(|numbers| numbers.begun_before);
                *flow = Flow { previous: numbers, ..fresh };
                Some(flow)
            }
        };
        if let Some(flow) = flow {
            flow.awaiting = MOST_ANSWERS;
            (flow.syn_time, flow.last_syn) = (time, Some((point, direction, timestamp)));
            flow.set_direction(point, direction);
        }
        Worth::Told(Some(direction), before)
    }

    /// Whether an ICMP error about a segment of this tuple may answer a SYN.
    pub fn awaits(&self, tuple: Tuple) -> bool {
        let (key, _) = key(tuple);
        self.map.get(&key).is_some_and(|flow| flow.awaiting > 0)
    }

    /// What is known of the connection that holds a tuple, or held it before a SYN that still waits.
    pub fn numbers(&self, tuple: Tuple) -> Option<Numbers> {
        let (key, first) = key(tuple);
        let flow = self.map.get(&key)?;
        if flow.awaiting > 0 && flow.previous.is_some() { flow.previous } else { flow.numbers(first) }
    }

    fn insert(&mut self, key: (Endpoint, Endpoint), flow: Flow) -> Option<&mut Flow> {
        while self.map.len() >= self.limit {
            let oldest = self.order.pop_front()?;
            if let Some(flow) = self.map.remove(&oldest) {
                self.forgotten += u64::from(flow.awaiting > 0);
            }
        }
        self.order.push_back(key);
        Some(self.map.entry(key).insert_entry(flow).into_mut())
    }
}

/// A connection's name, the same for both directions, and whether the sender is its first end.
fn key(tuple: Tuple) -> ((Endpoint, Endpoint), bool) {
    if tuple.src <= tuple.dst { ((tuple.src, tuple.dst), true) } else { ((tuple.dst, tuple.src), false) }
}

impl Flow {
    fn new(time: Mono, client_first: bool, head: Head) -> Self {
        Self {
            client_first: Some(client_first),
            isn: head.seq,
            syn_time: time,
            last_syn: None,
            awaiting: MOST_ANSWERS,
            completing: [false; 2],
            points: [None; MOST_POINTS],
            acked: [None; 2],
            next: [None; 2],
            fins: [false; 2],
            reset: false,
            previous: None,
        }
    }

    /// A connection whose beginning is not in the file; which end is the client is not known.
    fn begun_before(time: Mono, first: bool, head: Head) -> Self {
        let mut flow = Self { client_first: None, awaiting: 0, ..Self::new(time, first, head) };
        flow.note(first, head);
        flow
    }

    /// Notes a segment's numbers.
    fn note(&mut self, first: bool, head: Head) {
        let sender = usize::from(!first);
        // A SYN-ACK's numbers are known by its connection's own rules; an answer to a pending SYN that is
        // none is of another connection.
        if self.awaiting > 0 && !head.flags.syn() {
            return;
        }
        if head.flags.ack() {
            self.acked[1 - sender] = Some(head.ack);
        }
        let next = head.seq.wrapping_add(head.payload).wrapping_add(u32::from(head.flags.fin() || head.flags.syn()));
        if !head.flags.rst() {
            self.next[sender] = Some(next);
        }
        self.fins[sender] |= head.flags.fin();
        self.reset |= head.flags.rst();
    }

    /// Whether this answers the SYN that is pending. A `last` answer ends the wait.
    fn answers(&mut self, time: Mono, first: bool, last: bool) -> bool {
        let by_server = self.client_first == Some(!first);
        if self.awaiting == 0 || !by_server {
            return false;
        }
        if time.since(self.syn_time) > PATIENCE {
            self.awaiting = 0;
            return false;
        }
        self.awaiting = if last { 0 } else { self.awaiting - 1 };
        true
    }

    /// Whether this is the client's first segment after the SYN-ACK.
    fn completes(&mut self, first: bool, head: Head) -> bool {
        let flags = head.flags;
        let sender = usize::from(!first);
        if flags.syn() && flags.ack() {
            self.completing[1 - sender] = self.client_first.is_some();
            return false;
        }
        let completes = self.completing[sender] && flags.ack() && !flags.syn();
        self.completing[sender] &= !completes;
        completes
    }

    /// The direction at a point of a segment sent by the end that `first` says.
    fn direction(&self, point: u32, first: bool) -> Option<Direction> {
        let &(_, syn) = self.points.iter().flatten().find(|(known, _)| *known == point)?;
        Some(if self.client_first == Some(first) { syn } else { syn.opposite() })
    }

    fn set_direction(&mut self, point: u32, direction: Direction) {
        let known = self.points.iter().flatten().any(|&(known, _)| known == point);
        if !known && let Some(free) = self.points.iter_mut().find(|slot| slot.is_none()) {
            *free = Some((point, direction));
        }
    }

    /// Its numbers, if the client is the end that `first` says; none if it never came up.
    fn numbers(&self, first: bool) -> Option<Numbers> {
        if self.client_first.is_some_and(|client| client != first) {
            return None;
        }
        let client = usize::from(!first);
        let numbers = Numbers {
            client_acked: self.acked[client],
            client_next: self.next[client],
            server_next: self.next[1 - client],
            begun_before: self.client_first.is_none(),
            over: self.reset || self.fins == [true; 2],
        };
        (numbers.client_acked.is_some() || numbers.server_next.is_some()).then_some(numbers)
    }
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
