//! The load of a scenario: its levels, one after another.

use std::time::Duration;

use super::node::{Node, Value};
use super::reader::{Object, Reader};
use super::shape::{
    ITERATIONS, LOAD, RATE_RAMP, RATE_STAGE, RATE_STAGES, SEARCH, SEARCH_RATE, SEARCH_USERS, SWEEP, Shape, USERS_RAMP,
    USERS_STAGE, USERS_STAGES,
};
use super::value;
use crate::load::{Arrivals, Curve, Load, Segment, Sharing};
use crate::plan::SearchOf;

const MOST_USERS: u64 = 1_000_000;
const MOST_RATE: f64 = 10_000_000.0;
const MOST_ITERATIONS: u64 = 1_000_000_000_000;
const MOST_LEVELS: usize = 100;
const DEFAULT_IN_FLIGHT: u32 = 1_000;
const DEFAULT_LIMIT: Duration = Duration::from_secs(600);
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
const DEFAULT_WITHIN: f64 = 0.05;

/// A load as the plan says it.
#[derive(Default)]
pub(super) struct Described {
    /// The levels with their labels; one without a label for a plain load, none where there is a problem.
    pub(super) levels: Vec<(Option<String>, Load)>,
    pub(super) warm_up: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) search: Option<Searched>,
}

/// What is searched for, and where.
pub(super) struct Searched {
    pub(super) of: SearchOf,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) within: f64,
}

/// Reads a load; `search_level` is where a search stands.
pub(super) fn read(reader: &mut Reader, node: &Node, search_level: Option<f64>) -> Described {
    let mut described = Described::default();
    let known_problems = reader.problems.len();
    let Some(object) = reader.object(node, &LOAD) else { return described };
    let misspelt = reader.problems.len() > known_problems;
    described.search = object.get("search").and_then(|node| searched(reader, node));
    let level = described.search.as_ref().map(|search| search_level.unwrap_or(search.from));
    // The level comes from whoever submits the run, not from the plan.
    if let (Some(search), Some(level)) = (&described.search, level)
        && !(search.from..=search.to).contains(&level)
    {
        let (from, to) = (search.from, search.to);
        reader
            .problem(object.place_of("search"), format!("the level {level} is not within the search, {from} to {to}"));
        return described;
    }
    let kind = kind(reader, node, &object, misspelt);
    described.levels =
        kind.map(|kind| levels(reader, &object, kind, described.search.as_ref().zip(level))).unwrap_or_default();
    described.warm_up = warm_up(reader, &object, &described.levels);
    described.grace = object.get("grace").and_then(|node| reader.duration(node)).unwrap_or(DEFAULT_GRACE);
    described
}

/// The warm-up, which must leave something to be measured.
fn warm_up(reader: &mut Reader, object: &Object<'_>, levels: &[(Option<String>, Load)]) -> Option<Duration> {
    let node = object.get("warm_up")?;
    let warm_up = reader.duration(node)?;
    if levels.iter().any(|(_, load)| warm_up >= load.limit()) {
        reader.problem(node.place, "`warm_up` must be shorter than `for`, or there is nothing to measure");
        return None;
    }
    Some(warm_up)
}

/// The key that says which load it is.
fn kind(reader: &mut Reader, node: &Node, object: &Object<'_>, misspelt: bool) -> Option<&'static str> {
    let kinds: Vec<&'static str> =
        ["rate", "iterations", "sweep", "search"].into_iter().filter(|key| object.get(key).is_some()).collect();
    match kinds.as_slice() {
        [] if object.get("users").is_some() => Some("users"),
        [one] => Some(one),
        // A misspelt key is the likely reason, and stands there already.
        [] if misspelt => None,
        [] => {
            let hint = "give it `users`, `rate`, `iterations`, `sweep` or `search`";
            reader.problem_with_hint(node.place, "the load does not say how much", hint);
            None
        }
        [first, second, ..] => {
            let message = format!("a load has `{first}` or `{second}`, not both");
            reader.problem_with_hint(object.place_of(second), message, "make two scenarios of it");
            None
        }
    }
}

fn levels(
    reader: &mut Reader,
    object: &Object<'_>,
    kind: &str,
    search: Option<(&Searched, f64)>,
) -> Vec<(Option<String>, Load)> {
    only_with(reader, object, kind);
    let plain = |load: Option<Load>| load.into_iter().map(|load| (None, load)).collect();
    match kind {
        "rate" => plain(rate(reader, object)),
        "iterations" => plain(iterations(reader, object)),
        "sweep" => sweep(reader, object),
        "search" => plain(search.and_then(|(search, level)| search_step(reader, object, search, level))),
        _ => plain(users(reader, object)),
    }
}

/// Keys that mean nothing beside this kind of load.
fn only_with(reader: &mut Reader, object: &Object<'_>, kind: &str) {
    let fitting: &[&str] = match kind {
        "users" => &["users", "for", "warm_up"],
        "iterations" => &["iterations", "users", "for"],
        _ => &["rate", "for", "warm_up", "arrivals", "max_in_flight", "queue"],
    };
    for key in ["users", "for", "warm_up", "arrivals", "max_in_flight", "queue"] {
        if object.get(key).is_some() && !fitting.contains(&key) {
            reader.problem(object.place_of(key), format!("`{key}` has no meaning in a load of `{kind}`"));
        }
    }
}

/// What ramps, stages and plain values have in common for users and for rates.
struct Notation {
    ramp: &'static Shape,
    stages: &'static Shape,
    stage: &'static Shape,
    value: fn(&mut Reader, &Node) -> Option<f64>,
}

const USERS: Notation = Notation { ramp: &USERS_RAMP, stages: &USERS_STAGES, stage: &USERS_STAGE, value: user_count };
const RATES: Notation = Notation { ramp: &RATE_RAMP, stages: &RATE_STAGES, stage: &RATE_STAGE, value: rate_value };

fn user_count(reader: &mut Reader, node: &Node) -> Option<f64> {
    reader.integer(node, 0, MOST_USERS).map(|users| users as f64)
}

fn rate_value(reader: &mut Reader, node: &Node) -> Option<f64> {
    let rate = reader.parsed(node, "a rate", value::rate)?;
    if rate > MOST_RATE {
        reader.problem(node.place, format!("{rate}/s is more than the limit of {MOST_RATE}/s"));
        return None;
    }
    Some(rate)
}

fn users(reader: &mut Reader, object: &Object<'_>) -> Option<Load> {
    let node = object.get("users")?;
    let curve = curve(reader, node, object, &USERS)?;
    above_zero(reader, node, &curve).then_some(Load::Users { curve })
}

fn rate(reader: &mut Reader, object: &Object<'_>) -> Option<Load> {
    let node = object.get("rate")?;
    let curve = curve(reader, node, object, &RATES);
    let openness = openness(reader, object);
    let curve = curve?;
    above_zero(reader, node, &curve).then(|| openness.load(curve))
}

/// What every open load has beside its rate.
#[derive(Clone, Copy)]
struct Openness {
    arrivals: Arrivals,
    max_in_flight: u32,
    queue: u32,
}

impl Openness {
    fn load(self, curve: Curve) -> Load {
        let Openness { arrivals, max_in_flight, queue } = self;
        Load::Rate { curve, arrivals, max_in_flight, queue }
    }
}

fn openness(reader: &mut Reader, object: &Object<'_>) -> Openness {
    let words = [("uniform", Arrivals::Uniform), ("poisson", Arrivals::Poisson)];
    let arrivals = reader.choice(object.get("arrivals"), &words, Arrivals::Uniform);
    let mut number = |key, least| {
        let number = object.get(key).and_then(|node| reader.integer(node, least, MOST_USERS));
        number.and_then(|number| u32::try_from(number).ok())
    };
    let max_in_flight = number("max_in_flight", 1).unwrap_or(DEFAULT_IN_FLIGHT);
    Openness { arrivals, max_in_flight, queue: number("queue", 0).unwrap_or(max_in_flight) }
}

fn searched(reader: &mut Reader, node: &Node) -> Option<Searched> {
    let object = reader.object(node, &SEARCH)?;
    let within = object.get("within").map_or(Some(DEFAULT_WITHIN), |node| reader.parsed(node, "a part", value::part));
    let (of, range, shape, notation) = match (object.get("users"), object.get("rate")) {
        (Some(users), None) => (SearchOf::Users, users, &SEARCH_USERS, &USERS),
        (None, Some(rate)) => (SearchOf::Rate, rate, &SEARCH_RATE, &RATES),
        _ => {
            reader.problem(node.place, "a search is for `users` or for a `rate`");
            return None;
        }
    };
    let ends = reader.object(range, shape)?;
    let mut end = |key| {
        let node = ends.get(key)?;
        let value = (notation.value)(reader, node)?;
        if value <= 0.0 {
            reader.problem(node.place, "a level must be above zero");
        }
        Some(value)
    };
    let (from, to) = (end("from"), end("to"));
    let (from, to) = (from?, to?);
    if from >= to {
        reader.problem(range.place, "`from` must be below `to`");
        return None;
    }
    Some(Searched { of, from, to, within: within? })
}

fn search_step(reader: &mut Reader, object: &Object<'_>, search: &Searched, level: f64) -> Option<Load> {
    let length = length(reader, object);
    let openness = openness(reader, object);
    let curve = Curve::constant(level, length?);
    Some(match search.of {
        SearchOf::Users => Load::Users { curve },
        SearchOf::Rate => openness.load(curve),
    })
}

fn above_zero(reader: &mut Reader, node: &Node, curve: &Curve) -> bool {
    let some = curve.peak() > 0.0;
    if !some {
        reader.problem(node.place, "the load is zero all along");
    }
    some
}

/// A plain value, a ramp or stages.
fn curve(reader: &mut Reader, node: &Node, load: &Object<'_>, notation: &Notation) -> Option<Curve> {
    if !matches!(node.value, Value::Map(_)) {
        let value = (notation.value)(reader, node);
        let length = length(reader, load);
        return Some(Curve::constant(value?, length?));
    }
    if node.get("stages").is_some() {
        return stages(reader, node, load, notation);
    }
    let ramp = reader.object(node, notation.ramp)?;
    let from = ramp.get("from").map_or(Some(0.0), |node| (notation.value)(reader, node));
    let to = ramp.get("to").and_then(|node| (notation.value)(reader, node));
    let length = length(reader, load);
    Some(Curve { segments: vec![Segment { from: from?, to: to?, length: length? }] })
}

fn stages(reader: &mut Reader, node: &Node, load: &Object<'_>, notation: &Notation) -> Option<Curve> {
    if load.get("for").is_some() {
        let hint = "each stage has a `for` of its own";
        reader.problem_with_hint(load.place_of("for"), "`for` has no meaning beside stages", hint);
    }
    let object = reader.object(node, notation.stages)?;
    let mut at = object.get("start").map_or(Some(0.0), |node| (notation.value)(reader, node));
    let mut segments = Vec::new();
    let list = object.get("stages")?;
    for stage in reader.list(list, "a list of stages") {
        let Some(stage) = reader.object(stage, notation.stage) else { continue };
        let to = stage.get("to").and_then(|node| (notation.value)(reader, node));
        let length = stage.get("for").and_then(|node| reader.duration(node));
        if let (Some(from), Some(to), Some(length)) = (at, to, length) {
            segments.push(Segment { from, to, length });
        }
        at = to.or(at);
    }
    if segments.is_empty() {
        reader.problem(list.place, "there is no stage");
        return None;
    }
    Some(Curve { segments })
}

fn length(reader: &mut Reader, load: &Object<'_>) -> Option<Duration> {
    match load.get("for") {
        Some(node) => reader.duration(node),
        None => {
            reader.problem_with_hint(load.place(), "the load does not say how long", "add `for: 30s`");
            None
        }
    }
}

fn iterations(reader: &mut Reader, object: &Object<'_>) -> Option<Load> {
    let node = object.get("iterations")?;
    let users = match object.get("users") {
        None => Some(1),
        Some(node) => reader.integer(node, 1, MOST_USERS),
    };
    let limit = object.get("for").map_or(Some(DEFAULT_LIMIT), |node| reader.duration(node));
    let (number, sharing) = if matches!(node.value, Value::Map(_)) {
        let counted = reader.object(node, &ITERATIONS)?;
        match (counted.get("shared"), counted.get("per_user")) {
            (Some(shared), None) => (shared, Sharing::Shared),
            (None, Some(per_user)) => (per_user, Sharing::PerUser),
            _ => {
                reader.problem(node.place, "iterations are either `shared` or `per_user`");
                return None;
            }
        }
    } else {
        (node, Sharing::Shared)
    };
    let number = reader.integer(number, 1, MOST_ITERATIONS);
    let (users, number) = (users?, number?);
    let total = if sharing == Sharing::PerUser { number.saturating_mul(users) } else { number };
    Some(Load::Iterations { total, sharing, users: u32::try_from(users).ok()?, limit: limit? })
}

fn sweep(reader: &mut Reader, object: &Object<'_>) -> Vec<(Option<String>, Load)> {
    let Some(node) = object.get("sweep") else { return Vec::new() };
    let Some(levels) = reader.object(node, &SWEEP) else { return Vec::new() };
    let length = length(reader, object);
    let openness = openness(reader, object);
    let (list, of_users) = match (levels.get("users"), levels.get("rate")) {
        (Some(users), None) => (users, true),
        (None, Some(rates)) => (rates, false),
        _ => {
            reader.problem(node.place, "a sweep is over `users` or over `rate`");
            return Vec::new();
        }
    };
    let items = reader.list(list, "a list of levels");
    if items.is_empty() || items.len() > MOST_LEVELS {
        reader.problem(list.place, format!("a sweep has 1 to {MOST_LEVELS} levels"));
        return Vec::new();
    }
    let level = |item: &Node| {
        let value = if of_users { user_count(reader, item) } else { rate_value(reader, item) };
        let (value, length) = (value?, length?);
        if value <= 0.0 {
            reader.problem(item.place, "a level must be above zero");
            return None;
        }
        let text = item.scalar_text().unwrap_or_default();
        let curve = Curve::constant(value, length);
        Some(if of_users {
            (Some(format!("{text} users")), Load::Users { curve })
        } else {
            (Some(text), openness.load(curve))
        })
    };
    items.iter().filter_map(level).collect()
}
