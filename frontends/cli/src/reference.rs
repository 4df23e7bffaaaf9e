//! The reference and the schema, both made from the types that read the configuration.
//!
//! Invariant: a key that the program reads is in both; there is no second list to keep.

use std::collections::BTreeMap;
use std::fmt::Write;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use swiftproxy_core::config::{ListenerConfig, NodeConfig, UserConfig};
use swiftproxy_core::registry::{Entry, Registry};

use crate::sections::{LogConfig, StoreConfig};

/// A JSON Schema of the whole file.
pub(crate) fn schema(registry: &Registry) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut root = Map::new();
    let kinds = |entries: &BTreeMap<&'static str, Entry>| {
        let said = |except: Option<&str>| {
            let others = entries.iter().filter(move |(kind, _)| Some(**kind) != except);
            others.map(|(kind, entry)| of_kind(kind, entry, true)).collect::<Vec<_>>()
        };
        let named: Map<_, _> = entries
            .iter()
            .map(|(kind, entry)| {
                let mut any = vec![of_kind(kind, entry, false)];
                any.extend(said(Some(kind)));
                ((*kind).to_owned(), json!({ "anyOf": any }))
            })
            .collect();
        json!({ "type": "object", "properties": named, "additionalProperties": { "anyOf": said(None) } })
    };
    root.insert("layers".into(), kinds(&registry.layers));
    root.insert("relays".into(), kinds(&registry.relays));
    let map_of = |schema: Schema| json!({ "type": "object", "additionalProperties": schema });
    let listeners = generator.subschema_for::<ListenerConfig>();
    let users = generator.subschema_for::<UserConfig>();
    root.insert("listeners".into(), map_of(listeners));
    root.insert("users".into(), map_of(users));
    root.insert("node".into(), generator.subschema_for::<NodeConfig>().to_value());
    root.insert("log".into(), generator.subschema_for::<LogConfig>().to_value());
    root.insert("store".into(), generator.subschema_for::<StoreConfig>().to_value());
    root.insert("api".into(), generator.subschema_for::<swiftproxy_api::ApiConfig>().to_value());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "SwiftProxy configuration",
        "type": "object",
        "properties": root,
        "additionalProperties": false,
        "$defs": generator.take_definitions(true),
    })
}

/// A table of that kind, which it says itself or may: a table's name is its kind where it says none.
fn of_kind(kind: &str, entry: &Entry, said: bool) -> Value {
    let mut schema = (entry.schema)(&mut inlined()).to_value();
    if let Some(schema) = schema.as_object_mut() {
        let properties = schema.entry("properties").or_insert_with(|| json!({}));
        properties["kind"] = json!({ "const": kind });
        if said {
            schema.insert("required".into(), json!(["kind"]));
        }
    }
    schema
}

/// For schemas that refer to nothing.
fn inlined() -> SchemaGenerator {
    SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator()
}

/// Every table and key with its meaning and default, as TOML.
pub(crate) fn reference(registry: &Registry) -> String {
    let mut out = String::from(
        "# SwiftProxy's configuration: every table, every key, its meaning and its default.\n\
         # A key that is commented out has no default, or may be left out.\n",
    );
    table::<NodeConfig>(&mut out, "node", "The process as a whole.");
    table::<LogConfig>(&mut out, "log", "What is logged, and how.");
    table::<StoreConfig>(&mut out, "store", "Where users and usage are kept.");
    table::<swiftproxy_api::ApiConfig>(&mut out, "api", "Stats and administration over HTTP and WebSocket.");
    table::<ListenerConfig>(&mut out, "listeners.NAME", "An address that is accepted on, with its stack.");
    table::<UserConfig>(
        &mut out,
        "users.NAME",
        "An account that the file declares; it goes over a row of its name.",
    );
    for (section, entries) in [("layers", &registry.layers), ("relays", &registry.relays)] {
        for (kind, entry) in entries {
            let schema = (entry.schema)(&mut inlined()).to_value();
            write_table(&mut out, &format!("{section}.{kind}"), entry.summary, &schema);
        }
    }
    out
}

fn table<T: JsonSchema>(out: &mut String, name: &str, summary: &str) {
    let schema = inlined().subschema_for::<T>().to_value();
    write_table(out, name, summary, &schema);
}

fn write_table(out: &mut String, name: &str, summary: &str, schema: &Value) {
    let _ = write!(out, "\n# {summary}\n[{name}]\n");
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    for (key, property) in properties {
        for line in property.get("description").and_then(Value::as_str).unwrap_or_default().lines() {
            let _ = writeln!(out, "# {line}");
        }
        if let Some(words) = choices(property) {
            let _ = writeln!(out, "# One of: {words}.");
        }
        let default = property.get("default").filter(|value| !value.is_null());
        match default.and_then(toml_of) {
            Some(value) => drop(writeln!(out, "{key} = {value}")),
            None => drop(writeln!(out, "# {key} = {}", example(property))),
        }
    }
}

/// The words an enumeration takes.
fn choices(property: &Value) -> Option<String> {
    let item = property.get("items").unwrap_or(property);
    let words: Vec<_> = match item.get("enum").and_then(Value::as_array) {
        Some(words) => words.iter().filter_map(Value::as_str).collect(),
        None => {
            let variants = item.get("oneOf").or_else(|| item.get("anyOf"))?.as_array()?;
            variants.iter().filter_map(|variant| variant.get("const").and_then(Value::as_str)).collect()
        }
    };
    (!words.is_empty()).then(|| words.join(", "))
}

fn example(property: &Value) -> String {
    let given = property.get("examples").and_then(Value::as_array).and_then(|examples| examples.first());
    let nested =
        || property.get("anyOf")?.as_array()?.iter().find_map(|any| any.get("examples")?.as_array()?.first());
    if let Some(value) = given.or_else(nested).and_then(toml_of) {
        return value;
    }
    if let Some(word) = choices(property).and_then(|words| words.split(", ").next().map(str::to_owned)) {
        let array = property.get("items").is_some();
        return if array { format!("[\"{word}\"]") } else { format!("\"{word}\"") };
    }
    let types = property.get("type").map(Value::to_string).unwrap_or_default();
    let word =
        ["string", "integer", "boolean", "array", "object"].into_iter().find(|word| types.contains(word));
    match word {
        Some("integer") => "1".into(),
        Some("boolean") => "false".into(),
        Some("array") => "[]".into(),
        Some("object") => "{}".into(),
        _ => "\"…\"".into(),
    }
}

/// A JSON value as TOML writes it.
fn toml_of(value: &Value) -> Option<String> {
    let value: toml::Value = serde_json::from_value(value.clone()).ok()?;
    Some(value.to_string())
}
