//! Call-ahead.

pub mod classify;
pub mod machine;
pub mod outcome;
