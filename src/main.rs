//! The `dkg` command.

fn main() {}
