//! What the fuzzer runs and `cargo test` replays: one plain function a target, over the public API of `dkg_engine` alone.
//!
//! A function takes any bytes and panics when something that was promised does not hold. "Does not panic by itself" is the
//! least of it: what is accepted is compared with rules written down here a second time, from the specification and not from
//! the code. Nothing here is random, so an input that fails once fails always.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "a library's module here, and a test's there")]

pub mod board;
pub mod bytes;
pub mod curve;
pub mod field;
#[cfg(feature = "node")]
pub mod files;
#[cfg(feature = "tcp")]
pub mod link;
#[cfg(feature = "log-chain")]
pub mod log;
pub mod member;
#[cfg(all(feature = "eip2335", feature = "file-store"))]
pub mod sealed;
pub mod store;
pub mod text;

/// A target: its name, which is also its corpus folder's and its file's in `fuzz_targets`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets but those of the log chain, of links, of files and of what is sealed.
pub const TARGETS: &[Target] = &[
    ("broadcast_post", text::broadcast_post),
    ("commitment_vector", curve::commitment_vector),
    ("contract_result", board::contract_result),
    ("g2_point", curve::g2_point),
    ("hex", text::hex),
    ("journal", store::journal),
    ("key_states", store::key_states),
    ("participant", member::participant),
    ("private_envelope", text::private_envelope),
    ("protocol_message", member::protocol_message),
    ("scalar", curve::scalar),
    ("signature", curve::signature),
    ("stored_record", store::stored_record),
    ("whiteboard", board::whiteboard),
];

/// The targets of the log chain.
#[cfg(feature = "log-chain")]
pub const LOG_TARGETS: &[Target] =
    &[("chain_config", log::chain_config), ("log_chain", log::log_chain), ("log_entry", log::log_entry)];

/// The targets of the log chain.
#[cfg(not(feature = "log-chain"))]
pub const LOG_TARGETS: &[Target] = &[];

/// The names of the targets of the log chain, known also where they are not compiled.
pub const LOG_TARGET_NAMES: [&str; 3] = ["chain_config", "log_chain", "log_entry"];

/// The targets of links between machines.
#[cfg(feature = "tcp")]
pub const LINK_TARGETS: &[Target] = &[("link_frame", link::link_frame)];

/// The targets of links between machines.
#[cfg(not(feature = "tcp"))]
pub const LINK_TARGETS: &[Target] = &[];

/// The names of the targets of links, known also where they are not compiled.
pub const LINK_TARGET_NAMES: [&str; 1] = ["link_frame"];

/// The targets of what is sealed.
#[cfg(all(feature = "eip2335", feature = "file-store"))]
pub const SEALED_TARGETS: &[Target] =
    &[("backup_file", sealed::backup_file), ("keystore", sealed::keystore), ("sealed", sealed::sealed)];

/// The targets of what is sealed.
#[cfg(not(all(feature = "eip2335", feature = "file-store")))]
pub const SEALED_TARGETS: &[Target] = &[];

/// The names of the targets of what is sealed, known also where they are not compiled.
pub const SEALED_TARGET_NAMES: [&str; 3] = ["backup_file", "keystore", "sealed"];

/// The targets of operators' files.
#[cfg(feature = "node")]
pub const FILE_TARGETS: &[Target] = &[("committee_file", files::committee_file), ("node_config", files::node_config)];

/// The targets of operators' files.
#[cfg(not(feature = "node"))]
pub const FILE_TARGETS: &[Target] = &[];

/// The names of the targets of operators' files, known also where they are not compiled.
pub const FILE_TARGET_NAMES: [&str; 2] = ["committee_file", "node_config"];
