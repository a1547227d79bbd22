//! rcptmapd.

pub mod address;
pub mod cli;
pub mod config;
pub mod logging;
pub mod map;
pub mod net;
pub mod probe;
pub mod proto;
pub mod reload;
pub mod resolve;
pub mod source;
pub mod stats;
pub mod sys;
pub mod verdict;
