//! OTLP's messages as bytes, field by field (protobuf encoding, "Message Structure").
//!
//! Spans and log records are the bulk of what is sent. Built as the generated types they would be some hundred small
//! strings for each attempt, only to be copied into one buffer; so they are written there at once. Metrics, which are few,
//! are built of the generated types.

use prost::encoding::{WireType, encoded_len_varint};

/// A number as varint.
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    // Nearly all are lengths and small counts.
    match value {
        0..0x80 => out.push(value as u8),
        0x80..0x4000 => out.extend_from_slice(&[value as u8 | 0x80, (value >> 7) as u8]),
        _ => prost::encoding::encode_varint(value, out),
    }
}

/// A field's tag.
fn put_key(out: &mut Vec<u8>, field: u32, kind: WireType) {
    put_varint(out, u64::from(field << 3 | kind as u32));
}

/// A field of bytes or text; nothing if it is empty, as proto3 has it.
pub fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        framed(out, field, value);
    }
}

/// A field of bytes, text or a message, also if it is empty.
pub fn framed(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    put_key(out, field, WireType::LengthDelimited);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A field of a number as varint; nothing if it is 0.
pub fn varint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_key(out, field, WireType::Varint);
        put_varint(out, value);
    }
}

/// A field of type fixed64; nothing if it is 0.
pub fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_key(out, field, WireType::SixtyFourBit);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// A field of type fixed32; nothing if it is 0.
pub fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    if value != 0 {
        put_key(out, field, WireType::ThirtyTwoBit);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// How long a field of that many bytes is, of a number below 16.
pub const fn framed_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_as_prost_has_them(value: u64, shift in 0..64_u32) {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            put_varint(&mut ours, value >> shift);
            prost::encoding::encode_varint(value >> shift, &mut theirs);
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(ours.len(), encoded_len_varint(value >> shift));
        }
    }
}
