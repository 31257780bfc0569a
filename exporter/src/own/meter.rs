//! synspan's own metrics: the registry's instruments, observed when an exporter's interval has passed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};

use super::{LAST_WORDS, Target, export};
use crate::config::{self, Config};
use crate::health::Source;
use crate::health::readings::{Kind, Number, Reading, readings};
use crate::names::SCOPE;

/// The instruments of one export are read one after the other, of one look at the agent.
const FRESH: Duration = Duration::from_millis(200);

/// Sends synspan's own metrics until it is shut down.
pub struct OwnMetrics(SdkMeterProvider);

impl OwnMetrics {
    /// Starts them, if there is any target. To be called within a tokio runtime.
    ///
    /// # Errors
    /// What in a target's options cannot be used.
    pub fn start(
        config: &Config,
        targets: &[Target],
        resource: Resource,
        source: Arc<dyn Source>,
    ) -> Result<Option<Self>, String> {
        if targets.is_empty() {
            return Ok(None);
        }
        let interval = config.own_telemetry.metric_interval;
        let mut builder = SdkMeterProvider::builder().with_resource(resource);
        let temporality = match config.metrics.temporality {
            config::Temporality::Cumulative => Temporality::Cumulative,
            config::Temporality::Delta => Temporality::Delta,
            config::Temporality::LowMemory => Temporality::LowMemory,
        };
        for target in targets {
            builder = match target {
                Target::Otlp(id, options) => {
                    let to = export::metrics(id, options, temporality)?;
                    builder.with_reader(PeriodicReader::builder(to).with_interval(interval).build())
                }
                Target::Console => {
                    let to = opentelemetry_stdout::MetricExporter::builder().with_temporality(temporality).build();
                    builder.with_reader(PeriodicReader::builder(to).with_interval(interval).build())
                }
            };
        }
        let provider = builder.build();
        observe(&provider.meter(SCOPE), source);
        Ok(Some(Self(provider)))
    }

    /// Sends the last values, and ends.
    pub fn shutdown(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_WORDS) {
            tracing::warn!("synspan's own last metrics could not be sent: {error}");
        }
    }
}

/// A look at the agent, shared by the instruments.
struct Look {
    source: Arc<dyn Source>,
    last: Mutex<Option<(Instant, Arc<[Reading]>)>>,
}

impl Look {
    fn now(&self) -> Arc<[Reading]> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, readings)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return readings.clone();
        }
        let fresh: Arc<[Reading]> = readings(&self.source.status()).into();
        *last = Some((Instant::now(), fresh.clone()));
        fresh
    }
}

/// Registers every instrument. They are always the same, in the same order.
fn observe(meter: &Meter, source: Arc<dyn Source>) {
    let look = Arc::new(Look { source, last: Mutex::new(None) });
    for (at, reading) in look.now().iter().enumerate() {
        let metric = reading.metric;
        let look = look.clone();
        let whole = metric.unit != "s";
        match reading.kind {
            Kind::Counter if whole => {
                let instrument = meter.u64_observable_counter(metric.name);
                let instrument = instrument.with_unit(metric.unit).with_description(metric.description);
                instrument.with_callback(move |to| tell(&look.now(), at, to, count)).build();
            }
            Kind::Counter => {
                let instrument = meter.f64_observable_counter(metric.name);
                let instrument = instrument.with_unit(metric.unit).with_description(metric.description);
                instrument.with_callback(move |to| tell(&look.now(), at, to, seconds)).build();
            }
            Kind::UpDownCounter => {
                let instrument = meter.i64_observable_up_down_counter(metric.name);
                let instrument = instrument.with_unit(metric.unit).with_description(metric.description);
                let signed = |number| i64::try_from(count(number)).unwrap_or(i64::MAX);
                instrument.with_callback(move |to| tell(&look.now(), at, to, signed)).build();
            }
            Kind::Gauge => {
                let instrument = meter.f64_observable_gauge(metric.name);
                let instrument = instrument.with_unit(metric.unit).with_description(metric.description);
                instrument.with_callback(move |to| tell(&look.now(), at, to, seconds)).build();
            }
        }
    }
}

fn tell<T>(readings: &[Reading], at: usize, to: &dyn AsyncInstrument<T>, value: impl Fn(Number) -> T) {
    for point in readings.get(at).into_iter().flat_map(|reading| &reading.points) {
        let attributes: Vec<KeyValue> =
            point.attributes.iter().map(|(key, value)| KeyValue::new(*key, value.clone())).collect();
        to.observe(value(point.value), &attributes);
    }
}

fn count(number: Number) -> u64 {
    match number {
        Number::Count(count) => count,
        Number::Seconds(seconds) => seconds as u64,
    }
}

fn seconds(number: Number) -> f64 {
    match number {
        Number::Count(count) => count as f64,
        Number::Seconds(seconds) => seconds,
    }
}
