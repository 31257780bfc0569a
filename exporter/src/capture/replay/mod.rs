//! Replay: capture files as observations, with no privileges and on any system.
//!
//! Files are read once, in the order of their packets' times, in memory that does not grow with them.
//! As in live capture only SYN, SYN-ACK, RST, FIN and what answers a pending SYN becomes an observation.
//! Times are those of the clock of whoever captured, in nanoseconds since 1970, so monotonic and
//! wall-clock time are the same.

mod error;
pub mod file;
mod flows;
pub mod link;
mod merge;
pub mod packet;
mod point;
mod source;
pub mod tcp;
mod window;

#[cfg(test)]
pub(crate) mod craft;

pub use error::FileError;
pub use merge::{Ended, OpenFile, Replay, StartError};
pub use point::PointRule;
pub use source::Tally;
