//! OTLP's messages as bytes, field by field (protobuf encoding, "Message Structure").
//!
//! Spans and log records are the bulk of what is sent. Built as the generated types they would be some hundred small
//! strings for each attempt, only to be copied into one buffer; so they are written there at once. Metrics, which are few,
//! are built of the generated types.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// A field of bytes or text; nothing if it is empty, as proto3 has it.
pub fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        framed(out, field, value);
    }
}

/// A field of bytes, text or a message, also if it is empty.
pub fn framed(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// A field of a number as varint; nothing if it is 0.
pub fn varint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(value, out);
    }
}

/// A field of type fixed64; nothing if it is 0.
pub fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        encode_key(field, WireType::SixtyFourBit, out);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// A field of type fixed32; nothing if it is 0.
pub fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    if value != 0 {
        encode_key(field, WireType::ThirtyTwoBit, out);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// How long a field of that many bytes is, of a number below 16.
pub const fn framed_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}
