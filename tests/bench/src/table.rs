//! The one table that a run prints.

use std::fmt::Write as _;

use crate::server::Kind;

/// How a line stands against its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within the target.
    Ok,
    /// Beyond it.
    Over,
    /// The line has no target.
    Told,
    /// Not measured: a part of it is not there.
    Skipped,
    /// A wrong answer, a closed connection, a server that ended.
    Failed,
}

impl Verdict {
    /// `Ok` if `within` holds.
    pub fn of(within: bool) -> Self {
        if within { Verdict::Ok } else { Verdict::Over }
    }

    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Over => "OVER",
            Verdict::Told => "",
            Verdict::Skipped => "skipped",
            Verdict::Failed => "FAILED",
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured, with its unit.
    pub what: String,
    /// A figure for each kind of server, in the order of [`Kind::ALL`]; empty where there is none.
    pub figures: [String; 4],
    /// The daemon against the others, or against itself.
    pub ratio: String,
    /// What it should be.
    pub target: String,
    /// Whether it is.
    pub verdict: Verdict,
}

/// All lines so far.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a line, and says so at once for those who wait.
    pub fn push(&mut self, row: Row) {
        let figures: Vec<String> = Kind::ALL
            .iter()
            .zip(&row.figures)
            .filter(|(_, figure)| !figure.is_empty())
            .map(|(kind, figure)| format!("{} {figure}", kind.name()))
            .collect();
        eprintln!("{}: {}; {} {}", row.what, figures.join(", "), row.ratio, row.verdict.word());
        self.rows.push(row);
    }

    /// Whether any line failed or is over its target.
    pub fn has(&self, verdict: Verdict) -> bool {
        self.rows.iter().any(|row| row.verdict == verdict)
    }

    /// The table as Markdown, columns aligned.
    pub fn render(&self) -> String {
        let mut lines =
            vec![["what", "rcptmapd", "bare", "redis", "memcached", "ratio", "target", ""].map(String::from)];
        for row in &self.rows {
            let [daemon, bare, redis, memcached] = row.figures.clone();
            let verdict = row.verdict.word().to_owned();
            lines.push([
                row.what.clone(),
                daemon,
                bare,
                redis,
                memcached,
                row.ratio.clone(),
                row.target.clone(),
                verdict,
            ]);
        }
        let widths: Vec<usize> =
            (0..8).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
        let mut out = String::new();
        for (number, line) in lines.iter().enumerate() {
            for (cell, &width) in line.iter().zip(&widths) {
                // writing to a String can't fail
                let _ = write!(out, "| {cell:width$} ");
            }
            out.push_str("|\n");
            if number == 0 {
                widths.iter().for_each(|&width| out.push_str(&format!("|{}", "-".repeat(width + 2))));
                out.push_str("|\n");
            }
        }
        out
    }
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The median of `ours[round] / theirs[round]`: each pair was measured within a second or two.
pub fn median_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(&ours.iter().zip(theirs).map(|(our, their)| our / their).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(median_ratio(&[2.0, 30.0, 4.0], &[1.0, 10.0, 4.0]), 2.0);
    }
}
