//! A key-value table that is served as it is: `[[map]] kind = "table"`, and the keys of an access file that say nothing
//! about a recipient (`From:`, `Connect:`).
//!
//! Keys are folded as makemap and postmap fold them: ASCII to lower case. The first of two equal keys stays, as makemap
//! does it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::HashKey;

/// Keys and their values.
#[derive(Debug, Default)]
pub struct Pairs {
    values: HashMap<Box<[u8]>, Box<[u8]>, HashKey>,
}

impl Pairs {
    /// An empty table under the process's hash key.
    pub fn new(key: HashKey) -> Pairs {
        Pairs { values: HashMap::with_hasher(key) }
    }

    /// Adds a pair. `false`: the key was there already, and keeps its value.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> bool {
        match self.values.entry(key.to_ascii_lowercase().into()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(value.into());
                true
            }
        }
    }

    /// The value of a key that is in lower case already.
    pub fn find(&self, folded: &[u8]) -> Option<&[u8]> {
        self.values.get(folded).map(|value| &**value)
    }

    /// Every key, folded, and its value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.values.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}
