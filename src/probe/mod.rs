//! Call-ahead.
