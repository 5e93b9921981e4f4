//! Expectations, comparisons and captures.

use super::node::{Node, Value};
use super::problem::Place;
use super::reader::Reader;
use super::shape::{CAPTURE, EXPECT};
use super::template::Names;
use super::value;
use crate::flow::{Capture, CaptureFrom, Comparison, Expect, JsonText, StatusSet, Text};

pub(super) fn expect(reader: &mut Reader, node: &Node, names: &Names) -> Option<Expect> {
    let object = reader.object(node, &EXPECT)?;
    let status = object.get("status").map_or(Some(StatusSet::Success), |node| status_set(reader, node));
    let headers = comparisons(reader, object.get("header"), names);
    let headers = headers.into_iter().map(|(name, _, comparison)| (name.to_lowercase(), comparison)).collect();
    let contains = texts(reader, object.get("contains"), names);
    let matches = reader.items(object.get("matches"));
    let matches = matches.into_iter().filter_map(|node| reader.regex(node)).collect();
    let json = json_comparisons(reader, object.get("json"), names);
    let max_time = object.get("max_time").and_then(|node| reader.duration(node));
    Some(Expect { status: status?, headers, contains, matches, json, max_time })
}

/// `200`, `[200, 404]`, `2xx`, `200-204`.
pub(super) fn status_set(reader: &mut Reader, node: &Node) -> Option<StatusSet> {
    let mut ranges = Vec::new();
    for item in reader.items(Some(node)) {
        ranges.push(reader.parsed(item, "a status", value::status_range)?);
    }
    Some(StatusSet::OneOf(ranges))
}

/// One text or several.
pub(super) fn texts(reader: &mut Reader, node: Option<&Node>, names: &Names) -> Vec<Text> {
    reader.items(node).into_iter().filter_map(|node| names.text(reader, node)).collect()
}

pub(super) fn json_comparisons(
    reader: &mut Reader,
    node: Option<&Node>,
    names: &Names,
) -> Vec<(serde_json_path::JsonPath, Comparison)> {
    let comparisons = comparisons(reader, node, names);
    comparisons
        .into_iter()
        .filter_map(|(path, place, comparison)| Some((reader.json_path(&path, place)?, comparison)))
        .collect()
}

fn comparisons(reader: &mut Reader, node: Option<&Node>, names: &Names) -> Vec<(String, Place, Comparison)> {
    let mut comparisons = Vec::new();
    for (name, node) in reader.named(node, "names with comparisons") {
        if let Some(comparison) = comparison(reader, node, names) {
            comparisons.push((name.text.clone(), name.place, comparison));
        }
    }
    comparisons
}

/// `> 0`, `!= x`, `~ regex`, `exists`; anything else is a value to be equal to.
fn comparison(reader: &mut Reader, node: &Node, names: &Names) -> Option<Comparison> {
    let Some(text) = node.as_text() else { return Some(Comparison::Equal(names.json(reader, node)?)) };
    let text = text.trim();
    if text == "exists" {
        return Some(Comparison::Exists);
    }
    // The longer operators first: `>=` begins with `>`.
    let operators = [">=", "<=", "!=", "==", ">", "<", "~"];
    let Some(operator) = operators.into_iter().find(|operator| text.starts_with(operator)) else {
        return Some(Comparison::Equal(names.json(reader, node)?));
    };
    let operand = text[operator.len()..].trim();
    let number = |reader: &mut Reader| match operand.parse::<f64>() {
        Ok(number) if number.is_finite() => Some(number),
        _ => {
            let hint = "to compare with a text that begins like this, write == before it";
            reader.problem_with_hint(node.place, format!("`{operator}` needs a number, not `{operand}`"), hint);
            None
        }
    };
    Some(match operator {
        ">=" => Comparison::GreaterOrEqual(number(reader)?),
        "<=" => Comparison::LessOrEqual(number(reader)?),
        ">" => Comparison::Greater(number(reader)?),
        "<" => Comparison::Less(number(reader)?),
        "~" => Comparison::Matches(reader.regex_of(operand, node.place)?),
        "!=" => Comparison::NotEqual(operand_json(reader, node, operand, names)?),
        _ => Comparison::Equal(operand_json(reader, node, operand, names)?),
    })
}

/// What stands after `==` or `!=`: JSON if it is (a number, true, null, a quoted text), else the text itself.
fn operand_json(reader: &mut Reader, node: &Node, operand: &str, names: &Names) -> Option<JsonText> {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(operand) {
        return Some(JsonText::Literal(json));
    }
    let operand = Node { value: Value::Text(operand.to_owned()), place: node.place };
    names.json(reader, &operand)
}

/// Captures, which are known to every later step.
pub(super) fn captures(reader: &mut Reader, node: Option<&Node>, names: &mut Names) -> Vec<Capture> {
    let mut captures = Vec::new();
    for (name, node) in reader.named(node, "names with what they capture") {
        // Known from here on even if its source is wrong: one problem is enough.
        names.add(&name.text);
        if let Some(from) = source(reader, node) {
            captures.push(Capture { name: name.text.clone(), from });
        }
    }
    captures
}

fn source(reader: &mut Reader, node: &Node) -> Option<CaptureFrom> {
    if let Some(path) = node.as_text() {
        return reader.json_path(path, node.place).map(CaptureFrom::JsonPath);
    }
    let object = reader.object(node, &CAPTURE)?;
    match (object.get("json"), object.get("regex"), object.get("header")) {
        (Some(path), None, None) => {
            let text = reader.text(path)?;
            reader.json_path(&text, path.place).map(CaptureFrom::JsonPath)
        }
        (None, Some(regex), None) => reader.regex(regex).map(CaptureFrom::Regex),
        (None, None, Some(header)) => reader.text(header).map(|name| CaptureFrom::Header(name.to_lowercase())),
        _ => {
            reader.problem(node.place, "a capture is from `json`, `regex` or `header`");
            None
        }
    }
}
