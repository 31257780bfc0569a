//! Metrics: what was measured of attempts and connections, by workload and destination.
//!
//! [`Meter`] counts; `collect` makes OTLP of it. Metrics count everything, whatever becomes of spans and records.

mod collect;
pub mod destination;
mod exponential;
mod histogram;
mod meter;
mod node;
mod pair;
mod series;
pub mod workload;

#[cfg(test)]
mod tests;

pub use meter::{Meter, Moved, Options};
pub use node::NodeMeter;
pub use series::Exemplar;
