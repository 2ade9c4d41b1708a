//! What counts as a secret: the rule set of the redaction, as data, with its digest.
//!
//! The digest is written in every `run.started`, so a log says under which rules it was redacted.

/// A token that is known by how it begins.
pub struct Shape {
    /// What it is, as the marker names it.
    pub kind: &'static str,
    /// How it begins.
    pub prefix: &'static str,
    /// How many token bytes (letters, digits, `_`, `-`, `.`, `/`, `+`, `=`) follow at least.
    pub least: usize,
}

const fn shape(kind: &'static str, prefix: &'static str, least: usize) -> Shape {
    Shape {
        kind,
        prefix,
        least,
    }
}

/// Tokens of services in wide use, each by the prefix its maker documents.
pub const SHAPES: &[Shape] = &[
    shape("github-token", "ghp_", 20),
    shape("github-token", "gho_", 20),
    shape("github-token", "ghu_", 20),
    shape("github-token", "ghs_", 20),
    shape("github-token", "ghr_", 20),
    shape("github-token", "github_pat_", 20),
    shape("gitlab-token", "glpat-", 16),
    shape("api-key", "sk-", 20),
    shape("api-key", "sk_live_", 16),
    shape("api-key", "sk_test_", 16),
    shape("api-key", "rk_live_", 16),
    shape("api-key", "whsec_", 16),
    shape("slack-token", "xoxa-", 10),
    shape("slack-token", "xoxb-", 10),
    shape("slack-token", "xoxp-", 10),
    shape("slack-token", "xoxr-", 10),
    shape("slack-token", "xoxs-", 10),
    shape("slack-token", "xapp-", 10),
    shape("aws-key", "AKIA", 16),
    shape("aws-key", "ASIA", 16),
    shape("google-key", "AIza", 30),
    shape("google-token", "ya29.", 20),
    shape("google-secret", "GOCSPX-", 20),
    shape("npm-token", "npm_", 30),
    shape("pypi-token", "pypi-", 40),
    shape("huggingface-token", "hf_", 30),
    shape("sendgrid-key", "SG.", 30),
    shape("digitalocean-token", "dop_v1_", 30),
    shape("shopify-token", "shpat_", 20),
    shape("jwt", "eyJ", 30),
    shape("bearer", "Bearer ", 16),
    shape("bearer", "bearer ", 16),
    shape("age-key", "AGE-SECRET-KEY-1", 20),
];

/// Options whose value is a user's name and password: `curl -u me:secret`.
pub const LOGINS: &[&str] = &["-u", "-U", "--user", "--proxy-user"];

/// A name is a secret's when one of its words ends so. Words are cut at anything but letters and digits.
pub const WORD_ENDINGS: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
];

/// … or when its last word is one of these.
pub const LAST_WORDS: &[&str] = &[
    "pass",
    "auth",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "pat",
    "sig",
];

/// … or when its last word is `key` and the one before is one of these.
pub const BEFORE_KEY: &[&str] = &[
    "api",
    "access",
    "private",
    "secret",
    "signing",
    "encryption",
    "auth",
    "master",
    "account",
    "storage",
    "service",
    "license",
];

/// Names of headers whose whole line is secret.
pub const HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "mcp-session-id",
];

/// `blake3:<hex>` over the rule set and the version of the code that applies it.
pub fn digest() -> String {
    let mut hash = blake3::Hasher::new_derive_key("capsule redaction rules v1");
    for shape in SHAPES {
        hash.update(
            format!("shape {} {:?} {}\n", shape.kind, shape.prefix, shape.least).as_bytes(),
        );
    }
    for (name, words) in [
        ("ending", WORD_ENDINGS),
        ("last", LAST_WORDS),
        ("key", BEFORE_KEY),
        ("header", HEADERS),
        ("login", LOGINS),
    ] {
        hash.update(format!("{name} {words:?}\n").as_bytes());
    }
    format!("blake3:{}", hash.finalize().to_hex())
}

/// Whether `name` is the name of a secret.
pub fn names_a_secret(name: &[u8]) -> bool {
    if name.len() > 128 || name.is_empty() {
        return false;
    }
    let (mut before, mut last): (&[u8], &[u8]) = (b"", b"");
    for word in name
        .split(|byte| !byte.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if WORD_ENDINGS
            .iter()
            .any(|ending| ends_with(word, ending.as_bytes()))
        {
            return true;
        }
        (before, last) = (last, word);
    }
    LAST_WORDS
        .iter()
        .any(|word| last.eq_ignore_ascii_case(word.as_bytes()))
        || last.eq_ignore_ascii_case(b"key")
            && BEFORE_KEY
                .iter()
                .any(|word| before.eq_ignore_ascii_case(word.as_bytes()))
}

fn ends_with(word: &[u8], ending: &[u8]) -> bool {
    word.len() >= ending.len() && word[word.len() - ending.len()..].eq_ignore_ascii_case(ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "GITHUB_TOKEN",
            "PGPASSWORD",
            "--password",
            "authToken",
            "AWS_SECRET_ACCESS_KEY",
            "X-Api-Key",
            "db.pass",
            "SECRET_1",
        ] {
            assert!(names_a_secret(name.as_bytes()), "{name}");
        }
        for name in [
            "PATH",
            "PWD",
            "TOKENIZERS_PARALLELISM",
            "credential.helper",
            "key",
            "KEYBOARD",
            "keyserver",
            "compass",
            "redaction",
            "author",
            "",
        ] {
            assert!(!names_a_secret(name.as_bytes()), "{name}");
        }
    }
}
