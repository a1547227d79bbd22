//! rcptmapd.

pub mod address;
pub mod config;
pub mod map;
pub mod proto;
pub mod resolve;
pub mod source;
pub mod verdict;
