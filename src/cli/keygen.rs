//! `dkg keygen`: a new member's keys.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use dkg_engine::address::Address;
use dkg_engine::chain::log::MemberFile;
use dkg_engine::committee::NodeId;
use dkg_engine::hex;
use dkg_engine::node::identity::Identity;
use dkg_engine::store::SecretAccess;
use dkg_engine::store::seal::create_key_file;

use super::outcome::{Failure, conclude, write_json, wrong, wrong_with};
use super::secrets::{Source, VARIABLE};

/// Make a new member's keys: a sealed file for the member, and a public part for the committee file.
#[derive(Args)]
pub(super) struct Options {
    /// The file for the private keys, sealed; there must not be one yet.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,

    /// Where the other members reach this one: host:port.
    #[arg(long, value_name = "HOST:PORT")]
    address: Address,

    /// The member's node id, 64 hex digits, if it has one already; else it is derived from the new keys.
    #[arg(long, value_name = "HEX")]
    node_id: Option<NodeId>,

    /// Seal the private keys with this key file, and make it if there is none. Keep a copy of it elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    key_file: Option<PathBuf>,

    /// Seal them with the passphrase in this file. Without either, the environment variable DKG_PASSPHRASE counts; without
    /// that, the terminal is asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// Write the public part to this file, and not to stdout; there must not be one yet.
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

/// A member's public part.
#[derive(Serialize)]
struct Made {
    identity: String,
    public: Option<String>,
    node_id: String,
    staking_key: String,
    staking_key_proof: String,
    network_key: String,
    address: String,
}

/// Runs the command.
pub(super) fn run(options: &Options) -> ExitCode {
    conclude(options.run())
}

impl Options {
    fn run(&self) -> Result<bool, Failure> {
        let generated = Identity::generate(self.node_id).map_err(wrong)?;
        let member = generated.public(Some(self.address.clone()));
        let text = member.text();
        if let Some(public) = self.public.as_deref().filter(|public| public.exists()) {
            return Err(wrong_with(public)(&"there is a file already, and it is not overwritten"));
        }
        if let Some(key_file) = self.key_file.as_deref().filter(|file| !file.exists()) {
            create_key_file(key_file).map_err(wrong)?;
        }
        let source = Source {
            of: "the new member's keys",
            key_file: self.key_file.as_deref(),
            passphrase_file: self.passphrase_file.as_deref(),
            variable: VARIABLE,
            options: "--key-file or --passphrase-file",
            access: SecretAccess::Owner,
            is_new: true,
        };
        generated.create(&self.identity, &source.unlock()?).map_err(wrong)?;
        if let Some(public) = &self.public {
            write_new(public, &text).map_err(|error| wrong_with(public)(&error))?;
        }
        self.tell(&member, &text).map_err(wrong)?;
        Ok(true)
    }

    fn tell(&self, member: &MemberFile, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            return write_json(
                &mut out,
                &Made {
                    identity: self.identity.display().to_string(),
                    public: self.public.as_ref().map(|public| public.display().to_string()),
                    node_id: member.node_id.to_string(),
                    staking_key: hex::encode(&member.staking_key.to_flow_bytes()),
                    staking_key_proof: hex::encode(&member.staking_key_proof.to_bytes()),
                    network_key: hex::encode(member.network_key.as_bytes()),
                    address: self.address.to_string(),
                },
            );
        }
        match &self.public {
            None => out.write_all(text.as_bytes()),
            Some(public) => writeln!(out, "{}  {}", member.node_id, public.display()),
        }
    }
}

/// Writes a file that is not there yet.
pub(super) fn write_new(file: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
