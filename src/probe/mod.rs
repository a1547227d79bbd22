//! Call-ahead.

pub mod backlist;
pub mod cache;
pub mod classify;
pub mod hop;
pub mod machine;
pub mod outcome;
pub mod pace;
pub mod route;
pub mod schedule;
pub mod store;
