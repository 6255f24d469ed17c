//! Text that others wrote, made safe to show: in a header, on a terminal, in a
//! mail program.

/// What stands at the end of a text that was cut.
const CUT: char = '…';

/// `text` on one line of at most `limit` characters: white space of any kind is
/// one space, control characters (with them terminal escapes) and characters
/// that turn the reading direction or show nothing are gone.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit));
    let mut length = 0;
    let words = text.split(char::is_whitespace).map(shown_part);
    for word in words.filter(|word| !word.is_empty()) {
        let space = (length > 0).then_some(' ');
        for c in space.into_iter().chain(word.chars()) {
            if length == limit {
                line.pop();
                line.push(CUT);
                return line;
            }
            line.push(c);
            length += 1;
        }
    }
    line
}

/// `text` with its line breaks, each line as [`one_line`] makes it; at most
/// `lines` lines.
pub(crate) fn few_lines(text: &str, lines: usize, limit: usize) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut kept: Vec<String> = text
        .trim()
        .lines()
        .take(lines)
        .map(|line| one_line(line, limit))
        .collect();
    if text.trim().lines().count() > lines {
        kept.push(CUT.to_string());
    }
    kept.join("\n")
}

/// Keeps what a template rendered from carrying anything but text and line
/// breaks.
pub(crate) fn printable(text: &str) -> String {
    text.replace("\r\n", "\n")
        .chars()
        .filter(|c| *c == '\n' || *c == '\t' || is_shown(*c))
        .collect()
}

/// `text` for a header: one line, and never mistaken for an encoded word
/// (RFC 2047), which could decode to anything.
pub(crate) fn header(text: &str, limit: usize) -> String {
    one_line(text, limit).replace("=?", "= ?")
}

/// `text` for a name in a domain (RFC 5321 §4.1.2), such as the one in EHLO.
pub(crate) fn domain(text: &str) -> String {
    /// RFC 1035 §2.3.4.
    const LIMIT: usize = 253;
    let kept: String = text
        .trim()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .take(LIMIT)
        .collect();
    let labels: Vec<&str> = kept
        .split('.')
        .map(|label| label.trim_matches('-'))
        .filter(|label| !label.is_empty())
        .collect();
    if labels.is_empty() {
        return "localhost".to_owned();
    }
    labels.join(".")
}

fn shown_part(word: &str) -> String {
    word.chars().filter(|c| is_shown(*c)).collect()
}

/// Whether a reader sees `c` where it stands, and nothing else moves.
fn is_shown(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}'                    // soft hyphen
        | '\u{61c}'                 // Arabic letter mark
        | '\u{180e}'                // Mongolian vowel separator
        | '\u{200b}'                // zero width space
        | '\u{200e}'..='\u{200f}'   // direction marks
        | '\u{2028}'..='\u{202e}'   // line separators, direction overrides
        | '\u{2060}'..='\u{206f}'   // joiners, direction isolates
        | '\u{feff}'                // byte order mark
        | '\u{fff0}'..='\u{fffb}'   // annotations
        | '\u{e0000}'..='\u{e0fff}' // tags
    );
    !c.is_control() && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_says_stays_on_its_line() {
        for (said, shown) in [
            ("core1", "core1"),
            ("a\r\nBcc: x@y", "a Bcc: x@y"),
            ("a\0b", "ab"),
            ("\u{1b}[31mred\u{1b}[0m", "[31mred[0m"),
            ("\u{9b}31mred", "31mred"),
            ("cba\u{202e}abc", "cbaabc"),
            ("  a \t\u{2028}\u{a0} b ", "a b"),
            ("Zürich 東京", "Zürich 東京"),
            ("\u{200b}\u{feff}", ""),
        ] {
            assert_eq!(one_line(said, 100), shown, "{said:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_where_it_shows() {
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcde…");
        assert_eq!(one_line("ab cdefg", 3), "ab…");
        assert_eq!(few_lines("a\r\nb\rc\nd\n", 2, 9), "a\nb\n…");
        assert_eq!(few_lines("\na\n\nb\n", 5, 9), "a\n\nb");
    }

    #[test]
    fn an_encoded_word_in_a_name_stays_text() {
        assert_eq!(
            header("=?utf-8?q?=0aBcc:?= x", 90),
            "= ?utf-8?q?=0aBcc:?= x"
        );
    }

    #[test]
    fn any_host_name_becomes_one_that_mail_servers_take() {
        for (name, taken) in [
            ("noc.example.net", "noc.example.net"),
            ("my_host", "my-host"),
            ("a\r\nRSET", "a--RSET"),
            ("-a-..b.", "a.b"),
            ("", "localhost"),
            ("münchen", "m-nchen"),
        ] {
            assert_eq!(domain(name), taken, "{name:?}");
        }
    }
}
