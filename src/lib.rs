//! rcptmapd.

pub mod config;
pub mod logging;
pub mod source;
pub mod sys;
pub mod verdict;
