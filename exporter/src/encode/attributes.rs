//! A list of attributes under construction.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};

use crate::capture::tuple::Endpoint;
use crate::identify::Identity;

/// Most bytes of an attribute's string; what is longer is cut.
pub const MAX_STRING: usize = 1024;

/// Attributes in the order in which they were put. Nobody puts a name twice.
#[derive(Clone, Debug, Default)]
pub struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// None yet, with room for `capacity`.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    fn put(&mut self, name: &str, value: Value) {
        self.0.push(KeyValue {
            key: name.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }

    /// Puts a string, cut at [`MAX_STRING`].
    pub fn str(&mut self, name: &str, value: &str) {
        self.put(name, Value::StringValue(cut(value).to_owned()));
    }

    /// Puts a string if there is one.
    pub fn opt_str(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.str(name, value);
        }
    }

    /// Puts an integer.
    pub fn int(&mut self, name: &str, value: impl Into<i64>) {
        self.put(name, Value::IntValue(value.into()));
    }

    /// Puts a number.
    pub fn double(&mut self, name: &str, value: f64) {
        self.put(name, Value::DoubleValue(value));
    }

    /// Puts a truth value.
    pub fn bool(&mut self, name: &str, value: bool) {
        self.put(name, Value::BoolValue(value));
    }

    /// Puts `true`, or nothing: marks are rare, and their absence says the same.
    pub fn mark(&mut self, name: &str, value: bool) {
        if value {
            self.bool(name, true);
        }
    }

    /// Puts a list of strings, each cut at [`MAX_STRING`].
    pub fn strings<S: AsRef<str>>(&mut self, name: &str, values: impl IntoIterator<Item = S>) {
        let values = values
            .into_iter()
            .map(|value| AnyValue { value: Some(Value::StringValue(cut(value.as_ref()).to_owned())) })
            .collect();
        self.put(name, Value::ArrayValue(ArrayValue { values }));
    }

    /// Puts an address and a port under two names; nothing of what is unspecified, which is what is not to be told.
    pub fn endpoint(&mut self, address: &str, port: &str, endpoint: Endpoint) {
        if endpoint == Endpoint::default() {
            return;
        }
        if !endpoint.addr.ip().to_canonical().is_unspecified() {
            self.put(address, Value::StringValue(endpoint.addr.to_string()));
        }
        self.int(port, endpoint.port);
    }

    /// The finished list.
    pub fn finish(self) -> Vec<KeyValue> {
        self.0
    }
}

/// The attributes of a resource.
pub fn of_identity(identity: &Identity) -> Vec<KeyValue> {
    let mut attributes = Attributes::with_capacity(identity.attributes.len());
    for (name, value) in &identity.attributes {
        attributes.str(name, value);
    }
    attributes.finish()
}

/// At most [`MAX_STRING`] bytes of a text, cut between characters.
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_STRING)]
}

#[cfg(test)]
mod tests {
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
        attributes.strings("a", ["x".repeat(5000)]);
        let Some(Value::ArrayValue(list)) = attributes.finish()[0].value.clone().and_then(|value| value.value) else {
            panic!("not a list")
        };
        assert_eq!(list.values[0].value, Some(Value::StringValue("x".repeat(MAX_STRING))));
    }
}
