//! `groundswell check`: who would do what; sends nothing.

use std::time::Duration;

use comfy_table::{CellAlignment, Table};
use groundswell_coordinator::report::format;
use groundswell_scenario::load::{Arrivals, Curve, Load, Sharing};
use groundswell_scenario::plan::{Phase, ScenarioStart, Search, SearchOf};
use groundswell_scenario::planned::Planned;
use groundswell_scenario::{Plan, Scenario, Share};

use crate::args::CheckArgs;
use crate::{Exit, Outcome, output, plan_file};

pub(crate) fn run(args: &CheckArgs) -> Outcome {
    let (_, plan) = plan_file::load(&args.plan)?;
    output::print(&describe(&plan, args.agents));
    Ok(Exit::Success)
}

fn describe(plan: &Plan, agents: u32) -> String {
    let length = match plan.duration() {
        Some(length) => format!("{} s", length.as_secs_f64()),
        None => format!("until its iterations are done, at most {} s", plan.longest().as_secs_f64()),
    };
    let mut text = format!("{}: valid; {length} against {}\n\n", plan.name, plan.target);
    text.push_str(&scenarios(plan).to_string());
    text.push_str(&format!("\n\nShares of {agents} agents\n"));
    text.push_str(&shares(plan, agents).to_string());
    text.push_str(&format!("\n\n{} thresholds, {} series\n", plan.thresholds.len(), plan.steps.len()));
    text.extend(plan.search.as_ref().map(search));
    text.push_str(&forecast(plan, agents));
    text
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    output::plain_table(&header)
}

/// Where the number depends on the target.
const AS_ALLOWED: &str = "as the target allows";

fn scenarios(plan: &Plan) -> Table {
    let mut table = table(["scenario", "starts", "load", "iterations", "operations"]);
    for scenario in &plan.scenarios {
        for phase in &scenario.phases {
            let iterations = phase.planned_iterations(&Share::whole(), plan.seed).map(Planned::in_all);
            table.add_row([
                scenario.name.clone(),
                starts(plan, scenario, phase),
                load(phase),
                iterations.map_or(AS_ALLOWED.to_owned(), format::count),
                operations(plan, scenario, phase, iterations),
            ]);
        }
    }
    table
}

fn operations(plan: &Plan, scenario: &Scenario, phase: &Phase, iterations: Option<u64>) -> String {
    let Some(iterations) = iterations else { return AS_ALLOWED.to_owned() };
    let operations = format::count(iterations.saturating_mul(scenario.operations_per_iteration()));
    let first = phase.first_step.0 as usize;
    let own = plan.steps.iter().skip(first).take(scenario.timed_steps as usize);
    match own.filter(|step| step.as_they_come).count() {
        0 => operations,
        _ => format!("{operations} and messages of a shared rate"),
    }
}

fn starts(plan: &Plan, scenario: &Scenario, phase: &Phase) -> String {
    match &scenario.start {
        ScenarioStart::At(start) => format!("{} s", (*start + phase.offset).as_secs_f64()),
        ScenarioStart::AfterEnd(predecessors) => {
            let names: Vec<&str> = predecessors.iter().map(|index| plan.scenarios[*index].name.as_str()).collect();
            format!("after {}", names.join(", "))
        }
    }
}

fn load(phase: &Phase) -> String {
    let seconds = |length: Duration| length.as_secs_f64();
    let warm_up = phase
        .warm_up
        .map_or_else(String::new, |warm_up| format!(", the first {} s are warm-up", seconds(warm_up.length)));
    let load = match &phase.load {
        Load::Users { curve } => format!("{} users for {} s", values(curve), seconds(curve.length())),
        Load::Rate { curve, arrivals, max_in_flight, queue } => {
            let kind = match arrivals {
                Arrivals::Uniform => "even",
                Arrivals::Poisson => "Poisson",
            };
            let length = seconds(curve.length());
            let most = format!("at most {max_in_flight} in flight and {queue} waiting");
            format!("{}/s for {length} s, {kind} arrivals, {most}", values(curve))
        }
        Load::Iterations { total, sharing, users, limit } => {
            let how = match sharing {
                Sharing::Shared => "shared by",
                Sharing::PerUser => "divided evenly over",
            };
            format!("{total} iterations {how} {users} users, at most {} s", seconds(*limit))
        }
    };
    load + &warm_up
}

/// What is searched, where there is a search.
fn search(search: &Search) -> String {
    let unit = match search.of {
        SearchOf::Users => " users",
        SearchOf::Rate => "/s",
    };
    let Search { from, to, within, .. } = search;
    format!("searches between {from}{unit} and {to}{unit}, to within {} %; shown is the first step\n", within * 100.0)
}

/// What this machine would be as one of so many agents.
fn forecast(plan: &Plan, agents: u32) -> String {
    let workers = crate::commands::cores();
    let forecast = groundswell_agent::foresee(plan, &Share::nth_of(0, agents), workers);
    let each = if agents == 1 { "an agent" } else { "each agent" };
    let mut text = format!(
        "\nOn machines like this one ({workers} cores) {each} needs up to {} connections and {} MiB of memory",
        format::count(forecast.needs.connections),
        format::count(forecast.memory_bytes >> 20)
    );
    if forecast.lacks.is_empty() {
        return text + ", and has it\n";
    }
    text.push_str(&format!("; {} agents would do\n", forecast.agents * u64::from(agents)));
    text.extend(forecast.lacks.iter().map(|lack| format!("warning: {each} {lack}\n")));
    text
}

/// The values that a curve goes through: "10", "0 → 50 → 50".
fn values(curve: &Curve) -> String {
    let mut values: Vec<f64> = curve.segments.iter().take(1).map(|segment| segment.from).collect();
    values.extend(curve.segments.iter().map(|segment| segment.to));
    if values.windows(2).all(|pair| pair[0] == pair[1]) {
        values.truncate(1);
    }
    values.iter().map(f64::to_string).collect::<Vec<_>>().join(" → ")
}

fn shares(plan: &Plan, agents: u32) -> Table {
    const MOST: u32 = 16;
    let mut table = table(["agent", "connections at most", "open load at most", "scheduled iterations"]);
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for agent in 0..agents.min(MOST) {
        let share = Share::nth_of(agent, agents);
        let phases = || plan.scenarios.iter().flat_map(|scenario| &scenario.phases);
        let needs = plan.needs(&share);
        let iterations = phases().filter_map(|phase| phase.planned_iterations(&share, plan.seed)).map(Planned::in_all);
        table.add_row([
            format!("{} of {agents}", agent + 1),
            format::count(needs.connections),
            format!("{:.0}/s", needs.operations_per_s),
            format::count(iterations.sum()),
        ]);
    }
    if agents > MOST {
        table.add_row([format!("and {} more", agents - MOST)]);
    }
    table
}
