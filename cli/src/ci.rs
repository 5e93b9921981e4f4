//! Labels from the variables of a CI server, so that a run can be found by what it tested. Nothing is asked and no command
//! runs: the variables are what the servers document.

use std::collections::BTreeMap;

use crate::args::RunArgs;

/// A variable of the environment; none where it is not set or empty.
type Get<'g> = &'g dyn Fn(&str) -> Option<String>;

/// Adds the labels of the CI server that this process runs under. Those of the command line win.
pub(crate) fn add_labels(args: &mut RunArgs) {
    if args.no_ci_labels {
        return;
    }
    let found = labels(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let given: Vec<String> = args.label.iter().map(|(key, _)| key.clone()).collect();
    args.label.extend(found.into_iter().filter(|(key, _)| !given.contains(key)));
}

/// `ci`, `commit`, `branch`, `pull_request` and `build_url`, as far as they are known. The variables that name one of
/// them for any server win over the server's own.
fn labels(get: Get<'_>) -> BTreeMap<String, String> {
    let of_servers = [github(get), gitlab(get), jenkins(get), circle(get), buildkite(get)];
    let of_server = of_servers.into_iter().flatten().next().unwrap_or_default();
    let named = [
        ("commit", get("GROUNDSWELL_COMMIT")),
        ("branch", get("GROUNDSWELL_BRANCH")),
        ("pull_request", get("GROUNDSWELL_PULL_REQUEST")),
        ("build_url", get("GROUNDSWELL_BUILD_URL")),
    ];
    let all = of_server.into_iter().chain(named);
    all.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Labels of one server.
type Labels = Vec<(&'static str, Option<String>)>;

/// docs.github.com/actions/reference/variables-reference. The commit of a pull request is that of its trial merge.
fn github(get: Get<'_>) -> Option<Labels> {
    get("GITHUB_ACTIONS").filter(|on| on == "true")?;
    let reference = get("GITHUB_REF").unwrap_or_default();
    let pull_request = reference.strip_prefix("refs/pull/").and_then(|rest| rest.split('/').next());
    let branch = get("GITHUB_HEAD_REF").or_else(|| reference.strip_prefix("refs/heads/").map(str::to_owned));
    let url = || {
        let (server, repository) = (get("GITHUB_SERVER_URL")?, get("GITHUB_REPOSITORY")?);
        Some(format!("{server}/{repository}/actions/runs/{}", get("GITHUB_RUN_ID")?))
    };
    Some(vec![
        ("ci", Some("github".to_owned())),
        ("commit", get("GITHUB_SHA")),
        ("branch", branch),
        ("pull_request", pull_request.map(str::to_owned)),
        ("build_url", url()),
    ])
}

/// docs.gitlab.com/ci/variables/predefined_variables.
fn gitlab(get: Get<'_>) -> Option<Labels> {
    get("GITLAB_CI").filter(|on| on == "true")?;
    Some(vec![
        ("ci", Some("gitlab".to_owned())),
        ("commit", get("CI_COMMIT_SHA")),
        ("branch", get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME").or_else(|| get("CI_COMMIT_BRANCH"))),
        ("pull_request", get("CI_MERGE_REQUEST_IID")),
        ("build_url", get("CI_JOB_URL")),
    ])
}

/// jenkins.io/doc/book/pipeline/jenkinsfile, and the Git and Branch API plugins.
fn jenkins(get: Get<'_>) -> Option<Labels> {
    get("JENKINS_URL")?;
    Some(vec![
        ("ci", Some("jenkins".to_owned())),
        ("commit", get("GIT_COMMIT")),
        ("branch", get("CHANGE_BRANCH").or_else(|| get("BRANCH_NAME")).or_else(|| get("GIT_BRANCH"))),
        ("pull_request", get("CHANGE_ID")),
        ("build_url", get("BUILD_URL")),
    ])
}

/// circleci.com/docs/reference/variables.
fn circle(get: Get<'_>) -> Option<Labels> {
    get("CIRCLECI").filter(|on| on == "true")?;
    // A URL that ends with the number.
    let pull_request = get("CIRCLE_PULL_REQUEST").and_then(|url| url.rsplit('/').next().map(str::to_owned));
    Some(vec![
        ("ci", Some("circleci".to_owned())),
        ("commit", get("CIRCLE_SHA1")),
        ("branch", get("CIRCLE_BRANCH")),
        ("pull_request", pull_request),
        ("build_url", get("CIRCLE_BUILD_URL")),
    ])
}

/// buildkite.com/docs/pipelines/configure/environment-variables.
fn buildkite(get: Get<'_>) -> Option<Labels> {
    get("BUILDKITE").filter(|on| on == "true")?;
    Some(vec![
        ("ci", Some("buildkite".to_owned())),
        ("commit", get("BUILDKITE_COMMIT")),
        ("branch", get("BUILDKITE_BRANCH")),
        ("pull_request", get("BUILDKITE_PULL_REQUEST").filter(|number| number != "false")),
        ("build_url", get("BUILDKITE_BUILD_URL")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels_of(variables: &[(&str, &str)]) -> String {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        labels(&get).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_server_says_what_was_built() {
        let github = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SHA", "c0ffee"),
            ("GITHUB_REF", "refs/pull/12/merge"),
            ("GITHUB_HEAD_REF", "faster"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "a/b"),
            ("GITHUB_RUN_ID", "7"),
        ];
        let expected =
            "branch=faster build_url=https://github.com/a/b/actions/runs/7 ci=github commit=c0ffee pull_request=12";
        assert_eq!(labels_of(&github), expected);
        let push = [("GITHUB_ACTIONS", "true"), ("GITHUB_REF", "refs/heads/main")];
        assert_eq!(labels_of(&push), "branch=main ci=github");
        let gitlab = [
            ("GITLAB_CI", "true"),
            ("CI_COMMIT_SHA", "c0ffee"),
            ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "faster"),
            ("CI_MERGE_REQUEST_IID", "12"),
            ("CI_JOB_URL", "https://gitlab/j/7"),
        ];
        let expected = "branch=faster build_url=https://gitlab/j/7 ci=gitlab commit=c0ffee pull_request=12";
        assert_eq!(labels_of(&gitlab), expected);
        let jenkins = [
            ("JENKINS_URL", "https://j/"),
            ("GIT_COMMIT", "c0ffee"),
            ("BRANCH_NAME", "PR-12"),
            ("CHANGE_BRANCH", "faster"),
            ("CHANGE_ID", "12"),
            ("BUILD_URL", "https://j/7"),
        ];
        assert_eq!(labels_of(&jenkins), "branch=faster build_url=https://j/7 ci=jenkins commit=c0ffee pull_request=12");
        let circle = [
            ("CIRCLECI", "true"),
            ("CIRCLE_SHA1", "c0ffee"),
            ("CIRCLE_BRANCH", "faster"),
            ("CIRCLE_PULL_REQUEST", "https://github.com/a/b/pull/12"),
            ("CIRCLE_BUILD_URL", "https://c/7"),
        ];
        assert_eq!(labels_of(&circle), "branch=faster build_url=https://c/7 ci=circleci commit=c0ffee pull_request=12");
        let buildkite = [
            ("BUILDKITE", "true"),
            ("BUILDKITE_COMMIT", "c0ffee"),
            ("BUILDKITE_BRANCH", "main"),
            ("BUILDKITE_PULL_REQUEST", "false"),
        ];
        assert_eq!(labels_of(&buildkite), "branch=main ci=buildkite commit=c0ffee");
    }

    #[test]
    fn any_other_server_can_say_it_too() {
        assert_eq!(labels_of(&[("CI", "true")]), "");
        let named = [("GITLAB_CI", "true"), ("CI_COMMIT_SHA", "c0ffee"), ("GROUNDSWELL_COMMIT", "f00d")];
        assert_eq!(labels_of(&named), "ci=gitlab commit=f00d");
    }
}
