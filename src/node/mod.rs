//! A whole member of a log chain.

pub mod identity;
