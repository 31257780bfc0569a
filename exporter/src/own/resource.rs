//! The resource of synspan's own telemetry.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

use crate::config::Config;
use crate::identify::node::Node;
use crate::names::attribute;

/// The agent's resource: its service's name, the node, and what OTEL_RESOURCE_ATTRIBUTES says of all. There is one agent on a node, so the node's name is the instance.
pub fn resource(config: &Config, node: &Node) -> Resource {
    let pair = |key: &str, value: &str| KeyValue::new(key.to_owned(), value.to_owned());
    let place = node.network();
    let place = place.attributes.iter().filter(|(key, _)| **key != *attribute::SERVICE_NAME);
    let sdk = [
        (attribute::TELEMETRY_SDK_NAME, "opentelemetry"),
        (attribute::TELEMETRY_SDK_LANGUAGE, "rust"),
        (attribute::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        (attribute::SERVICE_INSTANCE_ID, node.name()),
    ];
    let builder = Resource::builder_empty()
        .with_attributes(place.map(|(key, value)| pair(key, value)))
        .with_attributes(sdk.map(|(key, value)| pair(key, value)));
    let name = config.own_telemetry.service_name.as_deref().unwrap_or("synspan");
    builder.with_service_name(name.to_owned()).build()
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;

    fn named(service_name: Option<&str>, attributes: &[(&str, &str)]) -> Resource {
        let mut config = Config::default();
        config.own_telemetry.service_name = service_name.map(str::to_owned);
        config.resource_attributes = attributes.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        resource(&config, &Node::new("node-1", true, &config.resource_attributes))
    }

    fn get(resource: &Resource, key: &'static str) -> Option<String> {
        resource.get(&Key::from_static_str(key)).map(|value| value.to_string())
    }

    #[test]
    fn it_is_the_agent_and_says_where() {
        let plain = named(None, &[("deployment.environment.name", "prod")]);
        assert_eq!(get(&plain, "service.name").as_deref(), Some("synspan"));
        assert_eq!(get(&plain, "service.instance.id").as_deref(), Some("node-1"));
        assert_eq!(get(&plain, "k8s.node.name").as_deref(), Some("node-1"));
        assert_eq!(get(&plain, "deployment.environment.name").as_deref(), Some("prod"));
    }

    #[test]
    fn a_service_name_that_is_given_holds() {
        assert_eq!(get(&named(Some("by-variable"), &[]), "service.name").as_deref(), Some("by-variable"));
    }
}
