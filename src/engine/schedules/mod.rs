//! The engine's parts under a scheduler: see [`crate::sync`]. Whole engines are in `tests/shuttle.rs`.

mod lifecycle;
