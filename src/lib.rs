//! rcptmapd.

pub mod proto;
pub mod verdict;
