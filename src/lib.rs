//! placeholder

pub mod bls;
pub mod chain;
pub mod committee;
pub mod engine;
pub mod epoch;
pub mod hex;
pub mod network;
pub mod protocol;
mod secret;
pub mod store;
pub mod wire;

pub use secret::SecretBytes;
