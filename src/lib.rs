//! rcptmapd.

pub mod address;
pub mod map;
pub mod verdict;
