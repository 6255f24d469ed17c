//! Reads selectors.

use crate::selector::METRIC;
use crate::{Matcher, MatcherKind, NotASelector, Selector};

/// A text as its matchers.
pub(crate) fn selector(text: &str) -> Result<Vec<Matcher>, NotASelector> {
    if text.len() > Selector::LONGEST {
        let limit = Selector::LONGEST;
        return refuse(
            0,
            format!("a selector has at most {limit} bytes; select fewer things at once"),
        );
    }
    let mut reader = Reader {
        text: text.chars().collect(),
        at: 0,
    };
    let matchers = reader.whole()?;
    not_everything(&matchers)?;
    Ok(matchers)
}

fn refuse<T>(at: usize, what: impl Into<String>) -> Result<T, NotASelector> {
    Err(NotASelector {
        at,
        what: what.into(),
    })
}

/// As in Prometheus: nobody asks for everything by mistake.
fn not_everything(matchers: &[Matcher]) -> Result<(), NotASelector> {
    match matchers.iter().all(|matcher| matcher.accepts("")) {
        true => refuse(
            0,
            "this selects everything: name a metric, or add a matcher that a missing label does not pass, like a=\"b\" or a=~\".+\"",
        ),
        false => Ok(()),
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
}

impl Reader {
    fn whole(&mut self) -> Result<Vec<Matcher>, NotASelector> {
        self.skip_blanks();
        let metric = match self.peek() {
            Some(c) if begins_a_metric(c) => Some(self.metric()?),
            Some('{') => None,
            Some(c) => {
                return refuse(
                    self.at,
                    format!("{c:?} where a selector begins with a metric's name or {{"),
                );
            }
            None => {
                return refuse(
                    self.at,
                    "an empty selector: write a metric's name, or {label=\"value\"}",
                );
            }
        };
        self.skip_blanks();
        let mut matchers = Vec::new();
        let named = metric.is_some();
        matchers.extend(metric);
        if self.peek() == Some('{') {
            self.at += 1;
            self.matchers(named, &mut matchers)?;
        }
        self.skip_blanks();
        match self.peek() {
            None => Ok(matchers),
            Some(c) => refuse(self.at, after(c)),
        }
    }

    fn metric(&mut self) -> Result<Matcher, NotASelector> {
        let name = self.word(continues_a_metric);
        Matcher::new(METRIC, MatcherKind::Equal, &name)
    }

    /// What stands between the braces, the last one included.
    fn matchers(&mut self, named: bool, matchers: &mut Vec<Matcher>) -> Result<(), NotASelector> {
        loop {
            self.skip_blanks();
            if self.take('}') {
                return Ok(());
            }
            let at = self.at;
            if matchers.len() == Selector::MOST_MATCHERS {
                return refuse(
                    at,
                    format!(
                        "a selector has at most {} matchers; one of =~\"a|b|c\" does for many",
                        Selector::MOST_MATCHERS
                    ),
                );
            }
            let matcher = self.matcher()?;
            if named && matcher.name() == METRIC {
                return refuse(
                    at,
                    "the metric is named twice: before { and by __name__; leave one of them out",
                );
            }
            matchers.push(matcher);
            self.skip_blanks();
            if !self.take(',') && self.peek() != Some('}') {
                return refuse(
                    self.at,
                    format!(
                        "{} where , or }} was expected after a matcher",
                        self.found()
                    ),
                );
            }
        }
    }

    fn matcher(&mut self) -> Result<Matcher, NotASelector> {
        let name = self.label()?;
        self.skip_blanks();
        let kind = self.kind()?;
        self.skip_blanks();
        let at = self.at;
        let value = self.string()?;
        Matcher::new(&name, kind, &value).map_err(|error| NotASelector { at, ..error })
    }

    fn label(&mut self) -> Result<String, NotASelector> {
        match self.peek() {
            Some(c) if begins_a_label(c) => Ok(self.word(continues_a_label)),
            _ => refuse(
                self.at,
                format!(
                    "{} where a label's name (letters, digits and _, no digit first) or }} was expected",
                    self.found()
                ),
            ),
        }
    }

    fn kind(&mut self) -> Result<MatcherKind, NotASelector> {
        let next = self.text.get(self.at + 1).copied();
        let (kind, length) = match (self.peek(), next) {
            (Some('='), Some('~')) => (MatcherKind::Matches, 2),
            (Some('='), _) => (MatcherKind::Equal, 1),
            (Some('!'), Some('=')) => (MatcherKind::NotEqual, 2),
            (Some('!'), Some('~')) => (MatcherKind::NotMatches, 2),
            _ => {
                return refuse(
                    self.at,
                    format!(
                        "{} where =, !=, =~ or !~ was expected after a label's name",
                        self.found()
                    ),
                );
            }
        };
        self.at += length;
        Ok(kind)
    }

    fn string(&mut self) -> Result<String, NotASelector> {
        let begin = self.at;
        match self.peek() {
            Some('`') => self.raw_string(begin),
            Some(quote @ ('"' | '\'')) => self.quoted_string(begin, quote),
            _ => refuse(
                begin,
                format!(
                    "{} where a value in quotes was expected, like \"value\"",
                    self.found()
                ),
            ),
        }
    }

    fn raw_string(&mut self, begin: usize) -> Result<String, NotASelector> {
        self.at += 1;
        let mut value = String::new();
        loop {
            match self.next() {
                Some('`') => return Ok(value),
                Some(c) => value.push(c),
                None => return refuse(begin, "this text has no end: put ` after it"),
            }
        }
    }

    fn quoted_string(&mut self, begin: usize, quote: char) -> Result<String, NotASelector> {
        self.at += 1;
        let mut value = Vec::new();
        loop {
            match self.next() {
                Some(c) if c == quote => break,
                Some('\\') => self.escape(quote, &mut value)?,
                None | Some('\n') => {
                    return refuse(
                        begin,
                        format!(
                            "this text has no end: put {quote} after it, and \\n for a line end"
                        ),
                    );
                }
                Some(c) => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        match String::from_utf8(value) {
            Ok(value) => Ok(value),
            Err(_) => refuse(
                begin,
                "the escapes in this text do not make UTF-8; \\u00fc is one that always does",
            ),
        }
    }

    /// What follows a backslash, as in Go: `\x` and three octal digits are
    /// bytes, `\u` and `\U` characters.
    fn escape(&mut self, quote: char, value: &mut Vec<u8>) -> Result<(), NotASelector> {
        let at = self.at - 1;
        let byte = match self.next() {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0b,
            Some('\\') => b'\\',
            Some(c) if c == quote && c.is_ascii() => c as u8,
            Some('x') => self.byte(at, 2, 16)?,
            Some('0'..='7') => {
                self.at -= 1;
                self.byte(at, 3, 8)?
            }
            Some('u') => return self.character(at, 4, value),
            Some('U') => return self.character(at, 8, value),
            _ => {
                return refuse(
                    at,
                    "no such escape: \\\\ is a backslash (a regular expression in quotes needs it doubled, one in backticks does not)",
                );
            }
        };
        value.push(byte);
        Ok(())
    }

    fn byte(&mut self, at: usize, digits: usize, base: u32) -> Result<u8, NotASelector> {
        let number = self.number(at, digits, base)?;
        match u8::try_from(number) {
            Ok(byte) => Ok(byte),
            Err(_) => refuse(at, "this escape is more than a byte: \\377 is the greatest"),
        }
    }

    fn character(
        &mut self,
        at: usize,
        digits: usize,
        value: &mut Vec<u8>,
    ) -> Result<(), NotASelector> {
        let number = self.number(at, digits, 16)?;
        match char::from_u32(number) {
            Some(c) => {
                value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                Ok(())
            }
            None => refuse(at, "this escape is not a character of Unicode"),
        }
    }

    fn number(&mut self, at: usize, digits: usize, base: u32) -> Result<u32, NotASelector> {
        let mut number: u32 = 0;
        for _ in 0..digits {
            match self.next().and_then(|c| c.to_digit(base)) {
                // at most 8 digits of 4 bits
                Some(digit) => number = number.wrapping_mul(base) | digit,
                None => {
                    return refuse(
                        at,
                        format!("this escape has {digits} digits of base {base}"),
                    );
                }
            }
        }
        Ok(number)
    }

    fn word(&mut self, continues: fn(char) -> bool) -> String {
        let begin = self.at;
        while self.peek().is_some_and(continues) {
            self.at += 1;
        }
        self.text[begin..self.at].iter().collect()
    }

    /// Blanks, line ends, and what `#` takes out of a line.
    fn skip_blanks(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | '\r' => self.at += 1,
                '#' => while self.next().is_some_and(|c| c != '\n') {},
                _ => return,
            }
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    /// For messages.
    fn found(&self) -> String {
        match self.peek() {
            Some(c) => format!("{c:?}"),
            None => "the end".to_owned(),
        }
    }
}

fn after(c: char) -> String {
    match c {
        '(' => "a function cannot stand here, only a selector: what is computed of the series is asked for beside it".to_owned(),
        '[' => "a range cannot stand here: the span of time is asked for beside the selector".to_owned(),
        _ => format!("{c:?} after the selector's end; a selector is a metric's name and matchers in {{}}, nothing more"),
    }
}

fn begins_a_metric(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

fn continues_a_metric(c: char) -> bool {
    begins_a_metric(c) || c.is_ascii_digit()
}

fn begins_a_label(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn continues_a_label(c: char) -> bool {
    begins_a_label(c) || c.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The matchers in `text`, one after the other.
    fn read(text: &str) -> Vec<String> {
        let matchers = selector(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        matchers.iter().map(Matcher::to_string).collect()
    }

    /// The value of the only matcher.
    fn value(text: &str) -> String {
        selector(text).unwrap()[0].value().to_owned()
    }

    fn refused(text: &str, at: usize, what: &str) {
        let error = selector(text).expect_err(text);
        assert!(error.what.contains(what), "{text}: {error}");
        assert_eq!(error.at, at, "{text}: {error}");
    }

    #[test]
    fn selectors_are_read() {
        assert_eq!(read("up"), [r#"__name__="up""#]);
        assert_eq!(read("job:up:sum5m"), [r#"__name__="job:up:sum5m""#]);
        assert_eq!(read("up{}"), [r#"__name__="up""#]);
        assert_eq!(
            read(r#"m{a="b",c!="d",e=~"f.*",g!~"h"}"#),
            [
                r#"__name__="m""#,
                r#"a="b""#,
                r#"c!="d""#,
                r#"e=~"f.*""#,
                r#"g!~"h""#
            ]
        );
        assert_eq!(read(r#"{__name__=~"if.*"}"#), [r#"__name__=~"if.*""#]);
        assert_eq!(read(r#"{__name__="a",__name__!="b"}"#).len(), 2);
    }

    #[test]
    fn blanks_comments_and_a_last_comma_do_not_matter() {
        assert_eq!(
            read(" m # which\n { a = \"b\" ,\n\tc !~ 'd' , } # all"),
            read(r#"m{a="b",c!~"d"}"#)
        );
    }

    #[test]
    fn strings_are_read_as_in_promql() {
        assert_eq!(value(r#"{a="x\"y'z`"}"#), "x\"y'z`");
        assert_eq!(value(r#"{a='x\'y"z`'}"#), "x'y\"z`");
        assert_eq!(value(r"{a=`x\d'\`}"), r"x\d'\");
        assert_eq!(value("{a=`x\ny`}"), "x\ny");
        assert_eq!(
            value(r#"{a="\a\b\f\n\r\t\v\\"}"#),
            "\x07\x08\x0c\n\r\t\x0b\\"
        );
        assert_eq!(value(r#"{a="\x41\101\u00fc\U0001F600"}"#), "AAü😀");
        assert_eq!(value(r#"{a="\xc3\274"}"#), "ü");
    }

    #[test]
    fn what_selects_everything_is_refused() {
        for text in [
            "{}",
            r#"{a=""}"#,
            r#"{a!="x"}"#,
            r#"{a=~".*"}"#,
            r#"{a!~"x",b=""}"#,
        ] {
            refused(text, 0, "selects everything");
        }
        for text in [
            r#"{a!=""}"#,
            r#"{a=~".+"}"#,
            r#"{a!~".*"}"#,
            r#"{b="",a="x"}"#,
        ] {
            assert!(selector(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_says_where() {
        refused("", 0, "empty selector");
        refused("  ", 2, "empty selector");
        refused("1up", 0, "begins with a metric's name");
        refused("ü{}", 0, "begins with a metric's name");
        refused("up{", 3, "the end where a label's name");
        refused("up{a", 4, "the end where =, !=, =~ or !~");
        refused("up{a=", 5, "the end where a value in quotes");
        refused("up{a=b}", 5, "'b' where a value in quotes");
        refused("up{a==\"b\"}", 5, "'=' where a value in quotes");
        refused("up{a>\"b\"}", 4, "'>' where =, !=, =~ or !~");
        refused("up{a!\"b\"}", 4, "'!' where =, !=, =~ or !~");
        refused("up{a=\"b\" c=\"d\"}", 9, "'c' where , or }");
        refused("up{a=\"b\"", 8, "the end where , or }");
        refused("up{,}", 3, "',' where a label's name");
        refused("up{a=\"b\",,}", 9, "',' where a label's name");
        refused("up{\"a\"}", 3, "'\"' where a label's name");
        refused("up{a:b=\"c\"}", 4, "':' where =, !=, =~ or !~");
        refused("up{__name__=\"b\"}", 3, "named twice");
        refused("up{} x", 5, "after the selector's end");
        refused("up offset 5m", 3, "after the selector's end");
        refused("up[5m]", 2, "a range cannot stand here");
        refused("rate(up[5m])", 4, "a function cannot stand here");
        refused("up{ü=\"b\"}", 3, "'ü' where a label's name");
    }

    #[test]
    fn a_text_that_is_wrong_says_where() {
        refused("{a=\"b}", 3, "put \" after it");
        refused("{a='b\n'}", 3, "put ' after it");
        refused("{a=`b}", 3, "put ` after it");
        refused(r#"{a="ü\d"}"#, 5, "no such escape");
        refused(r#"{a="\'"}"#, 4, "no such escape");
        refused(r#"{a="b\"#, 5, "no such escape");
        refused(r#"{a="\x4"}"#, 4, "2 digits of base 16");
        refused(r#"{a="\08"}"#, 4, "3 digits of base 8");
        refused(r#"{a="\777"}"#, 4, "more than a byte");
        refused(r#"{a="\ud800"}"#, 4, "not a character");
        refused(r#"{a="\UFFFFFFFF"}"#, 4, "not a character");
        refused(r#"{a="\xff"}"#, 3, "do not make UTF-8");
        refused(r#"up{a=~"("}"#, 6, "unclosed group at its character 1");
    }

    #[test]
    fn limits_are_named() {
        let long = format!("{{a=\"{}\"}}", "x".repeat(Selector::LONGEST));
        refused(&long, 0, "at most 4096 bytes");
        let many = format!("{{{}}}", "a=\"b\",".repeat(Selector::MOST_MATCHERS + 1));
        refused(
            &many,
            1 + 6 * Selector::MOST_MATCHERS,
            "at most 100 matchers",
        );
        let most = format!("{{{}}}", "a=\"b\",".repeat(Selector::MOST_MATCHERS));
        assert_eq!(read(&most).len(), Selector::MOST_MATCHERS);
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "\\PC*") {
            let _ = selector(&text);
        }

        #[test]
        fn nearly_selectors_are_read_or_refused(text in "[a{}=!~,\"'`\\\\x(1 .*#\n]{0,30}") {
            if let Err(error) = selector(&text) {
                prop_assert!(error.at <= text.chars().count());
            }
        }

        #[test]
        fn what_is_written_is_read_again(value in any::<String>()) {
            let written = Matcher::new("a", MatcherKind::Equal, &value).unwrap();
            let text = format!("x{{{written}}}");
            let read = selector(&text).unwrap();
            prop_assert_eq!(read[1].value(), value);
        }
    }
}
