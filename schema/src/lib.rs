//! The registry of synspan's telemetry (`config/schema/`): every span, event, metric, attribute and resource.
//!
//! [`Registry::embedded`] reads it, [`render`] makes the constants and the pages of it, and the functions of
//! [`check`] say of a record what the registry does not allow.

pub mod check;
pub mod generate;
pub mod model;
#[cfg(feature = "otlp")]
pub mod otlp;
mod read;
pub mod render;
mod source;
mod validate;

pub use check::{Data, Value};
pub use model::Registry;
pub use read::Error;

/// A file of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name in `config/schema/`.
    pub name: &'static str,
    /// What it holds.
    pub text: &'static str,
}

macro_rules! source {
    ($name:literal) => {
        Source { name: $name, text: include_str!(concat!("../../config/schema/", $name)) }
    };
}

/// The manifest.
pub const MANIFEST: Source = source!("manifest.yaml");

/// The other files, in the order in which they are shown.
pub const SOURCES: &[Source] = &[
    source!("resources.yaml"),
    source!("spans.yaml"),
    source!("span_events.yaml"),
    source!("events.yaml"),
    source!("metrics.yaml"),
    source!("agent.yaml"),
    source!("verdict.yaml"),
    source!("ends.yaml"),
    source!("standard.yaml"),
];

/// The file of OpenTelemetry's own names: all others are ours and under `synspan.`.
pub const STANDARD: &str = "standard.yaml";
