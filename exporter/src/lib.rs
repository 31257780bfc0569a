//! synspan: a span for every SYN.
//!
//! Data flows one way: [`capture`] -> [`track`] -> [`identify`] -> [`encode`] -> [`deliver`]; [`answer`] and
//! [`health`] stand beside the last two, for who asks a running agent.

#[cfg(all(feature = "live", not(target_os = "linux")))]
compile_error!("live capture is for Linux: build with --no-default-features");

pub mod answer;
pub mod capture;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod encode;
pub mod health;
pub mod identify;
pub mod names;
pub mod own;
pub mod track;
