//! `dkg sign`, `dkg combine`, `dkg verify`: threshold signatures from several members' shares, offline.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde::Serialize;
use serde::de::DeserializeOwned;

use dkg_engine::bls::{PublicKey, RANDOM_BEACON_TAG};
use dkg_engine::hex;
use dkg_engine::node::signing::{
    GroupSignature, MAX_MESSAGE_BYTES, PublicResult, RefusedShare, SignatureShare, SigningError, combine, verify,
};
use dkg_engine::node::{AdminError, Answer, FileKind, Request, Status, admin_socket, ask, state_at_rest};

use super::node::unlock;
use super::outcome::{Failure, conclude, configuration, instead, write_json, wrong, wrong_with};

/// The most bytes of a JSON file that is read: the status of a large committee.
const MAX_JSON_BYTES: u64 = 4 << 20;

/// How much of another message is shown.
const SHOWN_CHARACTERS: usize = 40;

/// What is signed.
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["message", "message_hex", "message_file"])))]
struct Message {
    /// The message, as text.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    message: Option<String>,

    /// The message, in hex.
    #[arg(long, value_name = "HEX")]
    message_hex: Option<String>,

    /// The file with the message.
    #[arg(long, value_name = "FILE")]
    message_file: Option<PathBuf>,

    /// The domain tag that sets this use of the key apart from others.
    #[arg(long, value_name = "TAG", default_value_t = RANDOM_BEACON_TAG.as_str().to_owned())]
    tag: String,
}

impl Message {
    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let bytes = match (&self.message, &self.message_hex, &self.message_file) {
            (Some(text), ..) => text.clone().into_bytes(),
            (_, Some(digits), _) => {
                let hint = if digits.starts_with("0x") { ": leave the 0x out" } else { "" };
                hex::decode(digits).ok_or_else(|| Failure::Usage(format!("--message-hex is not in hex{hint}")))?
            }
            (.., Some(file)) => {
                let bytes = read(file, MAX_MESSAGE_BYTES as u64)?;
                if bytes.ends_with(b"\n") {
                    eprintln!("note: {} ends in a newline, which belongs to the message", file.display());
                }
                bytes
            }
            _ => Vec::new(),
        };
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(wrong(SigningError::TooLong(bytes.len())));
        }
        Ok(bytes)
    }

    /// What a signature says it is of that is not what was asked about.
    fn differences(&self, message: &[u8], signed: &GroupSignature) -> Vec<String> {
        let mut differs = Vec::new();
        if signed.tag != self.tag {
            differs.push(format!("it was made under the tag {:?}, not {:?}", signed.tag, self.tag));
        }
        let of = hex::decode(&signed.message).unwrap_or_default();
        if of != message {
            differs.push(format!("it is of another message: {}", shown(&of)));
        }
        differs
    }
}

/// Sign with this member's share: through its node if that runs, else from its store. Prints the share as one JSON object.
#[derive(Args)]
pub(super) struct SignOptions {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// The epoch whose key signs.
    #[arg(long, value_name = "EPOCH")]
    epoch: u64,

    #[command(flatten)]
    message: Message,
}

/// Combine shares of one signature. Prints the signature as one JSON object. The shares are checked only if what they make
/// does not verify; then the bad ones are named, and the others combined.
#[derive(Args)]
pub(super) struct CombineOptions {
    /// The shares, as `dkg sign` prints them, one a file.
    #[arg(value_name = "SHARE.json", required = true)]
    shares: Vec<PathBuf>,

    /// What `dkg status --json` prints on any node, or the one of its `results` that is about the epoch.
    #[arg(long, value_name = "FILE")]
    result: PathBuf,

    #[command(flatten)]
    message: Message,
}

/// Verify a signature under a group public key. Exit codes: 0 if it is valid, 1 if not.
#[derive(Args)]
#[command(group(ArgGroup::new("key").required(true).args(["group_key", "result"])))]
#[command(group(ArgGroup::new("signed").required(true).args(["file", "signature"])))]
pub(super) struct VerifyOptions {
    /// The signature, as `dkg combine` prints it.
    #[arg(value_name = "SIGNATURE.json")]
    file: Option<PathBuf>,

    /// The signature, 96 hex digits.
    #[arg(long, value_name = "HEX", requires = "group_key")]
    signature: Option<String>,

    /// The group public key in the usual encoding, 192 hex digits.
    #[arg(long, value_name = "HEX")]
    group_key: Option<String>,

    /// Take the group public key of the signature's epoch from what `dkg status --json` prints.
    #[arg(long, value_name = "FILE", requires = "file")]
    result: Option<PathBuf>,

    #[command(flatten)]
    message: Message,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Verified {
    valid: bool,
    /// Why it is not, where that can be told.
    why: Vec<String>,
}

/// Runs `dkg sign`.
pub(super) fn sign(options: &SignOptions) -> ExitCode {
    conclude(options.run())
}

/// Runs `dkg combine`.
pub(super) fn run_combine(options: &CombineOptions) -> ExitCode {
    conclude(options.run())
}

/// Runs `dkg verify`.
pub(super) fn run_verify(options: &VerifyOptions) -> ExitCode {
    conclude(options.run())
}

impl SignOptions {
    fn run(&self) -> Result<bool, Failure> {
        let config = configuration(&self.config)?;
        let (message, tag) = (self.message.bytes()?, self.message.tag.clone());
        let request = Request::Sign { epoch: self.epoch, message: hex::encode(&message), tag: tag.clone() };
        let answer = match ask(&admin_socket(&config.data), &request) {
            Err(AdminError::NotRunning(_)) => {
                let (chain_id, state) = state_at_rest(&config, &unlock(&config)?).map_err(wrong)?;
                let share = SignatureShare::sign(&state, &chain_id, self.epoch, None, &message, &tag).map_err(wrong)?;
                Answer::Signed(Box::new(share))
            }
            answer => answer.map_err(wrong)?,
        };
        match answer {
            Answer::Signed(share) => write_json(&mut io::stdout().lock(), &*share).map_err(wrong)?,
            Answer::Refused(reason) => return Err(Failure::Wrong(reason)),
            _ => return Err(Failure::Wrong("the node has answered something else".to_owned())),
        }
        Ok(true)
    }
}

impl CombineOptions {
    fn run(&self) -> Result<bool, Failure> {
        let shares: Vec<SignatureShare> =
            self.shares.iter().map(|file| read_json(file, FileKind::SignatureShare)).collect::<Result<_, _>>()?;
        let epoch = shares.first().map(|share| share.epoch).unwrap_or_default();
        let result = result_of(&self.result, epoch)?;
        let message = self.message.bytes()?;
        let combined = combine(&result, &message, &self.message.tag, &shares);
        if let Ok(GroupSignature { refused, .. }) | Err(SigningError::TooFew { refused, .. }) = &combined {
            for RefusedShare { share, index, reason } in refused {
                eprintln!("warning: {}: the share of member {index} {reason}", self.shares[*share].display());
            }
        }
        let signature = combined.map_err(wrong)?;
        write_json(&mut io::stdout().lock(), &signature).map_err(wrong)?;
        Ok(true)
    }
}

impl VerifyOptions {
    fn run(&self) -> Result<bool, Failure> {
        let usage = |what: &str| Failure::Usage(what.to_owned());
        let signed: Option<GroupSignature> =
            self.file.as_deref().map(|file| read_json(file, FileKind::Signature)).transpose()?;
        let result = match (&self.result, &signed) {
            (Some(file), Some(signed)) => Some(result_of(file, signed.epoch)?.group_public_key),
            _ => self.group_key.clone(),
        };
        let key = hex::decode(&result.unwrap_or_default());
        let in_flows_order = key.as_deref().is_some_and(|bytes| PublicKey::from_flow_bytes(bytes).is_ok());
        let key = key.and_then(|bytes| PublicKey::from_standard_bytes(&bytes).ok());
        let key = key.ok_or_else(|| match in_flows_order {
            true => usage("--group-key is in the order of Flow (group_public_key_flow); give it as group_public_key"),
            false => usage("--group-key is not a public key of 192 hex digits"),
        })?;
        let message = self.message.bytes()?;
        let differs = signed.as_ref().map(|signed| self.message.differences(&message, signed)).unwrap_or_default();
        let signature = signed.map(|signed| signed.signature).or(self.signature.clone()).unwrap_or_default();
        let signature = hex::decode(&signature).filter(|bytes| bytes.len() == 48);
        let signature = signature.ok_or_else(|| usage("the signature is not 96 hex digits"))?;
        let valid = verify(&key, &message, &self.message.tag, &signature);
        let mut why = if valid { Vec::new() } else { differs };
        if !valid
            && let Some(message) = message.strip_suffix(b"\n")
            && verify(&key, message, &self.message.tag, &signature)
        {
            why.push("it is valid for the message without the newline at its end".to_owned());
        }
        let mut out = io::stdout().lock();
        let written = if self.json {
            write_json(&mut out, &Verified { valid, why })
        } else if valid {
            writeln!(out, "valid")
        } else {
            why.insert(0, "NOT valid".to_owned());
            writeln!(out, "{}", why.join("; "))
        };
        written.map_err(wrong)?;
        Ok(valid)
    }
}

/// The public keys of this epoch: from a status, or by themselves.
fn result_of(file: &Path, epoch: u64) -> Result<PublicResult, Failure> {
    let bytes = read(file, MAX_JSON_BYTES)?;
    let failed = wrong_with(file);
    let results = match serde_json::from_slice::<Status>(&bytes) {
        Ok(status) => status.results,
        Err(_) => match serde_json::from_slice(&bytes) {
            Ok(result) => vec![result],
            Err(error) => {
                let neither = format!("it is neither a node's status nor a result: {error}");
                return Err(instead(file, FileKind::PublicResult, &neither));
            }
        },
    };
    let has: Vec<_> = results.iter().map(|result| result.epoch.to_string()).collect();
    let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
    let none = format!(
        "it has no public keys of epoch {epoch} (of these: {has}); take `dkg status --json` of now, or data/results/{epoch}.json of \
         any node"
    );
    results.into_iter().find(|result| result.epoch == epoch).ok_or_else(|| failed(&none))
}

fn read(file: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let failed = wrong_with(file);
    let mut bytes = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    opened.map_err(|error| failed(&format!("it cannot be read: {error}")))?;
    if bytes.len() as u64 > limit {
        return Err(failed(&format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn read_json<T: DeserializeOwned>(file: &Path, kind: FileKind) -> Result<T, Failure> {
    serde_json::from_slice(&read(file, MAX_JSON_BYTES)?).map_err(|error| instead(file, kind, &error))
}

/// The beginning of a message, as text where it is text.
fn shown(message: &[u8]) -> String {
    match std::str::from_utf8(message) {
        Ok(text) if text.chars().count() <= SHOWN_CHARACTERS => format!("{text:?}"),
        Ok(text) => format!("{:?}…", text.chars().take(SHOWN_CHARACTERS).collect::<String>()),
        Err(_) => format!("{}…", hex::encode(&message[..message.len().min(SHOWN_CHARACTERS / 2)])),
    }
}
