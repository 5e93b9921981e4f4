//! A run of a store with all that its report is rendered from.

use anyhow::{Context, anyhow};
use groundswell_coordinator::report::{Distributions, Rendered, Report};
use groundswell_coordinator::store::{Store, StoredRun};
use groundswell_scenario::Plan;

use crate::Failure;

/// The newest answer of a stored run.
pub(super) struct Answer {
    pub(super) report: Report,
    /// None where a release answered that kept none.
    pub(super) distributions: Option<Distributions>,
    /// None where this release reads the plan in another way than the one that ran it.
    plan: Option<Plan>,
}

/// The id behind a word of the command line: an id, or `last`.
pub(super) async fn id_of(store: &Store, word: &str) -> Result<String, Failure> {
    if word != "last" {
        return Ok(word.to_owned());
    }
    let rows = store.runs().await.map_err(Failure::incomplete)?;
    rows.first().map(|row| row.id.clone()).ok_or_else(|| Failure::usage(anyhow!("the store has no runs")))
}

impl Answer {
    pub(super) async fn load(store: &Store, id: &str) -> Result<Self, Failure> {
        let stored = store.run(id).await.map_err(Failure::usage)?;
        let plan = plan_of(&stored);
        let Some(report) = stored.report else {
            let hint =
                "if its coordinator will not come back, `groundswell runs recover` makes one of what had arrived";
            return Err(Failure::incomplete(anyhow!("run {id} has no report yet; {hint}")));
        };
        let json =
            report.report.map_err(|problem| Failure::incomplete(anyhow!("run {id} has no report: {problem}")))?;
        let report = serde_json::from_slice(&json).context("the report can't be read").map_err(Failure::incomplete)?;
        let packed = store.distributions(id).await.map_err(Failure::incomplete)?;
        let distributions = packed.map(|packed| Distributions::unpack(&packed)).transpose();
        Ok(Answer { report, distributions: distributions.map_err(Failure::incomplete)?, plan })
    }

    pub(super) fn rendered(&self) -> Rendered<'_> {
        let Answer { report, distributions, plan } = self;
        Rendered { report, distributions: distributions.as_ref(), plan: plan.as_ref() }
    }
}

fn plan_of(stored: &StoredRun) -> Option<Plan> {
    let source = groundswell_proto::stored_plan(&stored.plan).ok()?;
    Plan::compile(&source).ok()
}
