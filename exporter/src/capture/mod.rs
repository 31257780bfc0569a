//! Capture: what the kernel saw, or a capture file holds, as observations. Nothing else in the project knows
//! eBPF.

pub mod address_text;
pub mod flow;
#[cfg(feature = "live")]
pub mod live;
pub mod netlink;
pub mod observation;
#[cfg(target_os = "linux")]
pub mod probe;
pub mod question;
pub mod replay;
pub mod told;
pub mod tuple;
