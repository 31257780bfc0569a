//! One capture file as observations.

use std::collections::VecDeque;
use std::io::Read;

use super::error::FileError;
use super::file::{Frame, Reader};
use super::flows::{Flows, Numbers, Worth};
use super::packet::{self, Icmp, Raw, What as Seen};
use super::point::{Place, Point, PointRule, Points};
use super::{link, tcp};
use crate::capture::observation::{
    Direction, Flags, IcmpError, InterfaceChange, KnownFlow, Mono, Observation, Segment, What,
};
use crate::capture::tuple::Tuple;

/// What was read of a file: nothing is passed over silently.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Frames.
    pub frames: u64,
    /// Of them, those with a TCP segment.
    pub segments: u64,
    /// TCP segments whose header was cut by the capture.
    pub cut: u64,
    /// Frames of interfaces whose link type is not known.
    pub unknown_link: u64,
    /// Packets that the file gives no time.
    pub timeless: u64,
    /// Connections forgotten, since there were too many at once, while their SYN waited.
    pub forgotten: u64,
    /// The first packet's time and the latest.
    pub span: Option<(Mono, Mono)>,
}

/// A file that is read.
pub struct Source<R> {
    reader: Reader<R>,
    points: Points,
    flows: Flows,
    ready: VecDeque<Observation>,
    read: Tally,
    failure: Option<FileError>,
    ended: bool,
    unknown: Option<i32>,
}

/// Who a source is among others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its number, from 0.
    pub number: u32,
    /// Its name without the ending, for points without one.
    pub stem: String,
    /// What the command line says of its points.
    pub rules: Vec<PointRule>,
    /// How many connections it may keep in mind.
    pub flows: usize,
    /// Seeds the hash table.
    pub seed: u64,
}

impl<R: Read> Source<R> {
    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// It cannot be read, or is no capture file.
    pub fn new(file: R, identity: Identity) -> Result<Self, FileError> {
        Ok(Self {
            reader: Reader::new(file)?,
            points: Points::new(identity.number, &identity.stem, identity.rules),
            flows: Flows::new(identity.flows, identity.seed),
            ready: VecDeque::new(),
            read: Tally::default(),
            failure: None,
            ended: false,
            unknown: None,
        })
    }

    /// The next observation; none at the end, of which [`Self::failure`] tells whether it was a good one.
    pub fn next(&mut self) -> Option<Observation> {
        while self.ready.is_empty() && !self.ended {
            match self.reader.next_frame() {
                Ok(Some(frame)) => self.take(&frame),
                Ok(None) => self.end(None),
                Err(error) => self.end(Some(error)),
            }
        }
        self.ready.pop_front()
    }

    /// Why the file ended before its end.
    pub fn failure(&self) -> Option<&FileError> {
        self.failure.as_ref()
    }

    /// What was read so far.
    pub fn read(&self) -> Tally {
        Tally { timeless: self.reader.timeless(), forgotten: self.flows.forgotten(), ..self.read }
    }

    /// What is known of the connection that holds a tuple.
    pub fn numbers(&self, tuple: Tuple) -> Option<Numbers> {
        self.flows.numbers(tuple)
    }

    fn end(&mut self, failure: Option<FileError>) {
        self.ended = true;
        let nothing = self.read.frames > 0 && self.read.frames == self.read.unknown_link;
        self.failure = failure.or(self.unknown.filter(|_| nothing).map(FileError::LinkType));
    }

    fn take(&mut self, frame: &Frame) {
        let time = Mono(frame.time);
        self.read.frames += 1;
        self.read.span = Some(self.read.span.map_or((time, time), |(from, to)| (from, to.max(time))));
        let link = frame.interface.link;
        let Some(packet) = link::packet(link, self.reader.data(frame)) else {
            if !link::is_known(link) {
                self.read.unknown_link += 1;
                self.unknown = Some(link);
            }
            return;
        };
        let length = frame.length.saturating_sub(u32::try_from(packet.before).unwrap_or(u32::MAX));
        let Some(found) = packet::find(packet.kind, packet.bytes, length) else { return };
        let place = Place {
            interface: frame.interface.serial,
            ifindex: packet.ifindex,
            vlans: packet.vlans,
            tunnel: found.tunnel,
        };
        let (point, new) = self.points.at(place, &frame.interface);
        if new {
            let change = InterfaceChange { ifindex: point.number, now: Some(point.interface.clone()) };
            self.ready.push_back(Observation { time, what: What::Interface(change) });
        }
        let told = point.told(packet.direction.or(frame.direction));
        match found.what {
            Seen::Segment(raw) => {
                self.read.segments += 1;
                segment(&mut self.flows, &mut self.ready, time, point, told, &raw);
            }
            Seen::Icmp(icmp) => {
                if self.flows.awaits(icmp.tuple) {
                    self.ready.push_back(error(time, point, told, &icmp));
                }
            }
            Seen::Cut => self.read.cut += 1,
        }
    }
}

fn segment(
    flows: &mut Flows,
    ready: &mut VecDeque<Observation>,
    time: Mono,
    point: &Point,
    told: Option<Direction>,
    raw: &Raw<'_>,
) {
    let Some(head) = tcp::head(raw) else { return };
    let whole = |direction| tcp::segment(raw, head, point.number, direction);
    let stamp = || whole(Direction::Ingress).timestamps.map(|timestamps| timestamps.val);
    let guess = || told.unwrap_or_else(|| point.syn_direction(raw.ttl));
    let Worth::Told(direction, before) = flows.take(time, point.number, raw.tuple, head, stamp, guess) else { return };
    if let Some(numbers) = before {
        ready.push_back(Observation { time, what: What::Flow(known_flow(raw.tuple, numbers)) });
    }
    let segment: Segment = whole(told.or(direction).unwrap_or(Direction::Ingress));
    debug_assert_eq!(segment.flags, Flags(head.flags.0));
    ready.push_back(Observation { time, what: What::Segment(segment) });
}

fn error(time: Mono, point: &Point, told: Option<Direction>, icmp: &Icmp) -> Observation {
    let &Icmp { from, kind, code, tuple, seq } = icmp;
    let direction = told.unwrap_or(Direction::Ingress);
    let error = IcmpError { ifindex: point.number, direction, from, tuple, seq, kind, code };
    Observation { time, what: What::Icmp(error) }
}

/// What a file knows of a connection, in the words of an answer.
pub fn known_flow(tuple: Tuple, numbers: Numbers) -> KnownFlow {
    KnownFlow {
        tuple,
        wire: None,
        cookie: 0,
        server_socket: false,
        netns: 0,
        client_acked: numbers.client_acked,
        client_next: numbers.client_next,
        server_next: numbers.server_next,
        numbers: None,
        over: numbers.over,
    }
}
