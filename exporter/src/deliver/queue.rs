//! The queues: who waits, who gives way, and what becomes the next request. No input or output, and
//! no clock: the caller says what time it is.
//!
//! All queues stand behind one lock, since they share one limit of bytes. Each call is short.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::{Counters, DropReason};
use super::options::{Capacity, MAX_REQUEST, QueueOptions};
use super::parcel::{Parcel, Priority};

/// All queues.
pub(super) struct Queues {
    memory_limit: usize,
    /// Bytes in all queues and on their way; those on their way count twice, as parcel and as body.
    used: usize,
    in_flight_bytes: usize,
    next_batch: u64,
    next_entry: u64,
    closed: bool,
    queues: Vec<Queue>,
}

/// One exporter's queue for one signal.
pub(super) struct Queue {
    options: QueueOptions,
    /// By [`Priority`]: successes, failures; each in order of arrival.
    lanes: [VecDeque<Entry>; 2],
    queued: Load,
    /// By batch.
    in_flight: HashMap<u64, Vec<Entry>>,
    flying: Load,
    pub counters: Counters,
}

#[derive(Clone, Copy, Default)]
struct Load {
    items: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, parcel: &Parcel) {
        self.items += parcel.items();
        self.bytes += parcel.bytes();
    }

    fn remove(&mut self, parcel: &Parcel) {
        self.items -= parcel.items();
        self.bytes -= parcel.bytes();
    }
}

struct Entry {
    parcel: Arc<Parcel>,
    serial: u64,
    since: Instant,
    first_try: Option<Instant>,
}

/// Parcels for one request. They stay in the queue's books until [`Queues::done`].
pub(super) struct Batch {
    pub id: u64,
    pub parcels: Vec<Arc<Parcel>>,
}

/// When the next request is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// At once.
    Now,
    /// Then, unless more comes in.
    At(Instant),
    /// There is nothing to send.
    Never,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Taken, but for so many records.
    Taken { rejected: u64, bytes: usize },
    /// Never to be taken; the status that said so, here and below.
    Refused { status: &'static str },
    /// To be tried again after that time, unless records would be older than `give_up` then.
    Again { after: Duration, give_up: Option<Duration>, status: &'static str },
    /// Not to be tried again though it might be taken.
    Exhausted { status: &'static str },
}

impl Queues {
    pub fn new(memory_limit: usize, queues: impl IntoIterator<Item = QueueOptions>) -> Self {
        // A quarter of the limit may be on its way, so the largest request is an eighth.
        let most = (memory_limit / 8).clamp(4 << 10, MAX_REQUEST);
        let queue = |mut options: QueueOptions| {
            options.max_bytes = options.max_bytes.clamp(1, most);
            options.max_items = options.max_items.max(1);
            options.min_bytes = options.min_bytes.min(options.max_bytes);
            Queue {
                options,
                lanes: Default::default(),
                queued: Load::default(),
                in_flight: HashMap::new(),
                flying: Load::default(),
                counters: Counters::default(),
            }
        };
        Self {
            memory_limit,
            used: 0,
            in_flight_bytes: 0,
            next_batch: 0,
            next_entry: 0,
            closed: false,
            queues: queues.into_iter().map(queue).collect(),
        }
    }

    pub fn queue(&mut self, at: usize) -> &mut Queue {
        &mut self.queues[at]
    }

    /// Nothing more is taken in.
    pub fn close(&mut self) {
        self.closed = true;
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes a parcel in, or counts why not. Says whether the queue's worker should look.
    pub fn offer(&mut self, at: usize, parcel: &Arc<Parcel>, now: Instant) -> bool {
        let queue = &mut self.queues[at];
        queue.counters.offered += parcel.items() as u64;
        if self.closed {
            queue.counters.drop(DropReason::Shutdown, parcel.items());
            return false;
        }
        let was_empty = queue.is_empty();
        let was_due = queue.is_full_request();
        let (max_bytes, max_items) = (queue.options.max_bytes, queue.options.max_items);
        if parcel.bytes() <= max_bytes && parcel.items() <= max_items {
            self.admit(at, parcel.clone(), now);
        } else {
            let (parcels, too_large) = Parcel::clone(parcel).split(max_bytes, max_items);
            queue.counters.drop(DropReason::TooLarge, too_large);
            for parcel in parcels {
                self.admit(at, Arc::new(parcel), now);
            }
        }
        let queue = &self.queues[at];
        (was_empty && !queue.is_empty()) || (!was_due && queue.is_full_request())
    }

    fn admit(&mut self, at: usize, parcel: Arc<Parcel>, now: Instant) {
        if parcel.items() == 0 {
            return;
        }
        while let Some(reason) = self.lacks_room(at, &parcel) {
            if parcel.priority() == Priority::Success || !self.evict_success(at, reason) {
                self.queues[at].counters.drop(reason, parcel.items());
                return;
            }
        }
        self.used += parcel.bytes();
        let serial = self.next_entry;
        self.next_entry += 1;
        let queue = &mut self.queues[at];
        queue.queued.add(&parcel);
        queue.lanes[parcel.priority() as usize].push_back(Entry { parcel, serial, since: now, first_try: None });
    }

    fn lacks_room(&self, at: usize, parcel: &Parcel) -> Option<DropReason> {
        let queue = &self.queues[at];
        let items = queue.queued.items + queue.flying.items + parcel.items();
        let bytes = queue.queued.bytes + queue.flying.bytes + parcel.bytes();
        let full = match queue.options.capacity {
            Capacity::Items(most) => items > most,
            Capacity::Bytes(most) => bytes > most,
            Capacity::Requests(most) => {
                let by_items = items.div_ceil(queue.options.min_items.clamp(1, queue.options.max_items));
                by_items.max(bytes.div_ceil(queue.options.max_bytes)) > most
            }
        };
        if full {
            return Some(DropReason::QueueFull);
        }
        (self.used + parcel.bytes() > self.memory_limit).then_some(DropReason::MemoryLimit)
    }

    /// Drops the oldest success of this queue, or if it is memory that lacks, of another. Says whether
    /// there was one.
    fn evict_success(&mut self, at: usize, reason: DropReason) -> bool {
        let from = if !self.queues[at].lanes[Priority::Success as usize].is_empty() {
            Some(at)
        } else if reason == DropReason::MemoryLimit {
            self.queues.iter().position(|queue| !queue.lanes[Priority::Success as usize].is_empty())
        } else {
            None
        };
        let Some(queue) = from.and_then(|at| self.queues.get_mut(at)) else { return false };
        let Some(entry) = queue.lanes[Priority::Success as usize].pop_front() else { return false };
        queue.queued.remove(&entry.parcel);
        queue.counters.drop(reason, entry.parcel.items());
        self.used -= entry.parcel.bytes();
        true
    }

    /// When the queue's next request is due. `hurry`: do not wait for more records.
    pub fn due(&self, at: usize, hurry: bool) -> Due {
        let queue = &self.queues[at];
        let Some(since) = queue.lanes.iter().filter_map(|lane| lane.front()).map(|entry| entry.since).min() else {
            return Due::Never;
        };
        if hurry || queue.is_full_request() { Due::Now } else { Due::At(since + queue.options.flush_timeout) }
    }

    /// The next request's parcels, oldest first; none if there are none, or enough bytes are on their way.
    pub fn take(&mut self, at: usize, now: Instant) -> Option<Batch> {
        let queue = &mut self.queues[at];
        let mut load = Load::default();
        let mut entries = Vec::new();
        while let Some(lane) = queue.oldest_lane() {
            let Some(parcel) = queue.lanes[lane].front().map(|entry| &entry.parcel) else { break };
            let bytes = load.bytes + parcel.bytes();
            if load.items + parcel.items() > queue.options.max_items || bytes > queue.options.max_bytes {
                break;
            }
            // Someone whose queue has nothing on its way may always send.
            if !queue.in_flight.is_empty() && self.in_flight_bytes + bytes > self.memory_limit / 4 {
                break;
            }
            let Some(mut entry) = queue.lanes[lane].pop_front() else { break };
            load.add(&entry.parcel);
            queue.queued.remove(&entry.parcel);
            entry.first_try.get_or_insert(now);
            entries.push(entry);
        }
        if entries.is_empty() {
            return None;
        }
        queue.flying.items += load.items;
        queue.flying.bytes += load.bytes;
        self.in_flight_bytes += load.bytes;
        self.used += load.bytes;
        let id = self.next_batch;
        self.next_batch += 1;
        let parcels = entries.iter().map(|entry| entry.parcel.clone()).collect();
        queue.in_flight.insert(id, entries);
        Some(Batch { id, parcels })
    }

    /// Books how a request ended. Says how many records were given up.
    pub fn done(&mut self, at: usize, batch: u64, ending: Ending, now: Instant) -> usize {
        let queue = &mut self.queues[at];
        let Some(entries) = queue.in_flight.remove(&batch) else { return 0 };
        let mut load = Load::default();
        entries.iter().for_each(|entry| load.add(&entry.parcel));
        queue.flying.items -= load.items;
        queue.flying.bytes -= load.bytes;
        self.in_flight_bytes -= load.bytes;
        self.used -= 2 * load.bytes;
        let counters = &mut queue.counters;
        match ending {
            Ending::Taken { rejected, bytes } => {
                let rejected = usize::try_from(rejected).unwrap_or(usize::MAX).min(load.items);
                counters.requests += 1;
                counters.bytes += bytes as u64;
                counters.sent += (load.items - rejected) as u64;
                counters.drop(DropReason::Rejected, rejected);
                rejected
            }
            Ending::Refused { status } => {
                counters.fail(status);
                counters.drop(DropReason::Permanent, load.items);
                load.items
            }
            Ending::Exhausted { status } => {
                counters.fail(status);
                counters.drop(DropReason::RetriesExhausted, load.items);
                load.items
            }
            Ending::Again { after, give_up, status } => {
                counters.fail(status);
                let mut given_up = 0;
                let mut kept = false;
                for entry in entries.into_iter().rev() {
                    let age = entry.first_try.map_or(Duration::ZERO, |first| now.saturating_duration_since(first));
                    if give_up.is_some_and(|limit| age + after > limit) {
                        given_up += entry.parcel.items();
                        counters.drop(DropReason::RetriesExhausted, entry.parcel.items());
                        continue;
                    }
                    kept = true;
                    queue.queued.add(&entry.parcel);
                    self.used += entry.parcel.bytes();
                    queue.lanes[entry.parcel.priority() as usize].push_front(entry);
                }
                counters.retries += u64::from(kept);
                given_up
            }
        }
    }

    /// Drops all that waits or is on its way.
    pub fn drop_all(&mut self, at: usize) -> usize {
        let queue = &mut self.queues[at];
        let items = queue.queued.items + queue.flying.items;
        self.used -= queue.queued.bytes + 2 * queue.flying.bytes;
        self.in_flight_bytes -= queue.flying.bytes;
        queue.counters.drop(DropReason::Shutdown, items);
        queue.lanes.iter_mut().for_each(VecDeque::clear);
        queue.in_flight.clear();
        (queue.queued, queue.flying) = (Load::default(), Load::default());
        items
    }
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// The counters with the present load.
    pub fn snapshot(&self) -> Counters {
        Counters {
            queued: self.queued.items as u64,
            queued_bytes: self.queued.bytes as u64,
            in_flight: self.flying.items as u64,
            ..self.counters.clone()
        }
    }

    fn is_full_request(&self) -> bool {
        let (load, options) = (self.queued, self.options);
        load.items >= options.min_items.min(options.max_items) || load.bytes >= options.min_bytes
    }

    fn oldest_lane(&self) -> Option<usize> {
        let serial = |lane: usize| self.lanes[lane].front().map(|entry| entry.serial);
        match (serial(0), serial(1)) {
            (Some(success), Some(failure)) => Some(usize::from(failure < success)),
            (Some(_), None) => Some(0),
            (None, Some(_)) => Some(1),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests;
