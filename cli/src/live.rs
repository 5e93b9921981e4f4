//! What is shown while a run goes on: a live view on a terminal, plain lines elsewhere. Both go to stderr.

use std::io::IsTerminal;
use std::time::Duration;

use groundswell_coordinator::report::format;
use groundswell_coordinator::run::{AgentProgress, Progress};
use groundswell_scenario::Plan;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::output;

/// Agents that have a line of their own in the live view.
const AGENT_LINES: usize = 8;
/// A plain line so often while the state stays the same.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Shows the progress of one run.
pub(crate) enum Live {
    /// On a terminal.
    Terminal(Box<Panel>),
    /// Elsewhere.
    Plain(Plain),
}

impl Live {
    pub(crate) fn new(plan: &Plan, plain: bool) -> Self {
        if plain || !std::io::stderr().is_terminal() {
            return Live::Plain(Plain { last_state: String::new(), last_line: None });
        }
        Live::Terminal(Box::new(Panel::new(plan)))
    }

    pub(crate) fn show(&mut self, progress: &Progress) {
        match self {
            Live::Terminal(panel) => panel.show(progress),
            Live::Plain(plain) => plain.show(progress),
        }
    }

    pub(crate) fn say(&self, text: &str) {
        match self {
            Live::Terminal(panel) => {
                // A terminal that can't be written to is no reason to end the run.
                let _ = panel.all.println(text);
            }
            Live::Plain(_) => output::note(text),
        }
    }

    /// Takes the live view off the screen; the report follows.
    pub(crate) fn end(&self) {
        if let Live::Terminal(panel) = self {
            let _ = panel.all.clear();
        }
    }
}

/// The live view.
pub(crate) struct Panel {
    all: MultiProgress,
    time: ProgressBar,
    load: ProgressBar,
    latency: ProgressBar,
    agents: ProgressBar,
}

impl Panel {
    fn new(plan: &Plan) -> Self {
        let all = MultiProgress::new();
        let line = |template: &str| {
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            all.add(ProgressBar::new(1).with_style(style.progress_chars("━╸─")))
        };
        let time = line("{prefix:.bold} {bar:40.cyan/dim} {msg}");
        time.set_prefix(plan.name.clone());
        Panel { load: line("  {msg}"), latency: line("  {msg}"), agents: line("  {msg}"), time, all }
    }

    fn show(&mut self, progress: &Progress) {
        let planned_ms = millis(progress.planned_s.unwrap_or(0.0));
        self.time.set_length(planned_ms.max(1));
        self.time.set_position(millis(progress.elapsed_s).min(planned_ms));
        self.time.set_message(clock_and_state(progress));
        self.load.set_message(load(progress));
        self.latency.set_message(latency(progress));
        let lines: Vec<String> = progress.agents.iter().take(AGENT_LINES).map(agent).collect();
        let more = progress.agents.len().saturating_sub(AGENT_LINES);
        let more = if more > 0 { format!("\n  and {more} more agents") } else { String::new() };
        self.agents.set_message(format!("{}{more}", lines.join("\n  ")));
    }
}

/// Plain lines.
pub(crate) struct Plain {
    last_state: String,
    last_line: Option<Instant>,
}

impl Plain {
    fn show(&mut self, progress: &Progress) {
        let due = self.last_line.is_none_or(|last| last.elapsed() >= PLAIN_EVERY);
        if progress.state == self.last_state && !due {
            return;
        }
        self.last_state.clone_from(&progress.state);
        self.last_line = Some(Instant::now());
        let lost: Vec<&str> =
            progress.agents.iter().filter(|agent| agent.state == "lost").map(|agent| &*agent.name).collect();
        let lost = if lost.is_empty() { String::new() } else { format!("  lost: {}", lost.join(", ")) };
        let line = if progress.issued == 0 {
            clock_and_state(progress)
        } else {
            format!("{}  {}  {}{lost}", clock_and_state(progress), load(progress), latency(progress))
        };
        output::note(&line);
    }
}

fn clock_and_state(progress: &Progress) -> String {
    let elapsed = seconds(progress.elapsed_s);
    let clock = match progress.planned_s {
        None => elapsed,
        Some(planned) => format!("{elapsed} of {}", seconds(planned)),
    };
    let detail = if progress.detail.is_empty() { String::new() } else { format!(" ({})", progress.detail) };
    format!("{clock} {}{detail}", progress.state)
}

fn load(progress: &Progress) -> String {
    let wanted = match progress.wanted_per_s {
        wanted if wanted > 0.0 => format!(" ({} arrivals wanted)", format::rate(wanted)),
        _ => String::new(),
    };
    format!(
        "{}{wanted}  {} users  {} ok  {} failed",
        format::rate(progress.rate_per_s),
        progress.users,
        format::count(progress.ok),
        format::count(progress.failed)
    )
}

fn latency(progress: &Progress) -> String {
    let figure = |ms: Option<f64>| format::millis(ms.unwrap_or(0.0));
    let response = &progress.response_ms;
    format!("p50 {}  p95 {}  p99 {}", figure(response.p50), figure(response.p95), figure(response.p99))
}

fn agent(agent: &AgentProgress) -> String {
    let issued = format::count(agent.issued);
    format!("{}  {}  {issued} issued  CPU {:.0} %", agent.name, agent.state, agent.cpu * 100.0)
}

fn seconds(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1e3) as u64
}
