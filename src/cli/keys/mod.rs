//! `dkg keys`: the key shares in a node's store, and backups of them.
//!
//! The node has to be stopped meanwhile, since a store has one user at a time; an export goes through a node that runs. An
//! import takes a backup, which says itself whose share it holds, or an EIP-2335 keystore, of which that has to be said. What
//! comes in is checked against its public key share before anything is made or changed, and stays unconfirmed until the chain
//! confirms it. No command prints a secret, and none replaces a key or a file. Exit codes: 0 where all is well, 1 where
//! something is wrong with a key or a file, 2 for bad usage.

mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use dkg_engine::bls::{Index, PublicKey, Scalar, SecretKey};
use dkg_engine::committee::NodeId;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::hex;
use dkg_engine::node::{Answer, FileKind, Request, admin_socket, ask};
use dkg_engine::store::eip2335::{Keystore, PasswordFunction};
use dkg_engine::store::{
    Backup, DkgState, EpochRecord, FileError, FileStore, KeyHealth, KeyShare, KeyStatus, Owner, SafeKey, SecretAccess,
    Store, StoreError,
};

use super::outcome::{Failure, conclude, instead, wrong, wrong_with};
use super::secrets::{BACKUP_VARIABLE, NEW_VARIABLE, Source, VARIABLE};
use show::{Exported, Imported, Listed, Listing, Tested, Verified};

/// Look at the key shares in a node's store, back them up and restore them. Stop the node first, but for an export.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List all epochs of which anything is recorded, with the state of their keys.
    List(List),
    /// Show one epoch's key: its state, index and public key share, and what to do about it.
    Show(Show),
    /// Show what a backup is of; takes no passphrase.
    ShowBackup(ShowBackup),
    /// Write one epoch's share to a file of its own, under a passphrase of its own. Works while the node runs, too.
    Export(Export),
    /// Put a share from a backup or a keystore into a store that has none for its epoch.
    Import(Import),
    /// Read every record, and let every confirmed share sign and verify a test message.
    Verify(Verify),
    /// Seal the store under another passphrase or key file.
    ChangePassphrase(ChangePassphrase),
    /// Declare a store whose witness was lost or damaged to be the newest copy there is, and give it a new witness.
    RenewWitness(RenewWitness),
}

/// Whose store it is, where, and what opens it.
#[derive(Args)]
struct StoreOptions {
    /// The node's store.
    #[arg(long, value_name = "FILE")]
    store: PathBuf,

    /// The chain that the store belongs to.
    #[arg(long, value_name = "ID")]
    chain: String,

    /// The member that the store belongs to: its node id, 64 hex digits.
    #[arg(long, value_name = "HEX")]
    member: NodeId,

    /// Open the store with this key file.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    key_file: Option<PathBuf>,

    /// Open the store with the passphrase in this file. Without either, the environment variable DKG_PASSPHRASE counts;
    /// without that, the terminal is asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// The files with secrets are mounted read-only: root's, of mode 0440 or 0444.
    #[arg(long)]
    mounted_secrets: bool,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    store: StoreOptions,
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    store: StoreOptions,

    /// Which epoch.
    #[arg(long, value_name = "EPOCH")]
    epoch: u64,
}

#[derive(Args)]
struct ShowBackup {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Export {
    #[command(flatten)]
    store: StoreOptions,

    /// Whose share.
    #[arg(long, value_name = "EPOCH")]
    epoch: u64,

    /// The file to write; there must not be one yet.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,

    /// What to write.
    #[arg(long, value_enum, default_value_t = Format::Backup)]
    format: Format,

    #[command(flatten)]
    backup: BackupOptions,
}

#[derive(Args)]
struct BackupOptions {
    /// The file that has the backup's own passphrase. Without it, the environment variable DKG_BACKUP_PASSPHRASE counts;
    /// without that, the terminal is asked.
    #[arg(long, value_name = "FILE")]
    backup_passphrase_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A backup, to be imported again.
    Backup,
    /// An EIP-2335 keystore, for other tools that sign with BLS12-381 keys.
    Eip2335,
}

#[derive(Args)]
struct Import {
    #[command(flatten)]
    store: StoreOptions,

    /// The backup, or the keystore.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,

    /// What it is.
    #[arg(long, value_enum, default_value_t = Format::Backup)]
    format: Format,

    /// The epoch whose share is in the keystore, which does not say it itself as a backup does.
    #[arg(long, value_name = "EPOCH", required_if_eq("format", "eip2335"))]
    epoch: Option<u64>,

    /// The index of the share in the keystore, as its export has said it: 0 to 253.
    #[arg(long, value_name = "INDEX", required_if_eq("format", "eip2335"), value_parser = parse_index)]
    index: Option<Index>,

    /// The public key share that the secret in the keystore has to have, where the keystore does not name it: 192 hex
    /// digits, in the order of Flow.
    #[arg(long, value_name = "HEX", value_parser = parse_public_key)]
    public_key: Option<PublicKey>,

    /// Make a new store for it; there must not be one yet.
    #[arg(long)]
    create: bool,

    #[command(flatten)]
    backup: BackupOptions,
}

#[derive(Args)]
struct Verify {
    #[command(flatten)]
    store: StoreOptions,

    /// Only this epoch, whose share has to be there and confirmed.
    #[arg(long, value_name = "EPOCH")]
    epoch: Option<u64>,

    /// The public key share that the chain has for this member in that epoch: 192 hex digits, in the order of Flow.
    #[arg(long, value_name = "HEX", requires = "epoch", value_parser = parse_public_key)]
    public_key: Option<PublicKey>,
}

#[derive(Args)]
struct ChangePassphrase {
    #[command(flatten)]
    store: StoreOptions,

    /// Seal it with this key file from now on.
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
    new_key_file: Option<PathBuf>,

    /// Seal it with the passphrase in this file from now on. Without either, the environment variable DKG_NEW_PASSPHRASE
    /// counts; without that, the terminal is asked.
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

#[derive(Args)]
struct RenewWitness {
    #[command(flatten)]
    store: StoreOptions,

    /// Yes, this file is the newest copy. If it is not, a run that it knows nothing of may be dealt a second time, which
    /// gives this member's secrets away.
    #[arg(long, required = true)]
    it_is_the_newest: bool,
}

fn parse_index(text: &str) -> Result<Index, String> {
    let index = text.parse().ok().and_then(Index::from_byte);
    index.ok_or_else(|| "it has to be an index, 0 to 253".to_owned())
}

fn parse_public_key(text: &str) -> Result<PublicKey, String> {
    let key = hex::decode(text).and_then(|bytes| PublicKey::from_flow_bytes(&bytes).ok());
    key.ok_or_else(|| "it has to be a public key of 192 hex digits".to_owned())
}

/// Runs the command.
pub(super) fn run(options: &Options) -> ExitCode {
    let done = match &options.action {
        Action::List(list) => list.run(),
        Action::Show(show) => show.run(),
        Action::ShowBackup(show) => show.run(),
        Action::Export(export) => export.run(),
        Action::Import(import) => import.run(),
        Action::Verify(verify) => verify.run(),
        Action::ChangePassphrase(change) => change.run(),
        Action::RenewWitness(renew) => renew.run(),
    };
    conclude(done)
}

/// A store that is open.
struct Opened {
    store: Arc<FileStore>,
    state: DkgState,
    owner: Owner,
}

impl StoreOptions {
    fn owner(&self) -> Owner {
        Owner { chain_id: self.chain.clone(), member: self.member }
    }

    fn access(&self) -> SecretAccess {
        if self.mounted_secrets { SecretAccess::Mounted } else { SecretAccess::Owner }
    }

    /// What the store is, or is to be, opened with.
    fn source(&self, is_new: bool) -> Source<'_> {
        Source {
            of: "the store",
            key_file: self.key_file.as_deref(),
            passphrase_file: self.passphrase_file.as_deref(),
            variable: VARIABLE,
            options: "--passphrase-file or --key-file",
            access: self.access(),
            is_new,
        }
    }

    fn open(&self) -> Result<Opened, Failure> {
        let unlock = self.source(false).unlock()?;
        let owner = self.owner();
        let store = FileStore::open(&self.store, &owner, &unlock).map_err(|error| self.wrong(&error))?;
        Ok(self.opened(store, owner))
    }

    fn create(&self) -> Result<Opened, Failure> {
        let unlock = self.source(true).unlock()?;
        let owner = self.owner();
        let store = FileStore::create(&self.store, &owner, &unlock).map_err(|error| self.wrong(&error))?;
        Ok(self.opened(store, owner))
    }

    fn opened(&self, store: FileStore, owner: Owner) -> Opened {
        let store = Arc::new(store);
        Opened { state: DkgState::new(store.clone()), store, owner }
    }

    fn wrong(&self, error: &dyn std::fmt::Display) -> Failure {
        wrong_with(&self.store)(error)
    }

    fn list(&self, keys: Vec<Listed>) -> Listing {
        Listing { store: self.store.display().to_string(), chain: self.chain.clone(), member: self.member, keys }
    }
}

impl BackupOptions {
    fn source(&self, is_new: bool) -> Source<'_> {
        Source {
            of: "the backup",
            key_file: None,
            passphrase_file: self.backup_passphrase_file.as_deref(),
            variable: BACKUP_VARIABLE,
            options: "--backup-passphrase-file",
            access: SecretAccess::Owner,
            is_new,
        }
    }
}

impl Opened {
    fn listed(&self, epoch: EpochCounter) -> Listed {
        match self.state.record(epoch) {
            Ok(record) => Listed::new(&record, KeyHealth::of(&record, None, &self.owner.member, false)),
            Err(error) => Listed::damaged(epoch, &error),
        }
    }

    fn record(&self, options: &StoreOptions, epoch: u64) -> Result<EpochRecord, Failure> {
        self.state.record(EpochCounter(epoch)).map_err(|error| options.wrong(&error))
    }
}

impl List {
    fn run(&self) -> Result<bool, Failure> {
        let opened = self.store.open()?;
        let epochs = opened.state.epochs().map_err(|error| self.store.wrong(&error))?;
        let keys: Vec<Listed> = epochs.into_iter().map(|epoch| opened.listed(epoch)).collect();
        let readable = keys.iter().all(Listed::is_readable);
        show::list(&self.store.list(keys), self.store.json).map_err(wrong)?;
        Ok(readable)
    }
}

impl Show {
    fn run(&self) -> Result<bool, Failure> {
        let opened = self.store.open()?;
        let listed = opened.listed(EpochCounter(self.epoch));
        let readable = listed.is_readable();
        show::one(&listed, self.store.json).map_err(wrong)?;
        Ok(readable)
    }
}

impl ShowBackup {
    fn run(&self) -> Result<bool, Failure> {
        let backup = Backup::read(&self.file).map_err(|error| instead(&self.file, FileKind::Backup, &error))?;
        show::backup(&backup, self.json).map_err(wrong)?;
        Ok(true)
    }
}

impl Export {
    fn run(&self) -> Result<bool, Failure> {
        let (owner, unlock) = (self.store.owner(), self.store.source(false).unlock()?);
        // Either way it comes sealed, under what opens the store.
        let sealed = match FileStore::open(&self.store.store, &owner, &unlock) {
            Ok(store) => self.of_store(&self.store.opened(store, owner.clone()))?,
            Err(FileError::InUse(_)) => self.of_node()?,
            Err(error) => return Err(self.store.wrong(&error)),
        };
        let share = sealed.open(&owner, &unlock).map_err(|error| self.store.wrong(&error))?;
        let to = wrong_with(&self.to);
        match self.format {
            Format::Backup => {
                let new = self.backup.source(true).unlock()?;
                let backup = sealed.resealed(&owner, &unlock, &new).map_err(|error| to(&error))?;
                backup.write(&self.to).map_err(|error| to(&error))?;
            }
            Format::Eip2335 => {
                let password = self.backup.source(true).passphrase()?;
                let description = format!(
                    "share {} of epoch {} on chain {}; BLS12-381 with public keys in G2 and signatures in G1",
                    share.index(),
                    self.epoch,
                    self.store.chain
                );
                let sealed = Keystore::seal(&share, &password, PasswordFunction::Scrypt, &description);
                sealed.and_then(|keystore| keystore.write(&self.to)).map_err(|error| to(&error))?;
            }
        }
        let exported = Exported::new(sealed.epoch(), &share, &self.to);
        show::exported(&exported, self.store.json).map_err(wrong)?;
        Ok(true)
    }

    /// From a store that nobody has open.
    fn of_store(&self, opened: &Opened) -> Result<Backup, Failure> {
        let record = opened.record(&self.store, self.epoch)?;
        opened.store.back_up(&record).map_err(|error| self.store.wrong(&error))
    }

    /// From the node that has the store open, in whose folder it is.
    fn of_node(&self) -> Result<Backup, Failure> {
        let folder = self.store.store.parent().filter(|folder| !folder.as_os_str().is_empty());
        let socket = admin_socket(folder.unwrap_or(Path::new(".")));
        match ask(&socket, &Request::Export { epoch: self.epoch }).map_err(wrong)? {
            Answer::Exported(backup) => Ok(*backup),
            Answer::Refused(reason) => Err(self.store.wrong(&reason)),
            _ => Err(Failure::Wrong("the node has answered something else".to_owned())),
        }
    }
}

impl Import {
    fn run(&self) -> Result<bool, Failure> {
        match (self.format, self.epoch, self.index) {
            (Format::Backup, None, None) if self.public_key.is_none() => self.of_backup(),
            (Format::Eip2335, Some(epoch), Some(index)) => self.of_keystore(EpochCounter(epoch), index),
            _ => Err(Failure::Usage(
                "--epoch, --index and --public-key say what is in a keystore: give --format eip2335 with them; a backup says \
                 it itself"
                    .into(),
            )),
        }
    }

    fn of_backup(&self) -> Result<bool, Failure> {
        let from = wrong_with(&self.from);
        // Before a store is made for it.
        let backup = Backup::read(&self.from).map_err(wrong)?;
        let unlock = self.backup.source(false).unlock()?;
        let share = backup.open(&self.store.owner(), &unlock).map_err(|error| from(&error))?;
        let opened = self.opened()?;
        let state = backup.restore(&opened.state, &opened.owner, &unlock, None).map_err(|error| from(&error))?;
        self.told(backup.epoch(), &share, state)
    }

    /// A keystore says of nothing that is protected where it belongs: the operator says it, the public key share shows that
    /// the secret is the one that was meant, and the chain's evidence has the last word, as for every share that comes back.
    fn of_keystore(&self, epoch: EpochCounter, index: Index) -> Result<bool, Failure> {
        let from = wrong_with(&self.from);
        let keystore = Keystore::read(&self.from).map_err(|error| from(&error))?;
        let password = self.backup.source(false).passphrase()?;
        let secret = keystore.open(&password).map_err(|error| from(&error))?;
        let secret = Scalar::from_be_bytes(secret.expose()).ok().and_then(SecretKey::from_scalar);
        let secret = secret.ok_or_else(|| from(&"the secret in it is no secret key of BLS12-381"))?;
        let key = secret.public_key();
        let named = keystore.public_key().map(|digits| digits.strip_prefix("0x").unwrap_or(digits));
        let named = named.and_then(hex::decode).is_some_and(|bytes| bytes == key.to_standard_bytes());
        if !self.public_key.as_ref().map_or(named, |expected| *expected == key) {
            let expected = if self.public_key.is_some() { "--public-key says" } else { "the keystore names" };
            return Err(from(&format!(
                "the public key share of the secret in it is not the one that {expected}; give --public-key as the chain \
                 has it for this member in epoch {epoch}, with the keystore of that share"
            )));
        }
        let share = KeyShare::new(index, secret);
        let opened = self.opened()?;
        let store = |error: &dyn std::fmt::Display| self.store.wrong(error);
        let record = opened.state.record(epoch).map_err(|error| store(&error))?;
        let steps = record.import(share.clone(), None).map_err(|error| from(&format!("epoch {epoch}: {error}")))?;
        opened.state.commit(&steps).map_err(|error| store(&error))?;
        let state = opened.state.record(epoch).map_err(|error| store(&error))?.status();
        self.told(epoch, &share, state)
    }

    fn opened(&self) -> Result<Opened, Failure> {
        if self.create { self.store.create() } else { self.store.open() }
    }

    fn told(&self, epoch: EpochCounter, share: &KeyShare, state: KeyStatus) -> Result<bool, Failure> {
        show::imported(&Imported::new(epoch, share, state), self.store.json).map_err(wrong)?;
        Ok(true)
    }
}

impl Verify {
    fn run(&self) -> Result<bool, Failure> {
        let opened = self.store.open()?;
        let list = |error: StoreError| self.store.wrong(&error);
        let mut unreadable = Vec::new();
        let epochs = match self.epoch {
            Some(epoch) => vec![EpochCounter(epoch)],
            None => {
                for id in opened.store.list().map_err(list)? {
                    if let Err(error) = opened.store.read(id) {
                        unreadable.push(format!("{id}: {error}"));
                    }
                }
                opened.state.epochs().map_err(list)?
            }
        };
        let keys: Vec<Tested> = epochs.into_iter().map(|epoch| self.test(&opened.state, epoch)).collect();
        let verified = Verified { store: self.store.store.display().to_string(), keys, unreadable };
        show::verified(&verified, self.store.json).map_err(wrong)?;
        Ok(verified.is_good())
    }

    /// Lets the epoch's share sign, as it was read from the store.
    fn test(&self, state: &DkgState, epoch: EpochCounter) -> Tested {
        let record = match state.record(epoch) {
            Ok(record) => record,
            Err(error) => return Tested::failed(epoch, None, error.to_string()),
        };
        match record.safe_key() {
            SafeKey::Key(key) => match key.self_test(&self.public_key.unwrap_or_else(|| key.public_key())) {
                Ok(()) => Tested::passed(epoch, &key),
                Err(error) => Tested::failed(epoch, Some(&record), error.to_string()),
            },
            _ if self.epoch.is_some() => {
                let health = KeyHealth::of(&record, None, &self.store.member, false);
                Tested::failed(epoch, Some(&record), format!("no confirmed key share: {}", health.reason))
            }
            _ => Tested::without_key(epoch, &record),
        }
    }
}

impl ChangePassphrase {
    fn run(&self) -> Result<bool, Failure> {
        let opened = self.store.open()?;
        let new = Source {
            of: "the store from now on",
            key_file: self.new_key_file.as_deref(),
            passphrase_file: self.new_passphrase_file.as_deref(),
            variable: NEW_VARIABLE,
            options: "--new-passphrase-file or --new-key-file",
            access: self.store.access(),
            is_new: true,
        };
        opened.store.reseal(&new.unlock()?).map_err(|error| self.store.wrong(&error))?;
        show::resealed(&self.store.store, self.store.json).map_err(wrong)?;
        Ok(true)
    }
}

impl RenewWitness {
    fn run(&self) -> Result<bool, Failure> {
        let unlock = self.store.source(false).unlock()?;
        let renewed = FileStore::renew_witness(&self.store.store, &self.store.owner(), &unlock);
        renewed.map_err(|error| self.store.wrong(&error))?;
        show::renewed(&self.store.store, self.store.json).map_err(wrong)?;
        Ok(true)
    }
}
