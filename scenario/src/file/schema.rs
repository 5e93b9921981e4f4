//! The JSON Schema of the plan file, for editors: made of the same table that the decoder follows.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::shape::{PLAN, STEP, Shape, Type};

/// The JSON Schema (draft 2020-12) of the plan file.
pub fn json_schema() -> Value {
    let mut definitions = BTreeMap::new();
    let root = object(&PLAN, &mut definitions);
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), "groundswell plan".into());
    if let Value::Object(root) = root {
        schema.extend(root);
    }
    schema.insert("$defs".to_owned(), definitions.into_iter().collect::<Map<_, _>>().into());
    Value::Object(schema)
}

fn object(shape: &'static Shape, definitions: &mut BTreeMap<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in shape.keys {
        let mut value = of_type(&key.value, definitions);
        // A description beside a reference is allowed since draft 2019-09.
        if let Value::Object(value) = &mut value {
            value.insert("description".to_owned(), key.doc.into());
        }
        properties.insert(key.name.to_owned(), value);
    }
    let required: Vec<&str> = shape.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": shape.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !shape.one_of.is_empty() {
        schema["oneOf"] = shape.one_of.iter().map(|name| json!({ "required": [name] })).collect();
    }
    schema
}

fn of_type(value: &Type, definitions: &mut BTreeMap<String, Value>) -> Value {
    match value {
        Type::Text => json!({ "type": "string" }),
        Type::Template | Type::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Type::Integer => json!({ "type": "integer", "minimum": 0 }),
        Type::Bool => json!({ "type": "boolean" }),
        Type::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
        Type::Choice(words) => json!({ "enum": words }),
        Type::Any => json!({}),
        Type::Object(shape) => {
            if !definitions.contains_key(shape.name) {
                // Steps contain steps: the name has to be taken before the shape is entered.
                definitions.insert(shape.name.to_owned(), Value::Null);
                let definition = object(shape, definitions);
                definitions.insert(shape.name.to_owned(), definition);
            }
            json!({ "$ref": format!("#/$defs/{}", shape.name) })
        }
        Type::Flow => json!({ "type": "array", "minItems": 1, "items": of_type(&Type::Object(&STEP), definitions) }),
        Type::Map(value) => json!({ "type": "object", "additionalProperties": of_type(value, definitions) }),
        Type::List(value) => json!({ "type": "array", "items": of_type(value, definitions) }),
        Type::AnyOf(types) => {
            let types: Vec<Value> = types.iter().map(|value| of_type(value, definitions)).collect();
            json!({ "anyOf": types })
        }
    }
}
