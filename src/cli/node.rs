//! `dkg node`: one member, until it is told to stop.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde::Serialize;

use dkg_engine::node::{MetricsSource, Node, NodeConfig, Web, declare_sole_owner, record};
use dkg_engine::store::Unlock;

use super::outcome::{Failure, conclude, configuration, write_json, wrong};
use super::secrets::{Source, VARIABLE};
use super::signals::stop_flag;

/// How often a running node looks whether somebody wants it to stop.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// Run one member of a committee. SIGTERM and SIGINT stop it.
#[derive(Args)]
pub(super) struct Options {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Make the node's data, in a folder that is not there or is empty: for the first start of a node, and for no other.
    #[arg(long)]
    create: bool,

    /// This node is the only one of its member: for a node that was held because its member ran twice, once the other one has been
    /// stopped for good. For that one start, and for no other.
    #[arg(long)]
    sole_owner: bool,

    /// Print one JSON object on stdout when the node listens, and nothing else.
    #[arg(long)]
    json: bool,
}

/// What is told of a node that listens.
#[derive(Serialize)]
struct Listening {
    node_id: String,
    index: u8,
    chain_id: String,
    committee: String,
    /// Where the other members reach it.
    peers: String,
    /// Where its page is.
    status: Option<String>,
}

/// Runs the command.
pub(super) fn run(options: &Options) -> ExitCode {
    conclude(options.run())
}

/// What opens a node's identity and its store.
pub(super) fn unlock(config: &NodeConfig) -> Result<Unlock, Failure> {
    let source = Source {
        of: "this node's keys",
        key_file: config.key_file.as_deref(),
        passphrase_file: config.passphrase_file.as_deref(),
        variable: VARIABLE,
        options: "key_file or passphrase_file in its configuration",
        access: config.secrets,
        is_new: false,
    };
    source.unlock()
}

impl Options {
    fn run(&self) -> Result<bool, Failure> {
        let config = configuration(&self.config)?;
        let stop = stop_flag()?;
        let metrics = metrics()?;
        if self.sole_owner {
            declare_sole_owner(&config.data).map_err(wrong)?;
        }
        let node = Node::start(&config, &unlock(&config)?, self.create).map_err(wrong)?;
        let serve = |listen| {
            let web = Web::start(listen, &config.status_names, node.status_source(), Some(metrics));
            web.map_err(|error| Failure::Wrong(format!("the status address {listen}: {error}")))
        };
        let web = config.status.map(serve).transpose()?;
        self.tell(&node, web.as_ref()).map_err(wrong)?;
        let ended = node.ended();
        while ended.wait_timeout(LOOK_AROUND).is_none() && !stop.load(Ordering::SeqCst) {}
        drop(web);
        node.stop().map_err(wrong)?;
        Ok(true)
    }

    fn tell(&self, node: &Node, web: Option<&Web>) -> io::Result<()> {
        let status = node.status();
        let listening = Listening {
            index: status.index.byte(),
            chain_id: status.chain.chain_id,
            committee: status.chain.committee,
            node_id: status.node_id,
            peers: node.address().to_string(),
            status: web.map(|web| format!("http://{}/", web.address())),
        };
        let mut out = io::stdout().lock();
        if self.json {
            write_json(&mut out, &listening)?;
        } else {
            let Listening { node_id, index, chain_id, committee, peers, status } = &listening;
            writeln!(out, "chain      {chain_id}, committee file {committee}")?;
            writeln!(out, "member     {index}, {node_id}")?;
            writeln!(out, "listening  for the other members at {peers}")?;
            if let Some(status) = status {
                writeln!(out, "status     {status}")?;
            }
        }
        out.flush()
    }
}

/// The recorder of this process, as a way to what it has recorded.
fn metrics() -> Result<MetricsSource, Failure> {
    let handle = PrometheusBuilder::new().install_recorder().map_err(wrong)?;
    Ok(Arc::new(move |status| {
        record(status);
        handle.run_upkeep();
        handle.render()
    }))
}
