//! The command line in `deploy/`: arguments that it takes, variables that it reads.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use clap::{Command, CommandFactory, Parser};
use groundswell::args::Cli;

use crate::tools::deploy;

/// Variables that are read, but stand for no argument of everybody: what is secret is not for command lines.
const SECRET: [&str; 2] = ["GROUNDSWELL_TOKEN", "GROUNDSWELL_JOIN"];
/// Variables that the Compose file has for itself.
const OF_COMPOSE: [&str; 3] = ["GROUNDSWELL_IMAGE", "GROUNDSWELL_PORT", "GROUNDSWELL_PLANS"];

/// The command line takes these arguments.
///
/// # Errors
/// What it says of them.
pub(crate) fn accepted(arguments: &[String]) -> anyhow::Result<()> {
    let call = std::iter::once("groundswell").chain(arguments.iter().map(String::as_str));
    Cli::try_parse_from(call).map(drop).with_context(|| format!("groundswell {}", arguments.join(" ")))
}

/// A variable that the command in these arguments reads.
///
/// # Errors
/// When it reads none of this name.
pub(crate) fn reads(arguments: &[String], variable: &str) -> anyhow::Result<()> {
    let cli = Cli::command();
    let name = arguments.first().map_or("", String::as_str);
    let command = cli.find_subcommand(name).with_context(|| format!("there is no command {name:?}"))?;
    ensure!(variables(command).contains(variable), "groundswell {name} does not read {variable}");
    Ok(())
}

fn variables(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// Whatever is called like a variable of groundswell is one, in every file and guide.
pub(crate) fn every_variable_is_one() -> anyhow::Result<()> {
    let known = variables(&Cli::command());
    let named = regex::Regex::new(r"GROUNDSWELL_[A-Z_]*[A-Z]")?;
    let mut files = 0;
    for folder in [deploy(""), deploy("../docs/deploy")] {
        for file in files_of(&folder)? {
            // A picture or a binary that lies about is none of these files.
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            files += 1;
            for name in named.find_iter(&text).map(|found| found.as_str()) {
                let is_one = known.contains(name) || SECRET.contains(&name) || OF_COMPOSE.contains(&name);
                ensure!(is_one, "{}: nothing reads {name}", file.display());
            }
        }
    }
    ensure!(files > 20, "only {files} files were found");
    Ok(())
}

fn files_of(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        match path.is_dir() {
            true if path.ends_with("deploy/dist") => {}
            true => files.extend(files_of(&path)?),
            false => files.push(path),
        }
    }
    Ok(files)
}
