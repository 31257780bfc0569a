//! An application with an OpenTelemetry SDK, as the tests need one beside synspan's agents: each line on standard input is
//! a request that it has served, by its route. All that it does is the SDK's own: who it is comes from
//! `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, where it sends to and how often from
//! `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_METRIC_EXPORT_INTERVAL`. It ends with its standard input, and sends what it has.

use std::error::Error;
use std::io::BufRead;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // The exporter's connection belongs to it.
    let _context = runtime.enter();
    let exporter = MetricExporter::builder().with_tonic().build()?;
    let provider = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter).build()).build();
    let served = provider.meter("shop.http").u64_counter("http.server.requests").with_unit("{request}").build();
    for route in std::io::stdin().lock().lines() {
        served.add(1, &[KeyValue::new("http.route", route?)]);
    }
    provider.shutdown()?;
    Ok(())
}
