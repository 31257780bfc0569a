//! What synspan tells of itself, from the start of a run to its end.

use std::sync::Arc;

use opentelemetry_sdk::Resource;
use tokio::runtime::Runtime;

use super::Error;
use crate::cli::exporters::own_targets;
use crate::config::Config;
use crate::health::Source;
use crate::identify::node::Node;
use crate::own::log::{Handle, OwnLog};
use crate::own::meter::OwnMetrics;
use crate::own::resource;

/// Its log from the start on, its metrics as soon as there is anything to measure.
pub struct Own {
    resource: Resource,
    log: Option<OwnLog>,
    metrics: Option<OwnMetrics>,
}

impl Own {
    /// Starts to send the log, if the configuration says so.
    pub fn start(config: &Config, node: &Node, handle: &Handle, runtime: &Runtime) -> Result<Self, Error> {
        let resource = resource(config, node);
        let targets = own_targets(config, &config.own_telemetry.log_exporters);
        let _within = runtime.enter();
        let log = OwnLog::start(&targets, resource.clone(), handle).map_err(Error::Own)?;
        Ok(Self { resource, log, metrics: None })
    }

    /// Starts to send the metrics of `source`, if the configuration says so.
    pub fn measure(&mut self, config: &Config, source: Arc<dyn Source>, runtime: &Runtime) -> Result<(), Error> {
        let targets = own_targets(config, &config.own_telemetry.metric_exporters);
        let _within = runtime.enter();
        self.metrics = OwnMetrics::start(config, &targets, self.resource.clone(), source).map_err(Error::Own)?;
        Ok(())
    }

    /// Sends the last of both.
    pub fn shutdown(self) {
        if let Some(metrics) = self.metrics {
            metrics.shutdown();
        }
        if let Some(log) = self.log {
            log.shutdown();
        }
    }
}
