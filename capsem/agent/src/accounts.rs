//! Whose a program is, as the machine's own `/etc/passwd` has it: its home and name, where the host said none.
//!
//! Refuses to believe that a file of the guest ends, or is one: a bounded part of a regular file is read. A user id without
//! an account has the home `/` and no name; that of root would be another's.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const PLACE: &str = "/etc/passwd";
const LIMIT: u64 = 1 << 20;

/// One account.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Account {
    pub name: String,
    pub home: String,
}

/// The first account of a user id in the text of a passwd(5) file.
///
/// ```
/// use capsem_agent::accounts::of;
/// let text = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n";
/// assert_eq!(of(text, 1000).unwrap().home, "/home/me");
/// assert_eq!(of(text, 1234), None);
/// ```
pub fn of(passwd: &str, uid: u32) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, number, _, _, home, _] = fields[..] else {
            return None;
        };
        (number.parse() == Ok(uid) && !name.is_empty() && home.starts_with('/')).then(|| Account {
            name: name.to_owned(),
            home: home.to_owned(),
        })
    })
}

/// The start of a regular file; nothing of what is none.
pub fn start_of(place: &Path) -> String {
    let mut bytes = Vec::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(place);
    if let Ok(file) = file
        && file.metadata().is_ok_and(|about| about.is_file())
    {
        // What could not be read of it has no account.
        let _ = file.take(LIMIT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// HOME, USER and LOGNAME where the host gave none.
pub fn complete(environment: &mut BTreeMap<String, String>, uid: u32) {
    if ["HOME", "USER", "LOGNAME"]
        .iter()
        .all(|name| environment.contains_key(*name))
    {
        return;
    }
    let account = of(&start_of(Path::new(PLACE)), uid);
    let mut put = |name: &str, value: &str| {
        environment
            .entry(name.to_owned())
            .or_insert_with(|| value.to_owned());
    };
    put(
        "HOME",
        account.as_ref().map_or("/", |account| &account.home),
    );
    if let Some(account) = account {
        put("USER", &account.name);
        put("LOGNAME", &account.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_account_are_passed_over() {
        for line in [
            "me:x:7",
            "me:x:7:7::home:/bin/sh",
            ":x:7:7::/home:/bin/sh",
            "me:x:-7:7::/:/bin/sh",
            "",
        ] {
            assert_eq!(of(line, 7), None, "{line}");
        }
        let twice = "a:x:7:7::/a:/bin/sh\nb:x:7:7::/b:/bin/sh";
        assert_eq!(of(twice, 7).expect("there").name, "a");
    }

    #[test]
    fn what_the_host_gave_stays_and_nobody_has_no_name() {
        let mut given = BTreeMap::from([("HOME".to_owned(), "/given".to_owned())]);
        complete(&mut given, 4_000_000_000);
        assert_eq!(given.len(), 1);
        let mut none = BTreeMap::new();
        complete(&mut none, 4_000_000_000);
        assert_eq!(none, BTreeMap::from([("HOME".to_owned(), "/".to_owned())]));
    }

    #[test]
    fn what_is_no_regular_file_has_no_text() {
        assert_eq!(start_of(Path::new("/dev/zero")), "");
        assert_eq!(start_of(Path::new("/nowhere/at/all")), "");
    }
}
