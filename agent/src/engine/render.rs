//! Templates: compiled once for each worker, rendered with a user's variables.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use groundswell_access::Secrets;
use groundswell_scenario::file::template;
use groundswell_scenario::flow::{Comparison, Expect, JsonText, Step, Text};
use groundswell_scenario::http::{Auth, Body, PartValue};
use groundswell_scenario::plan::{AtEnd, DataSet};
use groundswell_scenario::socket::{Action, Answer, Matcher, Message, Websocket};
use groundswell_scenario::{Plan, Share};
use groundswell_stats::Room;
use minijinja::value::Rest;
use minijinja::{Environment, Error, ErrorKind, Value};
use rand::RngExt;

use crate::transport;

/// A user's variables.
pub(super) type Variables = BTreeMap<Arc<str>, Value>;

/// The compiled templates of a plan.
pub(super) struct Templates {
    environment: Environment<'static>,
    /// For each scenario the names that its templates refer to.
    names: Vec<BTreeSet<String>>,
    secrets: Secrets,
}

/// What may be said of an error of a template in a log: its details may hold what the template had, and so a secret.
pub(super) fn cause(error: &Error) -> String {
    format!("{} in {}", error.kind(), error.name().unwrap_or("an expression"))
}

impl Templates {
    pub(super) fn of(plan: &Plan, secrets: &Secrets) -> Result<Self, Error> {
        let mut environment = template::environment();
        add_functions(&mut environment);
        if !secrets.is_empty() {
            let values: BTreeMap<String, Value> =
                secrets.expose().map(|(name, value)| (name.to_owned(), value.into())).collect();
            environment.add_global(template::SECRETS, Value::from_object(values));
        }
        let mut names = Vec::new();
        for scenario in &plan.scenarios {
            let mut sources = Sources::default();
            sources.pairs(&plan.http.headers);
            sources.auth(plan.http.auth.as_ref());
            scenario.flow.iter().for_each(|step| sources.step(step));
            let mut used = BTreeSet::new();
            for source in sources.templates {
                environment.add_template_owned(source.to_string(), source.to_string())?;
                used.extend(environment.get_template(&source)?.undeclared_variables(false));
            }
            for source in sources.expressions {
                used.extend(environment.compile_expression(&source)?.undeclared_variables(false));
            }
            names.push(used);
        }
        Ok(Templates { environment, names, secrets: secrets.clone() })
    }

    /// Does a scenario have templates with names in them at all?
    pub(super) fn has_names(&self, scenario: usize) -> bool {
        self.names.get(scenario).is_some_and(|names| !names.is_empty())
    }

    /// Do the templates of a scenario refer to this name?
    pub(super) fn uses(&self, scenario: usize, name: &str) -> bool {
        self.names.get(scenario).is_some_and(|names| names.contains(name))
    }

    pub(super) fn text(&self, text: &Text, variables: &Variables) -> Result<String, Error> {
        match text {
            Text::Literal(text) => Ok(text.to_string()),
            Text::Template(source) => self.environment.get_template(source)?.render(variables),
        }
    }

    pub(super) fn json(&self, json: &JsonText, variables: &Variables) -> Result<serde_json::Value, Error> {
        Ok(match json {
            JsonText::Literal(value) => value.clone(),
            JsonText::Template(source) => self.environment.get_template(source)?.render(variables)?.into(),
            JsonText::Expression(source) => {
                let value = self.environment.compile_expression(source)?.eval(variables)?;
                if value.is_undefined() {
                    return Err(Error::new(ErrorKind::UndefinedError, format!("{source} is undefined")));
                }
                serde_json::to_value(value)
                    .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?
            }
            JsonText::Array(items) => {
                serde_json::Value::Array(items.iter().map(|item| self.json(item, variables)).collect::<Result<_, _>>()?)
            }
            JsonText::Object(fields) => serde_json::Value::Object(
                fields
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), self.json(value, variables)?)))
                    .collect::<Result<_, Error>>()?,
            ),
        })
    }

    /// The name of a room as the wire takes it. Store and reports keep it, and it may be made of what a target sent back.
    pub(super) fn room(&self, room: &Text, variables: &Variables) -> Result<String, Error> {
        let room = self.secrets.redact(&self.text(room, variables)?);
        let mut plain: String = room.chars().filter(|letter| !letter.is_control()).collect();
        let ends = plain.char_indices().map(|(at, letter)| at + letter.len_utf8());
        let most = ends.take_while(|end| *end <= Room::MAX_NAME_BYTES).last().unwrap_or(0);
        plain.truncate(most);
        Ok(plain)
    }

    /// A message of a WebSocket.
    pub(super) fn message(&self, message: &Message, variables: &Variables) -> Result<transport::Message, Error> {
        Ok(match message {
            Message::Text(text) => transport::Message::Text(self.text(text, variables)?),
            Message::Json(json) => transport::Message::Text(self.json(json, variables)?.to_string()),
            Message::Binary(bytes) => transport::Message::Binary(Bytes::copy_from_slice(bytes)),
        })
    }

    pub(super) fn json_bytes(&self, json: &JsonText, variables: &Variables) -> Result<Bytes, Error> {
        Ok(Bytes::from(self.json(json, variables)?.to_string()))
    }
}

/// Every template and expression of a flow.
#[derive(Default)]
struct Sources {
    templates: BTreeSet<Arc<str>>,
    expressions: BTreeSet<Arc<str>>,
}

impl Sources {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Http(timed) => {
                let request = &timed.spec;
                self.text(&request.url);
                self.pairs(&request.query);
                self.pairs(&request.headers);
                self.auth(request.auth.as_ref().and_then(Option::as_ref));
                self.body(request.body.as_ref());
                self.expect(&request.expect);
            }
            Step::Websocket(timed) => self.websocket(&timed.spec),
            Step::OnSocket(timed) => match &timed.spec.action {
                Action::Receive(receive) => self.matcher(&receive.matcher),
                action => action.send().into_iter().for_each(|send| {
                    self.message(&send.message);
                    send.publish.iter().for_each(|room| self.text(room));
                }),
            },
            Step::Subscribe(subscribe) => self.text(&subscribe.room),
            Step::Listen { .. } | Step::Think(_) => {}
            Step::Repeat { flow, .. } | Step::Group { flow, .. } => flow.iter().for_each(|step| self.step(step)),
        }
    }

    fn websocket(&mut self, websocket: &Websocket) {
        self.text(&websocket.url);
        self.pairs(&websocket.query);
        self.pairs(&websocket.headers);
        websocket.on_open.iter().for_each(|message| self.message(message));
        for handler in &*websocket.on_message {
            self.matcher(&handler.matcher);
            if let Some(Answer::Message(reply)) = &handler.reply {
                self.message(reply);
            }
        }
        websocket.flow.iter().for_each(|step| self.step(step));
    }

    fn message(&mut self, message: &Message) {
        match message {
            Message::Text(text) => self.text(text),
            Message::Json(json) => self.json(json),
            Message::Binary(_) => {}
        }
    }

    fn matcher(&mut self, matcher: &Matcher) {
        matcher.contains.iter().for_each(|text| self.text(text));
        matcher.json.iter().for_each(|(_, comparison)| self.comparison(comparison));
    }

    fn auth(&mut self, auth: Option<&Auth>) {
        auth.into_iter().flat_map(Auth::texts).for_each(|text| self.text(text));
    }

    fn body(&mut self, body: Option<&Body>) {
        match body {
            Some(Body::Text(text)) => self.text(text),
            Some(Body::Json(json)) => self.json(json),
            Some(Body::Form(fields)) => self.pairs(fields),
            Some(Body::Multipart(parts)) => parts.iter().for_each(|part| {
                if let PartValue::Text(text) = &part.value {
                    self.text(text);
                }
            }),
            Some(Body::File(_) | Body::Stream(_)) | None => {}
        }
    }

    fn expect(&mut self, expect: &Expect) {
        expect.contains.iter().for_each(|text| self.text(text));
        expect.headers.iter().for_each(|(_, comparison)| self.comparison(comparison));
        expect.json.iter().for_each(|(_, comparison)| self.comparison(comparison));
    }

    fn comparison(&mut self, comparison: &Comparison) {
        if let Comparison::Equal(json) | Comparison::NotEqual(json) = comparison {
            self.json(json);
        }
    }

    fn pairs(&mut self, pairs: &[(String, Text)]) {
        pairs.iter().for_each(|(_, value)| self.text(value));
    }

    fn text(&mut self, text: &Text) {
        if let Text::Template(source) = text {
            self.templates.insert(Arc::clone(source));
        }
    }

    fn json(&mut self, json: &JsonText) {
        match json {
            JsonText::Literal(_) => {}
            JsonText::Template(source) => drop(self.templates.insert(Arc::clone(source))),
            JsonText::Expression(source) => drop(self.expressions.insert(Arc::clone(source))),
            JsonText::Array(items) => items.iter().for_each(|item| self.json(item)),
            JsonText::Object(fields) => fields.iter().for_each(|(_, value)| self.json(value)),
        }
    }
}

/// The functions that `template::FUNCTIONS` promises.
fn add_functions(environment: &mut Environment<'static>) {
    environment.add_function("uuid", || uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string());
    environment.add_function("random_int", |low: i64, high: i64| {
        if low > high {
            return Err(bad_call(format!("random_int({low}, {high}): the first must not be above the second")));
        }
        Ok(rand::rng().random_range(low..=high))
    });
    environment.add_function("random_string", |length: usize| {
        const MOST: usize = 1 << 20;
        if length > MOST {
            return Err(bad_call(format!("random_string({length}): at most {MOST} characters")));
        }
        let mut rng = rand::rng();
        Ok((0..length).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect::<String>())
    });
    environment.add_function("choice", |arguments: Rest<Value>| {
        let items: Vec<Value> = match arguments.as_slice() {
            [list] if list.len().is_some() && list.as_str().is_none() => list.try_iter()?.collect(),
            items => items.to_vec(),
        };
        if items.is_empty() {
            return Err(bad_call("choice() needs at least one item".to_owned()));
        }
        Ok(items[rand::rng().random_range(0..items.len())].clone())
    });
    environment.add_function("now", || humantime::format_rfc3339_millis(SystemTime::now()).to_string());
    environment.add_function("now_ms", || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    });
}

fn bad_call(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// One worker's part of a data set: the rows whose number its share owns, so that no row is used twice in the cluster
/// before all are used.
pub(super) struct DataFeed {
    pub(super) name: Arc<str>,
    columns: Vec<Arc<str>>,
    rows: Arc<[Vec<String>]>,
    share: Share,
    at_end: AtEnd,
    drawn: Cell<u64>,
}

impl DataFeed {
    pub(super) fn new(set: &DataSet, share: &Share) -> Self {
        DataFeed {
            name: set.name.as_str().into(),
            columns: set.columns.iter().map(|column| column.as_str().into()).collect(),
            rows: Arc::clone(&set.rows),
            share: share.clone(),
            at_end: set.at_end,
            drawn: Cell::new(0),
        }
    }

    /// The next row as a template value; none when all are used and the plan says to stop.
    pub(super) fn draw(&self) -> Option<Value> {
        let nth = self.drawn.get();
        let rows = self.rows.len() as u64;
        let mut ordinal = self.share.nth(nth);
        if ordinal >= rows {
            if self.at_end == AtEnd::Stop {
                return None;
            }
            let owned = self.share.count_below(rows);
            // A share without a row of its own (fewer rows than workers) takes any.
            ordinal = if owned == 0 { ordinal % rows } else { self.share.nth(nth % owned) };
        }
        self.drawn.set(nth + 1);
        let row = self.rows.get(usize::try_from(ordinal).ok()?)?;
        Some(Value::from_pairs(self.columns.iter().cloned().zip(row.iter().map(|cell| Value::from(cell.as_str())))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use groundswell_scenario::PlanSource;

    use super::*;

    fn feed(rows: usize, share: &Share, at_end: AtEnd) -> DataFeed {
        let rows: Vec<Vec<String>> = (0..rows).map(|row| vec![row.to_string()]).collect();
        let set = DataSet { name: "d".into(), columns: vec!["n".into()], rows: rows.into(), at_end };
        DataFeed::new(&set, share)
    }

    fn number(row: &Value) -> u64 {
        row.get_attr("n").unwrap().as_str().unwrap().parse().unwrap()
    }

    /// Whatever the number of agents, each row is used once before any is used again.
    #[test]
    fn shares_use_every_row_once() {
        for agents in [1, 2, 3, 7] {
            let mut used: Vec<u64> = (0..agents)
                .flat_map(|agent| {
                    let feed = feed(20, &Share::nth_of(agent, agents), AtEnd::Stop);
                    std::iter::from_fn(move || feed.draw()).map(|row| number(&row)).collect::<Vec<_>>()
                })
                .collect();
            used.sort_unstable();
            assert_eq!(used, (0..20).collect::<Vec<_>>(), "{agents} agents");
        }
    }

    #[test]
    fn a_feed_that_repeats_stays_within_its_own_rows() {
        let feed = feed(5, &Share::nth_of(1, 2), AtEnd::Repeat);
        let drawn: Vec<u64> = (0..5).map(|_| number(&feed.draw().unwrap())).collect();
        assert_eq!(drawn, [1, 3, 1, 3, 1]);
    }

    /// A value as a target may have sent it back.
    #[test]
    fn no_secret_stands_in_the_name_of_a_room_or_in_an_error() {
        let text = "target: http://localhost\nsecrets: [key]\nscenarios:\n  s:\n    load: { users: 1, for: 1s }\n    flow:\n      \
                    - { get: /, capture: { back: $.x } }\n      - websocket: /\n        flow:\n          \
                    - { send: { text: '{{ {} | dictsort(**{secrets.key: 1}) }}', publish: 'room-{{ back }}' } }\n";
        let source = PlanSource { name: "p".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
        let plan = Plan::compile(&source).unwrap_or_else(|problems| panic!("{problems}"));
        let secrets = Secrets::received([("key".to_owned(), "canary-1".to_owned())]);
        let templates = Templates::of(&plan, &secrets).unwrap();
        let variables = Variables::from([("back".into(), Value::from("my canary-1"))]);
        let room = templates.room(&Text::Template("room-{{ back }}".into()), &variables).unwrap();
        assert_eq!(room, "room-my [secret key]");
        let failed =
            templates.text(&Text::Template("{{ {} | dictsort(**{secrets.key: 1}) }}".into()), &variables).unwrap_err();
        assert!(failed.to_string().contains("canary-1"), "the case is none: {failed}");
        assert_eq!(cause(&failed), "too many arguments in {{ {} | dictsort(**{secrets.key: 1}) }}");
    }

    #[test]
    fn the_functions_that_are_promised_are_there() {
        let mut environment = Environment::new();
        add_functions(&mut environment);
        for (name, _) in template::FUNCTIONS {
            assert!(environment.globals().any(|(known, _)| known == *name), "{name}");
        }
    }
}
