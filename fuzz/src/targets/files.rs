//! Files that operators write, or pass on to each other.

use std::path::Path;

use dkg_engine::chain::log::{CommitteeFile, MAX_COMMITTEE_FILE_BYTES, MemberFile};
use dkg_engine::node::{MAX_CLOCK_OFFSET_MS, NodeConfig};

/// A text, as far as the bytes are one.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// A committee file or a member's public part: what is accepted is written again as the same; errors are short.
pub fn committee_file(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match CommitteeFile::parse(text) {
        Ok(file) => {
            assert!(text.len() as u64 <= MAX_COMMITTEE_FILE_BYTES);
            let again = CommitteeFile::parse(&file.text()).expect("what was written is read");
            assert_eq!(again.chain(), file.chain());
            assert_eq!((again.members(), again.text()), (file.members(), file.text()));
            assert!(file.members().is_sorted_by_key(|member| member.node_id));
            assert_eq!(file.members().len(), file.chain().committee().size());
        }
        Err(error) => assert!(error.to_string().len() < 4096, "{error}"),
    }
    match MemberFile::parse(text) {
        Ok(member) => {
            assert_eq!(MemberFile::parse(&member.text()).expect("what was written is read"), member);
            assert!(member.proven().is_ok());
        }
        Err(error) => assert!(error.to_string().len() < 4096, "{error}"),
    }
}

/// A node's configuration: what is accepted keeps to the limits, and its paths stay where they are said to be.
pub fn node_config(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(config) = NodeConfig::parse(text, Path::new("/folder")) {
        assert!(config.clock_offset_ms.unsigned_abs() <= MAX_CLOCK_OFFSET_MS);
        assert!(config.key_file.is_none() || config.passphrase_file.is_none());
        assert_eq!(config.log.username.is_some(), config.log.password_file.is_some());
        for path in [&config.committee, &config.identity, &config.data] {
            assert!(path.is_absolute());
        }
        assert_eq!(NodeConfig::parse(text, Path::new("/folder")), Ok(config));
    }
}
