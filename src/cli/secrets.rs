//! Where passphrases come from: a file, the environment, or a terminal that does not show them.

use std::io::{self, IsTerminal};
use std::path::Path;

use dkg_engine::SecretBytes;
use dkg_engine::store::{SecretAccess, Unlock, open_secret};

use super::closed;
use super::outcome::{Failure, wrong};

/// What opens a store.
pub(super) const VARIABLE: &str = "DKG_PASSPHRASE";
/// What opens a backup.
pub(super) const BACKUP_VARIABLE: &str = "DKG_BACKUP_PASSPHRASE";
/// What a store is to be sealed under.
pub(super) const NEW_VARIABLE: &str = "DKG_NEW_PASSPHRASE";
/// The most bytes of a passphrase, with the end of its line.
pub(super) const MAX_PASSPHRASE_BYTES: usize = 4096;

/// Where to look for what opens something, in this order: the key file, the passphrase file, the variable, the terminal.
pub(super) struct Source<'a> {
    /// What it opens.
    pub(super) of: &'static str,
    pub(super) key_file: Option<&'a Path>,
    pub(super) passphrase_file: Option<&'a Path>,
    pub(super) variable: &'static str,
    /// The options that would have said it.
    pub(super) options: &'static str,
    /// Who may read those files.
    pub(super) access: SecretAccess,
    /// It is made up now; a terminal is asked twice.
    pub(super) is_new: bool,
}

impl Source<'_> {
    pub(super) fn unlock(&self) -> Result<Unlock, Failure> {
        match self.key_file {
            Some(file) => Ok(match self.access {
                SecretAccess::Owner => Unlock::KeyFile(file.to_owned()),
                SecretAccess::Mounted => Unlock::MountedKeyFile(file.to_owned()),
            }),
            // Its byte order mark is the seal's to judge: it opens what was sealed with the mark, too.
            None => self.given().map(Unlock::Passphrase),
        }
    }

    /// The passphrase, without a byte order mark, wherever it came from.
    pub(super) fn passphrase(&self) -> Result<SecretBytes, Failure> {
        self.given().map(SecretBytes::without_byte_order_mark)
    }

    fn given(&self) -> Result<SecretBytes, Failure> {
        let variable = || match closed::handed_on().filter(|_| self.variable == VARIABLE) {
            Some(passphrase) => Some(passphrase),
            None => std::env::var_os(self.variable).map(|value| SecretBytes::new(value.into_encoded_bytes())),
        };
        let passphrase = match (self.passphrase_file, variable()) {
            (Some(file), _) => read_file(file, self.access)?,
            (None, Some(passphrase)) => passphrase,
            (None, None) => self.ask()?,
        };
        if passphrase.clone().without_byte_order_mark().is_empty() {
            return Err(Failure::Wrong(format!("the passphrase of {} is empty, which protects nothing", self.of)));
        }
        if passphrase.len() > MAX_PASSPHRASE_BYTES {
            let problem = format!("the passphrase of {} has more than {MAX_PASSPHRASE_BYTES} bytes", self.of);
            return Err(Failure::Wrong(problem));
        }
        Ok(passphrase)
    }

    fn ask(&self) -> Result<SecretBytes, Failure> {
        if !io::stdin().is_terminal() {
            return Err(Failure::Usage(format!(
                "no passphrase for {}: give {}, or set {}",
                self.of, self.options, self.variable
            )));
        }
        let prompt = |what: &str| {
            let typed = rpassword::prompt_password(format!("Passphrase of {}{what}: ", self.of));
            let failed = |error: io::Error| Failure::Wrong(format!("the terminal cannot be asked: {error}"));
            typed.map(|typed| SecretBytes::new(typed.into_bytes())).map_err(failed)
        };
        let passphrase = prompt("")?;
        if self.is_new && prompt(", once more")?.expose() != passphrase.expose() {
            return Err(Failure::Wrong("the two passphrases differ".into()));
        }
        Ok(passphrase)
    }
}

/// The passphrase in a file, without the end of its line.
fn read_file(file: &Path, access: SecretAccess) -> Result<SecretBytes, Failure> {
    let failed = |problem: String| Failure::Wrong(format!("{}: {problem}", file.display()));
    let read = SecretBytes::read_line(open_secret(file, access).map_err(wrong)?, MAX_PASSPHRASE_BYTES);
    let passphrase = read.map_err(|error| failed(format!("the passphrase cannot be read: {error}")))?;
    if passphrase.len() > MAX_PASSPHRASE_BYTES {
        return Err(failed(format!("a passphrase has at most {MAX_PASSPHRASE_BYTES} bytes")));
    }
    if passphrase.expose().contains(&b'\n') {
        return Err(failed("a passphrase is one line".into()));
    }
    Ok(passphrase)
}
