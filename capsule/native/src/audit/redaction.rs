//! Taking secrets out of what is recorded, before it is hashed, and leaving a commitment in their place.
//!
//! A secret becomes `[redacted:<kind>:<commitment>]`, where the commitment is the first 128 bits of BLAKE3 keyed
//! with the operator's salt: who holds the salt can show that two secrets were the same, or which one it was;
//! who does not cannot try out guesses. It knows shapes and names, not meanings: it is no proof that no secret passed.
//!
//! `GITHUB_TOKEN=abc git push` → `GITHUB_TOKEN=[redacted:named:…] git push`.

use std::borrow::Cow;

use super::chain::hex;
use super::logins::{is_login, login, option};
use super::rules;

/// Where a text stands, which can make it a secret by itself.
#[derive(Clone, Copy)]
pub enum Context<'a> {
    /// The value of a field with this name.
    Field(&'a str),
    /// An item of a list, with the item before it.
    Item {
        /// The text of the item before, if it is one.
        before: Option<&'a str>,
    },
}

/// The redaction with its salt.
pub struct Redactor {
    salt: [u8; 32],
    known: Vec<Vec<u8>>,
}

/// Bytes of a known value below which it is not looked for: it would be found in every word.
const SHORTEST_KNOWN: usize = 6;

pub(super) struct Span {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: &'static str,
}

impl Redactor {
    /// A redaction whose commitments are keyed with `salt`.
    pub fn with_salt(salt: [u8; 32]) -> Redactor {
        Redactor {
            salt,
            known: Vec::new(),
        }
    }

    /// Also take out this very value, wherever it stands. One shorter than 6 bytes is passed over.
    pub fn know(&mut self, value: &[u8]) {
        if value.len() >= SHORTEST_KNOWN && !self.known.iter().any(|known| known == value) {
            self.known.push(value.to_vec());
        }
    }

    /// Where known values stand, the longest of those that begin at one place.
    fn known_in(&self, text: &[u8]) -> Vec<Span> {
        let (mut spans, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let here = self
                .known
                .iter()
                .filter(|value| text[at..].starts_with(value));
            match here.map(Vec::len).max() {
                Some(length) => {
                    spans.push(Span {
                        from: at,
                        to: at + length,
                        kind: "secret",
                    });
                    at += length;
                }
                None => at += 1,
            }
        }
        spans
    }

    /// The commitment to `secret`: 32 hexadecimal digits.
    pub fn commitment(&self, secret: &[u8]) -> String {
        hex(&blake3::keyed_hash(&self.salt, secret).as_bytes()[..16])
    }

    /// `text` with its secrets replaced.
    pub fn clean<'a>(&self, text: &'a [u8], context: Context<'_>) -> Cow<'a, [u8]> {
        let mut spans = find(text, context);
        if !self.known.is_empty() {
            spans = joined(spans, self.known_in(text));
        }
        if spans.is_empty() {
            return Cow::Borrowed(text);
        }
        let (mut out, mut done) = (Vec::with_capacity(text.len()), 0);
        for span in spans {
            out.extend_from_slice(&text[done..span.from]);
            let marker = format!(
                "[redacted:{}:{}]",
                span.kind,
                self.commitment(&text[span.from..span.to])
            );
            out.extend_from_slice(marker.as_bytes());
            done = span.to;
        }
        out.extend_from_slice(&text[done..]);
        Cow::Owned(out)
    }
}

/// Both lists as one, in order; what overlaps becomes one span.
fn joined(mut spans: Vec<Span>, mut more: Vec<Span>) -> Vec<Span> {
    spans.append(&mut more);
    spans.sort_by_key(|span| span.from);
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match out.last_mut() {
            Some(last) if span.from < last.to => last.to = last.to.max(span.to),
            _ => out.push(span),
        }
    }
    out
}

fn find(text: &[u8], context: Context<'_>) -> Vec<Span> {
    if text.is_empty() {
        return Vec::new();
    }
    let whole = |kind| {
        vec![Span {
            from: 0,
            to: text.len(),
            kind,
        }]
    };
    let mut script = false;
    match context {
        Context::Field(name) if rules::names_a_secret(name.as_bytes()) => return whole("named"),
        Context::Item {
            before: Some(before),
        } if before.starts_with('-') && !before.contains(['=', ' ']) => {
            if rules::names_a_secret(before.as_bytes()) {
                return whole("named");
            }
            if rules::LOGINS.contains(&before) && is_login(text) {
                return whole("userinfo");
            }
            // The item after `-c` is a program: only its words are secret, never all of it.
            script = !before.starts_with("--") && before.ends_with('c');
        }
        _ => {}
    }
    let (mut spans, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let found = match text[at] {
            b'=' => assignment(text, at, script),
            b':' if text[at..].starts_with(b"://") => userinfo(text, at + 3),
            b':' => header(text, at),
            b'-' if text[at..].starts_with(b"-----BEGIN ") => private_key(text, at),
            b'-' if at == 0 || text[at - 1].is_ascii_whitespace() => option(text, at),
            b'@' => login(text, at, spans.last().map_or(0, |span: &Span| span.to)),
            byte if BEGINS[usize::from(byte)] && (at == 0 || !in_word(text[at - 1])) => {
                token(text, at)
            }
            _ => None,
        };
        at = match found {
            Some(span) => {
                let to = span.to;
                spans.push(span);
                to
            }
            None => at + 1,
        };
    }
    spans
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

static BEGINS: [bool; 256] = {
    let mut table = [false; 256];
    let mut n = 0;
    while n < rules::SHAPES.len() {
        table[rules::SHAPES[n].prefix.as_bytes()[0] as usize] = true;
        n += 1;
    }
    table
};

fn token(text: &[u8], at: usize) -> Option<Span> {
    let rest = &text[at..];
    let shape = rules::SHAPES.iter().find(|shape| {
        rest.starts_with(shape.prefix.as_bytes())
            && rest[shape.prefix.len()..]
                .iter()
                .take_while(|byte| in_token(**byte))
                .take(shape.least)
                .count()
                == shape.least
    })?;
    let length = rest[shape.prefix.len()..]
        .iter()
        .take_while(|byte| in_token(**byte))
        .count();
    Some(Span {
        from: at,
        to: at + shape.prefix.len() + length,
        kind: shape.kind,
    })
}

fn in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'+' | b'=' | b'~')
}

/// `NAME=value`, where NAME is a secret's, and `sep` is where the `=` stands.
fn assignment(text: &[u8], sep: usize, script: bool) -> Option<Span> {
    let name = name_before(text, sep);
    if !rules::names_a_secret(&text[name..sep]) {
        return None;
    }
    let alone = !script && text[..name].iter().all(|byte| *byte == b'-');
    let (from, to) = if alone {
        (sep + 1, text.len())
    } else {
        value_after(text, sep + 1)
    };
    (from < to).then_some(Span {
        from,
        to,
        kind: "named",
    })
}

/// `Name: value` or `"name": "value"`.
fn header(text: &[u8], sep: usize) -> Option<Span> {
    let mut end = sep;
    if end > 0 && matches!(text[end - 1], b'"' | b'\'') {
        end -= 1;
    }
    let name = &text[name_before(text, end)..end];
    let line = rules::HEADERS
        .iter()
        .any(|header| name.eq_ignore_ascii_case(header.as_bytes()));
    if !line && !rules::names_a_secret(name) {
        return None;
    }
    let mut from = sep
        + 1
        + text[sep + 1..]
            .iter()
            .take_while(|byte| **byte == b' ')
            .count();
    let to = if line {
        if text.get(from) == Some(&b'"') {
            from += 1;
        }
        for scheme in [&b"bearer "[..], b"basic ", b"token ", b"digest "] {
            if text.len() >= from + scheme.len()
                && text[from..from + scheme.len()].eq_ignore_ascii_case(scheme)
            {
                from += scheme.len();
                break;
            }
        }
        from + text[from..]
            .iter()
            .take_while(|byte| !matches!(byte, b'\r' | b'\n' | b'"' | b'\''))
            .count()
    } else {
        let (start, to) = value_after(text, from);
        from = start;
        to
    };
    (from < to).then_some(Span {
        from,
        to,
        kind: if line { "header" } else { "named" },
    })
}

fn name_before(text: &[u8], end: usize) -> usize {
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let from = end
        - text[..end]
            .iter()
            .rev()
            .take(128)
            .take_while(|byte| name(byte))
            .count();
    from + text[from..end]
        .iter()
        .take_while(|byte| **byte == b'-')
        .count()
}

/// Where the value that begins at `from` begins and ends: in its quotes, or up to what ends a word of a shell or a URL.
pub(super) fn value_after(text: &[u8], from: usize) -> (usize, usize) {
    match text.get(from) {
        Some(quote @ (b'"' | b'\'')) => {
            let inner = from + 1;
            (
                inner,
                inner
                    + text[inner..]
                        .iter()
                        .take_while(|byte| *byte != quote)
                        .count(),
            )
        }
        _ => {
            let ends = |byte: &u8| {
                byte.is_ascii_whitespace()
                    || matches!(
                        byte,
                        b'"' | b'\'' | b'&' | b';' | b'|' | b')' | b'<' | b'>' | b'`'
                    )
            };
            (
                from,
                from + text[from..].iter().take_while(|byte| !ends(byte)).count(),
            )
        }
    }
}

fn userinfo(text: &[u8], from: usize) -> Option<Span> {
    let authority = text[from..].iter().take_while(|byte| {
        !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'')
    });
    let at = authority
        .enumerate()
        .filter(|(_, byte)| **byte == b'@')
        .last()?
        .0;
    let info = &text[from..from + at];
    // `ssh://git@host` names nobody; anything with a password, or as long as a token, is one.
    let secret = info.contains(&b':') || info.len() >= 16;
    (secret && at > 0).then_some(Span {
        from,
        to: from + at,
        kind: "userinfo",
    })
}

fn private_key(text: &[u8], at: usize) -> Option<Span> {
    let find = |part: &[u8], from: usize| {
        text[from..]
            .windows(part.len())
            .position(|window| window == part)
            .map(|found| from + found)
    };
    let head = find(b"PRIVATE KEY", at).filter(|head| head - at < 60)?;
    let to = match find(b"-----END ", head) {
        Some(end) => find(b"KEY-----", end).map_or(text.len(), |tail| tail + 8),
        None => text.len(),
    };
    Some(Span {
        from: at,
        to,
        kind: "private-key",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIELD: Context<'_> = Context::Field("path");
    const ITEM: Context<'_> = Context::Item { before: None };

    fn clean(text: &str, context: Context<'_>) -> String {
        let redactor = Redactor::with_salt([5; 32]);
        String::from_utf8(redactor.clean(text.as_bytes(), context).into_owned()).unwrap()
    }

    #[track_caller]
    fn hides(text: &str, secret: &str, context: Context<'_>) -> String {
        assert!(text.contains(secret));
        let cleaned = clean(text, context);
        assert!(!cleaned.contains(secret), "{cleaned}");
        assert!(cleaned.contains("[redacted:"), "{cleaned}");
        cleaned
    }

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() {
        let token = "ghp_0123456789abcdefghijABCDEFGHIJ";
        hides(&format!("/tmp/{token}/x"), token, FIELD);
        hides(&format!("echo {token}"), token, ITEM);
        hides("--password=hunter2 and more", "hunter2 and more", ITEM);
        hides(
            "hunter2",
            "hunter2",
            Context::Item {
                before: Some("--password"),
            },
        );
        hides(
            "me:hunter2",
            "hunter2",
            Context::Item { before: Some("-u") },
        );
        hides("Authorization: Bearer abcdef", "abcdef", ITEM);
        hides("{\"password\": \"hunter2\"}", "hunter2", ITEM);
        hides("x-api-key:hunter2", "hunter2", ITEM);
        hides("hunter2", "hunter2", Context::Field("db_password"));
        hides(
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n",
            "MIIE",
            ITEM,
        );
        hides("-----BEGIN PRIVATE KEY-----\nMIIE", "MIIE", ITEM);
        assert!(
            hides(
                "https://u:hunter2@host/p?access_token=abc&x=1",
                "hunter2",
                ITEM
            )
            .contains("@host/p?access_token=[redacted:named:")
        );
        assert!(hides("https://u@h/p?access_token=abc&x=1", "abc", ITEM).ends_with("]&x=1"));
    }

    #[test]
    fn a_script_keeps_what_it_does() {
        let text = hides(
            "TOKEN=abc rm -rf /",
            "abc",
            Context::Item { before: Some("-c") },
        );
        assert!(text.ends_with("] rm -rf /"), "{text}");
        assert!(
            hides(
                "A=1 PASSWORD='a b' rm",
                "a b",
                Context::Item {
                    before: Some("-lc")
                }
            )
            .ends_with("]' rm")
        );
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in [
            "/usr/lib/python3/site-packages/x.py",
            "ssh://git@github.com/x",
            "--key=value",
            "blake3:0123456789abcdef",
            "https://host:443/a@b",
            "sk-ab",
            "a == b",
            "PATH=/bin",
            "skip: 4",
            "[redacted:named:00]",
            "=",
            ":",
            "://",
            "é=ü",
            "TOKEN=",
        ] {
            assert_eq!(clean(text, ITEM), text);
        }
    }

    #[test]
    fn a_commitment_tells_equal_secrets_and_nothing_to_who_lacks_the_salt() {
        let (a, b) = (clean("TOKEN=abc", ITEM), clean("PASSWORD=abc", ITEM));
        assert_eq!(a.split(':').next_back(), b.split(':').next_back());
        let other = Redactor::with_salt([6; 32]);
        assert_ne!(
            other.commitment(b"abc"),
            Redactor::with_salt([5; 32]).commitment(b"abc")
        );
    }

    proptest! {
        #[test]
        fn text_stays_text_and_nothing_panics(text in ".*", before in proptest::option::of(".*")) {
            clean(&text, Context::Item { before: before.as_deref() });
        }

        #[test]
        fn a_named_secret_never_passes(secret in "[!-~]{6,40}", name in "(API_KEY|[A-Z]{1,6}_TOKEN|[a-z]{1,6}Password)") {
            let text = format!("{name}={secret}");
            let cleaned = clean(&text, ITEM);
            prop_assert!(cleaned.starts_with(&format!("{name}=[redacted:named:")) && cleaned.len() == name.len() + 50, "{}", cleaned);
        }
    }
}
