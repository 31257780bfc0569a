//! Putting parcels together to the body of one export request.
//!
//! The three requests of OTLP have one shape (opentelemetry/proto/collector/*/v1): field 1 of the
//! request is ResourceX, field 2 of that is ScopeX, field 2 of that the records. So one function
//! serves all signals.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::parcel::{Parcel, Piece};

/// Field of ResourceX in the request.
const RESOURCE: u32 = 1;
/// Field of ScopeX in ResourceX.
const SCOPE: u32 = 2;

struct ResourceGroup<'p> {
    head: &'p [u8],
    scopes: Vec<ScopeGroup<'p>>,
}

struct ScopeGroup<'p> {
    head: &'p [u8],
    records: Vec<&'p [u8]>,
    length: usize,
}

impl ResourceGroup<'_> {
    fn length(&self) -> usize {
        self.head.len() + self.scopes.iter().map(|scope| framed(scope.length)).sum::<usize>()
    }
}

/// A length with its tag (one byte for fields below 16) and length prefix.
fn framed(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

/// The body: one ResourceX for each resource and one ScopeX for each scope of it, in order of first
/// appearance. Never longer than the parcels' bytes together.
pub(super) fn body<'p>(parcels: impl IntoIterator<Item = &'p Arc<Parcel>>) -> Bytes {
    body_of(parcels.into_iter().flat_map(|parcel| &parcel.pieces))
}

fn body_of<'p>(pieces: impl IntoIterator<Item = &'p Piece>) -> Bytes {
    let mut index: HashMap<&[u8], usize, foldhash::fast::RandomState> = HashMap::default();
    // Most pieces share their resource's very bytes, which need not be looked at then.
    let mut shared: HashMap<*const u8, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut resources: Vec<ResourceGroup<'_>> = Vec::new();
    for piece in pieces {
        let at = *shared.entry(piece.resource.as_ptr()).or_insert_with(|| {
            let next = resources.len();
            *index.entry(&piece.resource).or_insert(next)
        });
        if at == resources.len() {
            resources.push(ResourceGroup { head: &piece.resource, scopes: Vec::new() });
        }
        let scopes = &mut resources[at].scopes;
        // A resource has one scope, or few.
        let scope = match scopes.iter().position(|scope| *scope.head == *piece.scope) {
            Some(at) => &mut scopes[at],
            None => {
                scopes.push(ScopeGroup { head: &piece.scope, records: Vec::new(), length: piece.scope.len() });
                let last = scopes.len() - 1;
                &mut scopes[last]
            }
        };
        scope.records.push(&piece.records);
        scope.length += piece.records.len();
    }
    let mut out = BytesMut::with_capacity(resources.iter().map(|resource| framed(resource.length())).sum());
    for resource in &resources {
        encode_key(RESOURCE, WireType::LengthDelimited, &mut out);
        encode_varint(resource.length() as u64, &mut out);
        out.put_slice(resource.head);
        for scope in &resource.scopes {
            encode_key(SCOPE, WireType::LengthDelimited, &mut out);
            encode_varint(scope.length as u64, &mut out);
            out.put_slice(scope.head);
            for records in &scope.records {
                out.put_slice(records);
            }
        }
    }
    out.freeze()
}

/// The body of a request of one parcel alone, for [`super::GrpcSender::send`].
pub fn request(parcel: &Parcel) -> Bytes {
    body_of(&parcel.pieces)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;

    use super::super::parcel::Priority;
    use super::super::testing::{parcel, spans};
    use super::*;

    #[test]
    fn equal_resources_share_an_envelope() {
        let parcels = [
            Arc::new(Parcel::traces(Priority::Success, vec![spans("a", 1, 10), spans("b", 2, 10)])),
            Arc::new(parcel(Priority::Failure, "a", 3, 10)),
        ];
        let body = body(&parcels);
        assert!(body.len() <= parcels.iter().map(|parcel| parcel.bytes()).sum());
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        let shape: Vec<_> = request
            .resource_spans
            .iter()
            .map(|rs| (rs.schema_url.as_str(), rs.scope_spans.len(), rs.scope_spans[0].spans.len()))
            .collect();
        assert_eq!(shape, [("schema", 1, 4), ("schema", 1, 2)]);
        let mut merged = spans("a", 1, 10);
        merged.scope_spans[0].spans.extend(spans("a", 3, 10).scope_spans.remove(0).spans);
        assert_eq!(request.resource_spans, [merged, spans("b", 2, 10)]);
    }
}
