//! A sign of life that costs its thread one store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::capture::observation::Mono;

/// When a thread last said that it goes on.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<AtomicU64>);

impl Heartbeat {
    /// A thread that is about to start counts as one that goes on.
    pub fn new(now: Mono) -> Self {
        Self(Arc::new(AtomicU64::new(now.0)))
    }

    /// Says so: for the thread itself.
    pub fn beat(&self, now: Mono) {
        // Nothing else is published by it.
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// When it last did.
    pub fn last(&self) -> Mono {
        Mono(self.0.load(Ordering::Relaxed))
    }
}
