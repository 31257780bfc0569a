//! The task that empties one exporter's queue for one signal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};

use super::batch::body;
use super::counters::Health;
use super::grpc::GrpcSender;
use super::options::ExporterOptions;
use super::parcel::Signal;
use super::queue::{Due, Ending, Queues};
use super::retry::{Answer, Backoff, Failure, NO_ANSWER};

/// What [`super::Delivery`] and its workers share.
pub(super) struct Shared {
    queues: Mutex<Queues>,
    /// When the shutdown ends, once it has begun.
    deadline: Mutex<Option<Instant>>,
    /// One for each queue.
    pub wake: Vec<Notify>,
}

impl Shared {
    pub fn new(queues: Queues, count: usize) -> Self {
        Self {
            queues: Mutex::new(queues),
            deadline: Mutex::new(None),
            wake: (0..count).map(|_| Notify::new()).collect(),
        }
    }

    pub fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the shutdown.
    pub fn close(&self, deadline: Instant) {
        self.queues().close();
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(deadline);
        self.wake.iter().for_each(Notify::notify_one);
    }
}

/// One queue's worker.
pub(super) struct Worker {
    pub shared: Arc<Shared>,
    /// Index of the queue.
    pub at: usize,
    pub signal: Signal,
    pub options: ExporterOptions,
    pub sender: GrpcSender,
}

/// A request on its way.
struct Flight {
    batch: u64,
    bytes: usize,
    /// The backoff's round in which it started: of those that fail together only one makes it longer.
    round: u64,
}

struct State {
    tasks: JoinSet<Answer>,
    flights: HashMap<Id, Flight>,
    backoff: Backoff,
    round: u64,
    /// No request before this; while it is set, one at a time.
    hold: Option<Instant>,
    told_partial: bool,
}

impl Worker {
    /// Runs until the shutdown is over.
    pub async fn run(self) {
        let mut state = State {
            tasks: JoinSet::new(),
            flights: HashMap::new(),
            backoff: Backoff::new(self.options.retry),
            round: 0,
            hold: None,
            told_partial: false,
        };
        let mut closing = false;
        loop {
            let deadline = self.shared.deadline();
            if deadline.is_some() && !closing {
                // What waits for another try gets one now: there may be no later.
                closing = true;
                state.hold = state.hold.map(|_| Instant::now());
            }
            let until = self.launch(&mut state, closing);
            let idle = state.flights.is_empty();
            if let Some(deadline) = deadline {
                let hopeless = idle && until.is_none_or(|next| next > deadline);
                if Instant::now() >= deadline || hopeless {
                    break;
                }
            }
            let until = [until, deadline].into_iter().flatten().min();
            tokio::select! {
                () = self.shared.wake[self.at].notified() => {}
                () = sleep_until(until), if until.is_some() => {}
                Some(ended) = state.tasks.join_next_with_id(), if !idle => self.ended(&mut state, ended),
            }
        }
        state.tasks.abort_all();
        let lost = self.shared.queues().drop_all(self.at);
        if lost > 0 {
            tracing::warn!("{}: {lost} records of {} were not sent before the end", self.name(), self.signal.name());
        }
    }

    /// Sends what is due. Says when to look again, none if only an event can change anything.
    fn launch(&self, state: &mut State, closing: bool) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let most = if state.hold.is_some() { 1 } else { self.options.queue.consumers.max(1) };
            if state.flights.len() >= most {
                return None;
            }
            let mut queues = self.shared.queues();
            match queues.due(self.at, closing) {
                Due::Never => return None,
                Due::At(then) if then > now => return Some(then),
                Due::At(_) | Due::Now => {}
            }
            if let Some(hold) = state.hold.filter(|hold| *hold > now) {
                return Some(hold);
            }
            let batch = queues.take(self.at, now)?;
            drop(queues);
            let (signal, sender) = (self.signal, self.sender.clone());
            let body = body(&batch.parcels);
            let bytes = body.len();
            let task = state.tasks.spawn(async move { sender.send(signal, body).await });
            state.flights.insert(task.id(), Flight { batch: batch.id, bytes, round: state.round });
        }
    }

    fn ended(&self, state: &mut State, ended: Result<(Id, Answer), JoinError>) {
        let (id, answer) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let failure = Failure {
                    what: format!("the request broke off: {error}"),
                    check: "this is a bug in synspan",
                    retry: false,
                    after: None,
                    status: NO_ANSWER,
                };
                (error.id(), Answer::Failed(failure))
            }
        };
        let Some(flight) = state.flights.remove(&id) else { return };
        let now = Instant::now();
        match answer {
            Answer::Taken { rejected, message } => {
                state.hold = None;
                state.backoff.reset();
                let ending = Ending::Taken { rejected, bytes: flight.bytes };
                self.shared.queues().done(self.at, flight.batch, ending, now);
                self.health(Health::Ok);
                if (rejected > 0 || !message.is_empty()) && !state.told_partial {
                    state.told_partial = true;
                    let name = self.name();
                    tracing::warn!(
                        "{name}: the backend rejected {rejected} records: {message}; said once, later ones are counted"
                    );
                }
            }
            Answer::Failed(failure) => self.failed(state, &flight, &failure, now),
        }
    }

    fn failed(&self, state: &mut State, flight: &Flight, failure: &Failure, now: Instant) {
        let retry = &self.options.retry;
        let ending = if !failure.retry {
            Ending::Refused { status: failure.status }
        } else if !retry.enabled {
            Ending::Exhausted { status: failure.status }
        } else {
            if flight.round == state.round {
                state.round += 1;
                let wait = state.backoff.wait(rand::random()).max(failure.after.unwrap_or_default());
                state.hold = Some(now + wait);
            } else if let (Some(after), Some(hold)) = (failure.after, state.hold) {
                state.hold = Some(hold.max(now + after));
            }
            let after = state.hold.map_or(Duration::ZERO, |hold| hold.saturating_duration_since(now));
            let give_up = Some(retry.max_elapsed).filter(|limit| !limit.is_zero());
            Ending::Again { after, give_up, status: failure.status }
        };
        let lost = self.shared.queues().done(self.at, flight.batch, ending, now);
        if lost > 0 {
            tracing::debug!("{}: {lost} records dropped: {failure}", self.name());
        }
        self.health(Health::Failing(failure.to_string()));
    }

    /// Notes how the exporter fares, and says so where that changes.
    fn health(&self, health: Health) {
        let mut queues = self.shared.queues();
        let counters = &mut queues.queue(self.at).counters;
        let first = counters.health == Health::Untried;
        let changed = counters.note(health.clone(), Instant::now());
        drop(queues);
        match health {
            Health::Failing(why) if changed => {
                tracing::warn!("{}: {} cannot be delivered: {why}", self.name(), self.signal.name());
            }
            Health::Ok if changed => tracing::info!("{}: {} are delivered again", self.name(), self.signal.name()),
            Health::Ok if first => tracing::info!("{}: {} are delivered", self.name(), self.signal.name()),
            _ => {}
        }
    }

    /// For messages: the id and where it sends to.
    fn name(&self) -> String {
        format!("exporter {} ({})", self.options.id, self.options.grpc.url())
    }
}

async fn sleep_until(until: Option<Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until.into()).await;
    }
}
