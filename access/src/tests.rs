//! Certificates, tokens and revocations as a coordinator, its agents and people use them: TLS over memory.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, Error, ServerConnection};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn gate(at: &Path) -> Gate {
    Gate::open(at, &BTreeSet::from(["coordinator.test".to_owned()]), Vec::new()).unwrap()
}

fn new(role: Role) -> NewToken {
    NewToken { role, lifetime: HOUR, uses: None }
}

/// Shakes hands. Returns whose certificate the server sees.
fn handshake(gate: &Gate, trust: &Trust, agent: Option<&Identity>, name: &str) -> Result<Option<Subject>, Error> {
    let config = Arc::new(client_config(trust, agent).unwrap());
    let mut client = ClientConnection::new(config, name.to_owned().try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(gate.tls().unwrap()).unwrap();
    let mut wire = Vec::new();
    for _ in 0..4 {
        wire.clear();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(server.peer_certificates().map(|chain| Subject::of(&chain[0]).unwrap()))
}

#[test]
fn an_agent_joins_with_a_token_and_is_known_by_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(folder.path());
    let token = gate.create_token(NewToken { uses: Some(1), ..new(Role::Join) }).unwrap();
    let trust = Trust::Fingerprint(token.ca);
    assert_eq!(handshake(&gate, &trust, None, "coordinator.test").unwrap(), None);

    let request = Request::new().unwrap();
    let refused = gate.join(&token.text(), "a", "no request");
    assert!(refused.is_err(), "a request that is none uses nothing up");
    let issued = gate.join(&token.text(), "a", &request.pem).unwrap().unwrap();
    let agent = request.granted(&issued.certificate, &issued.ca).unwrap();
    let kept = folder.path().join("agent");
    agent.save(&kept).unwrap();
    let agent = Identity::load(&kept).unwrap().unwrap();
    let subject = handshake(&gate, &trust, Some(&agent), "coordinator.test").unwrap().unwrap();
    assert_eq!(subject.name, "a");
    assert_eq!(subject, agent.subject().unwrap());

    let again = gate.join(&token.text(), "b", &request.pem).unwrap();
    assert_eq!(again.unwrap_err(), Denied::Unknown, "one use is one");
}

#[test]
fn a_token_counts_as_soon_as_another_process_has_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(folder.path());
    let beside = AccessFolder::open(folder.path()).unwrap();
    let token = beside.create_token(new(Role::Run), gate.fingerprint()).unwrap();
    assert_eq!(gate.grant(&token.text()).unwrap().role, Role::Run);
    assert!(gate.grant(&Token::draw(Role::Run, gate.fingerprint()).text()).is_err());

    let has = |text: &str, role, lifetime| beside.has_token(text, role, lifetime).unwrap();
    assert!(has(&token.text(), Role::Run, HOUR / 2));
    assert!(!has(&token.text(), Role::Run, 2 * HOUR), "it ends earlier");
    assert!(!has(&token.text(), Role::Join, HOUR / 2), "another role");
    assert!(!has("nonsense", Role::Run, HOUR / 2));
    beside.revoke_token(&token.id).unwrap();
    assert!(!has(&token.text(), Role::Run, HOUR / 2));
}

#[test]
fn what_is_not_of_this_coordinator_is_refused_by_both() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (gate, other) = (gate(folder.path()), gate(other.path()));
    let trust = Trust::Fingerprint(gate.fingerprint());
    let of_other = other.authority().issue_agent("a", HOUR).unwrap();
    assert!(handshake(&gate, &trust, Some(&of_other), "coordinator.test").is_err(), "an agent of another CA");
    assert!(handshake(&other, &trust, None, "coordinator.test").is_err(), "a coordinator of another CA");
    assert!(handshake(&gate, &trust, None, "elsewhere.test").is_err(), "another name");
    let ca = std::fs::read_to_string(folder.path().join("ca.pem")).unwrap();
    assert!(handshake(&gate, &Trust::from_pem(&ca).unwrap(), None, "coordinator.test").is_ok());
    let expired = gate.authority().issue_agent("a", Duration::ZERO).unwrap();
    assert!(gate.is_revoked(&expired.subject().unwrap()), "expired, also where the session began earlier");
    // An agent can't pass itself off as the coordinator.
    let agent = gate.authority().issue_agent("coordinator.test", HOUR).unwrap();
    let mut posing = gate;
    posing.identity = agent;
    assert!(handshake(&posing, &trust, None, "coordinator.test").is_err());
}

#[test]
fn tokens_count_until_they_are_revoked_or_expire() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(folder.path());
    let token = gate.create_token(new(Role::Run)).unwrap();
    let expired = gate.create_token(NewToken { lifetime: Duration::ZERO, ..new(Role::Admin) }).unwrap();
    assert_eq!(gate.grant_for(&token.text(), Role::View).unwrap().by, token.id);
    let denied = gate.grant_for(&token.text(), Role::Admin).unwrap_err();
    assert_eq!(denied, Denied::Role { has: Role::Run, needs: Role::Admin });
    for wrong in [expired.text(), token.text().replace(".run.", ".admin."), Token::draw(Role::Run, token.ca).text()] {
        assert_eq!(gate.grant(&wrong), Err(Denied::Unknown));
    }
    // By another process.
    AccessFolder::open(folder.path()).unwrap().revoke_token(&token.id).unwrap();
    gate.reload().unwrap();
    assert_eq!(gate.grant(&token.text()), Err(Denied::Unknown));
    let file = std::fs::read_to_string(folder.path().join("tokens.json")).unwrap();
    assert!(!file.contains(token.text().split('.').nth(3).unwrap()), "no secret is kept");
}

#[test]
fn a_revoked_agent_comes_back_with_a_new_certificate_but_not_with_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(folder.path());
    let token = gate.create_token(NewToken { uses: Some(1), ..new(Role::Join) }).unwrap();
    let request = Request::new().unwrap();
    let subject = gate.authority().issue_agent("a", HOUR).unwrap().subject().unwrap();
    assert!(!gate.is_revoked(&subject));
    gate.folder().revoke_agent("a").unwrap();
    gate.reload().unwrap();
    assert!(gate.is_revoked(&subject));
    let later = Subject { issued_s: subject.issued_s + 2, ..subject.clone() };
    assert!(!gate.is_revoked(&later));
    assert!(!gate.is_revoked(&Subject { name: "b".to_owned(), ..subject }));
    let refused = gate.join(&token.text(), "a", &request.pem).unwrap();
    assert_eq!(refused.unwrap_err(), Denied::Revoked { name: "a".to_owned() });
    assert!(gate.join(&token.text(), "b", &request.pem).unwrap().is_ok(), "nothing was used up");
}

#[test]
fn a_passing_token_goes_with_its_gate() {
    let folder = tempfile::tempdir().unwrap();
    let passing = {
        let gate = gate(folder.path());
        let passing = gate.passing_token(Role::Run);
        let kept = gate.create_token(new(Role::View)).unwrap();
        gate.reload().unwrap();
        let grant = gate.grant(&passing.text()).unwrap();
        assert!(grant.role == Role::Run && gate.still_counts(&grant), "after a change of the others, too");
        assert!(gate.grant(&kept.text()).is_ok());
        passing
    };
    let again = gate(folder.path());
    assert_eq!(again.grant(&passing.text()), Err(Denied::Unknown));
    assert!(!std::fs::read_to_string(folder.path().join("tokens.json")).unwrap().contains(&passing.id));
}

#[test]
fn a_folder_without_tokens_that_count_is_not_one_without_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let first = gate(folder.path());
    assert!(!first.had_tokens());
    let token = first.create_token(new(Role::Admin)).unwrap();
    first.folder().revoke_token(&token.id).unwrap();
    let again = gate(folder.path());
    assert!(again.had_tokens() && !again.has_tokens());
}

#[test]
fn a_folder_is_private_and_stays_what_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("access");
    let first = gate(&folder).fingerprint();
    assert_eq!(gate(&folder).fingerprint(), first);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in ["ca.key", "coordinator.key"] {
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
    let kept = std::fs::read_to_string(folder.join("coordinator.pem")).unwrap();
    gate(&folder);
    assert_eq!(std::fs::read_to_string(folder.join("coordinator.pem")).unwrap(), kept);
    Gate::open(&folder, &BTreeSet::from(["10.0.0.7".to_owned()]), Vec::new()).unwrap();
    assert_ne!(std::fs::read_to_string(folder.join("coordinator.pem")).unwrap(), kept, "for another name");
    std::fs::remove_file(folder.join("ca.key")).unwrap();
    let Err(half) = Gate::open(&folder, &BTreeSet::new(), Vec::new()) else { panic!("half of a CA is none") };
    assert!(half.to_string().contains("ca.key"), "{half}");
}

#[test]
fn tokens_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "too short\n").unwrap();
    assert!(StaticToken::read(Role::Join, &path).is_err());
    std::fs::write(&path, "correct horse battery staple\n").unwrap();
    let token = StaticToken::read(Role::Join, &path).unwrap();
    let gate = Gate::open(&folder.path().join("access"), &BTreeSet::new(), vec![token]).unwrap();
    assert_eq!(gate.grant("correct horse battery staple").unwrap().role, Role::Join);
    assert_eq!(gate.grant("correct horse battery staplE"), Err(Denied::Unknown));
    let request = Request::new().unwrap();
    assert!(gate.join("correct horse battery staple", "a", &request.pem).unwrap().is_ok());
}
