//! How much is logged, per topic: `info`, `info,probe=debug`.

use std::fmt;
use std::str::FromStr;

use log::LevelFilter;
use toml::Spanned;

use super::error::nearest;
use super::value::{Fault, Raw, Value};

/// The topics that a level can be set for: the modules that log.
pub const TOPICS: [&str; 10] =
    ["cli", "config", "control", "logging", "net", "probe", "reload", "resolve", "source", "sys"];

const LEVELS: [(&str, LevelFilter); 6] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
    ("off", LevelFilter::Off),
];

/// A level for all topics, and others for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    default: LevelFilter,
    topics: Vec<(&'static str, LevelFilter)>,
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// No level of ours.
    #[error("{0:?}: a level is error, warn, info, debug, trace or off")]
    Level(String),
    /// No topic of ours.
    #[error("{0:?}: a topic is one of {topics}", topics = TOPICS.join(", "))]
    Topic(String),
    /// No topic of ours, but like one.
    #[error("{0:?} is no topic; did you mean {1:?}?")]
    Near(String, &'static str),
    /// Said twice.
    #[error("{0:?} is set twice")]
    Twice(String),
}

impl LogFilter {
    /// The level for all topics that have none of their own.
    pub fn new(default: LevelFilter) -> LogFilter {
        LogFilter { default, topics: Vec::new() }
    }

    /// The level for a log target: the path of a module, as the macros of `log` fill it in.
    pub fn level(&self, target: &str) -> LevelFilter {
        let topic = target.strip_prefix("rcptmapd::").unwrap_or(target).split("::").next().unwrap_or_default();
        self.topics.iter().find(|(t, _)| *t == topic).map_or(self.default, |(_, level)| *level)
    }

    /// The highest level of all: nothing above it needs to be looked at.
    pub fn max(&self) -> LevelFilter {
        self.topics.iter().map(|(_, level)| *level).fold(self.default, |a, b| a.max(b))
    }
}

impl Default for LogFilter {
    fn default() -> LogFilter {
        LogFilter::new(LevelFilter::Info)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |level| LEVELS.iter().find(|(_, l)| *l == level).map_or("off", |(w, _)| *w);
        f.write_str(word(self.default))?;
        self.topics.iter().try_for_each(|(topic, level)| write!(f, ",{topic}={}", word(*level)))
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(s: &str) -> Result<LogFilter, LogFilterError> {
        let level = |s: &str| {
            let level = LEVELS.iter().find(|(word, _)| s.eq_ignore_ascii_case(word));
            level.map(|(_, level)| *level).ok_or_else(|| LogFilterError::Level(s.to_owned()))
        };
        let mut default = None;
        let mut topics = Vec::new();
        for part in s.split(',').map(str::trim) {
            let Some((topic, word)) = part.split_once('=') else {
                if default.replace(level(part)?).is_some() {
                    return Err(LogFilterError::Twice(part.to_owned()));
                }
                continue;
            };
            let topic = topic.trim();
            let Some(known) = TOPICS.iter().find(|t| **t == topic) else {
                return Err(match nearest(topic, TOPICS) {
                    Some(near) => LogFilterError::Near(topic.to_owned(), near),
                    None => LogFilterError::Topic(topic.to_owned()),
                });
            };
            if topics.iter().any(|(t, _)| t == known) {
                return Err(LogFilterError::Twice(topic.to_owned()));
            }
            topics.push((*known, level(word.trim())?));
        }
        Ok(LogFilter { default: default.unwrap_or(LevelFilter::Info), topics })
    }
}

impl Value for LogFilter {
    fn read(raw: &Spanned<Raw>) -> Result<LogFilter, Fault> {
        let what = match raw.get_ref() {
            Raw::Text(text) => match text.parse::<LogFilter>() {
                Ok(filter) => return Ok(filter),
                Err(e) => e.to_string(),
            },
            _ => "a level in quotes is needed, as in \"info\" or \"info,probe=debug\"".to_owned(),
        };
        Err(Fault { span: raw.span(), raw: raw.get_ref().to_string(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_for_all_and_others_for_some() {
        let filter: LogFilter = "warn, probe=debug,net=trace".parse().expect("a good filter");
        assert_eq!(filter.level("rcptmapd::reload"), LevelFilter::Warn);
        assert_eq!(filter.level("rcptmapd::probe::cache"), LevelFilter::Debug);
        assert_eq!(filter.level("net"), LevelFilter::Trace);
        assert_eq!(filter.level("rcptmapd"), LevelFilter::Warn);
        assert_eq!(filter.max(), LevelFilter::Trace);
        assert_eq!(filter.to_string(), "warn,probe=debug,net=trace");
        assert_eq!("probe=debug".parse::<LogFilter>().expect("a good filter").level("x"), LevelFilter::Info);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let error = |s: &str| s.parse::<LogFilter>().expect_err("a bad filter").to_string();
        assert_eq!(error("loud"), "\"loud\": a level is error, warn, info, debug, trace or off");
        assert_eq!(error(""), "\"\": a level is error, warn, info, debug, trace or off");
        assert_eq!(error("info,prob=debug"), "\"prob\" is no topic; did you mean \"probe\"?");
        assert!(error("info,colour=debug").starts_with("\"colour\": a topic is one of cli, "));
        assert_eq!(error("info,debug"), "\"debug\" is set twice");
        assert_eq!(error("net=info,net=debug"), "\"net\" is set twice");
    }
}
