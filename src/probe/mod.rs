//! Call-ahead.

pub mod classify;
