//! rcptmapd.

pub mod source;
pub mod verdict;
