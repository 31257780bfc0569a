//! The fault lab: nodes, pods, routers and servers as network namespaces on one kernel, with real
//! sockets, real NAT and real faults, and the scenarios that say what the agent must make of them.
//!
//! Needs root. All that it makes carries its process id in its name and goes with it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps fails with the reason"))]

pub mod agent;
pub mod bench;
pub mod captures;
pub mod cluster;
pub mod counters;
pub mod error;
pub mod flood;
pub mod handover;
pub mod load;
pub mod matrix;
pub mod net;
pub mod receiver;
pub mod replay;
pub mod replicas;
pub mod scenario;
pub mod seen;
pub mod segment;
pub mod suite;
pub mod tap;
pub mod topology;
pub mod worker;
pub mod world;
