//! rcptmapd.
