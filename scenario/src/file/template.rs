//! Names and syntax of templates: checked here, rendered by agents.

use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior};

use super::node::{Node, Value};
use super::problem::Place;
use super::reader::Reader;
use super::value::nearest;
use crate::flow::{JsonText, Text};

/// Functions that every template may call, with what they give.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("uuid", "uuid(): a random UUID (version 4)"),
    ("random_int", "random_int(low, high): a whole number, both ends included"),
    ("random_string", "random_string(length): letters and digits"),
    ("choice", "choice(a, b, …) or choice(list): one of them"),
    ("now", "now(): the time as RFC 3339 in UTC, with milliseconds"),
    ("now_ms", "now_ms(): milliseconds since 1970"),
];

/// The name under which templates find secrets.
pub const SECRETS: &str = "secrets";

/// Names that every template may use.
const BUILT_IN: &[&str] = &["user", "iteration"];

/// The template engine with the settings of the plan language: a name that is not defined is an error, and nothing is
/// escaped, because the language does not know what it writes.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment
}

/// The names that templates at one place of a flow may use.
pub(super) struct Names {
    environment: Environment<'static>,
    /// Name, and its attributes where they are known (the columns of a data set).
    known: BTreeMap<String, Option<Vec<String>>>,
}

impl Names {
    pub(super) fn new() -> Self {
        let known = BUILT_IN.iter().map(|name| ((*name).to_owned(), None)).collect();
        Names { environment: environment(), known }
    }

    pub(super) fn add(&mut self, name: &str) {
        self.known.insert(name.to_owned(), None);
    }

    pub(super) fn add_with_attributes(&mut self, name: &str, attributes: Vec<String>) {
        self.known.insert(name.to_owned(), Some(attributes));
    }

    /// Does the plan name any secret?
    pub(super) fn has_secrets(&self) -> bool {
        self.known.get(SECRETS).is_some_and(|names| names.as_ref().is_some_and(|names| !names.is_empty()))
    }

    /// The names of one scenario begin as those of the plan and grow with its captures.
    pub(super) fn of_scenario(&self) -> Names {
        Names { environment: environment(), known: self.known.clone() }
    }

    /// Text of the plan, checked where it is a template.
    pub(super) fn text(&self, reader: &mut Reader, node: &Node) -> Option<Text> {
        let text = reader.text(node)?;
        if !is_template(&text) {
            return Some(Text::Literal(text.into()));
        }
        self.check(reader, &text, node.place).then(|| Text::Template(text.into()))
    }

    /// A JSON value of the plan whose strings may be templates.
    pub(super) fn json(&self, reader: &mut Reader, node: &Node) -> Option<JsonText> {
        match &node.value {
            Value::Text(text) if is_template(text) => {
                let checked = self.check(reader, text, node.place);
                checked.then(|| match sole_expression(text) {
                    Some(expression) => JsonText::Expression(expression.into()),
                    None => JsonText::Template(text.as_str().into()),
                })
            }
            Value::List(items) => {
                let items: Vec<JsonText> = items.iter().map(|item| self.json(reader, item)).collect::<Option<_>>()?;
                let literal = items.iter().all(|item| matches!(item, JsonText::Literal(_)));
                Some(if literal { JsonText::Literal(node.to_json()) } else { JsonText::Array(items) })
            }
            Value::Map(entries) => {
                let field =
                    |(name, node): &(super::node::Name, Node)| Some((name.text.clone(), self.json(reader, node)?));
                let fields: Vec<(String, JsonText)> = entries.iter().map(field).collect::<Option<_>>()?;
                let literal = fields.iter().all(|(_, value)| matches!(value, JsonText::Literal(_)));
                Some(if literal { JsonText::Literal(node.to_json()) } else { JsonText::Object(fields) })
            }
            _ => Some(JsonText::Literal(node.to_json())),
        }
    }

    /// Checks syntax and names.
    fn check(&self, reader: &mut Reader, text: &str, place: Place) -> bool {
        let template = match self.environment.template_from_str(text) {
            Ok(template) => template,
            Err(error) => {
                let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
                reader.problem(place, format!("`{text}` is not a template: {what}"));
                return false;
            }
        };
        let mut fine = true;
        let mut used: Vec<String> = template.undeclared_variables(true).into_iter().collect();
        used.sort_unstable();
        for name in used {
            fine &= self.check_name(reader, &name, text, place);
        }
        fine
    }

    fn check_name(&self, reader: &mut Reader, used: &str, text: &str, place: Place) -> bool {
        let (name, attribute) = match used.split_once('.') {
            Some((name, rest)) => (name, rest.split('.').next()),
            None => (used, None),
        };
        if FUNCTIONS.iter().any(|(function, _)| *function == name) {
            return true;
        }
        let Some(attributes) = self.known.get(name) else {
            let known = self.known.keys().map(String::as_str).chain(FUNCTIONS.iter().map(|(function, _)| *function));
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "known here: {}; a captured value is known after the step that captures it",
                    self.known.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
            };
            reader.problem_with_hint(place, format!("`{name}` in `{text}` is not defined"), hint);
            return false;
        };
        match (attributes, attribute) {
            (Some(columns), Some(attribute)) if !columns.iter().any(|column| column == attribute) => {
                let hint = match nearest(attribute, columns.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{name}.{near}`?"),
                    None if name == SECRETS => format!("name it at the top: `secrets: [{attribute}]`"),
                    None => format!("its columns: {}", columns.join(", ")),
                };
                let what = if name == SECRETS { "entry" } else { "column" };
                reader.problem_with_hint(place, format!("`{name}` has no {what} `{attribute}`"), hint);
                false
            }
            _ => true,
        }
    }
}

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|open| text.contains(open))
}

/// The expression of a text that is one expression and nothing else.
fn sole_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let one = !inner.contains("{{") && !inner.contains("}}") && !inner.contains("{%");
    one.then(|| inner.trim_matches('-').trim())
}
