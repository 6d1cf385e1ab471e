//! The guide of `examples/committee.md`, pasted into a shell word for word.
#![cfg(feature = "cli")]

mod etcd_room;
mod folder;
mod install;

use std::path::Path;
use std::process::Command;

use folder::Folder;

/// The shell blocks of the guide, in order; `kind` is what stands behind the backticks.
fn blocks(kind: &str) -> String {
    let guide = include_str!("../examples/committee.md");
    let opened = format!("```{kind}\n");
    let blocks = guide.split(&opened).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect()
}

#[test]
fn the_guide_leads_from_nothing_to_a_signature_over_a_log_server_and_over_etcd() {
    // Where etcd is missing, it is installed on the way.
    drop(etcd_room::Cluster::new(1));
    let folder = Folder::new();
    let bin = Path::new(env!("CARGO_BIN_EXE_dkg")).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let script = format!("set -eu\n{}\n{}", blocks("sh"), blocks("sh etcd"));
    assert!(script.contains("dkg verify") && script.contains("--log-etcd"));
    // Whatever goes wrong, no process stays behind.
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
    let output = Command::new("timeout")
        .args(["-k", "10", "400", "bash", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("everything is ready") && out.lines().any(|line| line == "valid"), "{out}\n{err}");
}
