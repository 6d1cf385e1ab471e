//! Fuzz targets of `dkg-engine`; see `README.md` beside this workspace's manifest.

pub mod targets;
