//! A run beside its baselines.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::super::Services;
use super::problem::{Problem, Query};
use super::runs::read_report;
use crate::compare::{self, Comparison, Measured};
use crate::report::{Distributions, Format, Report};

/// Most baselines of one comparison.
const MOST_BASELINES: usize = 32;

/// What is to be compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Ids of the baselines, with commas between them.
    base: String,
    /// Id of the run that is judged.
    run: String,
    format: Option<String>,
    /// Compare what should not be compared, and say so.
    #[serde(default)]
    force: bool,
}

pub(super) async fn compare(
    State(services): State<Services>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let name = wanted.format.as_deref().unwrap_or(Format::Json.name());
    let format = Comparison::FORMATS
        .into_iter()
        .find(|format| format.name() == name)
        .ok_or_else(|| Problem::bad_request("format: a comparison comes as json, text, md or junit"))?;
    let ids: Vec<&str> = wanted.base.split(',').filter(|id| !id.is_empty()).collect();
    if ids.is_empty() || ids.len() > MOST_BASELINES {
        return Err(Problem::bad_request(format!("base: 1 to {MOST_BASELINES} ids of runs, with commas between them")));
    }
    let mut baselines = Vec::with_capacity(ids.len());
    for id in ids {
        baselines.push(services.measured(id).await?);
    }
    let run = services.measured(&wanted.run).await?;
    // The bootstrap takes a while; nobody else must wait for it.
    let compared = tokio::task::spawn_blocking(move || compared(&baselines, &run, wanted.force, format));
    let page = compared.await.map_err(|error| Problem::internal(error.to_string()))??;
    Ok(([(header::CONTENT_TYPE, format.content_type())], page).into_response())
}

type Run = (Report, Distributions);

fn compared(baselines: &[Run], run: &Run, force: bool, format: Format) -> Result<String, Problem> {
    let baselines: Vec<Measured<'_>> = baselines.iter().map(measured).collect();
    let run = measured(run);
    let found = compare::obstacles(&baselines, &run);
    if !found.is_empty() && !force {
        let reasons: Vec<String> = found.iter().map(ToString::to_string).collect();
        let detail = format!("{}; force=true compares them all the same", reasons.join("; "));
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let notes = found.iter().map(|obstacle| format!("compared by force: {obstacle}")).collect();
    let comparison = compare::compare(&baselines, &run, notes);
    comparison.render(format).map_err(|error| Problem::internal(error.to_string()))
}

fn measured((report, distributions): &Run) -> Measured<'_> {
    Measured { report, distributions }
}

impl Services {
    async fn measured(&self, id: &str) -> Result<Run, Problem> {
        Ok((read_report(&self.report_json(id).await?)?, self.distributions(id).await?))
    }
}
