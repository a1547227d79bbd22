//! rcptmapd.

pub mod verdict;
