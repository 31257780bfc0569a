//! Capture: what the kernel saw, as observations. Nothing else in the project knows eBPF.

pub mod observation;
pub mod probe;
pub mod tuple;
