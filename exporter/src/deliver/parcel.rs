//! What is handed over for delivery: the telemetry of one attempt, encoded once.
//!
//! A parcel keeps its records as protobuf bytes. So the queue's byte counts are exact, a request is put
//! together by copying bytes, and a request that has to be sent again is encoded no second time.

use std::sync::Arc;

use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message;

/// Field number of `spans` in ScopeSpans, `log_records` in ScopeLogs and `metrics` in ScopeMetrics.
const RECORDS: u32 = 2;

/// Bytes that the framing of a piece may take besides its parts: three tags with lengths.
const FRAMING: usize = 18;

/// The signals of OTLP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Signal {
    Traces,
    Logs,
    Metrics,
}

impl Signal {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// What goes first when there is no room for all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Priority {
    /// An attempt that went well: the first to be dropped.
    Success,
    /// One that failed, came late or reused a port: the last to be dropped.
    Failure,
}

/// The telemetry of one attempt for one signal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parcel {
    pub(super) signal: Signal,
    pub(super) priority: Priority,
    pub(super) pieces: Vec<Piece>,
    pub(super) bytes: usize,
    pub(super) items: usize,
}

/// Records that share a resource and a scope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// The fields of ResourceSpans besides `scope_spans`, encoded.
    pub resource: Arc<[u8]>,
    /// The fields of ScopeSpans besides `spans`, encoded.
    pub scope: Arc<[u8]>,
    /// The records, each with its tag and length.
    pub records: Vec<u8>,
    /// How many.
    pub count: usize,
}

impl Piece {
    /// The records of one scope, whose envelopes come without them; none where there are none.
    fn of(resource: &[u8], scope: &impl Message, records: &[impl Message]) -> Option<Self> {
        let mut bytes = Vec::new();
        for record in records {
            begin(record.encoded_len(), &mut bytes);
            // Writing to a vector cannot fail.
            let _ = record.encode(&mut bytes);
        }
        (!records.is_empty()).then(|| Self {
            resource: resource.into(),
            scope: scope.encode_to_vec().into(),
            records: bytes,
            count: records.len(),
        })
    }

    /// Bytes in a request, at most.
    fn bytes(&self) -> usize {
        self.resource.len() + self.scope.len() + self.records.len() + FRAMING
    }
}

/// The tag and the length of a record.
fn begin(length: usize, out: &mut Vec<u8>) {
    prost::encoding::encode_key(RECORDS, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(length as u64, out);
}

impl Parcel {
    /// Spans or log records that are encoded already, each with its resource: the fields of ResourceSpans or ResourceLogs
    /// besides the scopes. `scope` is those of ScopeSpans or ScopeLogs besides the records.
    pub fn encoded(
        signal: Signal,
        priority: Priority,
        scope: &Arc<[u8]>,
        records: impl IntoIterator<Item = (Arc<[u8]>, Vec<u8>)>,
    ) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for (resource, record) in records {
            let piece = match pieces.iter_mut().position(|piece| piece.resource == resource) {
                Some(at) => &mut pieces[at],
                None => {
                    let records = Vec::with_capacity(record.len() + 4);
                    pieces.push(Piece { resource, scope: Arc::clone(scope), records, count: 0 });
                    let last = pieces.len() - 1;
                    &mut pieces[last]
                }
            };
            begin(record.len(), &mut piece.records);
            piece.records.extend_from_slice(&record);
            piece.count += 1;
        }
        Self::of(signal, priority, pieces)
    }

    /// Spans, with one ResourceSpans for each resource. Scopes without spans are left out.
    pub fn traces(priority: Priority, resources: Vec<ResourceSpans>) -> Self {
        let scopes = |resource: &mut ResourceSpans| std::mem::take(&mut resource.scope_spans);
        let pieces = pieces(resources, scopes, |scope| std::mem::take(&mut scope.spans));
        Self::of(Signal::Traces, priority, pieces)
    }

    /// Log records, with one ResourceLogs for each resource. Scopes without records are left out.
    pub fn logs(priority: Priority, resources: Vec<ResourceLogs>) -> Self {
        let scopes = |resource: &mut ResourceLogs| std::mem::take(&mut resource.scope_logs);
        let pieces = pieces(resources, scopes, |scope| std::mem::take(&mut scope.log_records));
        Self::of(Signal::Logs, priority, pieces)
    }

    /// Metrics, with one ResourceMetrics for each resource. Scopes without metrics are left out. They are the last to
    /// be dropped: a series that lacks a point is wrong for all.
    pub fn metrics(resources: Vec<ResourceMetrics>) -> Self {
        let scopes = |resource: &mut ResourceMetrics| std::mem::take(&mut resource.scope_metrics);
        let pieces = pieces(resources, scopes, |scope| std::mem::take(&mut scope.metrics));
        Self::of(Signal::Metrics, Priority::Failure, pieces)
    }

    fn of(signal: Signal, priority: Priority, pieces: Vec<Piece>) -> Self {
        let bytes = pieces.iter().map(Piece::bytes).sum();
        let items = pieces.iter().map(|piece| piece.count).sum();
        Self { signal, priority, pieces, bytes, items }
    }

    /// Which signal it is for.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// What it gives way to.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Encoded bytes, framing included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records in it.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Parcels of at most that many bytes and records, and how many records are too large alone.
    pub(super) fn split(self, max_bytes: usize, max_items: usize) -> (Vec<Self>, usize) {
        if self.bytes <= max_bytes && self.items <= max_items {
            return (vec![self], 0);
        }
        let (signal, priority) = (self.signal, self.priority);
        let mut parcels = Vec::new();
        let mut open: Vec<Piece> = Vec::new();
        let (mut bytes, mut items, mut too_large) = (0, 0, 0);
        for piece in self.pieces {
            let head = piece.resource.len() + piece.scope.len() + FRAMING;
            let mut current: Option<Piece> = None;
            for record in records(&piece.records) {
                if head + record.len() > max_bytes {
                    too_large += 1;
                    continue;
                }
                let more = record.len() + if current.is_some() { 0 } else { head };
                if bytes + more > max_bytes || items + 1 > max_items {
                    open.extend(current.take());
                    parcels.push(Self::of(signal, priority, std::mem::take(&mut open)));
                    (bytes, items) = (0, 0);
                }
                let target = current.get_or_insert_with(|| {
                    bytes += head;
                    Piece {
                        resource: piece.resource.clone(),
                        scope: piece.scope.clone(),
                        records: Vec::new(),
                        count: 0,
                    }
                });
                target.records.extend_from_slice(record);
                target.count += 1;
                bytes += record.len();
                items += 1;
            }
            open.extend(current);
        }
        if !open.is_empty() {
            parcels.push(Self::of(signal, priority, open));
        }
        (parcels, too_large)
    }
}

/// The pieces of resources; `scopes` takes the scopes out of a resource, and `records` the records out of a scope, so that
/// what is left of each is its envelope.
fn pieces<R: Message, S: Message, T: Message>(
    resources: Vec<R>,
    scopes: impl Fn(&mut R) -> Vec<S>,
    records: impl Fn(&mut S) -> Vec<T>,
) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(resources.len());
    for mut resource in resources {
        let scopes = scopes(&mut resource);
        let head = resource.encode_to_vec();
        for mut scope in scopes {
            let records = records(&mut scope);
            pieces.extend(Piece::of(&head, &scope, &records));
        }
    }
    pieces
}

/// The records in a piece, each with its tag and length. The bytes are our own encoding.
fn records(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut tail = rest;
        prost::encoding::decode_varint(&mut tail).ok()?;
        let length = usize::try_from(prost::encoding::decode_varint(&mut tail).ok()?).ok()?;
        let whole = (rest.len() - tail.len()).checked_add(length).filter(|whole| *whole <= rest.len())?;
        let (record, after) = rest.split_at(whole);
        rest = after;
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parcel, spans};
    use super::*;

    #[test]
    fn no_empty_envelopes() {
        let parcel = Parcel::traces(Priority::Success, vec![ResourceSpans::default(), spans("a", 0, 0)]);
        assert_eq!((parcel.items(), parcel.bytes()), (0, 0));
    }

    #[test]
    fn splits_by_bytes_and_by_records() {
        let whole = Parcel::traces(Priority::Failure, vec![spans("a", 5, 100), spans("b", 5, 100)]);
        let (parcels, too_large) = whole.clone().split(500, usize::MAX);
        assert_eq!(too_large, 0);
        assert!(parcels.len() > 2);
        assert!(parcels.iter().all(|parcel| parcel.bytes() <= 500 && parcel.priority() == Priority::Failure));
        assert_eq!(parcels.iter().map(Parcel::items).sum::<usize>(), 10);
        let (parcels, _) = whole.split(usize::MAX, 3);
        assert_eq!(parcels.iter().map(Parcel::items).collect::<Vec<_>>(), [3, 3, 3, 1]);
    }

    #[test]
    fn a_record_too_large_alone_is_counted() {
        let (parcels, too_large) = parcel(Priority::Success, "a", 2, 1000).split(500, usize::MAX);
        assert_eq!((parcels.len(), too_large), (0, 2));
    }
}
