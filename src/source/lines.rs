//! From chunks of text to lines, and from lines to logical lines.
//!
//! A line is a slice of the chunk; only one that a chunk border cuts is copied. Line ends are LF or CRLF, blanks at
//! the end are cut, a missing last line end is no fault, NUL refuses the source, and every line has its limit.
//! `# end N lines`, alone on a line, is the promise of N lines before it and of nothing behind (DESIGN, 11.12).

use memchr::memchr;

use super::{Fault, Reader, Refused, Sink};

/// The longest logical line. An LDIF or CSV line of a group with a thousand addresses has half of it.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// As much of an over-long line as is kept: the longest key is within.
const KEPT: usize = 1024;

/// As much of it as is reported.
const EXCERPT: usize = 256;

/// How lines of a format go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// Never: every line is an entry of its own, and empty lines and comments are the reader's business.
    Never,
    /// As Postfix has it (`readlline`): a line that begins with a blank goes on with the one before; empty lines and
    /// comments in between don't count, and the reader never sees them.
    Blank,
    /// As LDIF has it: exactly one blank at the beginning is dropped, and what follows is joined without any.
    Fold,
    /// No text and no lines.
    Raw,
}

/// Cuts text into logical lines.
#[derive(Debug)]
pub(super) struct Lines {
    number: u32,
    /// The line that the last chunk border cut.
    partial: Cut,
    /// The logical line that may go on.
    pending: Cut,
    pending_number: u32,
    /// The end mark was seen.
    ended: bool,
}

/// An unfinished piece of text.
#[derive(Debug, Default)]
struct Cut {
    text: Vec<u8>,
    open: bool,
    /// Longer than `MAX_LINE`; `text` has the beginning.
    overlong: bool,
}

impl Cut {
    fn keep(&mut self, piece: &[u8], overlong: bool) {
        self.open = true;
        if self.overlong {
            return;
        }
        self.text.extend_from_slice(piece);
        self.overlong = overlong || self.text.len() > MAX_LINE;
        if self.overlong {
            self.text.truncate(KEPT);
        }
    }

    /// Hands over what was kept, with its buffer, which `give_back` returns.
    fn take(&mut self) -> Option<Cut> {
        std::mem::take(&mut self.open).then(|| {
            let overlong = std::mem::take(&mut self.overlong);
            Cut { text: std::mem::take(&mut self.text), open: false, overlong }
        })
    }

    fn give_back(&mut self, mut cut: Cut) {
        cut.text.clear();
        self.text = cut.text;
    }
}

impl Lines {
    pub(super) fn new() -> Lines {
        Lines { number: 0, partial: Cut::default(), pending: Cut::default(), pending_number: 0, ended: false }
    }

    /// Lines so far.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Hands the lines of `text` to the reader.
    pub(super) fn feed<R: Reader, S: Sink>(
        &mut self,
        text: &[u8],
        reader: &mut R,
        sink: &mut S,
    ) -> Result<(), Refused> {
        let nul = memchr(0, text);
        let mut rest = nul.and_then(|at| text.get(..at)).unwrap_or(text);
        if self.partial.open {
            match split_line(rest) {
                None => {
                    self.partial.keep(rest, false);
                    rest = b"";
                }
                Some((line, tail)) => {
                    self.partial.keep(line, false);
                    self.close(tail.first().copied(), reader, sink)?;
                    rest = tail;
                }
            }
        }
        while let Some((line, tail)) = split_line(rest) {
            self.line(line, line.len() > MAX_LINE, tail.first().copied(), reader, sink)?;
            rest = tail;
        }
        if !rest.is_empty() {
            self.partial.keep(rest, false);
        }
        if nul.is_some() {
            self.flush(reader, sink)?;
            return Err(Refused::Nul { line: self.number.saturating_add(1) });
        }
        Ok(())
    }

    /// Hands over what waits for a line end or for its continuation.
    pub(super) fn finish<R: Reader, S: Sink>(&mut self, reader: &mut R, sink: &mut S) -> Result<(), Refused> {
        self.close(None, reader, sink)?;
        self.flush(reader, sink)
    }

    /// The line that a chunk border had cut is complete.
    fn close<R: Reader, S: Sink>(&mut self, next: Option<u8>, reader: &mut R, sink: &mut S) -> Result<(), Refused> {
        let Some(cut) = self.partial.take() else { return Ok(()) };
        self.line(&cut.text, cut.overlong, next, reader, sink)?;
        self.partial.give_back(cut);
        Ok(())
    }

    /// A line, without its LF. `next` is the first byte of the next one, where it is at hand already; it saves a copy,
    /// and nothing else may hang on it.
    #[inline]
    fn line<R: Reader, S: Sink>(
        &mut self,
        line: &[u8],
        overlong: bool,
        next: Option<u8>,
        reader: &mut R,
        sink: &mut S,
    ) -> Result<(), Refused> {
        self.number = self.number.saturating_add(1);
        // Files that were joined have their byte order marks in the middle.
        let text = trim_end(line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line));
        match text {
            [b'#', ..] => {
                if let Some(said) = end_mark(text) {
                    self.flush(reader, sink)?;
                    return self.end(said);
                }
            }
            [_, ..] if self.ended => return Err(Refused::AfterEnd { line: self.number }),
            _ => {}
        }
        match (R::JOIN, text) {
            (Join::Never | Join::Raw, _) => return deliver(self.number, text, overlong, reader, sink),
            (Join::Blank, _) if is_idle(text) && !overlong => return Ok(()),
            (Join::Blank, [b' ' | b'\t', ..]) => return self.go_on(text, overlong, sink),
            (Join::Fold, [b' ', piece @ ..]) => return self.go_on(piece, overlong, sink),
            (Join::Blank | Join::Fold, _) => {}
        }
        self.flush(reader, sink)?;
        let complete = match R::JOIN {
            Join::Fold => !matches!(next, None | Some(b' ' | 0xef)),
            _ => !matches!(next, None | Some(b' ' | b'\t' | b'\r' | b'\n' | b'#' | 0xef)),
        };
        if complete {
            return deliver(self.number, text, overlong, reader, sink);
        }
        self.pending_number = self.number;
        self.pending.keep(text, overlong);
        Ok(())
    }

    /// A line goes on with the pending one.
    fn go_on<S: Sink>(&mut self, text: &[u8], overlong: bool, sink: &mut S) -> Result<(), Refused> {
        match self.pending.open {
            true => self.pending.keep(text, overlong),
            false => sink.fault(self.number, excerpt(text), Fault::LeadingBlank),
        }
        Ok(())
    }

    /// The pending line does not go on.
    fn flush<R: Reader, S: Sink>(&mut self, reader: &mut R, sink: &mut S) -> Result<(), Refused> {
        let Some(cut) = self.pending.take() else { return Ok(()) };
        deliver(self.pending_number, &cut.text, cut.overlong, reader, sink)?;
        self.pending.give_back(cut);
        Ok(())
    }

    fn end(&mut self, said: u64) -> Result<(), Refused> {
        self.ended = true;
        match said == u64::from(self.number) - 1 {
            true => Ok(()),
            false => Err(Refused::EndMark { line: self.number, said }),
        }
    }
}

#[inline]
fn deliver<R: Reader, S: Sink>(
    number: u32,
    text: &[u8],
    overlong: bool,
    reader: &mut R,
    sink: &mut S,
) -> Result<(), Refused> {
    if overlong {
        return reader.cut(number, trim_end(text.get(..KEPT).unwrap_or(text)), sink);
    }
    reader.line(number, text, sink)
}

/// As much of a text as a report wants.
pub(super) fn excerpt(text: &[u8]) -> &[u8] {
    text.get(..EXCERPT).unwrap_or(text)
}

fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, tail) = text.split_at_checked(memchr(b'\n', text)?)?;
    Some((line, tail.get(1..)?))
}

/// `# end 1234 lines`: the number.
fn end_mark(line: &[u8]) -> Option<u64> {
    let mut words = std::str::from_utf8(line.strip_prefix(b"#")?).ok()?.split_ascii_whitespace();
    let said = (words.next()? == "end").then(|| words.next())??;
    (matches!(words.next()?, "line" | "lines") && words.next().is_none()).then(|| said.parse().ok())?
}

pub(super) fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

#[inline]
pub(super) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [start @ .., b' ' | b'\t' | b'\r'] = text {
        text = start;
    }
    text
}

#[inline]
pub(super) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// Empty, or a comment, whatever its indentation.
#[inline]
pub(super) fn is_idle(line: &[u8]) -> bool {
    matches!(trim_start(line), [] | [b'#', ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Collector, Event, Options};

    /// Faults every line, so that the collector shows them.
    struct Never;
    struct Blank;
    struct Fold;

    macro_rules! echo {
        ($($name:ident),*) => {$(
            impl Reader for $name {
                const JOIN: Join = Join::$name;

                fn new(_: &Options) -> $name {
                    $name
                }

                fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
                    sink.fault(number, line, Fault::Prose);
                    Ok(())
                }
            }
        )*};
    }
    echo!(Never, Blank, Fold);

    type Echoed = Result<(Vec<(u32, String, Fault)>, u32), Refused>;

    fn lines<R: Reader>(chunks: &[&[u8]]) -> Echoed {
        let (mut lines, mut sink, mut reader) = (Lines::new(), Collector::default(), R::new(&Options::default()));
        for chunk in chunks {
            lines.feed(chunk, &mut reader, &mut sink)?;
        }
        lines.finish(&mut reader, &mut sink)?;
        let events = sink.events.into_iter().map(|event| match event {
            Event::Fault { line, text, fault } => (line, String::from_utf8_lossy(&text).into_owned(), fault),
            other => panic!("unexpected {other:?}"),
        });
        Ok((events.collect(), lines.number()))
    }

    fn every_cut<R: Reader>(text: &[u8]) -> Echoed {
        let whole = lines::<R>(&[text]);
        assert_eq!(lines::<R>(&text.chunks(1).collect::<Vec<_>>()), whole);
        for cut in 0..=text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(lines::<R>(&[a, b]), whole, "cut at {cut}");
        }
        whole
    }

    fn line(number: u32, text: &str) -> (u32, String, Fault) {
        (number, text.to_owned(), Fault::Prose)
    }

    #[test]
    fn line_ends_and_trailing_blanks_are_cut() {
        let expected = vec![line(1, "a"), line(2, ""), line(3, " b c"), line(4, "d"), line(5, "e")];
        assert_eq!(every_cut::<Never>(b"a\r\n\n b c \t\r\nd\ne"), Ok((expected.clone(), 5)));
        assert_eq!(every_cut::<Never>(b"a\r\n\n b c \t\r\nd\ne\n"), Ok((expected, 5)));
        assert_eq!(every_cut::<Never>(b""), Ok((vec![], 0)));
        assert_eq!(every_cut::<Never>(b"\n"), Ok((vec![line(1, "")], 1)));
    }

    #[test]
    fn postfix_lines_go_on_over_comments_and_empty_lines() {
        let text = b"# head\na  1\r\n  2\r\n# between\n\n \t# indented\n\t3\nb\n\n# tail\nc\nd";
        assert_eq!(
            every_cut::<Blank>(text),
            Ok((vec![line(2, "a  1  2\t3"), line(8, "b"), line(11, "c"), line(12, "d")], 12))
        );
        assert_eq!(
            every_cut::<Blank>(b"# x\n y\nz"),
            Ok((vec![(2, " y".into(), Fault::LeadingBlank), line(3, "z")], 3))
        );
    }

    #[test]
    fn a_byte_order_mark_within_is_no_part_of_a_line() {
        assert_eq!(every_cut::<Blank>(b"a\n\xef\xbb\xbf b"), Ok((vec![line(1, "a b")], 2)));
        let expected = Ok((vec![line(1, "a"), line(2, "b"), line(4, "c")], 4));
        assert_eq!(every_cut::<Blank>(b"a\n\xef\xbb\xbfb\n\xef\xbb\xbf# d\n\xef\xbb\xbfc"), expected);
    }

    #[test]
    fn ldif_lines_are_folded_at_one_blank() {
        let text = b"a: b\n c\n  d\n\n# x\n y\ne\n";
        assert_eq!(
            every_cut::<Fold>(text),
            Ok((vec![line(1, "a: bc d"), line(4, ""), line(5, "# xy"), line(7, "e")], 7))
        );
    }

    #[test]
    fn an_overlong_line_is_one_fault_however_it_comes() {
        let mut text = b"a\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', MAX_LINE + 1));
        text.extend_from_slice(b"\nb");
        let expected = Ok((vec![line(1, "a"), (2, "x".repeat(EXCERPT), Fault::TooLong), line(3, "b")], 3));
        for size in [1, 7, 1000, MAX_LINE, text.len()] {
            let chunks = text.chunks(size).collect::<Vec<_>>();
            assert_eq!(lines::<Never>(&chunks), expected, "chunks of {size}");
            assert_eq!(lines::<Blank>(&chunks), expected, "chunks of {size}");
        }
        text.remove(2);
        assert_eq!(lines::<Never>(&[&text]).map(|(l, _)| l.get(1).map(|l| l.1.len())), Ok(Some(MAX_LINE)));
    }

    #[test]
    fn an_overlong_logical_line_is_one_fault() {
        let piece = format!(" {}\n", "y".repeat(MAX_LINE / 2));
        let text = format!("a\nb 1\n{piece}{piece}{piece}c\n");
        let (events, count) = lines::<Blank>(&[text.as_bytes()]).expect("no refusal");
        assert_eq!(lines::<Blank>(&text.as_bytes().chunks(3).collect::<Vec<_>>()), Ok((events.clone(), count)));
        let brief: Vec<_> = events.iter().map(|(n, text, fault)| (*n, text.get(..4).unwrap_or(text), *fault)).collect();
        assert_eq!(brief, [(1, "a", Fault::Prose), (2, "b 1 ", Fault::TooLong), (6, "c", Fault::Prose)]);
    }

    #[test]
    fn nul_refuses_with_its_line() {
        assert_eq!(every_cut::<Never>(b"a\nb\0c\nd"), Err(Refused::Nul { line: 2 }));
        assert_eq!(every_cut::<Never>(b"\0"), Err(Refused::Nul { line: 1 }));
        assert_eq!(every_cut::<Blank>(b"a\n\0"), Err(Refused::Nul { line: 2 }));
    }

    #[test]
    fn the_end_mark_is_held_against_the_lines_before_it() {
        assert_eq!(every_cut::<Never>(b"a\n# end 1 lines"), Ok((vec![line(1, "a")], 2)));
        assert_eq!(every_cut::<Blank>(b"a\n#end 1 line \r\n\r\n").map(|(_, n)| n), Ok(3));
        assert_eq!(every_cut::<Blank>(b"a\n# end 2 lines\n"), Err(Refused::EndMark { line: 2, said: 2 }));
        assert_eq!(every_cut::<Never>(b"a\n# end 1 lines\nb\n"), Err(Refused::AfterEnd { line: 3 }));
        assert_eq!(every_cut::<Never>(b"a\n# end of 1 lines\nb\n").map(|(_, n)| n), Ok(3));
        assert_eq!(every_cut::<Never>(b"a\n# end\n").map(|(_, n)| n), Ok(2));
    }
}
