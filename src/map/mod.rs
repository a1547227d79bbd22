//! What is known: the recipients of each source, and the snapshot that joins them with our domains.
//!
//! A source's [`Content`] is built once and never changes; a [`Snapshot`] is a list of contents, shared by `Arc`, plus
//! our domains and their policies. So a reload that takes one source and refuses another costs no copy of either, and
//! the last good content of a source stays in force just by being kept.

mod compare;
mod content;
mod found;
mod pairs;
mod policy;
mod rule;
mod search;
mod snapshot;
mod table;

pub use compare::{Changes, DomainChange, SHOWN};
pub use content::{Builder, Content, Domains, DuplicateKey, Listed, Unfit, key_of};
pub use found::{Asked, AskedKey, Found, Hit, Step, Trace};
pub use pairs::Pairs;
pub use policy::{DomainGroup, Mode, Policy, Verify};
pub use rule::{Entry, Grant, Item, Key, KeyText};
pub use snapshot::{RelayDomain, Scratch, Snapshot, Source};
pub use table::{DomainNumber, LocalHash, TooLarge};

/// The keyed hash of everything that peers or lists can choose keys of. One key per process, made by the loader.
pub type HashKey = ahash::RandomState;
