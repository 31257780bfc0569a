//! The thread that empties the ring buffers and hands observations on.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TrySendError};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use ipnet::IpNet;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::time::{ClockId, clock_gettime};
use synspan_ebpf::record::counter;

use super::ask::Ends;
use super::calls::Calls;
use super::decode::decode_named;
use super::inbound::Sums;
use super::names::KernelNames;
use super::object::CounterMap;
use super::order::{BATCH, Early, drain};
use crate::capture::observation::{InterfaceChange, Lost, Mono, Observation, What};
use crate::capture::question::Question;
use crate::capture::tuple::Addr;

/// How often the ring is emptied; the programs wake the reader before, when it is half full.
const PERIOD: Duration = Duration::from_millis(10);
/// How often it is asked whether SYNs from outside were summed.
const SUMS_PERIOD: Duration = Duration::from_secs(1);

const RING: u64 = 0;
const STOP: u64 = 1;

/// Who takes the observations. Called in one thread.
pub trait Sink: Send {
    /// Takes some observations, in the order of the kernel's writing, which is nearly that of time.
    fn observations(&mut self, batch: &[Observation]);
    /// Time has passed: all that happened before `now` has been handed over. Called every 10 ms or so.
    fn tick(&mut self, now: Mono);
    /// The next question to the kernel, if there is one; asked after each tick. Answers are observations.
    fn question(&mut self) -> Option<Question> {
        None
    }
}

/// The counters that capture's threads share.
pub struct Shared {
    /// Those of the programs.
    pub map: CounterMap,
    /// Records that made no sense.
    pub undecodable: AtomicU64,
    /// Questions that could not be put, since too many wait.
    pub unasked: AtomicU64,
    /// Hooks attached now.
    pub attached: AtomicU64,
    /// Hooks that should be attached and could not be.
    pub blind: AtomicU64,
    /// Pods whose interface has such a hook.
    pub blind_pods: AtomicU64,
    /// Hooks that others took away.
    pub unhooked: AtomicU64,
    /// Whether every hook that should be attached has had its turn.
    pub settled: AtomicBool,
}

impl Shared {
    /// One of the programs' counters, over all CPUs.
    pub fn counter(&self, index: u32) -> u64 {
        // The map is an array with that index; the call fails only if the kernel is out of memory.
        self.map.get(&index, 0).map_or(0, |values| values.iter().copied().fold(0, u64::wrapping_add))
    }
}

/// The monotonic time, as the programs stamp their records with it.
pub fn now() -> Mono {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    Mono(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// The reader's state.
pub struct Reader<S> {
    /// The records of this node's own attempts, and all that is no segment.
    pub own: RingBuf<MapData>,
    /// The records of segments of attempts from outside.
    pub inbound: RingBuf<MapData>,
    pub names: KernelNames,
    pub sums: Sums,
    /// Watches what connect() returns; none where that cannot be.
    pub calls: Option<Calls>,
    pub shared: Arc<Shared>,
    pub changes: Receiver<(Mono, InterfaceChange)>,
    pub ask: Ends,
    pub exclude: Vec<IpNet>,
    pub sink: S,
    pub told: Told,
    /// Interfaces that went: told only after one more look into the ring, where segments of theirs may be.
    pub going: BTreeMap<u32, Mono>,
    pub early: Early,
}

/// Values of counters when they were told of last.
#[derive(Default)]
pub struct Told {
    lost: u64,
    lost_inbound: u64,
    unhooked: u64,
    summed: u64,
    summed_unplaced: u64,
    /// When the sums were looked at.
    sums_at: Mono,
}

impl<S: Sink> Reader<S> {
    /// Runs until the other end of `stop` is closed, then empties the ring once more.
    ///
    /// # Errors
    ///
    /// Those of epoll; none is expected.
    pub fn run(mut self, stop: &impl AsFd) -> io::Result<S> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // Edge-triggered: a ring that is not empty would else wake us at once, again and again.
        for ring in [&self.own, &self.inbound] {
            epoll.add(ring, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, RING))?;
        }
        epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let period = u16::try_from(PERIOD.as_millis()).unwrap_or(u16::MAX);
        loop {
            let mut events = [EpollEvent::empty(); 3];
            let ready = match epoll.wait(&mut events, period) {
                Ok(ready) => ready,
                Err(nix::Error::EINTR) => 0,
                Err(e) => return Err(e.into()),
            };
            self.empty();
            if events[..ready].iter().any(|e| e.data() == STOP) {
                // Whatever was summed since.
                self.told.sums_at = Mono::default();
                self.empty();
                return Ok(self.sink);
            }
        }
    }

    /// Hands on all that is in the rings.
    fn empty(&mut self) {
        let mut ticked = now();
        loop {
            let before = now();
            let mut batch = Vec::with_capacity(BATCH);
            // A socket's step is in the one ring, the SYN before it in the other: read in this order, and the other
            // as far as the first, what came before is there too.
            let own = self.read(Side::Own, &mut batch, Mono::default());
            let split = batch.len();
            let until = batch.iter().map(|observation| observation.time).max().unwrap_or_default();
            // Of what is still in the first, nothing is older than this.
            let horizon = if own.is_some() { until } else { until.max(before) };
            let far_enough = self.early.beyond(horizon);
            self.early.release(&mut batch);
            let inbound = if far_enough { None } else { self.read(Side::Inbound, &mut batch, until) };
            self.early.hold(&mut batch, split, horizon);
            let last = batch.last().map_or(before, |o| o.time);
            self.interfaces(&mut batch);
            self.losses(&mut batch, last);
            self.sums(&mut batch, before);
            self.answers(&mut batch);
            if !batch.is_empty() {
                self.sink.observations(&batch);
            }
            let left = [own, inbound, self.early.first()].into_iter().flatten().min();
            let Some(left) = left else {
                self.tick(before);
                return;
            };
            // Under load a ring is never empty; what is left in it is younger than its last record.
            if before.since(ticked) >= PERIOD {
                ticked = before;
                self.tick(left.min(before));
            }
        }
    }

    /// Tells the time, and passes on what the sink asks then.
    fn tick(&mut self, time: Mono) {
        self.sink.tick(time);
        while let Some(question) = self.sink.question() {
            match question {
                Question::WatchCalls => {
                    if let Some(calls) = &self.calls {
                        calls.watch();
                    }
                }
                question => self.put(question),
            }
        }
    }

    /// Puts a question to the asking thread.
    fn put(&self, question: Question) {
        // That thread may have ended, which was told when it did.
        if let Err(TrySendError::Full(_)) = self.ask.questions.try_send(question) {
            self.shared.unasked.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds the answers that have come.
    fn answers(&self, batch: &mut Vec<Observation>) {
        let excluded = |answer: &Observation| excluded(&self.exclude, &answer.what);
        batch.extend(self.ask.answers.try_iter().take(BATCH).filter(|answer| !excluded(answer)));
    }

    /// Reads a batch of a ring, and on until a record is of the time `until`: none if the ring is empty now, else the
    /// time of the last record read.
    fn read(&mut self, side: Side, batch: &mut Vec<Observation>, until: Mono) -> Option<Mono> {
        let Self { own, inbound, names, shared, exclude, .. } = self;
        let ring = match side {
            Side::Own => own,
            Side::Inbound => inbound,
        };
        drain(until, || {
            let record = ring.next()?;
            Some(match decode_named(&record, names) {
                Ok(observation) => {
                    let time = observation.time;
                    if !excluded(exclude, &observation.what) {
                        batch.push(observation);
                    }
                    Some(time)
                }
                Err(error) => {
                    if shared.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::error!(%error, "a record of the eBPF programs makes no sense; more of the kind are only counted");
                    }
                    None
                }
            })
        })
    }

    /// Puts what became of interfaces into its place. A change is sent before the first segment can be
    /// written, so what is in the channel after the ring was read goes before the batch; that an
    /// interface went goes after the next batch.
    fn interfaces(&mut self, batch: &mut Vec<Observation>) {
        let gone = std::mem::take(&mut self.going);
        let mut first = Vec::new();
        let mut gone: BTreeMap<u32, Mono> = gone;
        while let Ok((time, change)) = self.changes.try_recv() {
            if change.now.is_none() {
                self.going.insert(change.ifindex, time);
            } else {
                self.going.remove(&change.ifindex);
                gone.remove(&change.ifindex);
                first.push(Observation { time, what: What::Interface(change) });
            }
        }
        batch.extend(gone.into_iter().map(|(ifindex, time)| Observation {
            time,
            what: What::Interface(InterfaceChange { ifindex, now: None }),
        }));
        if !first.is_empty() {
            batch.splice(..0, first);
        }
    }

    /// Says what was lost up to here.
    fn losses(&mut self, batch: &mut Vec<Observation>, time: Mono) {
        let lost = self.shared.counter(counter::LOST_RING);
        tell_loss(batch, time, false, lost, &mut self.told.lost);
        let lost = self.shared.counter(counter::LOST_INBOUND);
        tell_loss(batch, time, true, lost, &mut self.told.lost_inbound);
        // How many segments went unseen since a hook was taken away nobody knows; that some did counts.
        let unhooked = self.shared.unhooked.load(Ordering::Relaxed);
        if unhooked != self.told.unhooked {
            self.told.unhooked = unhooked;
            for inbound in [false, true] {
                batch.push(Observation { time, what: What::Lost(Lost { count: 0, inbound }) });
            }
        }
    }

    /// Says which SYNs from outside were only summed, from time to time while there are such.
    fn sums(&mut self, batch: &mut Vec<Observation>, time: Mono) {
        if time.since(self.told.sums_at) < SUMS_PERIOD {
            return;
        }
        self.told.sums_at = time;
        let summed = self.shared.counter(counter::SUMMED);
        if summed == self.told.summed {
            return;
        }
        self.told.summed = summed;
        let news = self.sums.news().into_iter().filter(|count| !excluded(&self.exclude, &What::Inbound(*count)));
        batch.extend(news.map(|count| Observation { time, what: What::Inbound(count) }));
        let unplaced = self.shared.counter(counter::SUMMED_UNPLACED);
        tell_loss(batch, time, true, unplaced, &mut self.told.summed_unplaced);
    }
}

/// A ring.
#[derive(Clone, Copy)]
enum Side {
    Own,
    Inbound,
}

/// Says what was lost since `told`.
fn tell_loss(batch: &mut Vec<Observation>, time: Mono, inbound: bool, lost: u64, told: &mut u64) {
    let count = lost.saturating_sub(*told);
    if count > 0 {
        *told = lost;
        batch.push(Observation { time, what: What::Lost(Lost { count, inbound }) });
    }
}

/// Whether an observation is of an address that is left out.
fn excluded(networks: &[IpNet], what: &What) -> bool {
    if networks.is_empty() {
        return false;
    }
    let within = |addr: Addr| {
        let ip = addr.ip();
        networks.iter().any(|n| n.contains(&ip))
    };
    match what {
        What::Process(step) => within(step.asked.addr),
        What::Socket(step) => within(step.tuple.src.addr) || within(step.tuple.dst.addr),
        What::Segment(segment) => within(segment.tuple.src.addr) || within(segment.tuple.dst.addr),
        What::Dropped(dropped) => within(dropped.tuple.src.addr) || within(dropped.tuple.dst.addr),
        What::Icmp(icmp) => within(icmp.tuple.src.addr) || within(icmp.tuple.dst.addr),
        What::Flow(flow) => within(flow.tuple.src.addr) || within(flow.tuple.dst.addr),
        What::Inbound(count) => within(count.listener.addr),
        What::Error(_)
        | What::CallFailed(_)
        | What::Nat(_)
        | What::Conntrack(_)
        | What::SnatPorts(_)
        | What::Listener(_)
        | What::FlowNumbers(_)
        | What::Interface(_)
        | What::Lost(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::observation::{Process, ProcessStep, SocketError};
    use crate::capture::tuple::Endpoint;

    #[test]
    fn excluded_networks() {
        let networks: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let asked = |text: &str| {
            let asked = Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap());
            What::Process(ProcessStep { cookie: 1, netns: 1, process: Process::default(), asked, bound_port: 0 })
        };
        assert!(excluded(&networks, &asked("10.1.2.3:80")));
        assert!(excluded(&networks, &asked("[::ffff:10.1.2.3]:80")));
        assert!(excluded(&networks, &asked("[2001:db8::1]:80")));
        assert!(!excluded(&networks, &asked("192.168.1.1:80")));
        assert!(!excluded(&[], &asked("10.1.2.3:80")));
        assert!(!excluded(&networks, &What::Error(SocketError { cookie: 1, errno: 110 })));
    }
}
