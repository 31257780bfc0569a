//! Health: how a running agent is, for anybody on the node who asks over HTTP.
//!
//! It stands beside `answer`, and knows neither eBPF nor OTLP: a [`Source`], which `cli/run` makes, hands it plain
//! facts. [`judge`] says of them whether the agent lives and is ready, [`page`] and [`metrics`] put a [`Status`] in
//! words, [`readings`] in numbers, and [`server`] answers. Nothing here can make capture wait: it reads what others have left in atomics, and
//! behind locks that are held for moments.

pub mod heartbeat;
pub mod judge;
pub mod metrics;
pub mod page;
pub mod readings;
pub mod server;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;

use judge::Facts;
use status::Status;

/// What is known of the agent now. Asked by tasks of the runtime: neither call may wait for long.
pub trait Source: Send + Sync {
    /// What the judgement rests on. Takes no lock that a thread that is stuck could hold.
    fn facts(&self) -> Facts;
    /// All of it.
    fn status(&self) -> Status;
}
