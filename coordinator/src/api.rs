//! The JSON of the HTTP API, for both of its ends. `GET /api/v1/openapi.json` describes it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use groundswell_scenario::PlanSource;
use serde::{Deserialize, Serialize};

use crate::fleet::ALIVE;
use crate::report::{Frame, FrameStep, Summary};

/// Where the API lies.
pub const PREFIX: &str = "/api/v1";
/// Media type of an error (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";

/// A plan to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The plan.
    pub plan: PlanFiles,
    /// Agents to wait for; 0: all that are free, at least one.
    #[serde(default)]
    pub agents: u32,
    /// How long to wait for them, in seconds; with 0 they must be free now.
    #[serde(default = "default_wait_s")]
    pub wait_s: f64,
    /// Labels of the run, kept with it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Labels that an agent must have to take part.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// Chosen by the client: the same submission again is the same run. Without one, each is a run of its own.
    #[serde(default)]
    pub submission: Option<String>,
    /// Stop the run when nobody has followed it for ten seconds.
    #[serde(default)]
    pub attached: bool,
}

/// A minute, as `run --wait`.
fn default_wait_s() -> f64 {
    60.0
}

/// A plan's text with the files that it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFiles {
    /// Its file name, for diagnostics.
    #[serde(default = "default_name")]
    pub name: String,
    /// The YAML text.
    pub text: String,
    /// Data files by the path written in the plan.
    #[serde(default)]
    pub files: BTreeMap<String, File>,
    /// The level at which a plan with a search is to run.
    #[serde(default)]
    pub search_level: Option<f64>,
}

fn default_name() -> String {
    "plan.yaml".to_owned()
}

/// A data file of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum File {
    /// Its text.
    Text(String),
    /// Its bytes in base64.
    Base64(String),
    /// Why it could not be read.
    Problem(String),
}

/// A run was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its id.
    pub id: String,
    /// Did this submission make it? False where it came before.
    pub new: bool,
}

/// What a browser logs in with.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// A token of role view, run or admin.
    pub token: String,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Everybody who reaches this coordinator may do everything.
    pub open: bool,
    /// What who asks may do: `view`, `run` or `admin`; none for nothing.
    pub role: Option<String>,
}

/// An agent wants a certificate; the token to join stands in the header `Authorization: Bearer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Name of the agent.
    pub name: String,
    /// A request for a certificate (PKCS #10, PEM). Only its key counts.
    pub request: String,
}

/// The certificate of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The certificate (PEM).
    pub certificate: String,
    /// That of the CA that issued it (PEM).
    pub ca: String,
}

/// A run in a list, or alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// Its id.
    pub id: String,
    /// Name of the plan.
    pub name: String,
    /// One word: waiting, arming, checking, starting, running, draining, finished, or `unfinished` where it was broken off.
    pub state: String,
    /// What it waits for; empty where it waits for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Hash of plan and data.
    pub plan_hash: String,
    /// When it was submitted, RFC 3339 in UTC.
    pub submitted_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// What a command that ran it exits with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Figures of its report; none without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Why there is no report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its name.
    pub name: String,
    /// One word: free, at_work, away, leaving.
    pub state: String,
    /// The run that it works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its part of a load in relation to the other agents'.
    pub weight: u32,
    /// Worker threads.
    pub workers: u32,
    /// Version of groundswell.
    pub version: String,
    /// Since it was last heard, in seconds.
    pub heard_s_ago: f64,
    /// Most operations a second of open loads that it takes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate_per_s: Option<f64>,
    /// Most users that it takes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_users: Option<u32>,
}

impl AgentStatus {
    /// Whether it is there, so that another one of its name is a mistake or no friend.
    pub fn is_alive(&self) -> bool {
        self.state != "away" && self.heard_s_ago < ALIVE.as_secs_f64()
    }
}

/// First event of a run's stream: what the others are about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// The run's id.
    pub id: String,
    /// Name of the plan.
    pub name: String,
    /// Base URL of the target.
    pub target: String,
    /// Labels of the run.
    pub labels: BTreeMap<String, String>,
    /// Which step each number in a frame stands for.
    pub steps: Vec<FrameStep>,
}

/// Figures over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frames {
    /// Length of every interval in seconds. Where it has grown, earlier frames are void.
    pub length_s: u64,
    /// Are these all frames? Otherwise each takes the place of the one with the same start.
    pub whole: bool,
    /// The frames.
    pub frames: Vec<Frame>,
}

/// Last event of a run's stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// What a command that ran it exits with.
    pub exit_code: i32,
    /// Why there is no report; none where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An error (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: the status says the kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status code.
    pub status: u16,
    /// What, where, and what to do.
    pub detail: String,
}

impl Submission {
    /// How long to wait for agents.
    pub fn wait(&self) -> Duration {
        Duration::try_from_secs_f64(self.wait_s).unwrap_or(Duration::ZERO)
    }
}

impl From<&PlanSource> for PlanFiles {
    fn from(source: &PlanSource) -> Self {
        let file = |content: &Result<Vec<u8>, String>| match content {
            Ok(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => File::Text(text.to_owned()),
                Err(_) => File::Base64(BASE64.encode(bytes)),
            },
            Err(problem) => File::Problem(problem.clone()),
        };
        PlanFiles {
            name: source.name.clone(),
            text: source.text.clone(),
            files: source.files.iter().map(|(name, content)| (name.clone(), file(content))).collect(),
            search_level: source.search_level,
        }
    }
}

impl TryFrom<PlanFiles> for PlanSource {
    type Error = String;

    /// Names the file whose base64 is none.
    fn try_from(plan: PlanFiles) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        for (name, file) in plan.files {
            let content = match file {
                File::Text(text) => Ok(text.into_bytes()),
                File::Base64(text) => Ok(BASE64.decode(text).map_err(|error| format!("plan.files.{name}: {error}"))?),
                File::Problem(problem) => Err(problem),
            };
            files.insert(name, content);
        }
        Ok(PlanSource { name: plan.name, text: plan.text, files, search_level: plan.search_level })
    }
}
