//! The handle that the rest of the agent holds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::counters::Snapshot;
use super::grpc::GrpcSender;
use super::options::Options;
use super::parcel::{Parcel, Signal};
use super::queue::Queues;
use super::worker::{Shared, Worker};

/// Queues and workers of all exporters. Offering never waits; what finds no room is dropped and counted.
pub struct Delivery {
    shared: Arc<Shared>,
    /// Exporter and signal of each queue.
    names: Vec<(String, Signal)>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// An exporter cannot be set up.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("exporters.{exporter}: {what}")]
pub struct StartError {
    /// Its id.
    pub exporter: String,
    /// What cannot be used, and why.
    pub what: String,
}

impl Delivery {
    /// Starts a worker for each exporter and signal on a runtime. A backend that cannot be reached is no
    /// error: what is for it waits.
    ///
    /// # Errors
    /// An exporter's certificates or headers cannot be used.
    pub fn start(options: Options, runtime: &Handle) -> Result<Self, StartError> {
        let _guard = runtime.enter();
        let mut plans = Vec::new();
        for exporter in options.exporters {
            let sender =
                GrpcSender::new(&exporter.grpc).map_err(|what| StartError { exporter: exporter.id.clone(), what })?;
            for signal in &exporter.signals {
                plans.push((*signal, exporter.clone(), sender.clone()));
            }
        }
        let queues = Queues::new(options.memory_limit, plans.iter().map(|(_, exporter, _)| exporter.queue));
        let shared = Arc::new(Shared::new(queues, plans.len()));
        let names = plans.iter().map(|(signal, exporter, _)| (exporter.id.clone(), *signal)).collect();
        let workers = plans
            .into_iter()
            .enumerate()
            .map(|(at, (signal, options, sender))| {
                runtime.spawn(Worker { shared: shared.clone(), at, signal, options, sender }.run())
            })
            .collect();
        Ok(Self { shared, names, workers: Mutex::new(workers) })
    }

    /// Whether any exporter takes that signal.
    pub fn sends(&self, signal: Signal) -> bool {
        self.names.iter().any(|(_, of)| *of == signal)
    }

    /// Hands a parcel to every exporter of its signal. Returns at once.
    pub fn offer(&self, parcel: Parcel) {
        if parcel.items() == 0 {
            return;
        }
        let parcel = Arc::new(parcel);
        let now = Instant::now();
        let mut queues = self.shared.queues();
        for (at, (_, signal)) in self.names.iter().enumerate() {
            if *signal == parcel.signal() && queues.offer(at, &parcel, now) {
                self.shared.wake[at].notify_one();
            }
        }
    }

    /// The counters of every exporter and signal, in the order of the options.
    pub fn counters(&self) -> Vec<Snapshot> {
        let mut queues = self.shared.queues();
        self.names
            .iter()
            .enumerate()
            .map(|(at, (exporter, signal))| Snapshot {
                exporter: exporter.clone(),
                signal: *signal,
                counters: queues.queue(at).snapshot(),
            })
            .collect()
    }

    /// Takes no more in, sends what waits within that time, and counts the rest as
    /// [`super::DropReason::Shutdown`]. It ends earlier when all is sent, or nothing more can be.
    pub async fn shutdown(&self, within: Duration) {
        self.shared.close(Instant::now() + within);
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // A worker that panicked has nothing more to send.
            let _ = worker.await;
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.shared.queues().is_closed() {
            self.shared.close(Instant::now());
        }
    }
}
