//! Words, numbers, columns and colours for people.

use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Failure, exit};

/// Whether to use colours; by default not.
#[derive(Clone, Default, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Colours if standard output is a terminal that wants them (no-color.org).
    pub fn of_stdout() -> Style {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Style { colour: !unwanted && io::stdout().is_terminal() }
    }

    /// All is well.
    pub fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// Something is wrong.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Worth a look.
    pub fn odd(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// A head line.
    pub fn head(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A number with its thousands apart: `1,234,567`.
pub fn number(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 line`, `2,000 lines`.
pub fn count(many: usize, noun: &str) -> String {
    match (many, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{} {stem}ies", number(many)),
        _ => format!("{} {noun}s", number(many)),
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A time span in its two largest units: `3 d 4 h`, `12 min`, `5 s`.
pub fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(first) = units.iter().position(|&(size, _)| seconds >= size) else { return "0 s".to_owned() };
    let mut rest = seconds;
    let mut words = Vec::new();
    for &(size, unit) in units.iter().skip(first).take(2) {
        if rest >= size {
            words.push(format!("{} {unit}", rest / size));
        }
        rest %= size;
    }
    words.join(" ")
}

/// Bytes as people read them: `812 B`, `1.3 MiB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Lines of equal columns, two blanks apart. The last column is as wide as it is.
#[derive(Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// A table whose columns of these numbers are numbers.
    pub fn new(right: &[usize]) -> Table {
        Table { rows: Vec::new(), right: right.to_vec() }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, indented by `indent` blanks.
    pub fn lines(&self, indent: usize) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let mut line = " ".repeat(indent);
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width - cell.chars().count());
                if column > 0 {
                    line.push_str("  ");
                }
                if self.right.contains(&column) {
                    line += &format!("{pad}{cell}");
                } else {
                    line += &format!("{cell}{pad}");
                }
            }
            line.truncate(line.trim_end().len());
            line
        };
        self.rows.iter().map(line).collect()
    }
}

/// Bytes on their way to a terminal or a line of output: control bytes become `\xNN`, all else stays.
pub fn printable(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if byte.is_ascii_control() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        } else {
            out.push(byte);
        }
    }
}

/// The same as text; bytes that are not UTF-8 become `\xNN`, too.
pub fn printable_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if c.is_ascii_control() => text += &format!("\\x{:02x}", c as u32),
                // What changes the direction of writing, or has no shape, has no place in output to be judged by eye.
                c if c.is_control()
                    || ('\u{200b}'..='\u{202e}').contains(&c)
                    || ('\u{2060}'..='\u{206f}').contains(&c) =>
                {
                    text.extend(c.escape_unicode());
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// Writes to standard output. A reader that has gone (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same for bytes.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(exit::IO, format!("standard output: {}", crate::config::reason(&e))))
        }
        _ => Ok(()),
    }
}

/// JSON for programs, and for people who look at it.
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans() {
        assert_eq!(
            [number(0u64), number(999u64), number(1_000u64), number(1_234_567usize)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([count(1, "line"), count(0, "line"), count(2, "entry")], ["1 line", "0 lines", "2 entries"]);
        assert_eq!(
            [span(0), span(59), span(60), span(3_661), span(90_000), span(86_460)],
            ["0 s", "59 s", "1 min", "1 h 1 min", "1 d 1 h", "1 d"]
        );
        assert_eq!([size(812), size(1_363_149), size(24 << 30)], ["812 B", "1.3 MiB", "24.0 GiB"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[1]);
        table.row(["SOURCE", "RECIPIENTS", "FROM"]);
        table.row(["a", "1,000", "/etc/a"]);
        table.row(["\u{fc}ber", "7", ""]);
        assert_eq!(
            table.lines(1),
            [" SOURCE  RECIPIENTS  FROM", " a            1,000  /etc/a", " \u{fc}ber             7"]
        );
    }

    #[test]
    fn control_bytes_do_not_reach_a_terminal() {
        let mut out = Vec::new();
        printable(b"a\tb\x1b[31m\xff", &mut out);
        assert_eq!(out, b"a\\x09b\\x1b[31m\xff");
        assert_eq!(printable_text(b"\xc3\xbc\xff\x7f"), "\u{fc}\\xff\\x7f");
        assert_eq!(printable_text("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }

    #[test]
    fn colour_is_an_ornament() {
        assert_eq!(Style::default().good("ok"), "ok");
        assert_eq!(Style { colour: true }.bad("no"), "\x1b[1;31mno\x1b[0m");
    }
}
