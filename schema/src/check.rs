//! What the registry does not allow of a record, in words.

use crate::model::{Attribute, Instrument, Level, Member, Registry, Resource, Type, Use};

const OVERFLOW: &str = "otel.metric.overflow";
const SERVICE_NAME: &str = "service.name";

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Str(String),
    /// An integer.
    Int(i64),
    /// A number.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// A list of texts.
    Strs(Vec<String>),
    /// Anything else: bytes, a map, another list, nothing.
    Other,
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Str(_) => "string",
            Self::Int(_) => "int",
            Self::Double(_) => "double",
            Self::Bool(_) => "boolean",
            Self::Strs(_) => "string[]",
            Self::Other => "another type",
        }
    }
}

/// What a metric's points are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// A sum.
    Sum {
        /// Whether it never falls.
        monotonic: bool,
    },
    /// A gauge.
    Gauge,
    /// A histogram, explicit or exponential.
    Histogram,
}

impl Data {
    fn instrument(self) -> Instrument {
        match self {
            Self::Sum { monotonic: true } => Instrument::Counter,
            Self::Sum { monotonic: false } => Instrument::UpDownCounter,
            Self::Gauge => Instrument::Gauge,
            Self::Histogram => Instrument::Histogram,
        }
    }
}

/// The attributes of a record, in its order.
pub type Attributes = [(String, Value)];

impl Registry {
    /// A span. `kind` is `client`, `server` or `internal`; a setting makes every span internal.
    pub fn check_span(&self, name: &str, kind: &str, attributes: &Attributes) -> Vec<String> {
        let Some(span) = self.spans.iter().find(|span| span.name == name) else {
            return vec![format!("span `{name}`: not known")];
        };
        let mut findings = Findings::new(format!("span `{name}`"));
        if kind != span.kind && kind != "internal" {
            findings.add(format!("kind is {kind} and not {}", span.kind));
        }
        self.check(&mut findings, &span.attributes, attributes);
        findings.list
    }

    /// An event of a span.
    pub fn check_span_event(&self, span: &str, name: &str, attributes: &Attributes) -> Vec<String> {
        let Some(event) = self.span_events.iter().find(|event| event.name == name) else {
            return vec![format!("span event `{name}`: not known")];
        };
        let mut findings = Findings::new(format!("span event `{name}`"));
        if !self.spans.iter().any(|known| known.name == span && known.events.iter().any(|event| event == name)) {
            findings.add(format!("span `{span}` has no such event"));
        }
        self.check(&mut findings, &event.attributes, attributes);
        findings.list
    }

    /// A link of a span.
    pub fn check_link(&self, attributes: &Attributes) -> Vec<String> {
        let mut findings = Findings::new("link".to_owned());
        self.check(&mut findings, &self.links, attributes);
        findings.list
    }

    /// A log record; `name` is its field EventName.
    pub fn check_log(&self, name: &str, attributes: &Attributes) -> Vec<String> {
        let Some(event) = self.events.iter().find(|event| event.name == name) else {
            return vec![format!("event `{name}`: not known")];
        };
        let mut findings = Findings::new(format!("event `{name}`"));
        if let Some((_, Value::Str(given))) = attributes.iter().find(|(key, _)| key == "event.name")
            && given != name
        {
            findings.add(format!("`event.name` is `{given}`"));
        }
        self.check(&mut findings, &event.attributes, attributes);
        findings.list
    }

    /// A metric, and the attributes of one of its points. A point of what is beyond the limits of series may lack some.
    pub fn check_metric(&self, name: &str, unit: &str, data: Data, attributes: &Attributes) -> Vec<String> {
        let Some(metric) = self.metrics.iter().find(|metric| metric.name == name) else {
            return vec![format!("metric `{name}`: not known")];
        };
        let mut findings = Findings::new(format!("metric `{name}`"));
        if unit != metric.unit {
            findings.add(format!("unit is `{unit}` and not `{}`", metric.unit));
        }
        let instrument = data.instrument();
        if instrument != metric.instrument {
            findings.add(format!("instrument is {} and not {}", instrument.as_str(), metric.instrument.as_str()));
        }
        let overflow = attributes.iter().any(|(key, value)| key == OVERFLOW && *value == Value::Bool(true));
        self.check_known(&mut findings, &metric.attributes, attributes);
        if !overflow {
            findings.missing(&metric.attributes, attributes);
        }
        findings.list
    }

    /// A resource. It may have attributes that the user gave, but none under `synspan.`.
    pub fn check_resource(&self, attributes: &Attributes) -> Vec<String> {
        let kind = self.resource_of(attributes);
        let mut findings = Findings::new(match kind {
            Some(kind) => format!("resource `{}`", kind.name),
            None => "resource".to_owned(),
        });
        findings.twice(attributes);
        for (name, value) in attributes {
            match self.attribute(name) {
                Some(attribute) if !name.starts_with("synspan.") => self.value(&mut findings, attribute, value),
                _ if name.starts_with("synspan.") => findings.add(format!("attribute `{name}` is not one of its")),
                _ => {}
            }
        }
        match kind {
            Some(kind) => findings.missing(&kind.attributes, attributes),
            None => findings.add(format!("attribute `{SERVICE_NAME}` is missing")),
        }
        findings.list
    }

    /// Which kind of resource that is: by its fixed name, else a pod by its uid, else the first kind whose required
    /// attributes are there. None without a service's name.
    pub fn resource_of(&self, attributes: &Attributes) -> Option<&Resource> {
        let has = |name: &str| attributes.iter().any(|(key, _)| key == name);
        let service = attributes.iter().find_map(|(key, value)| match value {
            Value::Str(text) if key == SERVICE_NAME => Some(text),
            _ => None,
        })?;
        let named = self.resources.iter().find(|kind| kind.service_name.as_ref() == Some(service));
        let open = || self.resources.iter().filter(|kind| kind.service_name.is_none());
        let required = |kind: &Resource, name: &str| {
            kind.attributes.iter().any(|used| used.attribute == name && used.level == Level::Required)
        };
        let pod = || open().find(|kind| has("k8s.pod.uid") && required(kind, "k8s.pod.uid"));
        let complete =
            |kind: &&Resource| kind.attributes.iter().all(|used| used.level != Level::Required || has(&used.attribute));
        named.or_else(pod).or_else(|| open().find(complete))
    }

    fn check(&self, findings: &mut Findings, uses: &[Use], attributes: &Attributes) {
        self.check_known(findings, uses, attributes);
        findings.missing(uses, attributes);
    }

    fn check_known(&self, findings: &mut Findings, uses: &[Use], attributes: &Attributes) {
        findings.twice(attributes);
        for (name, value) in attributes {
            match self.attribute(name) {
                Some(attribute) if uses.iter().any(|used| used.attribute == *name) => {
                    self.value(findings, attribute, value);
                }
                Some(_) => findings.add(format!("attribute `{name}` is not one of its")),
                None => findings.add(format!("attribute `{name}` is not known")),
            }
        }
    }

    fn value(&self, findings: &mut Findings, attribute: &Attribute, value: &Value) {
        let name = &attribute.name;
        let listed = |members: &[Member], text: &str| members.iter().any(|member| member.value == text);
        match (&attribute.kind, value) {
            (Type::Enum(members), Value::Str(text)) if !listed(members, text) => {
                findings.add(format!("attribute `{name}` is `{text}`, which is not in its list"));
            }
            (Type::Strings, Value::Strs(texts)) => {
                let members = attribute.values_of.as_deref().and_then(|of| self.members(of));
                for text in texts.iter().filter(|text| members.is_some_and(|members| !listed(members, text))) {
                    findings.add(format!("attribute `{name}` has `{text}`, which is not in its list"));
                }
            }
            (Type::Enum(_) | Type::String, Value::Str(_))
            | (Type::Int, Value::Int(_))
            | (Type::Double, Value::Double(_))
            | (Type::Boolean, Value::Bool(_)) => {}
            (kind, value) => {
                findings.add(format!("attribute `{name}` is {} and not {}", value.kind(), kind.as_str()));
            }
        }
    }
}

/// Findings on one record.
struct Findings {
    record: String,
    list: Vec<String>,
}

impl Findings {
    fn new(record: String) -> Self {
        Self { record, list: Vec::new() }
    }

    fn add(&mut self, what: String) {
        self.list.push(format!("{}: {what}", self.record));
    }

    fn twice(&mut self, attributes: &Attributes) {
        for (at, (name, _)) in attributes.iter().enumerate() {
            if attributes[..at].iter().any(|(before, _)| before == name) {
                self.add(format!("attribute `{name}` is there twice"));
            }
        }
    }

    fn missing(&mut self, uses: &[Use], attributes: &Attributes) {
        for used in uses.iter().filter(|used| used.level == Level::Required) {
            if !attributes.iter().any(|(name, _)| *name == used.attribute) {
                self.add(format!("attribute `{}` is missing", used.attribute));
            }
        }
    }
}

#[cfg(test)]
mod tests;
