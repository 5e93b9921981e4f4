//! `groundswell tokens`

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use groundswell_access::{AccessFolder, Authority, NewToken};

use super::access::{folder, kept, moment};
use crate::args::{TokensAction, TokensArgs};
use crate::{Exit, Failure, Outcome, output};

pub(crate) fn run(args: &TokensArgs) -> Outcome {
    match &args.action {
        TokensAction::Create { role, lifetime, uses, out, keep, access } => {
            let folder = folder(access)?;
            if let Some(path) = out.as_ref().filter(|_| *keep) {
                // A file that is not there has no token.
                let there = std::fs::read_to_string(path).unwrap_or_default();
                if folder.has_token(&there, *role, *lifetime / 2).map_err(Failure::usage)? {
                    return Ok(Exit::Success);
                }
            }
            let authority = Authority::open(&folder).map_err(Failure::usage)?;
            let new = NewToken { role: *role, lifetime: *lifetime, uses: *uses };
            let token = folder.create_token(new, authority.fingerprint()).map_err(Failure::usage)?;
            match out {
                Some(path) => write(path, &token.text()).map_err(Failure::usage)?,
                None => output::print(&format!("{}\n", token.text())),
            }
        }
        TokensAction::List { access } => output::print(&list(&folder(access)?)?),
        TokensAction::Revoke { id, access } => {
            let folder = folder(access)?;
            folder.revoke_token(id).map_err(Failure::usage)?;
            output::note(&format!("token {id} counts no more{}", kept(&folder)));
        }
    }
    Ok(Exit::Success)
}

fn write(path: &Path, token: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{token}"));
    written.with_context(|| format!("can't write {}", path.display()))
}

fn list(folder: &AccessFolder) -> Result<String, Failure> {
    let mut table = output::plain_table(&["id", "role", "until (UTC)", "joins left"]);
    for entry in folder.tokens().map_err(Failure::usage)? {
        let until = if entry.counts() { moment(entry.expires_s) } else { "counts no more".to_owned() };
        let left = entry.uses_left.map_or_else(|| "any number".to_owned(), |left| left.to_string());
        table.add_row([entry.id.clone(), entry.role.name().to_owned(), until, left]);
    }
    Ok(format!("{table}\n"))
}
