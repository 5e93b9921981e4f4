//! `groundswell certs`

use anyhow::Context;
use groundswell_access::{AccessFolder, Authority};

use super::access::{fingerprint, folder, kept};
use crate::args::{CertsAction, CertsArgs};
use crate::{Exit, Failure, Outcome, output};

pub(crate) fn run(args: &CertsArgs) -> Outcome {
    match &args.action {
        CertsAction::Init { access } => {
            let folder = folder(access)?;
            let authority = Authority::open(&folder).map_err(Failure::usage)?;
            output::note(&format!("the CA of {}; keep ca.key as you keep a password", folder.at().display()));
            output::print(&format!("sha256 {}\n", fingerprint(&authority)));
        }
        CertsAction::Agent { name, out, lifetime, access } => {
            let authority = Authority::open(&folder(access)?).map_err(Failure::usage)?;
            let identity = authority.issue_agent(name, *lifetime).map_err(Failure::usage)?;
            identity.save(out).map_err(Failure::usage)?;
            output::note(&format!(
                "certificate of agent {name}: groundswell agent --coordinator https://HOST:7710 --identity {}",
                out.display()
            ));
        }
        CertsAction::Ca { out, access } => {
            let folder = folder(access)?;
            Authority::open(&folder).map_err(Failure::usage)?;
            let file = folder.path("ca.pem");
            let pem = std::fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()));
            let pem = pem.map_err(Failure::usage)?;
            match out {
                Some(path) => std::fs::write(path, pem)
                    .with_context(|| format!("can't write {}", path.display()))
                    .map_err(Failure::usage)?,
                None => output::print(&pem),
            }
        }
        CertsAction::Revoke { name, access } => {
            let folder = folder(access)?;
            folder.revoke_agent(name).map_err(Failure::usage)?;
            output::note(&format!("certificates that agent {name} has by now count no more{}", kept(&folder)));
        }
        CertsAction::Revoked { access } => output::print(&revoked(&folder(access)?)?),
    }
    Ok(Exit::Success)
}

fn revoked(folder: &AccessFolder) -> Result<String, Failure> {
    let all = folder.revoked().map_err(Failure::usage)?;
    let lines = all.iter().map(|(name, revocation)| {
        format!("{name}: certificates issued until {}\n", super::access::moment(revocation.issued_until_s))
    });
    Ok(lines.collect())
}
