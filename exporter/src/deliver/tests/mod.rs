//! Delivery against a real OTLP server in this process.

mod delivering;
mod failing;
mod secure;
mod server;
