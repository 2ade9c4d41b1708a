use crate::sample;
use capsule::plan::{
    Access, Alias, Extras, Guard, Kept, Kind, Pattern, Refusal, Variables, Want, parse,
};
use serde_json::{Value, json};

fn access_of(plan: &Value, extras: &Extras) -> Access {
    let plan = parse(plan.to_string().as_bytes()).unwrap();
    let variables = Variables::new("/home/u/w", Some("/home/u"), "/home/u/w").unwrap();
    Access::new(&plan, &variables, extras).unwrap()
}

fn access() -> Access {
    let kept = |path: &str, guard, reason: &str| Kept {
        names: Pattern::literal(path.as_bytes()),
        guard,
        reason: reason.into(),
    };
    let extras = Extras {
        kept: vec![
            kept(
                "/home/u/w/capsule.log",
                Guard::Protected,
                "the log of this run",
            ),
            kept(
                "/home/u/.local/share/capsule",
                Guard::Denied,
                "the key of the log",
            ),
        ],
        aliases: vec![],
        led: vec![],
    };
    access_of(&sample(), &extras)
}

fn refusal(path: &str, want: Want) -> Refusal {
    access()
        .decide(path.as_bytes(), want)
        .refusal()
        .unwrap_or_else(|| panic!("{path} {want:?} was granted"))
}

fn granted(path: &str, want: Want) -> bool {
    let access = access();
    let granted = access.decide(path.as_bytes(), want).is_granted();
    let used = access.uses(path.as_bytes()).has(want);
    assert_eq!(used, granted, "{path} {want:?}");
    granted
}

#[test]
fn grants_what_the_plan_grants() {
    assert!(granted("/usr/lib/x", Want::Read));
    assert!(granted("/usr", Want::Read));
    assert!(granted("/home/u/w/src/main.rs", Want::Read));
    assert!(granted("/home/u/w/src/main.rs", Want::Write));
    assert!(granted("/home/u/w", Want::Read));
    assert!(granted("/home/u/.gitconfig", Want::Read));
    assert!(granted("/usr/bin/git", Want::Execute));
    assert!(granted("/home/u/w/bin/x", Want::Execute));
    assert!(granted("/tmp/x", Want::Write));
    assert!(granted("/home/u/w/vendor/x", Want::Read));
    assert!(granted("/home/u/w/.git/hooks/pre-commit", Want::Read));
}

#[test]
fn a_prefix_of_a_name_is_not_the_name() {
    assert_eq!(refusal("/usrlocal", Want::Read).kind, Kind::NotGranted);
    assert!(granted("/home/u/w/secrets", Want::Read));
    assert_eq!(refusal("/home/u/w2/x", Want::Write).kind, Kind::Hidden);
}

#[test]
fn a_deny_wins_over_the_grant_around_it_for_every_use() {
    for want in [Want::Read, Want::Write, Want::Execute] {
        for path in [
            "/home/u/w/.env",
            "/home/u/w/a/b/.env",
            "/home/u/w/.env/below",
            "/home/u/w/secret",
            "/home/u/w/secret/x/y",
        ] {
            assert_eq!(refusal(path, want).kind, Kind::Denied, "{path}");
        }
    }
    let rule = refusal("/home/u/w/a/.env", Want::Read).rule.unwrap();
    assert_eq!(
        (rule.text.as_str(), rule.file.as_str(), rule.line),
        ("deny: [\"./**/.env\"]", "/w/capsule.yaml", 7)
    );
    assert_eq!(
        refusal("/home/u/w/keys/a.pem", Want::Read)
            .rule
            .unwrap()
            .line,
        9
    );
    assert!(granted("/home/u/w/keys/a.pub", Want::Read));
}

#[test]
fn a_protected_name_is_read_and_not_changed() {
    let refused = refusal("/home/u/w/.git/hooks/pre-commit", Want::Write);
    assert_eq!(
        (refused.kind, refused.rule.unwrap().line),
        (Kind::Protected, 11)
    );
    let allow = refused.allow.unwrap();
    assert!(allow.starts_with("take ") && allow.contains(" out of filesystem: protect at "));
    let refused = refusal("/home/u/w/capsule.log", Want::Write);
    let rule = refused.rule.unwrap();
    assert_eq!(
        (refused.kind, rule.text.as_str(), rule.line),
        (Kind::Protected, "the log of this run", 0)
    );
    assert_eq!(rule.file, "capsule:always");
}

#[test]
fn a_more_specific_read_takes_writing_away() {
    let refused = refusal("/home/u/w/vendor/x", Want::Write);
    assert_eq!(
        (refused.kind, refused.rule.unwrap().line),
        (Kind::NotGranted, 2)
    );
    assert_eq!(
        refused.allow.as_deref(),
        Some("filesystem: write: [\"./vendor/x\"]")
    );
}

#[test]
fn what_nothing_grants_says_what_would() {
    let refused = refusal("/etc/shadow", Want::Read);
    assert_eq!((refused.kind, refused.rule), (Kind::NotGranted, None));
    assert_eq!(
        refused.allow.as_deref(),
        Some("filesystem: read: [\"/etc/shadow\"]")
    );
    assert_eq!(
        refusal("/etc/shadow", Want::Write).allow.unwrap(),
        "filesystem: write: [\"/etc/shadow\"]"
    );
    let hidden = refusal("/home/u/.aws/credentials", Want::Read);
    assert_eq!((hidden.kind, hidden.rule.unwrap().line), (Kind::Hidden, 13));
    assert_eq!(
        hidden.allow.unwrap(),
        "filesystem: read: [\"~/.aws/credentials\"]"
    );
    assert_eq!(
        refusal("/usr/lib/x.so", Want::Execute).allow.unwrap(),
        "filesystem: execute: [\"/usr/lib/x.so\"]"
    );
    assert_eq!(
        refusal("/a\"b\nc", Want::Read).allow.unwrap(),
        "filesystem: read: [\"/a\\\"b\\nc\"]"
    );
    let not_text = access().decide(b"/a\xff", Want::Read).refusal().unwrap();
    assert_eq!(not_text.allow, None);
}

#[test]
fn a_private_directory_may_be_written_and_not_executed_in() {
    assert!(granted("/tmp/x", Want::Read));
    assert_eq!(refusal("/tmp/x", Want::Execute).kind, Kind::NotGranted);
    let mut plan = sample();
    let tmp =
        json!({"path": "/tmp", "optional": false, "origin": {"file": "f", "line": 1, "column": 1}});
    plan["filesystem"]["execute"]
        .as_array_mut()
        .unwrap()
        .push(tmp);
    assert!(
        access_of(&plan, &Extras::default())
            .decide(b"/tmp/x", Want::Execute)
            .is_granted()
    );
}

#[test]
fn listed_programs_are_the_only_ones() {
    let mut plan = sample();
    plan["process"]["programs"] = json!([{"path": "/usr/bin/git", "digest": null, "origin": {"file": "f", "line": 21, "column": 1}}]);
    let access = access_of(&plan, &Extras::default());
    assert!(access.decide(b"/usr/bin/git", Want::Execute).is_granted());
    let refused = access
        .decide(b"/usr/bin/sh", Want::Execute)
        .refusal()
        .unwrap();
    assert_eq!(
        refused.allow.as_deref(),
        Some("process: programs: [\"/usr/bin/sh\"]")
    );
}

#[test]
fn a_name_that_is_not_resolved_is_refused() {
    for path in [
        "",
        "usr/x",
        "/usr/../etc/shadow",
        "/usr/./x",
        "/usr/lib/..",
        "/home/u/w/nosuch/deep/../../secret",
    ] {
        assert_eq!(refusal(path, Want::Read).kind, Kind::NotGranted, "{path}");
    }
    assert!(granted("/usr//lib/", Want::Read));
    assert_eq!(refusal("/home/u/w//secret/", Want::Read).kind, Kind::Denied);
}

#[test]
fn what_leads_to_a_guarded_name_may_not_move() {
    let access = access();
    let line = |path: &str| access.guards_below(path.as_bytes()).map(|r| r.line);
    assert_eq!(line("/home/u/w/.git"), Some(11));
    assert_eq!(line("/home/u/w/.git/hooks"), Some(11));
    assert_eq!(line("/home/u/w/keys"), Some(9));
    assert!(line("/home/u/w").is_some());
    assert!(line("/home").is_some());
    assert!(line("/").is_some());
    assert_eq!(line("/home/u/w/src"), None);
    assert_eq!(line("/home/u/w/.github"), None);
    assert_eq!(line("/home/u/w/.git/objects"), None);
    assert_eq!(line("/usr"), None);
}

#[test]
fn a_directory_does_not_carry_covered_names_out_of_a_pattern() {
    let access = access();
    let lost = |from: &str, to: &str| {
        access
            .guards_lost(from.as_bytes(), to.as_bytes())
            .map(|r| r.rule.line)
    };
    assert_eq!(lost("/home/u/w/src", "/tmp/src"), Some(7));
    assert_eq!(lost("/home/u/w/src", "/home/u/w/deep/er/src"), None);
    assert_eq!(lost("/home/u/w/.git", "/home/u/w/old"), Some(11));
    assert_eq!(lost("/tmp/a", "/tmp/b"), None);
    assert_eq!(lost("/tmp/a", "/home/u/w/b"), None);

    let mut plan = sample();
    plan["filesystem"]["deny"] = json!([{"pattern": "${workspace}/*/conf/key", "origin": {"file": "f", "line": 1, "column": 1}}]);
    let access = access_of(&plan, &Extras::default());
    let lost = |from: &str, to: &str| access.guards_lost(from.as_bytes(), to.as_bytes()).is_some();
    assert!(!lost("/home/u/w/a", "/home/u/w/b"));
    assert!(lost("/home/u/w/a", "/home/u/w/x/a"));
    assert!(lost("/home/u/w/a/conf", "/home/u/w/a/conf2"));
    assert!(!lost("/home/u/w/a/other", "/home/u/w/a/x"));
}

#[test]
fn reads_are_brokered_only_for_a_deny_in_something_readable() {
    assert!(access().has_read_denies());
    let mut plan = sample();
    plan["filesystem"]["deny"] =
        json!([{"pattern": "${home}/.ssh", "origin": {"file": "f", "line": 1, "column": 1}}]);
    assert!(!access_of(&plan, &Extras::default()).has_read_denies());
    plan["filesystem"]["deny"] =
        json!([{"pattern": "/**/id_*", "origin": {"file": "f", "line": 1, "column": 1}}]);
    assert!(access_of(&plan, &Extras::default()).has_read_denies());
    assert_eq!(
        access().hidden_roots(),
        [std::path::PathBuf::from("/home/u")]
    );
}

#[test]
fn a_linked_name_is_guarded_under_both_names() {
    let alias = |name: &str, real: &str| Alias {
        name: name.into(),
        real: real.into(),
    };
    let extras = Extras {
        kept: vec![],
        aliases: vec![
            alias("/home/u/w/secret", "/data/s"),
            alias("/home/u/w/keys", "/usr/keys"),
            alias("/usr/bin", "/opt/bin"),
        ],
        led: vec![],
    };
    let access = access_of(&sample(), &extras);
    assert_eq!(
        access
            .decide(b"/data/s/x", Want::Read)
            .refusal()
            .unwrap()
            .kind,
        Kind::Denied
    );
    assert_eq!(
        access
            .decide(b"/usr/keys/a.pem", Want::Read)
            .refusal()
            .unwrap()
            .kind,
        Kind::Denied
    );
    assert!(access.decide(b"/usr/keys/a", Want::Read).is_granted());
    assert!(access.decide(b"/opt/bin/x", Want::Execute).is_granted());
    assert!(access.decide(b"/usr/bin/x", Want::Execute).is_granted());
}
