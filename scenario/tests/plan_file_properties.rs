//! Whatever the text, compiling ends with a plan or with problems that have a place in it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use groundswell_scenario::file::schema::json_schema;
use groundswell_scenario::{Plan, PlanSource};
use proptest::prelude::*;

fn examples() -> Vec<(String, PlanSource)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut examples = Vec::new();
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let read = |name: &String| std::fs::read(folder.join(name)).map_err(|error| error.to_string());
            let files: BTreeMap<_, _> =
                PlanSource::referenced_files(&text).into_iter().map(|name| (name.clone(), read(&name))).collect();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            examples.push((name.clone(), PlanSource { name, text, files, search_level: None }));
        }
    }
    assert!(examples.len() >= 10, "{} examples", examples.len());
    examples
}

#[test]
fn every_example_compiles_and_fits_the_schema() {
    let schema = jsonschema::validator_for(&json_schema()).unwrap();
    for (name, source) in examples() {
        Plan::compile(&source).unwrap_or_else(|problems| panic!("{problems}"));
        let json: serde_json::Value = serde_saphyr::from_str(&source.text).unwrap();
        let errors: Vec<String> = schema.iter_errors(&json).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

/// The schema and the decoder know the same keys: a key that is unknown to one is unknown to the other, at every level.
#[test]
fn an_unknown_key_is_refused_by_schema_and_decoder() {
    let schema = jsonschema::validator_for(&json_schema()).unwrap();
    let (_, source) = examples().into_iter().find(|(name, _)| name == "login-flow.yaml").unwrap();
    let valid: serde_json::Value = serde_saphyr::from_str(&source.text).unwrap();
    let mut refused = 0;
    for pointer in [
        "",
        "/http",
        "/scenarios/visitor",
        "/scenarios/visitor/load",
        "/scenarios/visitor/flow/0",
        "/scenarios/visitor/flow/0/flow/1/expect",
    ] {
        let mut broken = valid.clone();
        let place = broken.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        place.insert("surprise".to_owned(), 1.into());
        assert!(!schema.is_valid(&broken), "the schema takes it at {pointer:?}");
        // JSON is YAML, so the decoder can read the same document.
        let problems = Plan::compile(&PlanSource { text: broken.to_string(), ..source.clone() }).unwrap_err();
        assert!(problems.to_string().contains("unknown key `surprise`"), "{pointer:?}: {problems}");
        refused += 1;
    }
    assert_eq!(refused, 6);
}

fn compiles_or_explains(source: &PlanSource) {
    if let Err(problems) = Plan::compile(source) {
        assert!(!problems.problems.is_empty());
        let lines = source.text.lines().count().max(1);
        for problem in &problems.problems {
            // An unclosed bracket is found at the end, one line behind the last.
            assert!(problem.place.line <= lines + 1, "line {} of {lines}: {}", problem.place.line, problem.message);
        }
        assert!(!problems.to_string().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        compiles_or_explains(&PlanSource { name: "plan.yaml".into(), text, files: BTreeMap::new(), search_level: None });
    }

    /// A line taken out, doubled or cut in the middle of a real plan.
    #[test]
    fn a_damaged_plan_never_panics(example in 0usize..100, line in 0usize..200, cut in 0usize..80, how in 0..3) {
        let all = examples();
        let (_, source) = &all[example % all.len()];
        let mut lines: Vec<String> = source.text.lines().map(str::to_owned).collect();
        let line = line % lines.len();
        match how {
            0 => drop(lines.remove(line)),
            1 => lines.insert(line, lines[line].clone()),
            _ => lines[line] = lines[line].chars().take(cut).collect(),
        }
        compiles_or_explains(&PlanSource { text: lines.join("\n"), ..source.clone() });
    }
}
