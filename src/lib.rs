//! rcptmapd.

pub mod address;
pub mod cli;
pub mod config;
pub mod harvest;
pub mod logging;
pub mod map;
pub mod net;
pub mod proto;
pub mod reload;
pub mod resolve;
pub mod skip;
pub mod source;
pub mod stats;
pub mod sys;
pub mod tally;
pub mod verdict;
