//! `network.egress` of a plan, as `docs/formats/egress.md` names it: the hosts a command may reach, and with what.
//!
//! Every field is required, also those that may be null. These types say nothing about what the strings hold:
//! `check_egress` does, and no unchecked plan leaves `parse`.

use super::model::{Grant, Origin, objects, present};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is reached through `capsule-egress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Egress {
    /// What happens to names that no entry covers.
    pub unlisted: Unlisted,
    /// Who may be reached; entries of one host and port are alternatives.
    pub hosts: Vec<HostEntry>,
    /// Upper bounds of the whole run.
    pub budget: Budget,
    /// Names that are dialled elsewhere.
    pub upstreams: Vec<Upstream>,
    /// Files of certificates that are trusted toward upstreams.
    pub authorities: Vec<Grant>,
    /// How egress itself goes out; `None`: directly.
    #[serde(deserialize_with = "present")]
    pub proxy: Option<String>,
    /// Values that never enter the sandbox.
    pub secrets: Vec<Secret>,
    /// Rule files.
    pub rules: Vec<RuleFile>,
    /// Packs and directories of detection rules.
    pub detect: Vec<Detection>,
}

/// What happens to names that are not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// Refused.
    Deny,
    /// A person is asked.
    Ask,
}

/// When a connection's content is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inspect {
    /// When something needs it.
    Auto,
    /// Always.
    Always,
    /// The server name is checked, the bytes pass.
    Never,
}

/// One host that may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct HostEntry {
    /// A name in lower case, `*.suffix`, or an IPv4 address.
    pub host: String,
    /// TCP ports.
    pub ports: Vec<u16>,
    /// HTTP methods; `None`: any.
    #[serde(deserialize_with = "present")]
    pub methods: Option<Vec<String>>,
    /// Globs over the path; `None`: any.
    #[serde(deserialize_with = "present")]
    pub paths: Option<Vec<String>>,
    /// When its content is looked at.
    pub inspect: Inspect,
    /// Whether it may resolve to an address that is not public.
    pub private: bool,
    /// The secret that a request has to carry; `None`: any credential.
    #[serde(deserialize_with = "present")]
    pub credential: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// Upper bounds of a run; `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Budget {
    /// Requests.
    #[serde(deserialize_with = "present")]
    pub requests: Option<u64>,
    /// Bytes, both ways.
    #[serde(deserialize_with = "present")]
    pub bytes: Option<u64>,
    /// Tokens of model calls.
    #[serde(deserialize_with = "present")]
    pub tokens: Option<u64>,
    /// Millionths of a dollar.
    #[serde(deserialize_with = "present")]
    pub microdollars: Option<u64>,
}

/// A name that is dialled at an address of the policy's author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Upstream {
    /// The name.
    pub host: String,
    /// `address:port`.
    pub address: String,
    /// Where it was written.
    pub origin: Origin,
}

/// A value that egress puts in the place of its placeholder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Secret {
    /// Its name: `[a-z][a-z0-9_-]{0,31}`.
    pub name: String,
    /// Where its value comes from.
    pub from: SecretFrom,
    /// Hosts it goes to.
    pub to: Vec<String>,
    /// How it is carried.
    #[serde(rename = "as")]
    pub carried: Carried,
    /// The header or query field.
    #[serde(deserialize_with = "present")]
    pub field: Option<String>,
    /// The user of a Basic credential.
    #[serde(deserialize_with = "present")]
    pub user: Option<String>,
    /// The variable that holds the placeholder inside.
    #[serde(deserialize_with = "present")]
    pub env: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// Where a secret's value comes from: the fields of its kind, the others null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct SecretFrom {
    /// Which kind.
    pub kind: SecretKind,
    /// A variable of the caller's environment.
    #[serde(deserialize_with = "present")]
    pub env: Option<String>,
    /// A file, path with variables.
    #[serde(deserialize_with = "present")]
    pub file: Option<String>,
    /// A service of the keyring.
    #[serde(deserialize_with = "present")]
    pub service: Option<String>,
    /// Its user.
    #[serde(deserialize_with = "present")]
    pub user: Option<String>,
    /// A program and its arguments.
    #[serde(deserialize_with = "present")]
    pub command: Option<Vec<String>>,
    /// Milliseconds until the value has to be asked for again.
    #[serde(deserialize_with = "present")]
    pub expires_ms: Option<u64>,
}

/// Kinds of sources of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum SecretKind {
    Env,
    File,
    Keyring,
    Command,
}

/// How a secret is carried in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carried {
    /// Anywhere in the value of the header `field`.
    Header,
    /// Inside a Basic credential.
    Basic,
    /// As the value of the query field `field`.
    Query,
    /// In JSON strings and form fields of the body.
    Body,
}

/// A file of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct RuleFile {
    /// Path with variables.
    pub path: String,
    /// Where it was written.
    pub origin: Origin,
}

/// A pack of detection rules, or a directory of them: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Detection {
    /// A pack that comes with capsule.
    #[serde(deserialize_with = "present")]
    pub pack: Option<String>,
    /// Path with variables.
    #[serde(deserialize_with = "present")]
    pub path: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

impl Egress {
    /// Every port that an entry names, and those of HTTP where a person is asked about other hosts; sorted, each once.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self
            .hosts
            .iter()
            .flat_map(|entry| entry.ports.iter().copied())
            .collect();
        if self.unlisted == Unlisted::Ask {
            ports.extend([443, 80]);
        }
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The section that a line of `deny` or `protect` only follows from: it keeps from the command what egress relies on.
    #[must_use]
    pub fn relies_on(&self, pattern: &str, origin: &Origin) -> Option<&'static str> {
        let here = |path: Option<&str>, at: &Origin| path == Some(pattern) && at == origin;
        let secret = |secret: &Secret| {
            let program = secret.from.command.as_ref().and_then(|words| words.first());
            [secret.from.file.as_ref(), program]
                .into_iter()
                .any(|path| here(path.map(String::as_str), &secret.origin))
        };
        if self
            .rules
            .iter()
            .any(|one| here(Some(&one.path), &one.origin))
        {
            Some("rules")
        } else if self.secrets.iter().any(secret) {
            Some("secrets")
        } else if (self.detect.iter()).any(|one| here(one.path.as_deref(), &one.origin)) {
            Some("detect")
        } else {
            let named = |one: &Grant| here(Some(&one.path), &one.origin);
            (self.authorities.iter().any(named)).then_some("network: authorities")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_about_other_hosts_has_the_ports_of_http_to_be_asked_at() {
        let mut egress = Egress {
            unlisted: Unlisted::Deny,
            hosts: Vec::new(),
            budget: Budget::default(),
            upstreams: Vec::new(),
            authorities: Vec::new(),
            proxy: None,
            secrets: Vec::new(),
            rules: Vec::new(),
            detect: Vec::new(),
        };
        assert_eq!(egress.ports(), Vec::<u16>::new());
        egress.unlisted = Unlisted::Ask;
        assert_eq!(egress.ports(), [80, 443]);
    }
}

objects! { Egress HostEntry Budget Upstream Secret SecretFrom RuleFile Detection }
