//! The files as they are written: the definition format of OpenTelemetry Weaver, as far as it is used here.

use serde::Deserialize;
use serde_json::Value as Json;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    pub description: String,
    pub schema_url: String,
    pub dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    pub schema_url: String,
    #[serde(rename = "registry_path")]
    pub _registry_path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub groups: Vec<Group>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupType {
    AttributeGroup,
    Span,
    Event,
    Metric,
    Entity,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: GroupType,
    pub brief: String,
    #[serde(default)]
    pub note: String,
    pub stability: Option<String>,
    pub display_name: Option<String>,
    pub extends: Option<String>,
    #[serde(default)]
    pub attributes: Vec<Attribute>,
    #[serde(default)]
    pub annotations: Annotations,
    pub name: Option<String>,
    pub span_kind: Option<String>,
    #[serde(default)]
    pub events: Vec<String>,
    pub metric_name: Option<String>,
    pub instrument: Option<String>,
    pub unit: Option<String>,
    #[serde(default)]
    pub entity_associations: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    /// The name of a span, for which the format has no field.
    pub span_name: Option<String>,
    /// The fixed `service.name` of a resource.
    pub service_name: Option<String>,
    /// The unit of an attribute.
    pub unit: Option<String>,
    /// The attribute whose values a list has.
    pub values_of: Option<String>,
    pub code_generation: Option<CodeGeneration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeGeneration {
    /// The constant's name, where the attribute's own would be another's too.
    pub constant: String,
}

/// A definition (`id`) or a use (`ref`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    pub id: Option<String>,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<Type>,
    #[serde(default)]
    pub brief: String,
    #[serde(default)]
    pub note: String,
    pub stability: Option<String>,
    #[serde(default)]
    pub examples: Vec<Json>,
    pub requirement_level: Option<Level>,
    pub role: Option<String>,
    pub deprecated: Option<Deprecated>,
    #[serde(default)]
    pub annotations: Annotations,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Type {
    Word(String),
    Enum { members: Vec<Member> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub id: String,
    pub value: String,
    pub brief: String,
    pub stability: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Level {
    Word(String),
    Conditional { conditionally_required: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deprecated {
    pub reason: String,
    pub renamed_to: Option<String>,
    pub note: String,
}
