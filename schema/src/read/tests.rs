use super::*;

const HEAD: &str = "name: synspan\ndescription: d\nschema_url: u\ndependencies: [{schema_url: o, registry_path: p}]\n";

const GOOD: &str = "\
groups:
  - id: registry.a
    type: attribute_group
    display_name: A
    brief: a
    attributes:
      - {id: synspan.a, type: int, stability: development, brief: a, examples: [1]}
  - id: attributes.base
    type: attribute_group
    brief: b
    attributes:
      - {ref: synspan.a, requirement_level: required}
  - id: event.synspan.e
    type: event
    name: synspan.e
    stability: development
    brief: e
    extends: attributes.base
    attributes:
      - ref: synspan.a
        requirement_level: {conditionally_required: on Sundays}
  - id: metric.synspan.m
    type: metric
    metric_name: synspan.m
    instrument: gauge
    unit: s
    stability: development
    brief: m
    extends: attributes.base
";

fn problems(text: &str) -> String {
    Registry::read(HEAD, &[("a.yaml", text)]).expect_err("wrong").to_string()
}

#[test]
fn the_registry_itself_is_right() {
    let registry = Registry::embedded().expect("the registry");
    assert_eq!(registry.conventions_url, "https://opentelemetry.io/schemas/1.44.0");
    assert_eq!(registry.spans.len(), 4);
}

#[test]
fn what_is_extended_is_there_and_ones_own_word_holds() {
    let registry = Registry::read(HEAD, &[("a.yaml", GOOD)]).expect("right");
    let level = &registry.events[0].attributes[0].level;
    assert_eq!(*level, Level::ConditionallyRequired("on Sundays".to_owned()));
    assert_eq!(registry.metrics[0].attributes[0].level, Level::Required);
}

#[test]
fn each_mistake_is_told() {
    for (from, to, told) in [
        ("id: event.synspan.e", "id: registry.a", "group registry.a: twice"),
        ("{ref: synspan.a,", "{ref: synspan.b,", "attribute synspan.b is defined nowhere"),
        ("    unit: s\n", "", "group metric.synspan.m: no unit"),
        ("unit: s\n", "unit: ''\n", "metric synspan.m: no unit"),
        ("instrument: gauge", "instrument: scales", "no instrument"),
        ("metric_name: synspan.m", "metric_name: other.m", "ours are under synspan."),
        ("id: synspan.a", "id: server.a", "ours are under synspan."),
        ("extends: attributes.base", "extends: attributes.none", "which there is not"),
        ("type: int", "type: integer", "no type"),
        ("examples: [1]", "examples: [a]", "an example of another type"),
        ("examples: [1]", "examples: []", "no example"),
        ("stability: development, ", "", "no stability"),
        ("requirement_level: required", "requirement_level: always", "requirement level always"),
        ("    brief: m", "    brif: m", "unknown field"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let found = problems(&text);
        assert!(found.contains(told), "{from} -> {to}: {found}");
    }
}

#[test]
fn two_names_with_one_constant_are_told() {
    let two = GOOD.replacen(
        "examples: [1]}\n",
        "examples: [1]}\n      - {id: synspan_a, type: boolean, stability: development, brief: a}\n",
        1,
    );
    assert!(problems(&two).contains("constant SYNSPAN_A: twice"));
}

#[test]
fn a_circle_is_told() {
    let circle = GOOD.replacen("    brief: b\n", "    brief: b\n    extends: attributes.base\n", 1);
    assert!(problems(&circle).contains("in a circle"));
}
