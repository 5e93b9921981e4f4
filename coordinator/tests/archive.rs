//! A run as one file: what comes out of one store goes into another unchanged, or not at all.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use groundswell_coordinator::archive::{Archive, ArchiveError, Imported, export, import};
use groundswell_coordinator::report::{Distributions, StepDistributions, Summary, json};
use groundswell_coordinator::store::{Figures, Finish, Location, NewRun, RunState, Store, StoreError};
use groundswell_scenario::PlanSource;
use groundswell_stats::Series;
use tempfile::TempDir;

#[path = "report/samples.rs"]
#[allow(dead_code, reason = "one of its reports is enough here")]
mod samples;

const PLAN: &str = "target: http://127.0.0.1:1\ndata: { words: { csv: words.csv } }\n\
    scenarios: { a: { load: { rate: 1/s, for: 1s }, flow: [ { get: / } ] } }\n";

async fn empty_store() -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Store::open(&Location::Folder(folder.path().join("store"))).await.unwrap(), folder)
}

fn distributions() -> Distributions {
    let mut response = Series::default();
    [800, 9_000, 9_000, 1_250_000].into_iter().for_each(|us| response.record(us));
    let step = StepDistributions {
        scenario: "a".to_owned(),
        level: None,
        step: "GET /".to_owned(),
        kind: "http".to_owned(),
        warm_up: false,
        service: response.clone(),
        response,
        intervals: Vec::new(),
    };
    Distributions { steps: vec![step], load: Vec::new() }
}

/// A store with a run that has an answer, the second one.
async fn filled_store() -> (Store, TempDir) {
    let (store, folder) = empty_store().await;
    let files = [("words.csv".to_owned(), Ok(b"word\n\xff\n".to_vec()))].into();
    let source =
        PlanSource { name: "plan.yaml".to_owned(), text: PLAN.to_owned(), files, search_level: Some(0.1 + 0.2) };
    let hash = source.hash();
    let run = NewRun {
        id: "7f3a0001".to_owned(),
        submission: "f00d".to_owned(),
        name: "plan".to_owned(),
        plan_hash: hash.clone(),
        plan: groundswell_proto::plan_to_store(&source, &hash),
        labels: BTreeMap::from([("commit".to_owned(), "c0ffee".to_owned())]),
        agents_wanted: 3,
        wait_ms: 60_000,
        selector: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
        attached: false,
        submitted_at_us: 1_700_000_000_000_000,
    };
    store.create_run(&run).await.unwrap();
    let mut report = samples::passing();
    (report.run.id, report.run.plan_hash) = (run.id.clone(), hash);
    report.total.rate_per_s = 1.0 / 3.0;
    let figures = Figures {
        summary: serde_json::to_string(&Summary::from(&report)).unwrap(),
        distributions: distributions().pack().unwrap(),
    };
    for revision in [1, 2] {
        let finish = Finish {
            run: run.id.clone(),
            revision,
            exit_code: 0,
            finished_at_us: 1_700_000_100_000_000 + revision as i64,
            report: Ok(json(&report).unwrap().into_bytes()),
            figures: Some(figures.clone()),
        };
        store.finish_run(&finish).await.unwrap();
    }
    (store, folder)
}

async fn archive() -> Archive {
    let (store, _folder) = filled_store().await;
    let archive = export(&store, "7f3a0001").await.unwrap();
    store.close().await;
    archive
}

#[tokio::test]
async fn what_is_imported_is_what_was_exported() {
    let (from, _folder) = filled_store().await;
    let mut file = Vec::new();
    export(&from, "7f3a0001").await.unwrap().write(&mut file).unwrap();
    let archive = Archive::read(file.as_slice()).unwrap();
    let (to, _folder) = empty_store().await;
    assert_eq!(import(&to, &archive).await.unwrap(), Imported::New);
    assert_eq!(export(&to, "7f3a0001").await.unwrap(), archive);
    let (theirs, ours) = (from.run("7f3a0001").await.unwrap(), to.run("7f3a0001").await.unwrap());
    assert_eq!((ours.report, ours.plan, ours.selector), (theirs.report, theirs.plan, theirs.selector));
    assert_eq!(to.distributions("7f3a0001").await.unwrap(), from.distributions("7f3a0001").await.unwrap());
    let (ours, theirs) = (to.runs().await.unwrap().remove(0), from.runs().await.unwrap().remove(0));
    assert!(ours.compacted && matches!(ours.state, RunState::Finished { revision: 2, .. }), "{ours:?}");
    assert!(ours.summary.is_some(), "lists show it");
    assert_eq!((ours.summary, ours.labels, ours.name), (theirs.summary, theirs.labels, theirs.name));
    assert_eq!(import(&to, &archive).await.unwrap(), Imported::Known, "the same again changes nothing");
    assert_eq!(to.runs().await.unwrap().len(), 1);
}

/// What makes an archive one that can't be.
type Spoil = fn(&mut Archive);

#[tokio::test]
async fn what_does_not_fit_together_is_refused_and_leaves_nothing() {
    let good = archive().await;
    let cases: [(&str, Spoil); 11] = [
        ("9223372036854775808", |archive| archive.answer.revision = 1 << 63),
        ("schema", |archive| archive.schema = "groundswell.run/v2".to_owned()),
        ("is no id", |archive| archive.id = "../7f3a".to_owned()),
        ("is no id", |archive| archive.id = "last".to_owned()),
        ("revision 0", |archive| archive.answer.revision = 0),
        ("its plan has the hash", |archive| archive.plan.text.push('#')),
        ("its plan has the hash", |archive| archive.plan.search_level = Some("0.3".to_owned())),
        ("its report is that of another run", |archive| archive.id = "7f3a0002".to_owned()),
        ("its report:", |archive| archive.answer.report = Some("{}".to_owned())),
        ("a report, or the reason", |archive| archive.answer.problem = Some("both".to_owned())),
        ("its histograms", |archive| archive.answer.distributions = Some("no base64!".to_owned())),
    ];
    let (store, _folder) = empty_store().await;
    for (said, spoil) in cases {
        let mut archive = good.clone();
        spoil(&mut archive);
        let error = import(&store, &archive).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Invalid(_)) && error.to_string().contains(said), "{said}: {error}");
    }
    assert!(store.runs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_histogram_that_was_changed_is_refused() {
    use base64::Engine as _;
    use std::io::{Read as _, Write as _};
    let mut archive = archive().await;
    let packed = base64::engine::general_purpose::STANDARD.decode(archive.answer.distributions.unwrap()).unwrap();
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text.replacen("\"count\":4", "\"count\":5", 1).as_bytes()).unwrap();
    archive.answer.distributions = Some(base64::engine::general_purpose::STANDARD.encode(out.finish().unwrap()));
    let (store, _folder) = empty_store().await;
    let error = import(&store, &archive).await.unwrap_err().to_string();
    assert!(error.contains("add up to 4, not to the declared count 5"), "{error}");
    assert!(store.runs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_that_is_there_with_other_content_stays_as_it_is() {
    let (store, _folder) = filled_store().await;
    let mut archive = export(&store, "7f3a0001").await.unwrap();
    archive.labels.clear();
    assert!(matches!(import(&store, &archive).await.unwrap_err(), ArchiveError::Different(run) if run == "7f3a0001"));
    assert_eq!(store.runs().await.unwrap().remove(0).labels["commit"], "c0ffee");
    // Another run that claims the submission of one that is there.
    archive.id = "7f3a0002".to_owned();
    (archive.answer.report, archive.answer.problem) = (None, Some("it never began".to_owned()));
    archive.answer.distributions = None;
    let error = import(&store, &archive).await.unwrap_err();
    assert!(matches!(&error, ArchiveError::Taken { run, .. } if run == "7f3a0002"), "{error}");
    assert_eq!(store.runs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn only_what_is_finished_is_exported_and_only_files_of_ours_are_read() {
    let (store, _folder) = filled_store().await;
    assert!(matches!(export(&store, "nothing").await.unwrap_err(), ArchiveError::Store(StoreError::NoRun { .. })));
    for nothing in [&b"no gzip"[..], b""] {
        assert!(matches!(Archive::read(nothing).unwrap_err(), ArchiveError::Invalid(_)));
    }
}
