//! Device text made safe to show and to store.
//!
//! What a device says of itself reaches terminals, mails, web pages and label
//! values. An escape sequence in a sysName must not drive a terminal there, a
//! bidi override must not turn a name around, and an invisible character must
//! not make two names look alike.

use std::borrow::Cow;

/// The longest text that is kept: what SNMPv2-TC's DisplayString allows.
const MAX_CHARACTERS: usize = 255;

/// The most octets of an ifPhysAddress that are shown: InfiniBand has 20.
const MAX_MAC_OCTETS: usize = 20;

const ESCAPE: char = '\u{1b}';
const BELL: char = '\u{7}';
const CONTROL_SEQUENCE_INTRODUCER: char = '\u{9b}';

/// Device text made safe to show and to store: UTF-8 (else Latin-1) without
/// control characters, escape sequences, bidi controls and invisible
/// characters, line breaks as spaces, trimmed, at most 255 characters.
///
/// Safe text comes back as it was.
#[must_use]
pub fn safe_text(bytes: &[u8]) -> String {
    safe(bytes).into_owned()
}

/// As [`safe_text`], without a copy where nothing has to change, which is
/// nearly always.
pub(crate) fn safe(bytes: &[u8]) -> Cow<'_, str> {
    if is_plain(bytes)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Cow::Borrowed(text);
    }
    Cow::Owned(cleaned(&decoded(bytes)))
}

/// Printable ASCII that needs neither trimming nor cutting.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_CHARACTERS
        && bytes.first() != Some(&b' ')
        && bytes.last() != Some(&b' ')
        && bytes.iter().all(|byte| (0x20..=0x7e).contains(byte))
}

/// UTF-8, also where a device cut the last character in half; anything else
/// is read as Latin-1, which is what older devices were typed into.
fn decoded(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(&bytes[..error.valid_up_to()])
        }
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

fn cleaned(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(4 * MAX_CHARACTERS));
    let mut characters = text.chars();
    let mut after_break = false;
    while let Some(character) = characters.next() {
        match character {
            ESCAPE => skip_escape(&mut characters),
            CONTROL_SEQUENCE_INTRODUCER => skip_control_sequence(&mut characters),
            _ if is_break(character) => {
                if !after_break {
                    clean.push(' ');
                }
                after_break = true;
                continue;
            }
            _ if character.is_control() || is_invisible(character) => {}
            _ => clean.push(character),
        }
        after_break = false;
    }
    cut(clean.trim()).to_owned()
}

/// The first [`MAX_CHARACTERS`], without a space at the end.
fn cut(text: &str) -> &str {
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => text[..end].trim_end(),
        None => text,
    }
}

/// Tab, and all that ends a line or a page.
fn is_break(character: char) -> bool {
    matches!(character, '\t'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Characters without a shape: soft hyphen, zero-width and joining ones, bidi
/// marks, embeddings, overrides and isolates, byte order mark, annotations and
/// tags.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Skips what follows an escape character (ECMA-48 §5.3, §5.4, §5.6): a
/// control sequence, a control string, or one character.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    match ahead.next() {
        Some('[') => {
            skip_control_sequence(&mut ahead);
            *rest = ahead;
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            skip_control_string(&mut ahead);
            *rest = ahead;
        }
        Some(' '..='~') => *rest = ahead,
        Some(_) | None => {}
    }
}

/// Skips parameters, intermediates and the final character; stops before the
/// first character that belongs to none of them.
fn skip_control_sequence(rest: &mut std::str::Chars<'_>) {
    loop {
        let mut ahead = rest.clone();
        match ahead.next() {
            Some(' '..='?') => *rest = ahead,
            Some('@'..='~') => {
                *rest = ahead;
                return;
            }
            Some(_) | None => return,
        }
    }
}

/// Skips to the end of a control string; one without an end costs only its
/// introducer, so that it cannot hide what follows.
fn skip_control_string(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    while let Some(character) = ahead.next() {
        let ends = match character {
            BELL | '\u{9c}' => true,
            ESCAPE => ahead.clone().next() == Some('\\') && ahead.next().is_some(),
            _ => false,
        };
        if ends {
            *rest = ahead;
            return;
        }
    }
}

/// A physical address as aa:bb:cc:dd:ee:ff. `None` where there is none: no
/// octets, all zero, or more than any medium has. A few agents send the
/// address as text already.
pub(crate) fn mac(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() || bytes.len() > MAX_MAC_OCTETS || bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    if let Some(written) = written_mac(bytes) {
        return Some(written);
    }
    let mut shown = String::with_capacity(bytes.len() * 3);
    for (place, byte) in bytes.iter().enumerate() {
        if place > 0 {
            shown.push(':');
        }
        shown.push(hex_digit(byte >> 4));
        shown.push(hex_digit(byte & 0xf));
    }
    Some(shown)
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

/// `00:1B:21:...` or `00-1b-21-...`: 17 characters that stand for six octets.
fn written_mac(bytes: &[u8]) -> Option<String> {
    if bytes.len() != 17 {
        return None;
    }
    let is_written = bytes
        .iter()
        .enumerate()
        .all(|(place, byte)| match place % 3 {
            2 => matches!(byte, b':' | b'-'),
            _ => byte.is_ascii_hexdigit(),
        });
    is_written.then(|| {
        bytes
            .iter()
            .map(|byte| match byte {
                b'-' => ':',
                other => char::from(other.to_ascii_lowercase()),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn becomes(bytes: &[u8], expected: &str) {
        assert_eq!(
            safe_text(bytes),
            expected,
            "{:?}",
            bytes.escape_ascii().to_string()
        );
    }

    #[test]
    fn plain_text_stays_as_it_is_and_is_not_copied() {
        becomes(b"GigabitEthernet1/0/1", "GigabitEthernet1/0/1");
        becomes(
            "Zürich, 3. Stock – Süd".as_bytes(),
            "Zürich, 3. Stock – Süd",
        );
        assert!(matches!(safe(b"eth0"), Cow::Borrowed("eth0")));
    }

    #[test]
    fn line_breaks_become_one_space() {
        becomes(
            b"Cisco IOS\r\nCopyright\tby\n\nCisco\r\n",
            "Cisco IOS Copyright by Cisco",
        );
        becomes(b"  two  spaces stay  ", "two  spaces stay");
    }

    #[test]
    fn latin_1_is_read_where_it_is_not_utf_8() {
        becomes(b"M\xfcnchen", "München");
        becomes(b"80\xb0C \x85", "80°C");
    }

    #[test]
    fn a_character_that_the_device_cut_in_half_is_left_out() {
        becomes(b"caf\xc3\xa9 No\xc3", "café No");
    }

    #[test]
    fn what_would_drive_a_terminal_is_removed() {
        becomes(b"a\x1b[31;1mred\x1b[0m", "ared");
        becomes(b"t\x1b]0;title\x07x", "tx");
        becomes(b"t\x1b]8;;http://x\x1b\\link", "tlink");
        becomes("a\u{9b}2Jb".as_bytes(), "ab");
        becomes(b"\x1bcreset", "reset");
        becomes(b"\x1b]never ends", "never ends");
        becomes(b"end\x1b", "end");
        becomes(b"\x1b[\x1b[31mm", "m");
        becomes(b"nul\0 bell\x07 del\x7f", "nul bell del");
    }

    #[test]
    fn what_cannot_be_seen_is_removed() {
        becomes("a\u{202e}gpj.exe".as_bytes(), "agpj.exe");
        becomes("\u{2066}x\u{2069}\u{200b}\u{feff}\u{e0041}".as_bytes(), "x");
    }

    #[test]
    fn a_long_text_is_cut_at_255_characters() {
        assert_eq!(safe_text(&[b'x'; 9000]).len(), 255);
        let umlauts = "ü".repeat(300);
        assert_eq!(safe_text(umlauts.as_bytes()).chars().count(), 255);
    }

    #[test]
    fn a_physical_address_is_shown_in_hex() {
        assert_eq!(
            mac(&[0, 0x1b, 0x21, 0xa, 0xff, 1]).unwrap(),
            "00:1b:21:0a:ff:01"
        );
        assert_eq!(mac(b"00-1B-21-0A-FF-01").unwrap(), "00:1b:21:0a:ff:01");
        assert_eq!(
            mac(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap(),
            "01:02:03:04:05:06:07:08"
        );
    }

    #[test]
    fn no_octets_and_zeros_are_no_physical_address() {
        assert_eq!(mac(&[]), None);
        assert_eq!(mac(&[0; 6]), None);
        assert_eq!(mac(&[7; 4000]), None);
    }

    proptest! {
        #[test]
        fn safe_text_is_short_clean_and_comes_back_as_it_was(bytes: Vec<u8>) {
            let text = safe_text(&bytes);
            prop_assert!(text.chars().count() <= MAX_CHARACTERS);
            prop_assert!(!text.chars().any(|c| c.is_control() || is_invisible(c) || is_break(c)));
            prop_assert_eq!(safe_text(text.as_bytes()), text);
        }

        #[test]
        fn so_is_any_unicode_text(written in "\\PC*|[\\u{1b}\\[\\]m;0-9\\u{202a}-\\u{2069}]*") {
            let text = safe_text(written.as_bytes());
            prop_assert!(!text.chars().any(|c| c.is_control() || is_invisible(c) || is_break(c)));
            prop_assert_eq!(safe_text(text.as_bytes()), text);
        }
    }
}
