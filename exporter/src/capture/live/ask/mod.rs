//! What is asked of the kernel: connection tracking, sockets of every namespace of the node, and what
//! was open before capture began. One thread, at a bounded rate; its answers are observations.

mod namespace;
mod numbers;
mod seed;
mod sockets;
mod tracking;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Feature;
use super::options::InterfaceRules;
use super::reader::now;
use crate::capture::flow::FlowAnswer;
use crate::capture::observation::{ConntrackState, KnownFlow, ListenerState, NatAnswer, Observation, What};
use crate::capture::question::Question;
use crate::capture::tuple::{Addr, Endpoint, Tuple};

use namespace::{Id, Namespaces};
use tracking::Tracking;

/// Questions that may wait for their turn.
const QUESTIONS: usize = 1024;
/// Answers that may wait for the reader.
const ANSWERS: usize = 2048;
/// Most questions that are answered in a second.
const RATE: u32 = 500;
/// How often it is looked whether to stop.
const GLANCE: Duration = Duration::from_millis(100);
/// How often the state of connection tracking is told, if it changed.
const STATE: Duration = Duration::from_secs(1);
/// How often it is looked whether connections are tracked by now: whoever translates may start after us.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// While connections of before are told: pause between two lots, and the size of a lot.
const PACE: Duration = Duration::from_millis(10);
const LOT: usize = 500;
/// Most questions about ports that wait for a dump.
const PORTS: usize = 64;

/// The two ends that the reader of the ring has.
pub struct Ends {
    /// Where it puts questions.
    pub questions: SyncSender<Question>,
    /// Where it finds answers.
    pub answers: Receiver<Observation>,
}

/// What can be asked here.
#[derive(Clone, Debug)]
pub struct Can {
    /// Connection tracking.
    pub conntrack: Feature,
    /// Sockets.
    pub sock_diag: Feature,
    /// Sockets in other network namespaces than the agent's.
    pub namespaces: Feature,
    /// The sequence numbers of open connections.
    pub numbers: Feature,
}

/// The thread's state.
pub struct Asker {
    questions: Receiver<Question>,
    answers: SyncSender<Observation>,
    tracking: Option<Tracking>,
    namespaces: Option<Namespaces>,
    numbers: Option<OwnedFd>,
    state: Option<ConntrackState>,
    state_due: Instant,
    try_due: Instant,
    /// Connections of before that are still to be told.
    seeds: VecDeque<KnownFlow>,
    /// Questions about ports that wait until the next dump may be made.
    ports: VecDeque<(Addr, Endpoint)>,
    bucket: Bucket,
}

impl Asker {
    /// Looks what can be asked, in the calling thread's network namespace.
    pub fn new(rules: InterfaceRules, numbers: Result<OwnedFd, String>) -> (Self, Ends, Can) {
        let tracking = Tracking::open();
        let namespaces = Namespaces::new(rules);
        // A look-up of a connection that is not there, which every kernel with sock_diag can answer.
        let sockets = namespaces.as_ref().map_err(ToString::to_string).and_then(|_| {
            sockets::connection(Tuple::default()).map(|_| ()).map_err(|error| format!("sock_diag: {error}"))
        });
        let numbers = numbers.and_then(|program| {
            let tried = numbers::of(&program, Tuple::default());
            tried.map(|_| program).map_err(|error| format!("a program cannot be run by hand: {error}"))
        });
        let alone = match &namespaces {
            Ok(namespaces) => namespaces.alone().map(str::to_owned),
            Err(error) => Some(error.to_string()),
        };
        let can = Can {
            conntrack: feature(&tracking.as_ref().map(drop).map_err(|e| format!("{e}; it takes CAP_NET_ADMIN"))),
            sock_diag: feature(&sockets),
            namespaces: feature(&alone.map_or(Ok(()), Err)),
            numbers: feature(&numbers.as_ref().map(drop).map_err(Clone::clone)),
        };
        let (question_end, questions) = sync_channel(QUESTIONS);
        let (answers, answer_end) = sync_channel(ANSWERS);
        let asker = Self {
            questions,
            answers,
            tracking: tracking.ok(),
            namespaces: namespaces.ok().filter(|_| sockets.is_ok()),
            numbers: numbers.ok(),
            state: None,
            state_due: Instant::now(),
            try_due: Instant::now() + TRY_AGAIN,
            seeds: VecDeque::new(),
            ports: VecDeque::new(),
            bucket: Bucket::full(),
        };
        (asker, Ends { questions: question_end, answers: answer_end }, can)
    }

    /// Seeds, then answers, until the other end of `stop` is closed or nobody asks any more.
    ///
    /// # Errors
    ///
    /// Those of poll; none is expected.
    pub fn run(mut self, stop: &impl AsFd) -> io::Result<()> {
        self.tell_state(true);
        self.seed();
        while !stopped(stop)? {
            let wait = if self.seeds.is_empty() { GLANCE } else { PACE };
            match self.questions.recv_timeout(wait) {
                Ok(question) => {
                    std::thread::sleep(self.bucket.take());
                    if self.answer(question).is_none() {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.tell_ports();
            self.tell_seeds();
            if self.state_due <= Instant::now() {
                self.state_due = Instant::now() + STATE;
                self.tell_state(false);
            }
            if self.tracking.is_none() && self.try_due <= Instant::now() {
                self.try_due = Instant::now() + TRY_AGAIN;
                if let Ok(tracking) = Tracking::open() {
                    tracing::info!("connection tracking can be asked now");
                    self.tracking = Some(tracking);
                }
            }
        }
        Ok(())
    }

    /// Answers one question, or not; none if nobody takes answers any more.
    fn answer(&mut self, question: Question) -> Option<()> {
        match question {
            Question::Nat(tuple) => {
                let Some(tracking) = &mut self.tracking else { return Some(()) };
                if let Some(entry) = told(tracking.find(tuple)) {
                    self.send(What::Nat(NatAnswer { asked: tuple, entry }))?;
                }
            }
            Question::Conntrack => self.tell_state(true),
            Question::SnatPorts { from, destination } => {
                if self.ports.len() < PORTS && !self.ports.contains(&(from, destination)) {
                    self.ports.push_back((from, destination));
                }
            }
            Question::Listener(endpoint) => {
                if let Some(state) = self.listener(endpoint) {
                    self.send(What::Listener(state))?;
                }
            }
            Question::Numbers { tuple, netns } => {
                if let Some(flow) = self.connection(tuple, netns) {
                    self.send(What::Flow(flow))?;
                }
            }
            Question::FlowNumbers { tuple, netns, cookie } => {
                if let Some(answer) = self.flow_numbers(tuple, netns, cookie) {
                    self.send(What::FlowNumbers(answer))?;
                }
            }
            // Answered by a hook of its own.
            Question::WatchCalls => (),
        }
        Some(())
    }

    fn send(&self, what: What) -> Option<()> {
        self.answers.send(Observation { time: now(), what }).ok()
    }

    /// Tells the state of connection tracking, if it changed or somebody asks for it.
    fn tell_state(&mut self, asked: bool) {
        let Some(tracking) = &mut self.tracking else { return };
        let Some(state) = told(tracking.state()) else { return };
        if asked || self.state != Some(state) {
            self.state = Some(state);
            // Nobody takes answers any more: the next look at the questions tells.
            let _ = self.send(What::Conntrack(state));
        }
    }

    /// Answers one question about ports, if a dump may be made.
    fn tell_ports(&mut self) {
        let Some(tracking) = &mut self.tracking else { return self.ports.clear() };
        if !tracking.is_rested() {
            return;
        }
        let Some((from, destination)) = self.ports.pop_front() else { return };
        if let Some(Some(ports)) = told(tracking.ports(from, destination)) {
            let _ = self.send(What::SnatPorts(ports));
        }
    }

    /// The listener at an address of the node. Where several namespaces have the address, it is that of the
    /// one that listens; none if several do.
    fn listener(&mut self, endpoint: Endpoint) -> Option<ListenerState> {
        let namespaces = self.namespaces.as_mut()?;
        let places = namespaces.with(endpoint.addr, 0);
        let ask = |id: &Id| told(namespaces.within(*id, || sockets::listener(endpoint, namespaces.cookie(*id))));
        let found: Vec<ListenerState> = places.iter().filter_map(ask).collect();
        match (found.iter().filter(|state| state.listens).count(), found.len()) {
            (1, _) => found.into_iter().find(|state| state.listens),
            (0, 1) => found.into_iter().next(),
            _ => None,
        }
    }

    /// The connection with the client's own tuple: of its client's socket, else of its server's, whichever
    /// is on this node.
    fn connection(&mut self, tuple: Tuple, netns: u64) -> Option<KnownFlow> {
        let wire = match &mut self.tracking {
            Some(tracking) => told(tracking.find(tuple)).flatten().map(|entry| entry.translated()),
            None => None,
        };
        let namespaces = self.namespaces.as_mut()?;
        let server = wire.unwrap_or(tuple).reversed();
        for (own, server_socket) in [(tuple, false), (server, true)] {
            for id in namespaces.with(own.src.addr, if server_socket { 0 } else { netns }) {
                let program = self.numbers.as_ref();
                let found = namespaces.within(id, || {
                    let Some(socket) = sockets::connection(own)? else { return Ok(None) };
                    let numbers = program.and_then(|program| told(numbers::of(program, own)).flatten());
                    Ok(Some((socket, numbers.filter(|numbers| numbers.state == u32::from(socket.state)))))
                });
                let Some(Some((socket, numbers))) = told(found) else { continue };
                let (client_acked, client_next, server_next) = match numbers {
                    Some(n) if server_socket => (Some(n.rcv_nxt), None, Some(n.snd_nxt)),
                    Some(n) => (Some(n.snd_una), Some(n.snd_nxt), Some(n.rcv_nxt)),
                    None => (None, None, None),
                };
                return Some(KnownFlow {
                    tuple,
                    wire,
                    cookie: socket.cookie,
                    server_socket,
                    netns: namespaces.cookie(id),
                    client_acked,
                    client_next,
                    server_next,
                    numbers: socket.numbers,
                    over: socket.is_time_wait(),
                });
            }
        }
        None
    }

    /// What the socket with a tuple, from its own end to its peer, has counted; none if it is not the one with the
    /// cookie.
    fn flow_numbers(&mut self, tuple: Tuple, netns: u64, cookie: u64) -> Option<FlowAnswer> {
        let namespaces = self.namespaces.as_mut()?;
        namespaces.with(tuple.src.addr, netns).into_iter().find_map(|id| {
            let socket = told(namespaces.within(id, || sockets::connection(tuple))).flatten()?;
            let numbers = socket.numbers.filter(|_| socket.cookie == cookie)?;
            Some(FlowAnswer { cookie, netns: namespaces.cookie(id), numbers })
        })
    }

    /// Looks what was open before.
    fn seed(&mut self) {
        let Some(namespaces) = &mut self.namespaces else { return };
        let start = Instant::now();
        let seeds = seed::gather(namespaces, self.tracking.as_mut());
        tracing::info!(
            connections = seeds.flows.len(),
            namespaces = seeds.namespaces,
            complete = seeds.complete,
            took = ?start.elapsed(),
            "what was open before is known"
        );
        self.seeds = seeds.flows.into();
    }

    /// Tells a lot of what was open before, as long as the reader takes it.
    fn tell_seeds(&mut self) {
        for _ in 0..LOT {
            let Some(flow) = self.seeds.pop_front() else { break };
            match self.answers.try_send(Observation { time: now(), what: What::Flow(flow) }) {
                Ok(()) => (),
                Err(TrySendError::Full(_)) => return self.seeds.push_front(flow),
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
        if self.seeds.is_empty() && self.seeds.capacity() > 0 {
            self.seeds = VecDeque::new();
        }
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("seeds", &self.seeds.len()).finish_non_exhaustive()
    }
}

fn feature(there: &Result<(), String>) -> Feature {
    there.as_ref().err().map_or(Feature::Present, |why| Feature::Absent(why.clone()))
}

/// An answer, or none: a question may stay unanswered.
fn told<T>(answer: io::Result<T>) -> Option<T> {
    answer.inspect_err(|error| tracing::debug!(%error, "the kernel does not answer a question")).ok()
}

fn stopped(stop: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(_) => Ok(fds[0].any().unwrap_or(true)),
        Err(nix::Error::EINTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// A second's worth of questions at once, and [`RATE`] in the long run.
struct Bucket {
    /// When it would be empty, had nothing been put into it meanwhile.
    level: Instant,
}

impl Bucket {
    fn full() -> Self {
        Self { level: Instant::now() }
    }

    /// Takes one; the time to wait for it.
    fn take(&mut self) -> Duration {
        let now = Instant::now();
        self.level = self.level.max(now) + Duration::from_secs(1) / RATE;
        self.level.saturating_duration_since(now + Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_beyond_the_rate_wait() {
        let mut bucket = Bucket::full();
        let waits: Vec<Duration> = (0..RATE + 10).map(|_| bucket.take()).collect();
        assert!(waits[..RATE as usize].iter().all(Duration::is_zero));
        assert!(waits.last().is_some_and(|wait| *wait > Duration::from_millis(5)), "{:?}", waits.last());
    }
}
