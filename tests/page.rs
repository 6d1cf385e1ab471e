//! The page that nodes and log servers show, in a real browser: headless Chromium, which the test installs itself where it is
//! missing.
#![cfg(feature = "cli")]

mod folder;
mod install;
mod process_room;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use dkg_engine::node::{PhaseName, Status};
use folder::Folder;
use install::install;
use process_room::*;
use serde_json::Value;

/// What a reader sees some time after opening the page: its text, and its HTML.
fn open(url: &str) -> (String, String) {
    install("chromium", "chromium");
    let folder = Folder::new();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .args(["--virtual-time-budget=4000", "--dump-dom", url])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let html = String::from_utf8(output.stdout).unwrap();
    let body = html.split("<script>").next().unwrap_or_default();
    let (mut text, mut in_tag) = (String::new(), false);
    for c in body.split("</style>").nth(1).unwrap_or_default().chars() {
        match c {
            '<' => in_tag = true,
            '>' => (in_tag, text) = (false, text + " "),
            c if !in_tag => text.push(c),
            _ => {}
        }
    }
    (text.split_whitespace().collect::<Vec<_>>().join(" "), html)
}

#[track_caller]
fn assert_shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{part}' is not on the page: {text}");
    }
}

#[test]
fn a_node_and_a_log_server_show_the_phase_who_is_missing_and_how_the_keys_are() {
    // Slow enough for a browser to be opened within a phase.
    let pace = Pace { view_ms: 200, setup: 5, phase: 100, epoch: 330 };
    let mut committee = Committee::new(4, pace, Log::Http, 3);
    committee.start_log();
    let up = [0, 1, 2];
    up.iter().for_each(|member| committee.start(*member));
    let missing = committee.index(3);
    let all_but_one = |status: &Status| {
        let dealt = status.chain.epoch.phase == PhaseName::Sharing && status.chain.run.missing.len() == 1;
        dealt && status.seen.iter().filter(|seen| seen.is_down).count() == 1
    };
    committee.wait_until("the others' dealing", &up, all_but_one);
    let (node, _) = open(&format!("http://{}:7080/", committee.ip(0)));
    let me = committee.index(0);
    assert_shows(
        &node,
        &[
            "processes",
            "DEGRADED",
            &format!("not heard of: member {missing} for"),
            &format!("start member {missing}, or see"),
            &format!("member {me}, committee file"),
            "Epoch 0: sharing",
            "next, epoch 1: pending",
            &format!("1 member has not dealt: {missing} ("),
            "This node is taking part.",
            "Members: 4, of which up to 1 may fail",
            &format!("{me} (this node)"),
            "run started",
        ],
    );
    let (server, _) = open(&format!("http://{}/", committee.server_address()));
    assert_shows(&server, &["log server, committee file", "sharing", &format!("1 member has not dealt: {missing} (")]);
    assert!(!server.contains("This node"), "{server}");

    committee.kill_log();
    committee.wait_until("the trouble", &[0], |status| status.log.reading.is_some());
    let (node, _) = open(&format!("http://{}:7080/", committee.ip(0)));
    assert_shows(&node, &["the log cannot be used just now"]);
}

/// A server of the page with this status; and what it was asked for.
fn serve(json: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (json, noted) = (json.clone(), Arc::clone(&noted));
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let Some(path) = lines.next().and_then(|line| Some(line.split(' ').nth(1)?.to_owned())) else { return };
                // To the end of the head.
                let _ = lines.take_while(|line| !line.is_empty()).count();
                noted.lock().unwrap().push(path.clone());
                let (kind, body) = match path.as_str() {
                    "/" => ("text/html; charset=utf-8", include_str!("../src/page.html").to_owned()),
                    "/status.json" => ("application/json", json),
                    _ => ("text/plain", String::new()),
                };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
                let _ = write!(stream, "{head}Connection: close\r\n\r\n{body}");
            });
        }
    });
    (url, asked)
}

/// A status, as a node that has just started gives it.
fn status() -> Value {
    let mut committee = Committee::new(3, Pace::BRISK, Log::Http, 600);
    committee.start(0);
    serde_json::to_value(committee.status(0).unwrap()).unwrap()
}

#[test]
fn what_is_hostile_in_a_status_stays_text_and_the_page_asks_for_nothing_else() {
    const HOSTILE: &str =
        "<img src=x onerror=\"document.title='broken'\"></script><script>document.title='broken'</script>";
    let mut status = status();
    status["verdict"] = serde_json::json!({
        "level": HOSTILE,
        "findings": [{ "level": HOSTILE, "about": HOSTILE, "what": HOSTILE, "to_do": HOSTILE }],
    });
    status["chain_id"] = HOSTILE.into();
    status["members"][1]["address"] = HOSTILE.into();
    status["members"][1]["node_id"] = HOSTILE.into();
    status["events"] = serde_json::json!([{ "at_ms": 1, "what": HOSTILE }]);
    status["keys"] =
        serde_json::json!({ "current": { "epoch": 0, "status": "missing", "reason": HOSTILE }, "next": null });
    let (url, asked) = serve(status.to_string());
    let (text, html) = open(&url);
    assert_shows(&text, &["now, epoch 0: missing", "&lt;img src=x onerror="]);
    let drawn = html.split("<script>").next().unwrap();
    assert!(!drawn.contains("<img") && !html.contains("<title>broken"), "{html}");
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["/", "/status.json"]);
}

#[test]
fn a_page_whose_server_makes_no_sense_says_so() {
    let (url, _) = serve("{ this is no status".to_owned());
    let (text, _) = open(&url);
    assert_shows(&text, &["No answer since"]);
}
