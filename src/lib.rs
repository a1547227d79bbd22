//! rcptmapd.

pub mod address;
pub mod verdict;
