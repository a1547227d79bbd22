//! rcptmapd.

pub mod config;
pub mod logging;
pub mod sys;
pub mod verdict;
