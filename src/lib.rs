//! rcptmapd.

pub mod config;
pub mod logging;
pub mod verdict;
