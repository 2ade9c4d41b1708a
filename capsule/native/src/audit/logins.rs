//! Names with passwords as programs are given them: `-u me:secret`, `--password secret`, `me:secret@host`.
//!
//! Pure. It knows the options of [`rules::LOGINS`] and names of secrets; what only looks alike (numbers of users, tags of
//! images, versions of packages) is left alone.
//!
//! `curl -u me:secret https://h/` → `me:secret`

use super::redaction::{Span, value_after};
use super::rules;

/// `-u user:password`, `-uuser:password`, `--user=user:password`, `--password value` in the words of a program.
pub(super) fn option(text: &[u8], at: usize) -> Option<Span> {
    let name = text[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        .count();
    let (mut option, mut from) = (&text[at..at + name], at + name);
    if let Some(short) = rules::LOGINS.iter().find(|one| glued(option, one)) {
        (option, from) = (short.as_bytes(), at + short.len());
    }
    let login = rules::LOGINS.iter().any(|one| one.as_bytes() == option);
    let spaces = text[from..].iter().take_while(|b| **b == b' ').count();
    if !login && (spaces == 0 || !option.starts_with(b"--") || !rules::names_a_secret(option)) {
        return None;
    }
    from += match text.get(from) {
        Some(b'=') => 1,
        _ => spaces,
    };
    let (start, to) = value_after(text, from);
    let value = &text[start..to];
    if value.is_empty() || value.starts_with(b"-") || (login && !is_login(value)) {
        return None;
    }
    Some(Span {
        from: start,
        to,
        kind: if login { "userinfo" } else { "named" },
    })
}

/// A short option with its value behind it: `-uroot:x`.
fn glued(text: &[u8], option: &str) -> bool {
    option.len() == 2 && text.len() > 2 && text.starts_with(option.as_bytes())
}

/// `user:password`; numbers on both sides (`-u 1000:1000`) are nobody's.
pub(super) fn is_login(value: &[u8]) -> bool {
    let Some(colon) = value.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let (user, password) = (&value[..colon], &value[colon + 1..]);
    let number = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    !(user.is_empty() || password.is_empty() || number(user) && number(password))
}

/// `user:password@host` without a scheme; `at` is where the `@` stands, and `least` where it may begin.
pub(super) fn login(text: &[u8], at: usize, least: usize) -> Option<Span> {
    let ends =
        |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'"' | b'\'' | b'=' | b'@');
    let length = text[least..at]
        .iter()
        .rev()
        .take_while(|b| !ends(b))
        .count();
    let from = at - length;
    let host: Vec<u8> = text[at + 1..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        .copied()
        .collect();
    (is_login(&text[from..at]) && is_host(&host)).then_some(Span {
        from,
        to: at,
        kind: "userinfo",
    })
}

/// A name with a dot, `localhost`, or four numbers; not a version (`v1.2`, `18.2.0`) and not a digest.
fn is_host(name: &[u8]) -> bool {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'.').collect();
    let number = |part: &&[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if parts.iter().all(number) {
        return parts.len() == 4;
    }
    let version = name.first() == Some(&b'v') && name.get(1).is_some_and(u8::is_ascii_digit);
    name == b"localhost"
        || (parts.len() > 1
            && !version
            && name.first().is_some_and(u8::is_ascii_alphabetic)
            && parts
                .last()
                .is_some_and(|last| last.len() > 1 && !number(last)))
}

#[cfg(test)]
mod tests {
    use super::super::redaction::{Context, Redactor};

    fn clean(text: &str) -> String {
        let redactor = Redactor::with_salt([5; 32]);
        let script = Context::Item { before: Some("-c") };
        String::from_utf8(redactor.clean(text.as_bytes(), script).into_owned()).unwrap()
    }

    #[test]
    fn logins_of_programs_are_taken_out() {
        for (text, secret) in [
            ("curl -u user:hunter2 https://h/x", "hunter2"),
            ("curl -uuser:hunter2 https://h/x", "hunter2"),
            ("curl --user user:hunter2 x", "hunter2"),
            ("curl --user=user:hunter2 x", "hunter2"),
            ("curl -u 'user:hunter 2' x", "hunter 2"),
            ("curl -U p:hunter2 -x proxy x", "hunter2"),
            ("tool --password hunter2 x", "hunter2"),
            ("tool --api-key hunter2", "hunter2"),
            ("git push user:hunter2@git.example.org:x", "hunter2"),
            ("psql u:hunter2@10.0.0.7", "hunter2"),
            ("a:b1@localhost and c:hunter2@localhost", "hunter2"),
        ] {
            assert!(!clean(text).contains(secret), "{text}");
        }
        for text in [
            "-uuser:hunter2",
            "--user=user:hunter2",
            "user:hunter2@host.example",
        ] {
            assert!(!clean(text).contains("hunter2"), "{text}");
        }
        for text in [
            "docker run -u 1000:1000 x",
            "sort -u a:",
            "id -u",
            "npm i npm:react@18.2.0",
            "docker pull alpine:3.19@sha256:00",
            "uses: a/b:c@v1.2.3",
            "tool --password --verbose",
            "scp me@host.example:x y",
            "ls -user x",
        ] {
            assert_eq!(clean(text), text);
        }
    }
}
