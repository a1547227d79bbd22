//! Settings that the program does not act on yet, or not as it was built. They are read and checked like all others, and then refused, so that
//! nobody believes in a setting that does nothing.
//!
//! What arrives is taken out of [`LATER`]; nothing else has to change.

use toml::de::DeValue;

use super::FORMATS;
use super::error::{ConfigError, Place, Problem, SourceMap};
use super::file::sections;
use crate::source::Format;

/// What a key can't do yet.
struct Later {
    /// `section.key`, or `key` at the top of the file.
    key: &'static str,
    today: Today,
}

/// What a key can do today.
enum Today {
    /// These values mean what the program does anyway.
    Words(&'static [&'static str]),
    /// The formats that there are readers for.
    Formats,
    /// These values, in a program that was built without the feature.
    #[cfg_attr(feature = "tls", allow(dead_code))]
    Without(&'static str, &'static [&'static str]),
}

impl Today {
    fn words(&self) -> Vec<&'static str> {
        match self {
            Today::Words(words) | Today::Without(_, words) => words.to_vec(),
            Today::Formats => FORMATS.into_iter().filter(|w| *w == "auto" || w.parse::<Format>().is_ok()).collect(),
        }
    }
}

const fn but(key: &'static str, today: &'static [&'static str]) -> Later {
    Later { key, today: Today::Words(today) }
}

/// One line per setting that has to wait.
const LATER: &[Later] = &[
    Later { key: "source.format", today: Today::Formats },
    #[cfg(not(feature = "tls"))]
    Later { key: "backend.tls", today: Today::Without("tls", &["off"]) },
    but("map.format", &["auto"]),
];

/// A key that is set.
pub(super) struct Setting {
    section: &'static str,
    pub(super) key: String,
    /// Its value, or the items of a list.
    values: Vec<String>,
    pub(super) offset: usize,
}

impl Setting {
    pub(super) fn new(section: &'static str, key: &str, value: &DeValue<'_>, offset: usize) -> Setting {
        let text = |v: &DeValue<'_>| match v {
            DeValue::String(s) => s.to_string(),
            DeValue::Integer(n) => n.to_string(),
            DeValue::Boolean(b) => b.to_string(),
            _ => String::from("..."),
        };
        let values = match value {
            DeValue::Array(items) => items.iter().map(|i| text(i.get_ref())).collect(),
            value => vec![text(value)],
        };
        Setting { section, key: key.to_owned(), values, offset }
    }

    fn is(&self, later: &Later) -> bool {
        match later.key.split_once('.') {
            None => self.section.is_empty() && self.key == later.key,
            Some((section, key)) => self.section == section && self.key == key,
        }
    }
}

/// A setting that the program does not act on yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotYet {
    /// Where it is set.
    pub place: Place,
    /// `section.key`, or `key` at the top of the file.
    pub key: String,
    /// What to say about it.
    pub text: String,
}

/// What of `settings` has to wait, in the order of the files.
pub(super) fn not_yet(settings: &[Setting], map: &SourceMap) -> Vec<NotYet> {
    let mut waiting: Vec<(usize, NotYet)> = Vec::new();
    for setting in settings {
        let Some(later) = LATER.iter().find(|l| setting.is(l)) else { continue };
        let today = later.today.words();
        let Some(value) = setting.values.iter().find(|v| !today.contains(&v.as_str())) else { continue };
        let name = match setting.section {
            "" => setting.key.clone(),
            "listen" | "source" | "domain" | "backend" | "map" => format!("[[{}]] {}", setting.section, setting.key),
            section => format!("[{section}] {}", setting.key),
        };
        let today: Vec<String> = today.iter().map(|t| format!("{t:?}")).collect();
        let (value, today) = (value.escape_debug(), today.join(", "));
        let text = match later.today {
            Today::Without(feature, _) => {
                format!("{name} = \"{value}\": this rcptmapd was built without \"{feature}\"; it can be {today} here")
            }
            _ => format!("{name} = \"{value}\": needs a later version of rcptmapd; today it can be {today}"),
        };
        let key = if setting.section.is_empty() {
            setting.key.clone()
        } else {
            format!("{}.{}", setting.section, setting.key)
        };
        waiting.push((setting.offset, NotYet { place: map.place(setting.offset), key, text }));
    }
    waiting.sort_by_key(|(offset, _)| *offset);
    waiting.into_iter().map(|(_, n)| n).collect()
}

impl super::Config {
    /// Settings of the file that the program does not act on yet; empty in a configuration that can be run.
    pub fn unsupported(&self) -> &[NotYet] {
        &self.not_yet
    }

    /// Refuses what the program does not act on yet.
    pub fn supported(&self) -> Result<(), ConfigError> {
        let problems: Vec<Problem> =
            self.not_yet.iter().map(|n| Problem { place: n.place.clone(), text: n.text.clone() }).collect();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }
}

/// Every key that the program acts on, as `section.key`, or `key` at the top of the file: for documents and their tests.
pub fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    let sections = sections();
    for section in &sections {
        for key in section.keys {
            let is_section = section.name.is_empty() && sections.iter().any(|s| s.name == *key);
            if !is_section {
                keys.push(if section.name.is_empty() { (*key).to_owned() } else { format!("{}.{key}", section.name) });
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_names_a_key_that_there_is() {
        let sections = sections();
        for later in LATER {
            let (section, key) = later.key.split_once('.').unwrap_or(("", later.key));
            let section = sections.iter().find(|s| s.name == section).unwrap_or_else(|| panic!("{}", later.key));
            assert!(section.keys.contains(&key), "{}", later.key);
        }
    }
}
