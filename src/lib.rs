//! rcptmapd.

pub mod address;
pub mod map;
pub mod proto;
pub mod resolve;
pub mod verdict;
