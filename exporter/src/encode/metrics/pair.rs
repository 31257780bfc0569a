//! All series of one workload and one destination.

use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::histogram::{GAPS, Histogram, ROUND_TRIPS, SYN_STEPS};
use super::series::{Counter, Exemplar};
use crate::capture::observation::Mono;
use crate::encode::attributes::Attributes;
use crate::names::{Metric, attribute, metric};
use crate::track::verdict::{Cause, Evidence, Outcome, Side};

/// The instruments of workloads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "ALL has a sentence for each")]
pub enum Instrument {
    Attempts,
    Failures,
    Duration,
    SynRetransmissions,
    Reuses,
    ReuseGap,
    FlowIo,
    FlowSegments,
    FlowRetransmissions,
    FlowRtt,
}

impl Instrument {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// Each as the registry has it, in the order of the variants.
    pub const ALL: [Metric; Self::COUNT] = [
        metric::SYNSPAN_CONNECT_ATTEMPTS,
        metric::SYNSPAN_CONNECT_FAILURES,
        metric::SYNSPAN_CONNECT_DURATION,
        metric::SYNSPAN_CONNECT_SYN_RETRANSMISSIONS,
        metric::SYNSPAN_PORT_REUSES,
        metric::SYNSPAN_PORT_REUSE_GAP,
        metric::SYNSPAN_FLOW_IO,
        metric::SYNSPAN_FLOW_SEGMENTS,
        metric::SYNSPAN_FLOW_RETRANSMISSIONS,
        metric::SYNSPAN_FLOW_RTT,
    ];
}

/// What tells the attempts of a pair apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttemptKey {
    /// What the application got.
    pub outcome: Outcome,
    /// Why.
    pub cause: Option<Cause>,
    /// Who is responsible for it.
    pub side: Option<Side>,
    /// `error.type`, of one that failed.
    pub error: Option<&'static str>,
}

/// Which way data went, as seen from the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the conventions' words say it")]
pub enum Way {
    Transmit,
    Receive,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Self::Transmit => "transmit",
            Self::Receive => "receive",
        }
    }
}

/// A series of a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is one of its instrument's")]
pub enum Series {
    Attempts(AttemptKey),
    Failures,
    SynRetransmissions,
    Reuses(Evidence, Outcome),
    Io(Way),
    Segments(Way),
    Retransmissions,
}

impl Series {
    /// Its instrument.
    pub fn instrument(self) -> Instrument {
        match self {
            Self::Attempts(_) => Instrument::Attempts,
            Self::Failures => Instrument::Failures,
            Self::SynRetransmissions => Instrument::SynRetransmissions,
            Self::Reuses(..) => Instrument::Reuses,
            Self::Io(_) => Instrument::FlowIo,
            Self::Segments(_) => Instrument::FlowSegments,
            Self::Retransmissions => Instrument::FlowRetransmissions,
        }
    }

    fn put(self, attributes: &mut Attributes) {
        match self {
            Self::Attempts(key) => {
                attributes.str(attribute::SYNSPAN_OUTCOME, key.outcome.as_str());
                attributes.opt_str(attribute::SYNSPAN_CAUSE, key.cause.map(Cause::as_str));
                attributes.opt_str(attribute::SYNSPAN_RESPONSIBLE, key.side.map(Side::as_str));
                attributes.opt_str(attribute::ERROR_TYPE, key.error);
            }
            Self::Reuses(evidence, outcome) => {
                attributes.str(attribute::SYNSPAN_EVIDENCE, evidence.as_str());
                attributes.str(attribute::SYNSPAN_OUTCOME, outcome.as_str());
            }
            Self::Io(way) | Self::Segments(way) => attributes.str(attribute::NETWORK_IO_DIRECTION, way.as_str()),
            Self::Failures | Self::SynRetransmissions | Self::Retransmissions => (),
        }
    }
}

/// A series of a histogram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is one of its instrument's")]
pub enum Distribution {
    Duration(Outcome),
    Gap,
    RoundTrip,
}

impl Distribution {
    /// Its instrument.
    pub fn instrument(self) -> Instrument {
        match self {
            Self::Duration(_) => Instrument::Duration,
            Self::Gap => Instrument::ReuseGap,
            Self::RoundTrip => Instrument::FlowRtt,
        }
    }

    fn bounds(self) -> &'static [f64] {
        match self {
            Self::Duration(_) => SYN_STEPS,
            Self::Gap => GAPS,
            Self::RoundTrip => ROUND_TRIPS,
        }
    }

    fn put(self, attributes: &mut Attributes) {
        if let Self::Duration(outcome) = self {
            attributes.str(attribute::SYNSPAN_OUTCOME, outcome.as_str());
        }
    }
}

/// A counter among its pair's.
#[derive(Debug)]
pub struct Counted {
    /// Which one.
    pub series: Series,
    /// All of its attributes.
    pub attributes: Vec<KeyValue>,
    /// Its total.
    pub counter: Counter,
}

/// A histogram among its pair's.
#[derive(Debug)]
pub struct Distributed {
    /// Which one.
    pub of: Distribution,
    /// All of its attributes.
    pub attributes: Vec<KeyValue>,
    /// Its values.
    pub histogram: Histogram,
    /// When it began, once it was collected.
    pub start: Option<u64>,
}

/// The series of one workload and one destination.
#[derive(Debug)]
pub struct Pair {
    /// Index of the workload.
    pub workload: usize,
    /// When it was last collected with something new in it; none before the first time.
    pub used: Option<Mono>,
    /// Whether something was measured since.
    pub fresh: bool,
    /// Its counters.
    pub counters: Vec<Counted>,
    /// Its histograms.
    pub histograms: Vec<Distributed>,
    attributes: Vec<KeyValue>,
}

impl Pair {
    /// One with no series yet; `attributes` tell the destination.
    pub fn new(workload: usize, attributes: Vec<KeyValue>) -> Self {
        Self { workload, used: None, fresh: true, counters: Vec::new(), histograms: Vec::new(), attributes }
    }

    /// Whether it has that series.
    pub fn has(&self, series: Series) -> bool {
        self.counters.iter().any(|counted| counted.series == series)
    }

    /// Whether it has that series of a histogram.
    pub fn has_distribution(&self, of: Distribution) -> bool {
        self.histograms.iter().any(|distributed| distributed.of == of)
    }

    /// The instrument of each series.
    pub fn instruments(&self) -> impl Iterator<Item = Instrument> {
        let counters = self.counters.iter().map(|counted| counted.series.instrument());
        counters.chain(self.histograms.iter().map(|distributed| distributed.of.instrument()))
    }

    /// Adds to a counter, which begins with that.
    pub fn add(&mut self, series: Series, by: u64, exemplar: Option<Exemplar>) {
        let at = match self.counters.iter().position(|counted| counted.series == series) {
            Some(at) => at,
            None => {
                let attributes = self.with(|attributes| series.put(attributes));
                self.counters.push(Counted { series, attributes, counter: Counter::default() });
                self.counters.len() - 1
            }
        };
        if by > 0 {
            self.counters[at].counter.add(by, exemplar);
        }
    }

    /// Takes a value into a histogram, which begins with that.
    pub fn record(&mut self, of: Distribution, value: f64, exemplar: Option<Exemplar>, exponential: bool) {
        let at = match self.histograms.iter().position(|distributed| distributed.of == of) {
            Some(at) => at,
            None => {
                let attributes = self.with(|attributes| of.put(attributes));
                let histogram = Histogram::new(of.bounds(), exponential);
                self.histograms.push(Distributed { of, attributes, histogram, start: None });
                self.histograms.len() - 1
            }
        };
        self.histograms[at].histogram.record(value, exemplar);
    }

    fn with(&self, put: impl FnOnce(&mut Attributes)) -> Vec<KeyValue> {
        let mut own = Attributes::with_capacity(4);
        put(&mut own);
        self.attributes.iter().cloned().chain(own.finish()).collect()
    }
}
