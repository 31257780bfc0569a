//! The registry as plain values: references resolved, lists complete.

use serde::Serialize;
use serde_json::Value as Json;

/// Everything synspan tells.
#[derive(Clone, Debug, Serialize)]
pub struct Registry {
    /// The name of the registry and of the instrumentation scope.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The registry's own address.
    pub schema_url: String,
    /// The schema of OpenTelemetry's conventions that records carry.
    pub conventions_url: String,
    /// The kinds of resources.
    pub resources: Vec<Resource>,
    /// The spans.
    pub spans: Vec<Span>,
    /// The events on spans.
    pub span_events: Vec<Event>,
    /// The attributes of every link.
    pub links: Vec<Use>,
    /// The events that are log records.
    pub events: Vec<Event>,
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// The attributes, by theme.
    pub themes: Vec<Theme>,
}

/// Attributes that belong together.
#[derive(Clone, Debug, Serialize)]
pub struct Theme {
    /// Its title.
    pub title: String,
    /// What they are about.
    pub brief: String,
    /// Whether they are OpenTelemetry's own.
    pub standard: bool,
    /// The attributes.
    pub attributes: Vec<Attribute>,
}

/// An attribute.
#[derive(Clone, Debug, Serialize)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// The name of its constant.
    pub constant: String,
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: Type,
    /// What it means.
    pub brief: String,
    /// More of it; often empty.
    pub note: String,
    /// How settled it is.
    pub stability: String,
    /// Values as examples.
    pub examples: Vec<Json>,
    /// The unit of a number.
    pub unit: Option<String>,
    /// The attribute whose closed list holds for the values of this list.
    pub values_of: Option<String>,
    /// Why it is deprecated, if it is.
    pub deprecated: Option<String>,
}

/// The type of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Text.
    String,
    /// An integer.
    Int,
    /// A number.
    Double,
    /// True or false.
    Boolean,
    /// A list of texts.
    Strings,
    /// One of a closed list of texts.
    Enum(Vec<Member>),
}

impl Type {
    /// As the registry writes it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::Strings => "string[]",
            Self::Enum(_) => "enum",
        }
    }
}

/// A value of a closed list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its id, which names its constant.
    pub id: String,
    /// The value.
    pub value: String,
    /// What it means.
    pub brief: String,
}

/// An attribute of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The attribute.
    pub attribute: String,
    /// When the record has it.
    pub level: Level,
}

/// When a record has an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Always.
    Required,
    /// Under a condition.
    ConditionallyRequired(String),
    /// Where it is known.
    Recommended,
    /// If the user asks for it.
    OptIn,
}

/// A span.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// `client`, `server` or `internal`.
    pub kind: String,
    /// What it stands for.
    pub brief: String,
    /// More of it; often empty.
    pub note: String,
    /// How settled it is.
    pub stability: String,
    /// The names of its events.
    pub events: Vec<String>,
    /// Its attributes.
    pub attributes: Vec<Use>,
}

/// An event: on a span, or as a log record.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What happened.
    pub brief: String,
    /// More of it; often empty.
    pub note: String,
    /// How settled it is.
    pub stability: String,
    /// Its attributes.
    pub attributes: Vec<Use>,
}

/// A metric.
#[derive(Clone, Debug, Serialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// How it is measured.
    pub instrument: Instrument,
    /// The unit, by UCUM.
    pub unit: String,
    /// What it measures.
    pub brief: String,
    /// More of it; often empty.
    pub note: String,
    /// How settled it is.
    pub stability: String,
    /// The kinds of resources that have it; any if empty.
    pub resources: Vec<String>,
    /// Its attributes.
    pub attributes: Vec<Use>,
}

/// How a metric is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Instrument {
    /// A sum that never falls.
    Counter,
    /// A sum that may fall.
    UpDownCounter,
    /// A value of its own at each time.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Instrument {
    /// As the registry writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::UpDownCounter => "updowncounter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A kind of resource.
#[derive(Clone, Debug, Serialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its `service.name`, where that is fixed.
    pub service_name: Option<String>,
    /// What it is.
    pub brief: String,
    /// More of it; often empty.
    pub note: String,
    /// How settled it is.
    pub stability: String,
    /// Its attributes.
    pub attributes: Vec<Use>,
}

impl Registry {
    /// All attributes, theme by theme.
    pub fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.themes.iter().flat_map(|theme| &theme.attributes)
    }

    /// An attribute by its name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes().find(|attribute| attribute.name == name)
    }

    /// The values of an attribute's closed list; none if it has none.
    pub fn members(&self, name: &str) -> Option<&[Member]> {
        match &self.attribute(name)?.kind {
            Type::Enum(members) => Some(members),
            _ => None,
        }
    }
}
