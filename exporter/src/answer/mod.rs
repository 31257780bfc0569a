//! Answer: what the engineer on the node asks a running agent, over a local socket that only root can open.
//!
//! It stands beside `deliver` and needs nothing of it, so it works while every export fails: the telemetry
//! thread puts each described attempt into [`recent::Recent`], and who held a port is looked up by the
//! capture thread, which owns the ledger ([`held::Lookup`]). How the agent stands comes from [`crate::health`].
//!
//! One connection carries one question: a line of JSON of at most [`request::MAX_REQUEST`] bytes. The answer
//! is lines of JSON ([`line::Line`]), each with the version of this language; the last one says that the
//! answer is whole.

pub mod client;
pub mod held;
pub mod line;
pub mod place;
pub mod recent;
mod remembered;
pub mod request;
pub mod server;
#[cfg(test)]
mod tests;
