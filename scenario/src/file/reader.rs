//! Reads values out of the tree and collects problems instead of stopping at the first.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use serde_json_path::JsonPath;

use super::node::{Name, Node, Value};
use super::problem::{Place, Problem};
use super::shape::Shape;
use super::value::{self, nearest};
use crate::PlanSource;

/// Longest duration of anything in a plan.
const MOST_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Collects problems while values are read.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

/// A mapping whose keys are all known to its shape.
#[derive(Clone, Copy)]
pub(super) struct Object<'n> {
    node: &'n Node,
    shape: &'static Shape,
}

impl<'n> Object<'n> {
    /// The value of a key. `key: ` without a value counts as not there.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        debug_assert!(self.shape.keys.iter().any(|known| known.name == key), "{key} is not in {}", self.shape.name);
        self.node.get(key).filter(|node| !matches!(node.value, Value::Null))
    }

    pub(super) fn place(&self) -> Place {
        self.node.place
    }

    /// The place of a key.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let name = self.node.entries().iter().find(|(name, _)| name.text == key);
        name.map_or(self.node.place, |(name, _)| name.place)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'n Name> + use<'n> {
        self.node.entries().iter().map(|(name, _)| name)
    }
}

impl Reader {
    pub(super) fn problem(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem { place, message: message.into(), hint: None });
    }

    pub(super) fn problem_with_hint(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem { place, message: message.into(), hint: Some(hint.into()) });
    }

    /// A mapping of a shape: unknown keys and missing ones are problems.
    pub(super) fn object<'n>(&mut self, node: &'n Node, shape: &'static Shape) -> Option<Object<'n>> {
        if !matches!(node.value, Value::Map(_)) {
            self.wrong_kind(node, &format!("a mapping ({})", keys_of(shape)));
            return None;
        }
        let object = Object { node, shape };
        for name in object.keys() {
            let known = || shape.keys.iter().map(|key| key.name);
            if !known().any(|key| key == name.text) {
                let message = format!("unknown key `{}` in {}", name.text, shape.name);
                let hint = match nearest(&name.text, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known keys: {}", keys_of(shape)),
                };
                self.problem_with_hint(name.place, message, hint);
            }
        }
        for key in shape.keys.iter().filter(|key| key.required && object.get(key.name).is_none()) {
            self.problem_with_hint(node.place, format!("{} needs `{}`", shape.name, key.name), key.doc);
        }
        Some(object)
    }

    pub(super) fn wrong_kind(&mut self, node: &Node, wanted: &str) {
        let found = match node.scalar_text() {
            Some(text) => format!("`{text}`"),
            None => node.kind().to_owned(),
        };
        self.problem(node.place, format!("{found} where {wanted} is expected"));
    }

    /// Entries of a mapping with names of the user's own.
    pub(super) fn named<'n>(&mut self, node: Option<&'n Node>, wanted: &str) -> &'n [(Name, Node)] {
        match node {
            None => &[],
            Some(node) => {
                if !matches!(node.value, Value::Map(_)) {
                    self.wrong_kind(node, wanted);
                }
                node.entries()
            }
        }
    }

    /// Items of a list; one value alone counts as a list of one.
    pub(super) fn items<'n>(&mut self, node: Option<&'n Node>) -> Vec<&'n Node> {
        match node.map(|node| (&node.value, node)) {
            None => Vec::new(),
            Some((Value::List(items), _)) => items.iter().collect(),
            Some((_, node)) => vec![node],
        }
    }

    /// A list.
    pub(super) fn list<'n>(&mut self, node: &'n Node, wanted: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.wrong_kind(node, wanted);
                &[]
            }
        }
    }

    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        let text = node.scalar_text();
        if text.is_none() {
            self.wrong_kind(node, "text");
        }
        text
    }

    pub(super) fn flag(&mut self, node: Option<&Node>, default: bool) -> bool {
        match node.map(|node| (&node.value, node)) {
            None => default,
            Some((Value::Bool(value), _)) => *value,
            Some((_, node)) => {
                self.wrong_kind(node, "true or false");
                default
            }
        }
    }

    /// A whole number within limits.
    pub(super) fn integer(&mut self, node: &Node, least: u64, most: u64) -> Option<u64> {
        let number = match &node.value {
            Value::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        };
        let within = number.filter(|number| (least..=most).contains(number));
        if within.is_none() {
            self.wrong_kind(node, &format!("a whole number from {least} to {most}"));
        }
        within
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, node: Option<&Node>, words: &[(&str, T)], default: T) -> T {
        let Some(node) = node else { return default };
        let text = node.scalar_text().unwrap_or_default();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.wrong_kind(node, &format!("one of {}", known.join(", ")));
        default
    }

    /// A value in a notation of the plan's own.
    pub(super) fn parsed<T>(
        &mut self,
        node: &Node,
        what: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let Some(text) = node.scalar_text() else {
            self.wrong_kind(node, what);
            return None;
        };
        match parse(&text) {
            Ok(value) => Some(value),
            Err(help) => {
                self.problem_with_hint(node.place, format!("`{text}` is not {what}"), help);
                None
            }
        }
    }

    /// A duration above zero.
    pub(super) fn duration(&mut self, node: &Node) -> Option<Duration> {
        let duration = self.duration_or_zero(node)?;
        if duration.is_zero() {
            self.problem(node.place, "a duration above zero is expected");
            return None;
        }
        Some(duration)
    }

    /// A duration.
    pub(super) fn duration_or_zero(&mut self, node: &Node) -> Option<Duration> {
        let duration = self.parsed(node, "a duration", value::duration)?;
        if duration > MOST_TIME {
            self.problem(node.place, format!("{} s is more than the limit of 30 days", duration.as_secs()));
            return None;
        }
        Some(duration)
    }

    /// The bytes of a file that the plan names.
    pub(super) fn file(&mut self, node: &Node, source: &PlanSource) -> Option<Arc<[u8]>> {
        let path = self.text(node)?;
        match source.files.get(&path) {
            Some(Ok(content)) => return Some(content.as_slice().into()),
            Some(Err(why)) => {
                let hint = "paths are relative to the plan file";
                self.problem_with_hint(node.place, format!("`{path}` can't be read: {why}"), hint);
            }
            None => self.problem(node.place, format!("`{path}` did not come with the plan")),
        }
        None
    }

    pub(super) fn regex(&mut self, node: &Node) -> Option<Regex> {
        let text = self.text(node)?;
        self.regex_of(&text, node.place)
    }

    pub(super) fn regex_of(&mut self, text: &str, place: Place) -> Option<Regex> {
        match Regex::new(text) {
            Ok(regex) => Some(regex),
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.problem(place, format!("`{text}` is not a regular expression: {why}"));
                None
            }
        }
    }

    pub(super) fn json_path(&mut self, text: &str, place: Place) -> Option<JsonPath> {
        match JsonPath::parse(text) {
            Ok(path) => Some(path),
            Err(error) => {
                let hint = "a JSONPath begins with $, like $.items[0].id";
                self.problem_with_hint(place, format!("`{text}` is not a JSONPath: {}", error.message()), hint);
                None
            }
        }
    }
}

fn keys_of(shape: &Shape) -> String {
    shape.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}
