//! The OpenAPI document compared with the facts about the public API (`vendor_operations.tsv`), in both directions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::document as openapi;
use super::super::routes::{self, Origin};

const FACTS: &str = include_str!("../vendor_operations.tsv");

fn facts(kind: &str) -> Vec<Vec<&'static str>> {
    let lines = FACTS.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let found: Vec<_> = lines.filter(|fact| fact[0] == kind).map(|fact| fact[1..].to_vec()).collect();
    assert!(!found.is_empty(), "no facts of the kind {kind}");
    found
}

fn document() -> Value {
    serde_json::from_str(openapi::json()).unwrap()
}

fn names(list: &str) -> BTreeSet<String> {
    list.split(',').map(str::to_owned).collect()
}

fn strings(value: &Value) -> BTreeSet<String> {
    let strings = value.as_array().into_iter().flatten();
    strings.map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// Returns the name of the schema that a body refers to.
fn schema(content: &Value) -> Option<&str> {
    content["content"]["application/json"]["schema"]["$ref"].as_str()?.strip_prefix("#/components/schemas/")
}

#[test]
fn operations_are_the_public_apis() {
    let document = document();
    let mut known = BTreeMap::new();
    for fact in facts("operation") {
        let [id, method, path, success, request_schema, gives, refuses] = fact[..] else {
            panic!("{fact:?}")
        };
        known.insert(id, method);
        let operation = &document["paths"][path][method.to_lowercase()];
        assert_eq!(operation["operationId"], id, "{method} {path}");
        let some = |name: &'static str| (name != "-").then_some(name);
        assert_eq!(schema(&operation["requestBody"]), some(request_schema), "{id}");
        assert_eq!(schema(&operation["responses"][success]), some(gives), "{id}");
        let statuses: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
        let successes: Vec<_> = statuses.iter().filter(|status| status.starts_with('2')).collect();
        assert_eq!(successes, [&success], "{id}");
        for status in refuses.split(',') {
            assert_eq!(schema(&operation["responses"][status]), Some("httpError"), "{id}: {status}");
        }
        let parameters = operation["parameters"].as_array().unwrap();
        let in_path: Vec<_> = parameters.iter().filter(|parameter| parameter["in"] == "path").collect();
        assert_eq!(in_path.len(), path.matches('{').count(), "{id}");
    }
    assert_eq!(known.len(), 25);
    // In the other direction: a route that the public API does not have is marked as an extension.
    for route in routes::all() {
        assert_eq!(known.contains_key(route.id), route.origin == Origin::Public, "{}", route.id);
    }
    let described: usize =
        document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(described, routes::all().count());
}

#[test]
fn schemas_have_the_public_apis_fields() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let mut known: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for fact in facts("required") {
        let required = strings(&schemas[fact[0]]["required"]);
        assert_eq!(required, names(fact[1]), "{}", fact[0]);
        known.entry(fact[0]).or_default().extend(names(fact[1]));
    }
    for fact in facts("optional") {
        known.entry(fact[0]).or_default().extend(names(fact[1]));
    }
    // Further fields are extensions, and their descriptions state that.
    for (name, fields) in known {
        let properties = schemas[name]["properties"].as_object().unwrap();
        let missing: Vec<_> = fields.iter().filter(|field| !properties.contains_key(*field)).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
        for (field, property) in properties {
            let marked = property.to_string().contains("an extension");
            assert_eq!(marked, !fields.contains(field), "{name}.{field}: {property}");
        }
    }
}

#[test]
fn enums_have_the_public_apis_values() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for fact in facts("enum") {
        let schema = match fact[0].split_once('.') {
            None => &schemas[fact[0]],
            Some((owner, field)) => {
                let reference = schemas[owner]["properties"][field]["$ref"].as_str().unwrap_or_default();
                document.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null)
            }
        };
        assert_eq!(strings(&schema["enum"]), names(fact[1]), "{}", fact[0]);
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(document: &Value, value: &Value, seen: &mut usize) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
                    *seen += 1;
                }
                fields.values().for_each(|value| walk(document, value, seen));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(document, value, seen)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = document();
    let mut seen = 0;
    walk(&document, &document, &mut seen);
    assert!(seen > 100, "only {seen} references");
}
