//! Runs to begin, list, look at and stop.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use groundswell_scenario::{Plan, PlanSource};
use groundswell_stats::{Distribution, Overflow};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::Services;
use super::super::hub::{self, Present};
use super::problem::{Json, Path, Problem, Query};
use super::who::Who;
use crate::api::{Accepted, Frames, PlanFiles, RunStatus, Submission};
use crate::report::{self, Distributions, Format, Frame, FrameStep, RenderError, Rendered, Report, Summary};
use crate::store::{RunRow, RunState};

/// Most labels of a run, and of a selector.
const MAX_LABELS: usize = 64;
/// Longest key or value of a label, in bytes.
const MAX_LABEL_BYTES: usize = 256;
/// Longest that a run may wait for its agents: a day.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3_600);
/// Runs in a list, unless told.
const DEFAULT_LIMIT: usize = 100;

pub(super) async fn submit(
    State(services): State<Services>,
    who: Who,
    Json(submission): Json<Submission>,
) -> Result<Response, Problem> {
    let wait = checked_wait(&submission)?;
    check_labels("labels", &submission.labels)?;
    check_labels("selector", &submission.selector)?;
    let Submission { plan, agents, labels, selector, submission, attached, .. } = submission;
    let source = PlanSource::try_from(plan).map_err(Problem::bad_request)?;
    // Compiling may take a while for large data; nobody else must wait for it.
    let compiled = tokio::task::spawn_blocking(move || Plan::compile(&source).map(|plan| (plan, source)));
    let (plan, source) =
        compiled.await.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?.map_err(
            |problems| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the plan is invalid\n\n{problems}")),
        )?;
    let submission = submission.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let agents = agents as usize;
    let wanted = json!({ "plan": plan.name, "hash": plan.hash, "target": plan.target.as_str() });
    let created = services
        .submit(|answer| hub::Submission { plan, source, agents, wait, labels, selector, submission, attached, answer })
        .await??;
    who.did(&services, "submitted", &json!({ "run": created.id, "wanted": wanted }));
    let status = if created.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Answer(Accepted { id: created.id, new: created.new })).into_response())
}

fn checked_wait(submission: &Submission) -> Result<Duration, Problem> {
    let wait = Duration::try_from_secs_f64(submission.wait_s).ok().filter(|wait| *wait <= MAX_WAIT);
    wait.ok_or_else(|| {
        Problem::bad_request(format!("wait_s is {}; it must be 0 to {}", submission.wait_s, MAX_WAIT.as_secs()))
    })
}

fn check_labels(what: &str, labels: &BTreeMap<String, String>) -> Result<(), Problem> {
    if labels.len() > MAX_LABELS {
        return Err(Problem::bad_request(format!("{what} has {} entries; {MAX_LABELS} are allowed", labels.len())));
    }
    let is_wrong = |text: &str| text.len() > MAX_LABEL_BYTES || text.chars().any(char::is_control);
    match labels.iter().find(|(key, value)| key.is_empty() || is_wrong(key) || is_wrong(value)) {
        Some((key, _)) => Err(Problem::bad_request(format!(
            "{what}: keys must have 1 to {MAX_LABEL_BYTES} bytes, values at most as many, and neither control characters; \
             see {key:?}"
        ))),
        None => Ok(()),
    }
}

/// Which runs are listed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Part of the name, the id, or of a label.
    search: Option<String>,
    /// Label, as KEY=VALUE.
    label: Option<String>,
    limit: Option<usize>,
}

impl Wanted {
    fn is(&self, row: &RunRow) -> bool {
        let has = |wanted: &String| {
            let wanted = wanted.to_lowercase();
            let labels = row.labels.iter().map(|(key, value)| format!("{key}={value}"));
            [row.id.clone(), row.name.clone()]
                .into_iter()
                .chain(labels)
                .any(|text| text.to_lowercase().contains(&wanted))
        };
        let is_labelled = |label: &String| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            row.labels.get(key).is_some_and(|known| known == value)
        };
        self.search.as_ref().is_none_or(has) && self.label.as_ref().is_none_or(is_labelled)
    }
}

pub(super) async fn list(
    State(services): State<Services>,
    Query(wanted): Query<Wanted>,
) -> Result<Answer<Vec<RunStatus>>, Problem> {
    let present = services.present().await?;
    let rows = services.store.runs().await?;
    let rows = rows.into_iter().filter(|row| wanted.is(row)).take(wanted.limit.unwrap_or(DEFAULT_LIMIT));
    Ok(Answer(rows.map(|row| status_of(row, &present)).collect()))
}

pub(super) async fn status(
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Answer<RunStatus>, Problem> {
    let present = services.present().await?;
    let stored = services.store.run(&id).await?;
    let mut status = status_of(stored.row, &present);
    match stored.report.map(|answer| answer.report) {
        Some(Ok(json)) => status.summary = Some(Summary::from(&read_report(&json)?)),
        Some(Err(problem)) => status.problem = Some(problem),
        None => {}
    }
    Ok(Answer(status))
}

fn status_of(row: RunRow, present: &Present) -> RunStatus {
    let (finished_at, exit_code) = match row.state {
        RunState::Finished { exit_code, finished_at_us, .. } => (Some(time(finished_at_us)), Some(exit_code)),
        RunState::Unfinished => (None, None),
    };
    let over = if finished_at.is_some() { "finished" } else { "unfinished" };
    let (state, detail) = present.runs.get(&row.id).cloned().unwrap_or_else(|| (over.to_owned(), String::new()));
    RunStatus {
        id: row.id,
        name: row.name,
        state,
        detail,
        labels: row.labels,
        plan_hash: row.plan_hash,
        submitted_at: time(row.submitted_at_us),
        finished_at,
        exit_code,
        summary: row.summary.and_then(|summary| serde_json::from_str(&summary).ok()),
        problem: None,
    }
}

pub(super) async fn cancel(
    State(services): State<Services>,
    who: Who,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if services.stop(&id).await? {
        who.did(&services, "cancelled", &json!({ "run": id }));
        return Ok(StatusCode::ACCEPTED);
    }
    services.store.run(&id).await?;
    Err(Problem::new(StatusCode::CONFLICT, format!("run {id} is over; there is nothing to cancel")))
}

/// How a report is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    format: Option<String>,
}

pub(super) async fn report(
    State(services): State<Services>,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
) -> Result<Response, Problem> {
    let name = wish.format.as_deref().unwrap_or(Format::Json.name());
    let format = Format::of_name(name).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
        let name: String = name.chars().take(40).collect();
        Problem::bad_request(format!("format: there is no {name:?}; there are {}", names.join(", ")))
    })?;
    let json = services.report_json(&id).await?;
    if format == Format::Json {
        return Ok(([(header::CONTENT_TYPE, format.content_type())], json).into_response());
    }
    let stored = services.store.run(&id).await?;
    let packed = services.store.distributions(&id).await?;
    // Inflating and drawing take a while where a run was long; nobody else must wait for it.
    let rendered = tokio::task::spawn_blocking(move || -> Result<Vec<u8>, Problem> {
        let distributions = packed.map(|packed| Distributions::unpack(&packed)).transpose().map_err(damaged)?;
        // Another release may have read the plan in another way; then its rates are not shown.
        let source = groundswell_proto::stored_plan(&stored.plan).ok();
        let plan = source.and_then(|source| Plan::compile(&source).ok());
        let report = read_report(&json)?;
        let of = Rendered { report: &report, distributions: distributions.as_ref(), plan: plan.as_ref() };
        report::render(format, &of).map_err(|error| match error {
            RenderError::NoDistributions(_) => Problem::not_found(error.to_string()),
            other => damaged(other),
        })
    });
    let page = rendered.await.map_err(damaged)??;
    Ok(([(header::CONTENT_TYPE, format.content_type())], page).into_response())
}

/// All frames of a run that is over, and the steps that their numbers stand for.
#[derive(Debug, Serialize)]
pub(super) struct Charts {
    steps: Vec<FrameStep>,
    #[serde(flatten)]
    frames: Frames,
}

pub(super) async fn frames(
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Answer<Charts>, Problem> {
    let distributions = services.distributions(&id).await?;
    let steps = distributions.steps.iter().map(FrameStep::from).collect();
    let length_s = distributions.load.first().map_or(1, |row| row.length_s as u64);
    let frames = Frames { length_s, whole: true, frames: Frame::all(&distributions).map_err(damaged)? };
    Ok(Answer(Charts { steps, frames }))
}

/// The distribution of one step's response times.
#[derive(Debug, Serialize)]
pub(super) struct Curve {
    scenario: String,
    step: String,
    count: u64,
    /// (part of the operations, response time in ms that they do not exceed).
    response_ms: Vec<(f64, f64)>,
    service_ms: Vec<(f64, f64)>,
}

/// The percentile curve of each step, the levels of a sweep together and the warm-up left out, and of all steps first.
pub(super) async fn percentiles(
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Answer<Vec<Curve>>, Problem> {
    let distributions = services.distributions(&id).await?;
    Ok(Answer(curves(&distributions).map_err(damaged)?))
}

fn curves(distributions: &Distributions) -> Result<Vec<Curve>, Overflow> {
    let mut rows: Vec<(String, String, Distribution, Distribution)> = Vec::new();
    for step in distributions.steps.iter().filter(|step| !step.warm_up) {
        let all = (String::new(), "total".to_owned());
        for (scenario, name) in [all, (step.scenario.clone(), step.step.clone())] {
            let known = rows.iter().position(|row| (&row.0, &row.1) == (&scenario, &name));
            let index = known.unwrap_or(rows.len());
            if known.is_none() {
                rows.push((scenario, name, Distribution::default(), Distribution::default()));
            }
            rows[index].2.merge(&Distribution::of([&step.response])?)?;
            rows[index].3.merge(&Distribution::of([&step.service])?)?;
        }
    }
    let curve = |(scenario, step, response, service): (String, String, Distribution, Distribution)| Curve {
        scenario,
        step,
        count: response.count(),
        response_ms: report::percentile_curve(&response),
        service_ms: report::percentile_curve(&service),
    };
    Ok(rows.into_iter().map(curve).collect())
}

pub(super) async fn plan(
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Answer<PlanFiles>, Problem> {
    let stored = services.store.run(&id).await?;
    let source = groundswell_proto::stored_plan(&stored.plan).map_err(damaged)?;
    Ok(Answer(PlanFiles::from(&source)))
}

impl Services {
    pub(super) async fn report_json(&self, id: &str) -> Result<Vec<u8>, Problem> {
        match self.store.run(id).await?.report.map(|answer| answer.report) {
            Some(Ok(json)) => Ok(json),
            Some(Err(problem)) => Err(Problem::not_found(format!("run {id} has no report: {problem}"))),
            None => Err(Problem::not_found(format!("run {id} has no report yet"))),
        }
    }

    pub(super) async fn distributions(&self, id: &str) -> Result<Distributions, Problem> {
        // Says why there is no report, if there is none.
        self.report_json(id).await?;
        let packed =
            self.store.distributions(id).await?.ok_or_else(|| {
                Problem::not_found(format!("run {id} was reported by a release that kept no histograms"))
            })?;
        Distributions::unpack(&packed).map_err(damaged)
    }
}

pub(super) fn read_report(json: &[u8]) -> Result<Report, Problem> {
    serde_json::from_slice(json).map_err(damaged)
}

fn damaged(error: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("what is stored can't be read: {error}"))
}

fn time(us: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_micros(u64::try_from(us).unwrap_or(0));
    humantime::format_rfc3339_millis(at).to_string()
}
