//! The configuration: one YAML file shaped like the OpenTelemetry Collector's, and the environment.
//!
//! [`Config::load`] gives plain values or every problem at once, each with file, line and key path.
//! Nothing here knows the stages that are configured: `cli/` turns [`Config`] into their options.
//!
//! - An exporter block copied from a Collector's file works, with the Collector's keys and defaults.
//!   A key that synspan cannot honour is an error, unless it is set to what happens anyway.
//! - Unknown keys are errors. `${env:NAME:-default}` works in every value.
//! - A file with `exporters` and no `service.pipelines` sends every signal to every exporter.
//! - Without any exporter in the file (or without a file) the standard variables
//!   `OTEL_EXPORTER_OTLP_*` may name some; else everything goes to the console.

mod environment;
mod error;
mod expand;
mod file;
mod model;
mod otlp;
mod otlp_model;
mod pipelines;
mod reader;
mod signals;
mod signals_model;
mod standard;
mod tree;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use environment::{Env, MapEnv, ProcessEnv};
pub use error::{ConfigError, Problem};
pub use model::{
    AddressPrivacy, Agent, AgentHealth, Attach, Budget, Capture, Color, Compression, Config, ConnectLogs,
    DebugExporter, Delivery, Enabled, Endpoint, Exporter, ExporterKind, Flows, HistogramKind, IdKey, Identity,
    Interfaces, Keepalive, Kubernetes, LogLevel, Logs, Metrics, NamedDestination, OtlpExporter, OwnTelemetry,
    OwnerPrivacy, Pem, Pipelines, Privacy, QueueBatch, Quiet, Retry, Sampling, Secret, SecretKey, SendingQueue, Sizer,
    SpanKind, StaticIdentity, Temporality, Tls, TlsVersion, Tracking,
};

/// A duration as the file has them: `300ms`, `10m`.
///
/// # Errors
/// What is wrong with it, and what would be right, in one line.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    values::duration(text).map_err(|wrong| format!("{}; {}", wrong.what, wrong.instead))
}

use file::Given;
use reader::Reading;
use standard::Standard;

/// A configuration that can be used, and what is doubtful about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// To be shown; in the order of the file's lines.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the file, if there is one, and the environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(path: Option<&Path>, env: &dyn Env) -> Result<Loaded, ConfigError> {
        let Some(path) = path else {
            return finish(Config::default(), Given::default(), Vec::new(), Vec::new(), env);
        };
        let name = path.display().to_string();
        let whole = |what: String, instead: &str| ConfigError {
            problems: vec![Problem {
                source: name.as_str().into(),
                line: None,
                path: String::new(),
                what,
                instead: instead.to_owned(),
            }],
        };
        let bytes = std::fs::read(path)
            .map_err(|error| whole(format!("cannot be read: {error}"), "check the path and the permissions"))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
            whole(format!("line {line} is not UTF-8"), "save the file as UTF-8")
        })?;
        Self::parse(&name, &text, env)
    }

    /// Reads the text of a file of that name, and the environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse(name: &str, text: &str, env: &dyn Env) -> Result<Loaded, ConfigError> {
        let mut reading = Reading::new(name, env);
        let (mut root, twice) = match tree::parse(text) {
            Ok(parsed) => parsed,
            Err(broken) => {
                reading.broken(broken);
                return Err(ConfigError { problems: reading.problems });
            }
        };
        for broken in twice {
            reading.broken(broken);
        }
        reading.expand(&mut root, "");
        let read = file::file(&root, &mut reading);
        finish(read.config, read.given, reading.problems, reading.warnings, env)
    }
}

/// Adds what the environment says.
fn finish(
    mut config: Config,
    given: Given,
    mut problems: Vec<Problem>,
    mut warnings: Vec<Problem>,
    env: &dyn Env,
) -> Result<Loaded, ConfigError> {
    let mut standard = Standard::new(env);
    if !given.exporters {
        standard.exporters(&mut config);
    }
    standard.metrics(&mut config, given);
    standard.resource(&mut config);
    standard.own_name(&mut config);
    problems.append(&mut standard.problems);
    warnings.append(&mut standard.warnings);
    let by_line = |problem: &Problem| problem.line.unwrap_or(usize::MAX);
    problems.sort_by_key(by_line);
    warnings.sort_by_key(by_line);
    if problems.is_empty() { Ok(Loaded { config, warnings }) } else { Err(ConfigError { problems }) }
}
