//! What is in `deploy/`, held against those who read it: Kubernetes' own types, `kubectl kustomize`, `helm`, systemd, and
//! the command line. Nothing is started here; `containers` in `tests/it` does that. A test whose tool is missing is listed as
//! ignored, with the tool in its name.

mod commands;
mod compose;
mod kubernetes;
mod network;
mod objects;
mod rules;
mod same;
mod systemd;
mod tools;

use libtest_mimic::{Arguments, Failed, Trial};

use tools::Tool;

type Test = fn() -> anyhow::Result<()>;

const TESTS: &[(&str, &[Tool], Test)] = &[
    ("objects::what_kubernetes_does_not_know_is_found", &[], objects::unknown_fields_are_found),
    ("network::policies_as_kubernetes_reads_them", &[], network::policies_as_kubernetes_reads_them),
    ("kubernetes::every_manifest", &[], kubernetes::every_manifest),
    ("kubernetes::kustomizations_list_every_file", &[], kubernetes::kustomizations_list_every_file),
    ("kubernetes::kustomize", &[Tool::Kubectl], kubernetes::kustomize),
    ("kubernetes::helm", &[Tool::Helm], kubernetes::helm),
    ("kubernetes::helm_refuses_what_it_does_not_know", &[Tool::Helm], kubernetes::helm_refuses),
    ("same::kustomize_and_helm", &[Tool::Kubectl, Tool::Helm], same::kustomize_and_helm),
    ("kubernetes::guide_runs_in_pods", &[], kubernetes::guide_runs_in_pods),
    ("kubernetes::plans_are_valid", &[], kubernetes::plans_are_valid),
    ("compose::every_service", &[], compose::every_service),
    ("compose::no_way_out", &[], compose::no_way_out),
    ("compose::guide_has_the_first_report", &[], compose::guide_has_the_first_report),
    ("compose::as_the_tool_reads_it", &[Tool::Compose], compose::as_the_tool_reads_it),
    ("systemd::every_unit", &[], systemd::every_unit),
    ("systemd::verified", &[Tool::SystemdAnalyze], systemd::verified),
    ("commands::every_variable_is_one", &[], commands::every_variable_is_one),
];

fn main() {
    let arguments = Arguments::from_args();
    let trials = TESTS.iter().map(|(name, tools, test)| {
        let missing: Vec<&str> = tools.iter().filter(|tool| !tool.is_here()).map(|tool| tool.name()).collect();
        let skip = !missing.is_empty();
        let name = if skip { format!("{name} (skipped: needs {})", missing.join(", ")) } else { (*name).to_owned() };
        let test = *test;
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:?}")))).with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
