//! The SDK's exporters: OTLP over the same kind of channel as all else, with the same TLS and headers; or the console.
//!
//! A backend that fails is said once, and once that it is well again; the SDK would say it at each try.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{LogExporter as OtlpLogs, MetricExporter as OtlpMetrics, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use tonic::{Request, Status};

use crate::deliver::{Compression, GrpcOptions, channel, headers};

/// Metrics by OTLP. To be called within a tokio runtime, as [`logs`].
///
/// # Errors
/// What in the options cannot be used, after the exporter's id.
pub fn metrics(id: &str, options: &GrpcOptions, temporality: Temporality) -> Result<Watched<OtlpMetrics>, String> {
    let builder = OtlpMetrics::builder().with_temporality(temporality).with_tonic();
    let built = with(builder, options).and_then(|builder| builder.build().map_err(|error| error.to_string()));
    Ok(Watched::new(id, "metrics", built.map_err(|error| format!("exporter {id}: {error}"))?))
}

/// Log records by OTLP.
///
/// # Errors
/// What in the options cannot be used, after the exporter's id.
pub fn logs(id: &str, options: &GrpcOptions) -> Result<Watched<OtlpLogs>, String> {
    let builder = OtlpLogs::builder().with_tonic();
    let built = with(builder, options).and_then(|builder| builder.build().map_err(|error| error.to_string()));
    Ok(Watched::new(id, "log", built.map_err(|error| format!("exporter {id}: {error}"))?))
}

fn with<B: WithTonicConfig + WithExportConfig>(builder: B, options: &GrpcOptions) -> Result<B, String> {
    let headers = headers(options)?;
    // Last, and in place of all there are: the SDK adds those of OTEL_EXPORTER_OTLP_HEADERS, which may be meant for
    // another backend.
    let replace = move |mut request: Request<()>| -> Result<Request<()>, Status> {
        *request.metadata_mut() = headers.clone();
        Ok(request)
    };
    let builder = builder
        .with_channel(channel(options, Some(options.timeout))?)
        .with_interceptor(replace)
        .with_timeout(options.timeout);
    Ok(match options.compression {
        Compression::Gzip => builder.with_compression(opentelemetry_otlp::Compression::Gzip),
        Compression::Zstd => builder.with_compression(opentelemetry_otlp::Compression::Zstd),
        Compression::None => builder,
    })
}

/// An exporter whose fate is told when it changes.
pub struct Watched<E> {
    id: String,
    what: &'static str,
    failing: AtomicBool,
    inner: E,
}

impl<E> Watched<E> {
    fn new(id: &str, what: &'static str, inner: E) -> Self {
        Self { id: id.to_owned(), what, failing: AtomicBool::new(false), inner }
    }

    /// Tells a change, and hides the failure from the SDK, which would tell each.
    fn told(&self, result: OTelSdkResult) -> OTelSdkResult {
        let failing = result.is_err();
        if self.failing.swap(failing, Ordering::Relaxed) != failing {
            let (id, what) = (&self.id, self.what);
            match &result {
                Err(error) => tracing::warn!("synspan's own {what} cannot be sent to {id}: {error}; tried again"),
                Ok(()) => tracing::info!("synspan's own {what} is sent to {id} again"),
            }
        }
        Ok(())
    }
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({}, {})", self.id, self.what)
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.told(self.inner.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

impl<E: LogExporter> LogExporter for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.told(self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
