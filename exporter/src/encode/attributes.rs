//! A list of attributes under construction, as bytes (opentelemetry/proto/common/v1/common.proto).

use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::Message as _;
use prost::encoding::{decode_varint, encoded_len_varint};

use super::wire::{framed_len, put_varint};
use crate::capture::address_text::AddressText;
use crate::capture::tuple::Endpoint;
use crate::identify::Identity;

/// Most bytes of an attribute's string; what is longer is cut.
pub const MAX_STRING: usize = 1024;

/// Tags of KeyValue: `key` is field 1, `value` field 2.
const KEY: u8 = 0x0a;
const VALUE: u8 = 0x12;
/// Tags of AnyValue: `string_value` 1, `bool_value` 2, `int_value` 3, `double_value` 4, `array_value` 5.
const STRING: u8 = 0x0a;
const BOOL: u8 = 0x10;
const INT: u8 = 0x18;
const DOUBLE: u8 = 0x21;
const ARRAY: u8 = 0x2a;
/// The tag of `values` in ArrayValue.
const VALUES: u8 = 0x0a;

/// About how long an attribute is.
const USUAL: usize = 48;

/// Attributes in the order in which they were put. Nobody puts a name twice.
///
/// Each is a KeyValue with its length before it; what it is a field of is added when the list is written.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    bytes: Vec<u8>,
    count: usize,
}

impl Attributes {
    /// None yet, with room for `capacity`.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity * USUAL), count: 0 }
    }

    /// Begins an attribute whose AnyValue has that many bytes, which are to follow.
    fn begin(&mut self, name: &str, value: usize) {
        self.count += 1;
        let out = &mut self.bytes;
        // Room for all of it at once: what follows finds it there.
        out.reserve(name.len() + value + 16);
        put_varint(out, (framed_len(name.len()) + framed_len(value)) as u64);
        out.push(KEY);
        put_varint(out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
        out.push(VALUE);
        put_varint(out, value as u64);
    }

    /// Puts a string, cut at [`MAX_STRING`].
    pub fn str(&mut self, name: &str, value: &str) {
        let value = cut(value);
        self.begin(name, framed_len(value.len()));
        text(STRING, value.as_bytes(), &mut self.bytes);
    }

    /// Puts a string if there is one.
    pub fn opt_str(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.str(name, value);
        }
    }

    /// Puts an integer.
    pub fn int(&mut self, name: &str, value: impl Into<i64>) {
        let value = value.into().cast_unsigned();
        self.begin(name, 1 + encoded_len_varint(value));
        self.bytes.push(INT);
        put_varint(&mut self.bytes, value);
    }

    /// Puts a number.
    pub fn double(&mut self, name: &str, value: f64) {
        self.begin(name, 9);
        self.bytes.push(DOUBLE);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Puts a truth value.
    pub fn bool(&mut self, name: &str, value: bool) {
        self.begin(name, 2);
        self.bytes.extend_from_slice(&[BOOL, value.into()]);
    }

    /// Puts `true`, or nothing: marks are rare, and their absence says the same.
    pub fn mark(&mut self, name: &str, value: bool) {
        if value {
            self.bool(name, true);
        }
    }

    /// Puts a list of strings, each cut at [`MAX_STRING`].
    pub fn strings<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) {
        self.list(name, |list| values.into_iter().for_each(|value| list.push(value)));
    }

    /// Puts a list of strings that a function makes.
    pub fn list(&mut self, name: &str, make: impl FnOnce(&mut Strings)) {
        let mut list = Strings(Vec::with_capacity(2 * USUAL));
        make(&mut list);
        self.begin(name, framed_len(list.0.len()));
        text(ARRAY, &list.0, &mut self.bytes);
    }

    /// Puts an address and a port under two names; nothing of what is unspecified, which is what is not to be told.
    pub fn endpoint(&mut self, address: &str, port: &str, endpoint: Endpoint) {
        if endpoint == Endpoint::default() {
            return;
        }
        if !endpoint.addr.ip().to_canonical().is_unspecified() {
            self.str(address, &AddressText::of_addr(endpoint.addr));
        }
        self.int(port, endpoint.port);
    }

    /// Each as a KeyValue's bytes.
    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let length = decode_varint(&mut rest).ok().and_then(|length| usize::try_from(length).ok())?;
            let (one, others) = rest.split_at_checked(length)?;
            rest = others;
            Some(one)
        })
    }

    /// Writes them as the repeated field of that number, which is below 16.
    pub fn write(&self, field: u8, out: &mut Vec<u8>) {
        out.reserve(self.written());
        for one in self.each() {
            out.push(field << 3 | 2);
            put_varint(out, one.len() as u64);
            out.extend_from_slice(one);
        }
    }

    /// How long [`Self::write`] makes them.
    pub fn written(&self) -> usize {
        // Each has its length already, and gets a tag of one byte.
        self.bytes.len() + self.count
    }

    /// The finished list, as the generated types have it.
    pub fn finish(self) -> Vec<KeyValue> {
        self.each().filter_map(|one| KeyValue::decode(one).ok()).collect()
    }
}

/// A list of strings under construction, as ArrayValue's bytes.
pub struct Strings(Vec<u8>);

impl Strings {
    /// Adds a string, cut at [`MAX_STRING`].
    pub fn push(&mut self, value: &str) {
        let value = cut(value);
        self.0.push(VALUES);
        put_varint(&mut self.0, framed_len(value.len()) as u64);
        text(STRING, value.as_bytes(), &mut self.0);
    }
}

/// A value of bytes behind its tag.
fn text(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// The attributes of a resource.
pub fn of_identity(identity: &Identity) -> Attributes {
    let mut attributes = Attributes::with_capacity(identity.attributes.len());
    for (name, value) in &identity.attributes {
        attributes.str(name, value);
    }
    attributes
}

/// At most [`MAX_STRING`] bytes of a text, cut between characters.
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_STRING)]
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_are_cut_between_characters() {
        let long = "é".repeat(MAX_STRING);
        assert_eq!(cut(&long).len(), MAX_STRING);
        let odd = format!("x{long}");
        assert_eq!(cut(&odd).len(), MAX_STRING - 1);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn lists_are_cut_too() {
        let mut attributes = Attributes::default();
        attributes.strings("a", ["x".repeat(5000).as_str()]);
        let Some(Value::ArrayValue(list)) = attributes.finish()[0].value.clone().and_then(|value| value.value) else {
            panic!("not a list")
        };
        assert_eq!(list.values[0].value, Some(Value::StringValue("x".repeat(MAX_STRING))));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            ".{0,300}".prop_map(Value::StringValue),
            any::<i64>().prop_map(Value::IntValue),
            any::<f64>().prop_filter("equal to itself", |number| !number.is_nan()).prop_map(Value::DoubleValue),
            any::<bool>().prop_map(Value::BoolValue),
            proptest::collection::vec(".{0,60}", 0..5).prop_map(|texts| {
                let value = |text| AnyValue { value: Some(Value::StringValue(text)) };
                Value::ArrayValue(ArrayValue { values: texts.into_iter().map(value).collect() })
            }),
        ]
    }

    proptest! {
        /// What is written is what the generated types would have written.
        #[test]
        fn bytes_are_those_of_the_generated_types(pairs in proptest::collection::vec((".{0,40}", any_value()), 0..12)) {
            let mut attributes = Attributes::default();
            for (name, value) in &pairs {
                match value {
                    Value::StringValue(text) => attributes.str(name, text),
                    Value::IntValue(number) => attributes.int(name, *number),
                    Value::DoubleValue(number) => attributes.double(name, *number),
                    Value::BoolValue(value) => attributes.bool(name, *value),
                    Value::ArrayValue(list) => attributes.strings(name, list.values.iter().map(|one| match &one.value {
                        Some(Value::StringValue(text)) => text.as_str(),
                        _ => "",
                    })),
                    _ => {}
                }
            }
            let pair = |(key, value): (String, Value)| {
                let value = match value {
                    Value::StringValue(text) => Value::StringValue(cut(&text).to_owned()),
                    other => other,
                };
                KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
            };
            let expected: Vec<KeyValue> = pairs.into_iter().map(pair).collect();
            let mut written = Vec::new();
            attributes.write(1, &mut written);
            prop_assert_eq!(attributes.written(), written.len());
            let resource = Resource { attributes: expected.clone(), ..Resource::default() };
            // An empty name or value is left out by the generated types; both decode alike.
            prop_assert_eq!(Resource::decode(&written[..]).expect("a resource"), resource);
            prop_assert_eq!(attributes.finish(), expected);
        }
    }
}
