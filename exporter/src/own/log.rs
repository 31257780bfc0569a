//! synspan's log, besides standard error: a layer of `tracing` that is empty until the configuration's exporters are
//! there, and then hands on what the agent itself says.

use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::LogRecord as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchLogProcessor, LogProcessor, SdkLogRecord, SdkLogger, SdkLoggerProvider};
use tracing_subscriber::filter::{Filtered, Targets};
use tracing_subscriber::{Layer, Registry, reload};

use super::{LAST_WORDS, Target, export};
use crate::config::LogLevel;

type Bridge = OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>;
type Slot = reload::Layer<Option<Bridge>, Registry>;

/// Where what is logged is handed on, once there is a way.
#[derive(Clone)]
pub struct Handle(reload::Handle<Option<Bridge>, Registry>);

/// The layer, which hands on nothing yet, and its handle. It takes lines of that level and above, and synspan's own
/// alone: what libraries say of sending them would never end.
pub fn layer(level: LogLevel) -> (Filtered<Slot, Targets, Registry>, Handle) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    let (layer, handle) = reload::Layer::new(None);
    (layer.with_filter(Targets::new().with_target("synspan", level)), Handle(handle))
}

/// Sends synspan's log until it is shut down.
pub struct OwnLog {
    provider: SdkLoggerProvider,
    handle: Handle,
}

impl OwnLog {
    /// Starts it, if there is any target: from here on lines go there too. To be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// What in a target's options cannot be used.
    pub fn start(targets: &[Target], resource: Resource, handle: &Handle) -> Result<Option<Self>, String> {
        if targets.is_empty() {
            return Ok(None);
        }
        let mut builder = SdkLoggerProvider::builder().with_resource(resource).with_log_processor(Nameless);
        for target in targets {
            builder = match target {
                Target::Otlp(id, options) => {
                    builder.with_log_processor(BatchLogProcessor::builder(export::logs(id, options)?).build())
                }
                Target::Console => {
                    let to = opentelemetry_stdout::LogExporter::default();
                    builder.with_log_processor(BatchLogProcessor::builder(to).build())
                }
            };
        }
        let provider = builder.build();
        let bridge = Bridge::new(&provider);
        handle.0.reload(Some(bridge)).map_err(|error| format!("the log: {error}"))?;
        Ok(Some(Self { provider, handle: handle.clone() }))
    }

    /// Sends the last lines, and ends.
    pub fn shutdown(self) {
        let _ = self.handle.0.reload(None);
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_WORDS) {
            tracing::warn!("synspan's own last log records could not be sent: {error}");
        }
    }
}

/// A line of the log is no event with a name: that of its callsite is a place in the source.
#[derive(Debug)]
struct Nameless;

impl LogProcessor for Nameless {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        record.set_event_name("");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
