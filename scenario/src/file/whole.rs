//! The plan as a whole: its parts, how scenarios follow one another, and the numbering of timed steps.

use std::path::Path;
use std::time::Duration;

use groundswell_stats::StepId;
use url::Url;

use super::expect::status_set;
use super::flow::{FlowReader, TimedSlot};
use super::node::{self, Node};
use super::problem::{Place, Problem};
use super::reader::{Object, Reader};
use super::shape::{PLAN, READY, SCENARIO};
use super::socket::{refuse_shared_rate, shared_rate};
use super::template::{Names, SECRETS};
use super::value::nearest;
use super::{MAX_PLAN_BYTES, compare, data, http, load, threshold};
use crate::continuity::{Continuity, OnAgentLoss};
use crate::flow::StatusSet;
use crate::load::Load;
use crate::plan::{DataSet, Phase, Ready, Scenario, ScenarioStart, Search, TimedStep, WarmUp};
use crate::{Plan, PlanSource, Problems};

const DEFAULT_READY: Duration = Duration::from_secs(30);
/// Scenarios of one plan.
const MOST_SCENARIOS: usize = 200;
/// A heartbeat goes out every second, so a shorter lease would run out between two of them.
const LEAST_LEASE: Duration = Duration::from_secs(3);
/// Timed steps times levels of one plan: each has histograms of its own on every worker.
const MOST_STEPS: usize = 1_000;

pub(super) fn compile(source: &PlanSource) -> Result<Plan, Problems> {
    let problems = |problems: Vec<Problem>| Problems::new(&source.name, &source.text, problems);
    let nowhere = |message: String| problems(vec![Problem { place: Place::default(), message, hint: None }]);
    if source.text.len() > MAX_PLAN_BYTES {
        let (size, most) = (source.text.len(), MAX_PLAN_BYTES);
        return Err(nowhere(format!("the plan has {size} bytes, the limit is {most}; keep data in CSV files")));
    }
    let root = node::parse(&source.text).map_err(|problem| problems(vec![problem]))?;
    if matches!(root.value, node::Value::Null) {
        return Err(nowhere("the plan is empty; it needs at least `target` and `scenarios`".to_owned()));
    }
    let mut reader = Reader::default();
    let plan = read(&mut reader, &root, source);
    match plan {
        Some(plan) if reader.problems.is_empty() => Ok(plan),
        _ => Err(problems(reader.problems)),
    }
}

fn read(reader: &mut Reader, root: &Node, source: &PlanSource) -> Option<Plan> {
    let object = reader.object(root, &PLAN)?;
    let name = object.get("name").and_then(|node| reader.text(node)).unwrap_or_else(|| stem(&source.name));
    let target = object.get("target").and_then(|node| target(reader, node));
    let seed = object.get("seed").and_then(|node| reader.integer(node, 0, i64::MAX as u64)).unwrap_or(1);
    let mut names = Names::new();
    let secrets = secrets(reader, object.get("secrets"), &mut names);
    let vars = vars(reader, object.get("vars"), &mut names);
    let data = data_sets(reader, object.get("data"), source, seed, &mut names);
    let http = http::read(reader, object.get("http"), &names, source);
    let ready = object.get("ready").and_then(|node| ready(reader, node));
    let Scenarios { scenarios, steps, search } = scenarios(reader, object.get("scenarios"), &names, source);
    let thresholds = threshold::read(reader, object.get("thresholds"), &scenarios, &steps);
    if search.is_some() && object.get("thresholds").is_none() {
        let hint = "say what has to hold, like `thresholds: [p95 < 100ms, error_rate < 1%]`";
        reader.problem_with_hint(root.place, "a search needs thresholds", hint);
    }
    let tolerances = compare::read(reader, object.get("compare"));
    let max_send_lag = object.get("max_send_lag").and_then(|node| reader.duration(node));
    let continuity = continuity(reader, &object);
    Some(Plan {
        name,
        target: target?,
        ready,
        http,
        secrets,
        vars,
        data,
        scenarios,
        steps,
        thresholds,
        tolerances,
        search,
        max_send_lag,
        continuity,
        seed,
        hash: source.hash(),
        load_hash: source.hash_with(&load_text(root, seed)),
    })
}

/// What happens when agents and coordinator lose each other.
fn continuity(reader: &mut Reader, object: &Object<'_>) -> Continuity {
    let words = [
        ("redistribute", OnAgentLoss::Redistribute),
        ("continue", OnAgentLoss::Continue),
        ("abort", OnAgentLoss::Abort),
    ];
    let default = Continuity::default();
    let mut limit = |key: &str, default: Duration, least: Duration| {
        let Some(node) = object.get(key) else { return default };
        let length = reader.duration(node).unwrap_or(default);
        if length < least {
            reader.problem(node.place, format!("{key} must be at least {} ms", least.as_millis()));
        }
        length
    };
    let lease = limit("lease", default.lease, LEAST_LEASE);
    let coordinator_timeout = limit("coordinator_timeout", default.coordinator_timeout, LEAST_LEASE);
    let max_start_skew = limit("max_start_skew", default.max_start_skew, Duration::from_micros(100));
    let on_agent_loss = reader.choice(object.get("on_agent_loss"), &words, default.on_agent_loss);
    Continuity { on_agent_loss, lease, coordinator_timeout, max_start_skew }
}

fn stem(name: &str) -> String {
    Path::new(name).file_stem().map_or_else(|| "plan".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn target(reader: &mut Reader, node: &Node) -> Option<Url> {
    const HINT: &str = "write it like http://127.0.0.1:8088";
    let text = reader.text(node)?;
    let url = match Url::parse(&text) {
        Ok(url) => url,
        Err(error) => {
            reader.problem_with_hint(node.place, format!("`{text}` is not a URL: {error}"), HINT);
            return None;
        }
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        reader.problem_with_hint(node.place, format!("`{text}` is not an http or https URL"), HINT);
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        reader.problem(node.place, format!("`{text}`: the target can't have a query or a fragment; steps have them"));
        return None;
    }
    Some(url)
}

/// Names of values that are in no plan.
fn secrets(reader: &mut Reader, node: Option<&Node>, names: &mut Names) -> Vec<String> {
    let Some(node) = node else { return Vec::new() };
    let mut secrets = Vec::new();
    for item in reader.list(node, "names of secrets") {
        let Some(name) = reader.text(item) else { continue };
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        if is_name && !secrets.contains(&name) {
            secrets.push(name);
        } else {
            let hint = "letters, digits and _, not beginning with a digit, each name once";
            reader.problem_with_hint(item.place, format!("`{name}` can't be the name of a secret here"), hint);
        }
    }
    names.add_with_attributes(SECRETS, secrets.clone());
    secrets
}

fn vars(reader: &mut Reader, node: Option<&Node>, names: &mut Names) -> Vec<(String, serde_json::Value)> {
    let mut vars = Vec::new();
    for (name, value) in reader.named(node, "names with values") {
        if value.scalar_text().is_none() {
            reader.wrong_kind(value, "a text, number or boolean");
            continue;
        }
        names.add(&name.text);
        vars.push((name.text.clone(), value.to_json()));
    }
    vars
}

fn data_sets(
    reader: &mut Reader,
    node: Option<&Node>,
    source: &PlanSource,
    seed: u64,
    names: &mut Names,
) -> Vec<DataSet> {
    let mut sets = Vec::new();
    for (name, node) in reader.named(node, "data sets by name") {
        match data::read(reader, &name.text, node, source, seed) {
            Some(set) => {
                names.add_with_attributes(&name.text, set.columns.clone());
                sets.push(set);
            }
            // Its problem stands already; templates that use it are no further problems.
            None => names.add(&name.text),
        }
    }
    sets
}

fn ready(reader: &mut Reader, node: &Node) -> Option<Ready> {
    let object = reader.object(node, &READY)?;
    let url = object.get("get").and_then(|node| reader.text(node));
    let status = object.get("status").and_then(|node| status_set(reader, node)).unwrap_or(StatusSet::Success);
    let within = object.get("within").and_then(|node| reader.duration(node)).unwrap_or(DEFAULT_READY);
    Some(Ready { url: url?, status, within })
}

/// The scenarios with what they share.
struct Scenarios {
    scenarios: Vec<Scenario>,
    steps: Vec<TimedStep>,
    search: Option<Search>,
}

/// A scenario whose place in time is not yet settled.
struct Unplaced<'n> {
    scenario: Scenario,
    after: Vec<(&'n Node, String)>,
    delay: Duration,
    place: Place,
    search: Option<Search>,
}

fn scenarios(reader: &mut Reader, node: Option<&Node>, names: &Names, source: &PlanSource) -> Scenarios {
    let entries = reader.named(node, "scenarios by name");
    if let Some(node) = node.filter(|_| entries.is_empty()) {
        reader.problem(node.place, "there is no scenario");
    }
    if entries.len() > MOST_SCENARIOS {
        reader.problem(entries[MOST_SCENARIOS].0.place, format!("more than {MOST_SCENARIOS} scenarios"));
    }
    let mut steps = Vec::new();
    let mut unplaced = Vec::new();
    for (index, (name, node)) in entries.iter().take(MOST_SCENARIOS).enumerate() {
        let context = ScenarioContext { index, names, source };
        unplaced.extend(scenario(reader, &context, name, node, &mut steps));
    }
    let searches: Vec<(&Search, Place)> =
        unplaced.iter().filter_map(|unplaced| Some((unplaced.search.as_ref()?, unplaced.place))).collect();
    if let [_, (_, second), ..] = searches.as_slice() {
        reader.problem(*second, "a plan has one search; give this scenario a plain load");
    }
    let search = searches.first().map(|(search, _)| (*search).clone());
    if steps.len() > MOST_STEPS {
        let place = node.map(|node| node.place).unwrap_or_default();
        let message = format!("{} timed steps times levels, the limit is {MOST_STEPS}", steps.len());
        reader.problem_with_hint(place, message, "give steps that belong together the same name");
    }
    Scenarios { scenarios: place_in_time(reader, unplaced), steps, search }
}

/// What a scenario is read with.
struct ScenarioContext<'a> {
    index: usize,
    names: &'a Names,
    source: &'a PlanSource,
}

fn scenario<'n>(
    reader: &mut Reader,
    context: &ScenarioContext<'_>,
    name: &node::Name,
    node: &'n Node,
    steps: &mut Vec<TimedStep>,
) -> Option<Unplaced<'n>> {
    let object = reader.object(node, &SCENARIO)?;
    let load = object.get("load").map(|node| load::read(reader, node, context.source.search_level)).unwrap_or_default();
    let mut flow = FlowReader::new(reader, context.names.of_scenario(), context.source);
    let steps_of_flow = object.get("flow").map(|node| flow.read(node)).unwrap_or_default();
    let (slots, sockets) = flow.into_parts();
    if shared_rate(&steps_of_flow) && load.levels.iter().any(|(_, load)| matches!(load, Load::Rate { .. })) {
        refuse_shared_rate(reader, name.place);
    }
    if let Some(flow) = object.get("flow")
        && slots.is_empty()
        && reader.problems.is_empty()
    {
        reader.problem(flow.place, "the flow does nothing that could be measured");
    }
    let search = load.search.as_ref().map(|searched| Search {
        scenario: context.index,
        of: searched.of,
        from: searched.from,
        to: searched.to,
        within: searched.within,
    });
    let every = every(reader, &object, &load);
    let phases = phases(context.index, load, &slots, steps);
    let after = reader.items(object.get("after"));
    let after = after.into_iter().filter_map(|node| Some((node, reader.text(node)?))).collect();
    let delay = object.get("start").and_then(|node| reader.duration_or_zero(node)).unwrap_or_default();
    check_delay(reader, &object);
    let scenario = Scenario {
        name: name.text.clone(),
        start: ScenarioStart::At(delay),
        phases,
        timed_steps: u32::try_from(slots.len()).unwrap_or(u32::MAX),
        sockets,
        flow: steps_of_flow,
        every,
    };
    Some(Unplaced { scenario, after, delay, place: name.place, search })
}

fn every(reader: &mut Reader, object: &Object<'_>, load: &load::Described) -> Option<Duration> {
    let node = object.get("every")?;
    if load.levels.iter().any(|(_, load)| matches!(load, Load::Rate { .. })) {
        let hint = "a rate says already when iterations start";
        reader.problem_with_hint(object.place_of("every"), "`every` has no meaning beside a load of `rate`", hint);
        return None;
    }
    reader.duration(node)
}

fn check_delay(reader: &mut Reader, object: &Object<'_>) {
    if let Some(node) = object.get("after")
        && matches!(&node.value, node::Value::List(items) if items.is_empty())
    {
        reader.problem(node.place, "`after` names no scenario");
    }
}

/// One phase after another, each with its own series for every timed step.
fn phases(scenario: usize, described: load::Described, slots: &[TimedSlot], steps: &mut Vec<TimedStep>) -> Vec<Phase> {
    let mut offset = Duration::ZERO;
    let mut phases = Vec::new();
    let grace = described.grace;
    for (phase, (level, load)) in described.levels.into_iter().enumerate() {
        let mut add_steps = |warm_up| {
            let first_step = StepId(u32::try_from(steps.len()).unwrap_or(u32::MAX));
            steps.extend(slots.iter().map(|slot| TimedStep {
                scenario,
                phase,
                name: slot.name.clone(),
                kind: slot.kind,
                per_iteration: slot.per_iteration,
                as_they_come: slot.as_they_come,
                warm_up,
            }));
            first_step
        };
        let first_step = add_steps(false);
        let warm_up = described.warm_up.map(|length| WarmUp { length, first_step: add_steps(true) });
        let length = load.limit();
        phases.push(Phase { level, offset, load, first_step, warm_up, grace });
        offset += length;
    }
    phases
}

/// Resolves `after`: to an offset where every predecessor's end can be computed, else to their ends as they come.
fn place_in_time(reader: &mut Reader, unplaced: Vec<Unplaced<'_>>) -> Vec<Scenario> {
    let names: Vec<String> = unplaced.iter().map(|unplaced| unplaced.scenario.name.clone()).collect();
    let mut predecessors: Vec<Vec<usize>> = Vec::new();
    for scenario in &unplaced {
        let mut indices = Vec::new();
        for (node, name) in &scenario.after {
            match names.iter().position(|known| known == name) {
                Some(index) => indices.push(index),
                None => {
                    let hint = match nearest(name, names.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("scenarios: {}", names.join(", ")),
                    };
                    reader.problem_with_hint(node.place, format!("`after` names `{name}`, which is no scenario"), hint);
                }
            }
        }
        predecessors.push(indices);
    }
    if let Some(cycle) = cycle(&predecessors) {
        let text: Vec<&str> = cycle.iter().map(|index| names[*index].as_str()).collect();
        let place = cycle.first().map(|index| unplaced[*index].place).unwrap_or_default();
        reader.problem(place, format!("the scenarios wait for each other in a circle: {}", text.join(" after ")));
        return unplaced.into_iter().map(|unplaced| unplaced.scenario).collect();
    }
    let delays: Vec<(Duration, Place)> = unplaced.iter().map(|unplaced| (unplaced.delay, unplaced.place)).collect();
    let mut scenarios: Vec<Scenario> = unplaced.into_iter().map(|unplaced| unplaced.scenario).collect();
    let mut placed = vec![false; scenarios.len()];
    // Without a cycle each round places at least one scenario, so as many rounds as scenarios are enough.
    for _ in 0..scenarios.len() {
        for index in 0..scenarios.len() {
            if placed[index] || predecessors[index].iter().any(|predecessor| !placed[*predecessor]) {
                continue;
            }
            placed[index] = true;
            let mut ends = predecessors[index].iter().map(|predecessor| scenarios[*predecessor].end());
            let latest = ends.try_fold(Duration::ZERO, |latest, end| Some(latest.max(end?)));
            let (delay, place) = delays[index];
            scenarios[index].start = match latest {
                Some(latest) => ScenarioStart::At(latest + delay),
                None => {
                    if !delay.is_zero() {
                        let message = format!("`start` of `{}` can't follow a scenario of iterations", names[index]);
                        reader.problem_with_hint(place, message, "begin its flow with a `think` instead");
                    }
                    ScenarioStart::AfterEnd(predecessors[index].clone())
                }
            };
        }
    }
    scenarios
}

/// The scenarios of a circle, the first one again at the end.
fn cycle(predecessors: &[Vec<usize>]) -> Option<Vec<usize>> {
    fn visit(at: usize, predecessors: &[Vec<usize>], path: &mut Vec<usize>, done: &mut [bool]) -> Option<Vec<usize>> {
        if let Some(start) = path.iter().position(|index| *index == at) {
            let mut cycle = path[start..].to_vec();
            cycle.push(at);
            return Some(cycle);
        }
        if done[at] {
            return None;
        }
        path.push(at);
        let found = predecessors[at].iter().find_map(|next| visit(*next, predecessors, path, done));
        path.pop();
        done[at] = true;
        found
    }
    let mut done = vec![false; predecessors.len()];
    (0..predecessors.len()).find_map(|index| visit(index, predecessors, &mut Vec::new(), &mut done))
}

/// What a plan sends, written in one way: neither comments nor what it is judged by are in it.
fn load_text(root: &Node, seed: u64) -> String {
    let parts = ["http", "vars", "data", "scenarios"];
    let parts = parts.map(|key| root.get(key).map_or(serde_json::Value::Null, Node::to_json));
    serde_json::json!([seed, parts]).to_string()
}

impl PlanSource {
    /// BLAKE3 over the text, every data file with its path, and the search level, each with its length before it: the
    /// first 16 hexadecimal digits.
    pub fn hash(&self) -> String {
        self.hash_with(&self.text)
    }

    /// The same with another text in place of the plan's.
    fn hash_with(&self, text: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut feed = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        feed(text.as_bytes());
        for (path, content) in &self.files {
            feed(path.as_bytes());
            feed(content.as_deref().unwrap_or_default());
        }
        if let Some(level) = self.search_level {
            feed(&level.to_le_bytes());
        }
        hasher.finalize().to_hex().chars().take(16).collect()
    }
}
