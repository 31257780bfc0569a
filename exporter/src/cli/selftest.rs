//! The capture that `synspan doctor` starts to see its own connection.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use crate::capture::live::{Capture, Options, Sink};
use crate::capture::observation::{Mono, Observation};
use crate::capture::probe::connection::Watch;

/// Hands everything on. The doctor's machine may be busy, but the proof takes a second.
struct Forward(Sender<Vec<Observation>>);

impl Sink for Forward {
    fn observations(&mut self, batch: &[Observation]) {
        // Nobody listens any more once the proof is there.
        let _ = self.0.send(batch.to_vec());
    }

    fn tick(&mut self, _: Mono) {}
}

/// A capture that runs while this lives.
struct Running {
    seen: Receiver<Vec<Observation>>,
    _capture: Capture,
}

impl Watch for Running {
    fn collect(&mut self, patience: Duration) -> Result<Vec<Observation>, String> {
        match self.seen.recv_timeout(patience) {
            Ok(mut seen) => {
                seen.extend(self.seen.try_iter().flatten());
                Ok(seen)
            }
            Err(RecvTimeoutError::Timeout) => Ok(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => Err("capture ended by itself".to_owned()),
        }
    }
}

/// Starts capture on sockets alone: the proof's connection is on loopback, and the node's interfaces
/// need not wait for it.
pub fn start(mut options: Options) -> Result<Box<dyn Watch>, String> {
    options.interfaces.ignore = vec!["*".to_owned()];
    let (sender, seen) = mpsc::channel();
    let (capture, _) = Capture::start(options, Forward(sender)).map_err(|error| error.to_string())?;
    Ok(Box::new(Running { seen, _capture: capture }))
}
