//! From the text of one or several files to one [`FileConfig`], with every key checked and every value placed.
//!
//! The files are read into TOML trees whose spans count from the start of the first file, as if all lay end to end;
//! the trees are merged, and the merged one is read by serde. So a value, wherever it came from, is placed by one number.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer};

use super::error::{ConfigError, SourceMap, nearest};
use super::file::{FileConfig, Section, Shape, sections};
use super::{DEFAULT_INCLUDE, Reader, reason};

/// Longest file that is taken: somebody's list was given in the place of a configuration.
const MAX_FILE: usize = 4 << 20;

/// What the files say.
pub(super) struct Parsed {
    pub(super) file: FileConfig,
    pub(super) map: SourceMap,
    /// What is wrong so far, by offset.
    pub(super) found: Vec<(usize, String)>,
    /// Every key that is set.
    pub(super) settings: Vec<Setting>,
}

/// A key that is set, and where.
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) offset: usize,
}

/// Reads the main file and the files that it includes.
pub(super) fn read(name: &Path, text: &[u8], reader: &dyn Reader) -> Result<Parsed, ConfigError> {
    let mut map = SourceMap::default();
    let mut found = Vec::new();
    let text = utf8(name, text)?;
    let base = map.add(name, text);
    let root = table(text, base, &mut found);
    if !found.is_empty() {
        ConfigError::check(&map, found)?;
        return Err(ConfigError::whole_file(name, "not read"));
    }
    let mut root = root.into_inner();

    let (pattern, at) = match root.get_key_value("include").map(|(k, v)| (k.span().start, v.get_ref())) {
        Some((at, DeValue::String(pattern))) => (pattern.to_string(), Some(at)),
        Some(_) => (String::new(), None), // said to be wrong when its value is read
        None => (DEFAULT_INCLUDE.to_owned(), None),
    };
    let mut texts = Vec::new();
    let about_include = |what: String| match at {
        Some(at) => at_offset(&map, at, format!("include = {pattern:?}: {what}")),
        None => ConfigError::whole_file(name, format!("include = {pattern:?}: {what}")),
    };
    for path in included(name, &pattern, reader).map_err(&about_include)? {
        let content =
            reader.read(&path).map_err(|e| about_include(format!("can't read {}: {}", path.display(), reason(&e))))?;
        utf8(&path, &content)?;
        texts.push((path, String::from_utf8(content).unwrap_or_default()));
    }
    for (path, text) in &texts {
        let base = map.add(path, text);
        let before = found.len();
        let more = table(text, base, &mut found).into_inner();
        if let Some((key, _)) = more.get_key_value("include") {
            let text = format!("include belongs into {} only", name.display());
            found.push((key.span().start, text));
        }
        if found.len() == before {
            merge(&mut root, more, "", &map, &mut found);
        }
    }
    ConfigError::check(&map, std::mem::take(&mut found))?;

    let sections = sections();
    let mut settings = Vec::new();
    let root = check_keys(root, &sections, &mut found, &mut settings);
    match FileConfig::deserialize(Deserializer::from(Spanned::new(0..0, root))) {
        Ok(file) => Ok(Parsed { file, map, found, settings }),
        Err(e) => {
            found.push((e.span().map_or(0, |s| s.start), e.message().to_owned()));
            ConfigError::check(&map, found)?;
            Err(ConfigError::whole_file(name, e.message()))
        }
    }
}

fn at_offset(map: &SourceMap, offset: usize, text: String) -> ConfigError {
    match ConfigError::check(map, vec![(offset, text)]) {
        Err(e) => e,
        Ok(()) => ConfigError { problems: Vec::new() },
    }
}

fn utf8<'t>(name: &Path, text: &'t [u8]) -> Result<&'t str, ConfigError> {
    if text.len() > MAX_FILE {
        let what = "longer than 4 MiB: this is no configuration; lists are named by [[source]] path";
        return Err(ConfigError::whole_file(name, what));
    }
    std::str::from_utf8(text).map_err(|e| {
        let bytes = text.get(e.valid_up_to()..).unwrap_or_default();
        let what = format!("byte 0x{:02x}: not UTF-8; save the file as UTF-8", bytes.first().unwrap_or(&0));
        let mut map = SourceMap::default();
        map.add(name, &String::from_utf8_lossy(text.get(..e.valid_up_to()).unwrap_or_default()));
        at_offset(&map, e.valid_up_to(), what)
    })
}

/// One file as a tree; what TOML does not allow goes to `found`.
fn table<'t>(text: &'t str, base: usize, found: &mut Vec<(usize, String)>) -> Spanned<DeTable<'t>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut last_line = usize::MAX;
    for e in errors {
        let start = e.span().map_or(0, |s| s.start).min(text.len());
        let line_start = text.as_bytes().get(..start).and_then(|t| memchr::memrchr(b'\n', t)).map_or(0, |i| i + 1);
        if line_start == last_line {
            continue; // the parser stumbles on over the rest of the line
        }
        last_line = line_start;
        found.push((base + start, syntax(text, line_start, &e)));
    }
    let span = root.span();
    let mut root = root.into_inner();
    if base > 0 {
        root = shift_table(root, base);
    }
    Spanned::new(span, root)
}

/// A syntax error at `start`; the common ones in words of our own, with advice.
fn syntax(text: &str, start: usize, e: &toml::de::Error) -> String {
    let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default().trim();
    let shown: String = line.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    let value = line.split_once('=').map(|(_, v)| v.trim());
    let unquoted = |v: &str| v.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == ':');
    let what = match value {
        _ if e.message().starts_with("duplicate key") => match first_of(text, start) {
            Some(first) => format!("it is set at line {first} already"),
            None => "it is set twice".into(),
        },
        Some("") => "a value is missing".into(),
        Some(v) if unquoted(v) && v != "true" && v != "false" => "a text stands in quotes, as in key = \"text\"".into(),
        Some(v) if v.starts_with('0') && v.len() > 1 => {
            "a number has no zero in front; a mode stands in quotes, as in mode = \"0660\"".into()
        }
        Some(v) if v.starts_with(|c: char| c.is_ascii_digit()) => {
            "a duration, a size or a percentage stands in quotes, as in \"90s\"".into()
        }
        _ => e.message().to_owned(),
    };
    format!("{shown}: {what}")
}

/// The line that sets the same key, or opens the same section, as the one that starts at `start`.
fn first_of(text: &str, start: usize) -> Option<usize> {
    fn key(line: &str) -> &str {
        let line = line.trim();
        if line.starts_with('[') {
            line.split_inclusive(']').next().unwrap_or(line)
        } else {
            line.split('=').next().unwrap_or(line).trim_end()
        }
    }
    let wanted = key(text.get(start..)?.lines().next()?);
    let before: Vec<&str> = text.get(..start)?.lines().collect();
    if wanted.starts_with('[') {
        return before.iter().position(|line| key(line) == wanted).map(|i| i + 1);
    }
    let section = before.iter().rposition(|line| line.trim_start().starts_with('[')).map_or(0, |i| i + 1);
    before.iter().skip(section).position(|line| key(line) == wanted).map(|i| section + i + 1)
}

fn shift_table(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    table
        .into_iter()
        .map(|(key, value)| {
            let span = key.span();
            (Spanned::new(span.start + base..span.end + base, key.into_inner()), shift(value, base))
        })
        .collect()
}

fn shift(value: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shift_table(table, base)),
        DeValue::Array(items) => DeValue::Array(items.into_iter().map(|item| shift(item, base)).collect()),
        value => value,
    };
    Spanned::new(span.start + base..span.end + base, value)
}

/// Adds what a further file says: sections are joined, `[[sections]]` appended, and no key is set twice.
fn merge<'t>(
    into: &mut DeTable<'t>,
    from: DeTable<'t>,
    section: &str,
    map: &SourceMap,
    found: &mut Vec<(usize, String)>,
) {
    for (key, value) in from {
        let Some(first) = into.get_key_value(key.get_ref().as_ref()).map(|(k, _)| k.span().start) else {
            into.insert(key, value);
            continue;
        };
        let Some(old) = into.get_mut(key.get_ref().as_ref()) else { continue };
        match (old.get_mut(), value.into_inner()) {
            (DeValue::Array(old), DeValue::Array(new)) if section.is_empty() => {
                new.into_iter().for_each(|t| old.push(t))
            }
            (DeValue::Table(old), DeValue::Table(new)) if section.is_empty() => {
                merge(old, new, &format!("[{}] ", key.get_ref()), map, found);
            }
            _ => {
                let (at, name) = (key.span().start, key.get_ref());
                found.push((at, format!("{section}{name}: it is set at {} already", map.other(at, first))));
            }
        }
    }
}

/// Takes out what no section knows and what has the wrong shape, and says so; lists what remains.
fn check_keys<'t>(
    root: DeTable<'t>,
    sections: &[Section],
    found: &mut Vec<(usize, String)>,
    settings: &mut Vec<Setting>,
) -> DeTable<'t> {
    let Some(top) = sections.first() else { return root };
    retain(root, |key, value| {
        let (name, at) = (key.get_ref().as_ref(), key.span().start);
        let Some(section) = sections.iter().skip(1).find(|s| s.name == name) else {
            if top.keys.contains(&name) {
                settings.push(Setting { key: name.to_owned(), offset: at });
                return true;
            }
            found.push((at, unknown(name, value.get_ref(), top, sections)));
            return false;
        };
        match (section.shape, value.get_mut()) {
            (Shape::Table, DeValue::Table(table)) => {
                *table = check_section(std::mem::take(table), section, sections, found, settings);
                true
            }
            (Shape::Array, DeValue::Array(items)) if items.iter().all(|i| i.get_ref().is_table()) => {
                for item in items.iter_mut() {
                    if let DeValue::Table(table) = item.get_mut() {
                        *table = check_section(std::mem::take(table), section, sections, found, settings);
                    }
                }
                true
            }
            (Shape::Array, DeValue::Table(_)) => {
                found.push((at, format!("[{name}]: write [[{name}]], in two pairs of brackets: there may be several")));
                false
            }
            (Shape::Table, DeValue::Array(items)) if items.iter().all(|i| i.get_ref().is_table()) => {
                found.push((at, format!("[[{name}]]: write [{name}], in one pair of brackets: there is only one")));
                false
            }
            _ => {
                found.push((at, format!("{name}: this is a section, not a key: write {}", section.title())));
                false
            }
        }
    })
}

fn check_section<'t>(
    table: DeTable<'t>,
    section: &Section,
    sections: &[Section],
    found: &mut Vec<(usize, String)>,
    settings: &mut Vec<Setting>,
) -> DeTable<'t> {
    retain(table, |key, value| {
        let (name, at) = (key.get_ref().as_ref(), key.span().start);
        if section.keys.contains(&name) {
            settings.push(Setting { key: name.to_owned(), offset: at });
            return true;
        }
        found.push((at, unknown(name, value.get_ref(), section, sections)));
        false
    })
}

/// `Map::retain` hides the place of the key.
fn retain<'t>(
    table: DeTable<'t>,
    mut keep: impl FnMut(&Spanned<DeString<'t>>, &mut Spanned<DeValue<'t>>) -> bool,
) -> DeTable<'t> {
    table.into_iter().filter_map(|(key, mut value)| keep(&key, &mut value).then_some((key, value))).collect()
}

/// What to say of a key that its section doesn't know.
fn unknown(name: &str, value: &DeValue<'_>, section: &Section, sections: &[Section]) -> String {
    let is_section = match value {
        DeValue::Table(_) => true,
        DeValue::Array(items) => !items.is_empty() && items.iter().all(|i| i.get_ref().is_table()),
        _ => false,
    };
    let shown: String = name.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect();
    let is_name_of_section = |key: &&str| sections.iter().skip(1).any(|s| s.name == *key);
    if section.name.is_empty() && is_section {
        let near = nearest(name, sections.iter().skip(1).map(|s| s.name));
        let title = near.and_then(|near| sections.iter().find(|s| s.name == near)).map(Section::title);
        let near = title.map_or(String::new(), |title| format!("; did you mean {title}?"));
        return match value {
            DeValue::Table(_) => format!("[{shown}]: no such section{near}"),
            _ => format!("[[{shown}]]: no such section{near}"),
        };
    }
    let place = section.within();
    let keys = |s: &'static [&'static str]| s.iter().copied().filter(|k| !is_name_of_section(k));
    if let Some(near) = nearest(name, keys(section.keys)) {
        return format!("{shown}: no such key {place}; did you mean {near}?");
    }
    let others = |wanted: &str| {
        let titles: Vec<String> = sections
            .iter()
            .filter(|s| s.name != section.name && s.keys.contains(&wanted))
            .map(Section::title)
            .collect();
        titles.join(" or ")
    };
    let elsewhere = others(name);
    if !elsewhere.is_empty() {
        return format!("{shown}: no such key {place}; it belongs to {elsewhere}");
    }
    match nearest(name, sections.iter().flat_map(|s| keys(s.keys))) {
        Some(near) => format!("{shown}: no such key {place}; did you mean {near}, of {}?", others(near)),
        None => format!("{shown}: no such key {place}"),
    }
}

/// The files that `pattern` names, in the order of their names; it starts from the folder of `main`.
fn included(main: &Path, pattern: &str, reader: &dyn Reader) -> Result<Vec<PathBuf>, String> {
    if pattern.is_empty() {
        return Ok(Vec::new());
    }
    let (folder, file) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    if folder.contains(['*', '?', '[']) || file.is_empty() {
        return Err("only the name of the file may be a pattern, as in \"conf.d/*.toml\"".into());
    }
    let mut path = main.parent().unwrap_or(Path::new("")).join(folder);
    if pattern.starts_with('/') && folder.is_empty() {
        path = PathBuf::from("/");
    }
    if !file.contains(['*', '?']) {
        return Ok(vec![path.join(file)]); // named, so it must be there
    }
    let names = reader.list(&path).map_err(|e| format!("can't list {}: {}", path.display(), reason(&e)))?;
    let mut names: Vec<_> = names
        .into_iter()
        .filter(|n| {
            let n = n.to_string_lossy();
            !n.starts_with('.') && matches(file.as_bytes(), n.as_bytes())
        })
        .collect();
    names.sort();
    Ok(names.into_iter().map(|n| path.join(n)).collect())
}

/// A pattern with `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|i| name.get(i..).is_some_and(|n| matches(rest, n))),
        (Some((b'?', rest)), Some((_, name))) => matches(rest, name),
        (Some((p, rest)), Some((n, name))) => p == n && matches(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let m = |p: &str, n: &str| matches(p.as_bytes(), n.as_bytes());
        assert!(m("*.toml", "a.toml") && m("*.toml", ".toml") && m("a?.toml", "ab.toml") && m("*", "x") && m("a", "a"));
        assert!(!m("*.toml", "a.toml~") && !m("a?", "a") && !m("", "a") && !m("*.toml", "a.toml.bak"));
    }
}
