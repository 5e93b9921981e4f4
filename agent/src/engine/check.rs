//! Expectations and captures: what a response or message must be, and what is kept of it.

use std::borrow::Cow;

use groundswell_scenario::flow::{Capture, CaptureFrom, Comparison, Expect, Text};
use groundswell_scenario::socket::Matcher;
use http::HeaderMap;
use minijinja::Value;
use minijinja::value::Serde;
use regex::Regex;
use serde_json::Value as Json;
use serde_json_path::JsonPath;

use super::render::{Templates, Variables};
use crate::transport::Response;

/// A body that is parsed as JSON at most once, and only if something asks for it.
pub(super) struct Document<'a> {
    bytes: &'a [u8],
    headers: Option<&'a HeaderMap>,
    json: Option<Option<Json>>,
}

impl<'a> Document<'a> {
    pub(super) fn of_response(response: &'a Response) -> Self {
        Document { bytes: &response.body, headers: Some(&response.headers), json: None }
    }

    pub(super) fn of_message(bytes: &'a [u8]) -> Self {
        Document { bytes, headers: None, json: None }
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }

    pub(super) fn json(&mut self) -> Option<&Json> {
        self.json.get_or_insert_with(|| serde_json::from_slice(self.bytes).ok()).as_ref()
    }

    fn header(&self, name: &str) -> Option<String> {
        let value = self.headers?.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

/// Does an HTTP step look at the body at all?
pub(super) fn needs_body(expect: &Expect, captures: &[Capture]) -> bool {
    let captured = captures.iter().any(|capture| !matches!(capture.from, CaptureFrom::Header(_)));
    captured || !expect.contains.is_empty() || !expect.matches.is_empty() || !expect.json.is_empty()
}

/// The class of the first expectation that a response breaks. `max_time` is judged by the caller, who has the time.
pub(super) fn broken_expectation(
    expect: &Expect,
    status: u16,
    document: &mut Document<'_>,
    templates: &Templates,
    variables: &Variables,
) -> Option<Cow<'static, str>> {
    if !expect.status.contains(status) {
        return Some(format!("status_{status}").into());
    }
    for (name, comparison) in &expect.headers {
        let value = document.header(name).map(Json::String);
        if !holds(comparison, value.as_ref(), templates, variables) {
            return Some("expect_header".into());
        }
    }
    if !text_fits(&expect.contains, &expect.matches, document, templates, variables) {
        return Some("expect_body".into());
    }
    if !json_fits(&expect.json, document, templates, variables) {
        return Some("expect_json".into());
    }
    None
}

/// Is this one of the messages that are meant?
pub(super) fn matches(
    matcher: &Matcher,
    document: &mut Document<'_>,
    templates: &Templates,
    variables: &Variables,
) -> bool {
    text_fits(&matcher.contains, &matcher.matches, document, templates, variables)
        && json_fits(&matcher.json, document, templates, variables)
}

/// Keeps the captured parts as variables; false when one is not there.
pub(super) fn capture(captures: &[Capture], document: &mut Document<'_>, variables: &mut Variables) -> bool {
    captures.iter().all(|capture| {
        let value = match &capture.from {
            CaptureFrom::JsonPath(path) => {
                document.json().and_then(|json| path.query(json).first()).map(|found| Value::from(Serde(found)))
            }
            CaptureFrom::Regex(regex) => regex
                .captures(&document.text())
                .and_then(|found| found.get(1).or_else(|| found.get(0)).map(|part| Value::from(part.as_str()))),
            CaptureFrom::Header(name) => document.header(name).map(Value::from),
        };
        match value {
            Some(value) => {
                variables.insert(capture.name.as_str().into(), value);
                true
            }
            None => false,
        }
    })
}

fn text_fits(
    contains: &[Text],
    matches: &[Regex],
    document: &Document<'_>,
    templates: &Templates,
    variables: &Variables,
) -> bool {
    if contains.is_empty() && matches.is_empty() {
        return true;
    }
    let body = document.text();
    let contained = |text: &Text| templates.text(text, variables).is_ok_and(|text| body.contains(&text));
    contains.iter().all(contained) && matches.iter().all(|regex| regex.is_match(&body))
}

fn json_fits(
    expected: &[(JsonPath, Comparison)],
    document: &mut Document<'_>,
    templates: &Templates,
    variables: &Variables,
) -> bool {
    expected.iter().all(|(path, comparison)| {
        let found = document.json().and_then(|json| path.query(json).first());
        holds(comparison, found, templates, variables)
    })
}

fn holds(comparison: &Comparison, value: Option<&Json>, templates: &Templates, variables: &Variables) -> bool {
    let Some(value) = value else { return false };
    let number = |test: fn(f64, f64) -> bool, limit: f64| as_number(value).is_some_and(|value| test(value, limit));
    match comparison {
        Comparison::Exists => true,
        Comparison::Equal(wanted) => templates.json(wanted, variables).is_ok_and(|wanted| same(value, &wanted)),
        Comparison::NotEqual(wanted) => templates.json(wanted, variables).is_ok_and(|wanted| !same(value, &wanted)),
        Comparison::Less(limit) => number(|value, limit| value < limit, *limit),
        Comparison::LessOrEqual(limit) => number(|value, limit| value <= limit, *limit),
        Comparison::Greater(limit) => number(|value, limit| value > limit, *limit),
        Comparison::GreaterOrEqual(limit) => number(|value, limit| value >= limit, *limit),
        Comparison::Matches(regex) => match value {
            Json::String(text) => regex.is_match(text),
            other => regex.is_match(&other.to_string()),
        },
    }
}

/// A number, or a text that is one (headers, CSV cells).
fn as_number(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Equal as JSON; 1 equals 1.0, and a number equals the text that a template or a header made of it.
fn same(found: &Json, wanted: &Json) -> bool {
    if found == wanted {
        return true;
    }
    let either_is_number = found.is_number() || wanted.is_number();
    either_is_number && as_number(found).is_some() && as_number(found) == as_number(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::same;

    #[test]
    fn numbers_compare_as_numbers_and_texts_as_texts() {
        let cases = [
            (json!(1), json!(1.0), true),
            (json!("7"), json!(7), true),
            (json!("07"), json!("7"), false),
            (json!({"a": [1]}), json!({"a": [1]}), true),
            (json!(null), json!(0), false),
            (json!("x"), json!(1), false),
        ];
        for (found, wanted, equal) in cases {
            assert_eq!(same(&found, &wanted), equal, "{found} {wanted}");
        }
    }
}
