//! A run's plan at this agent, from its source to workers that wait for the start.

use std::sync::Arc;

use groundswell_access::Secrets;
use groundswell_proto::v1::Arm;
use groundswell_scenario::{Assignment, Plan, PlanSource};
use http::HeaderValue;
use serde_json::json;

use super::AgentOptions;
use super::admission::{Admitted, admit};
use crate::audit::Trail;
use crate::engine::{Engine, EngineOptions};
use crate::guard::Taken;
use crate::preflight::foresee;
use crate::transport::{Budget, Gate};

/// What a job is made of.
pub(super) struct Armed {
    pub(super) plan: Arc<Plan>,
    pub(super) engine: Engine,
    pub(super) assignment: Assignment,
    /// Those that the plan names.
    pub(super) secrets: Secrets,
    /// What will be too small on this machine.
    pub(super) warnings: Vec<String>,
}

/// Compiles the plan and starts the workers, or says why not.
pub(super) fn arm(
    arm: Arm,
    options: &AgentOptions,
    budget: Budget,
    others: Taken,
    trail: &mut Trail,
) -> Result<Armed, String> {
    let wire = arm.plan.ok_or("the coordinator sent no plan")?;
    let hash = wire.hash.clone();
    let source = PlanSource::from(wire);
    let plan = Arc::new(Plan::compile(&source).map_err(|problems| problems.to_string())?);
    if plan.hash != hash {
        return Err(format!("the plan's hash is {} here but {hash} at the coordinator", plan.hash));
    }
    let secrets = named(Secrets::received(arm.secrets), &plan, options)?;
    trail.also("plan", plan.name.as_str().into());
    let assignment = arm.assignment.ok_or("the coordinator sent no assignment")?;
    let assignment = Assignment::try_from(assignment).map_err(|error| error.to_string())?;
    let guard = &options.guard;
    let gate = Gate::new(&plan, guard.allow.clone(), budget);
    let Admitted { mut warnings, wanted } = admit(&plan, &source, &assignment, &gate, others, options)?;
    warnings.extend(foresee(&plan, &assignment.share, options.workers).lacks);
    let run = HeaderValue::from_str(&arm.run_id).map_err(|_| "the run's id can't be said in a header")?;
    let engine_options = EngineOptions {
        workers: options.workers,
        agent: options.name.clone(),
        secrets: secrets.clone(),
        raw_samples: options.raw_samples.clone(),
        gate,
        run: guard.run_header.then_some(run),
        max_duration: guard.max_duration,
    };
    let engine = Engine::prepare(Arc::clone(&plan), &assignment, &engine_options).map_err(|error| error.to_string())?;
    trail.armed(&wanted)?;
    Ok(Armed { plan, engine, assignment, secrets, warnings })
}

/// The secrets that a plan names: the agent's own before those that the coordinator sent.
fn named(sent: Secrets, plan: &Plan, options: &AgentOptions) -> Result<Secrets, String> {
    let secrets = sent.under(options.secrets.clone()).of(&plan.secrets);
    let lacks = secrets.lacks(&plan.secrets);
    match lacks[..] {
        [] => Ok(secrets),
        [first, ..] => Err(format!(
            "it has no secret {}; start it, or its coordinator, with --secret {first}=env:VARIABLE (a coordinator without \
             TLS, with --insecure, sends none)",
            lacks.join(", ")
        )),
    }
}

/// The lines of a run in the audit log.
pub(super) fn trail(arm: &Arm, options: &AgentOptions) -> Trail {
    let plan = arm.plan.as_ref();
    let of = json!({
        "agent": options.name,
        "coordinator": options.coordinator,
        "run": arm.run_id,
        "plan": plan.map(|plan| &plan.name),
        "plan_hash": plan.map(|plan| &plan.hash),
    });
    Trail::new(options.guard.audit.clone(), of)
}
