//! Deliver: queues, retry, OTLP, and the console.
//!
//! [`Delivery`] takes [`Parcel`]s (the encoded telemetry of one attempt) and never makes its caller
//! wait. Each exporter has a queue for each signal, and all share one limit of bytes; where room lacks,
//! successes go first and failures last, and every drop is counted by signal and reason.

mod batch;
mod connect;
pub mod console;
mod counters;
mod delivery;
mod frame;
mod grpc;
mod options;
mod parcel;
mod queue;
mod retry;
mod tls;
mod worker;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use batch::request;
pub use counters::{Counters, DropReason, Health, Snapshot};
pub use delivery::{Delivery, StartError};
pub use grpc::{GrpcSender, channel, headers};
pub use options::{
    Capacity, Compression, ExporterOptions, GrpcOptions, MAX_REQUEST, Options, Pem, QueueOptions, RetryOptions,
    TlsOptions,
};
pub use parcel::{Parcel, Priority, Signal};
pub use retry::{Answer, Failure, NO_ANSWER};
