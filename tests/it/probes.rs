//! What those ask and say that start coordinators and agents: is it up, leave after a while, a token for whoever comes again.

use std::path::Path;

use anyhow::{Context, ensure};

use crate::harness::{Daemon, Groundswell, folder, own_port, serve};

/// The exit code of `groundswell health` with these arguments.
fn health(arguments: &[&str]) -> anyhow::Result<Option<i32>> {
    Ok(Groundswell::new([&["health"], arguments].concat()).finish()?.code)
}

/// 0 where it is up, 1 where it is not, over TLS too: with the CA that the coordinator has made, and with none of another.
pub(crate) fn health_is_an_exit_code() -> anyhow::Result<()> {
    let (_daemon, url) = serve()?;
    ensure!(health(&[&url])? == Some(0) && health(&["--ready", &url])? == Some(0), "one that is up");
    ensure!(health(&["http://127.0.0.1:1"])? == Some(1), "nobody is there");
    ensure!(health(&["nonsense"])? == Some(2), "no URL");

    let folder = folder()?;
    let data = folder.path().join("data").display().to_string();
    let access = folder.path().join("data/access").display().to_string();
    let listen = format!("127.0.0.1:{}", own_port()?);
    let arguments = ["serve", "--listen", &listen, "--data-dir", &data, "--access", &access];
    let mut guarded = Groundswell::new(arguments).start("serve")?;
    guarded.wait_for("coordinator listening on https://")?;
    let own = ["--listen", listen.as_str()];
    ensure!(health(&[&own[..], &["--data-dir", &data]].concat())? == Some(0), "as `serve` was told");
    ensure!(health(&[&own[..], &["--access", &access, "--ready"]].concat())? == Some(0), "as `serve` was told");
    let https = format!("https://{listen}");
    ensure!(health(&[&https, "--ca", &format!("{access}/ca.pem")])? == Some(0), "with its CA");
    ensure!(health(&[&https])? == Some(1), "with the authorities of this machine");
    ensure!(health(&own)? == Some(1), "without TLS");
    Ok(())
}

/// An agent whose time is over ends well.
pub(crate) fn agents_leave_after_their_time() -> anyhow::Result<()> {
    let (_coordinator, url) = serve()?;
    let arguments = ["-v", "agent", "--coordinator", &url, "--name", "a", "--workers", "1", "--leave-after", "2s"];
    let mut agent: Daemon = Groundswell::new(arguments).start("agent")?;
    agent.wait_for("joined")?;
    agent.wait_for("its time is over")?;
    ensure!(agent.wait()? == Some(0), "{}", agent.said());
    Ok(())
}

/// A script that runs again and again gets one token, until that is old.
pub(crate) fn a_token_is_kept_while_it_lasts() -> anyhow::Result<()> {
    let folder = folder()?;
    let access = folder.path().join("access").display().to_string();
    let file = folder.path().join("token");
    let create = |role: &str, time: &str| -> anyhow::Result<String> {
        let out = file.display().to_string();
        let arguments = ["tokens", "create", role, "--for", time, "--keep", "--out", &out, "--access", &access];
        let created = Groundswell::new(arguments).finish()?;
        ensure!(created.code == Some(0) && created.stdout.is_empty(), "{created:?}");
        read(&file)
    };
    let first = create("run", "1h")?;
    ensure!(create("run", "1h")? == first, "it was made again");
    ensure!(create("run", "30d")? != first, "it will not last for half of thirty days");
    ensure!(create("join", "1h")?.starts_with("gs.join."), "it is for another role");
    let listed = Groundswell::new(["tokens", "list", "--access", &access]).finish()?;
    ensure!(listed.stdout.lines().count() == 4, "three and the head: {listed:?}");
    let without = Groundswell::new(["tokens", "create", "run", "--keep", "--access", &access]).finish()?;
    ensure!(without.code == Some(2), "there is no file to keep: {without:?}");

    let shown = Groundswell::new(["certs", "ca", "--access", &access]).finish()?;
    ensure!(shown.stdout == read(&folder.path().join("access/ca.pem"))?, "{shown:?}");
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}
