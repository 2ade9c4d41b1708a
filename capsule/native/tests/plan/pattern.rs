use capsule::plan::{Glob, GlobError, Pattern, Variables};
use proptest::prelude::*;
use std::time::Instant;

fn variables() -> Variables {
    Variables::new("/w", Some("/h/[u]*"), "/w/c").unwrap()
}

fn covers(pattern: &str, path: &str) -> bool {
    Pattern::new(pattern, &variables())
        .unwrap()
        .covers(path.as_bytes())
}

#[test]
fn vectors_shared_with_the_compiler() {
    let text = include_str!("../../../../tests/vectors/plan/patterns.json");
    let cases: Vec<(String, String, bool)> = serde_json::from_str(text).unwrap();
    assert!(cases.len() > 40);
    for (pattern, path, expected) in cases {
        assert_eq!(covers(&pattern, &path), expected, "{pattern} over {path}");
    }
}

#[test]
fn a_variable_is_never_a_glob() {
    assert!(covers("${home}/.ssh", "/h/[u]*/.ssh/id"));
    assert!(!covers("${home}/.ssh", "/h/u/.ssh/id"));
}

#[test]
fn bad_globs_are_refused() {
    assert_eq!(Glob::new("a[").unwrap_err(), GlobError::Unclosed);
    assert_eq!(Glob::new("[]").unwrap_err(), GlobError::EmptySet);
    assert_eq!(Glob::new("[!]").unwrap_err(), GlobError::EmptySet);
    assert_eq!(Glob::new("[z-a]").unwrap_err(), GlobError::BackwardRange);
    assert_eq!(Glob::new("a**").unwrap_err(), GlobError::DoubleStar);
    for pattern in [
        "/a/**b",
        "/a//b",
        "/a/../b",
        "/a/",
        "a/b",
        "${HOME}/x",
        "/a/${home}",
        "${home}x",
        "/[a/b]",
    ] {
        assert!(Pattern::new(pattern, &variables()).is_err(), "{pattern}");
    }
    assert!(Pattern::new(&format!("/*{}", "/a".repeat(60)), &variables()).is_err());
}

#[test]
fn hostile_names_take_linear_time() {
    let deep = format!("/w{}", "/a".repeat(2000));
    let long = format!("/w/{}", "a".repeat(4000));
    let start = Instant::now();
    assert!(!covers("/w/**/a/**/a/**/a/**/a/**/a/**/a/**/b", &deep));
    assert!(!covers("/w/*a*a*a*a*a*a*a*a*a*a*a*a*a*b", &long));
    assert!(start.elapsed().as_millis() < 200);
}

/// The plainest matcher there is: try everything.
fn slow_segment(glob: &[u8], name: &[u8]) -> bool {
    match (glob.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            slow_segment(&glob[1..], name) || (!name.is_empty() && slow_segment(glob, &name[1..]))
        }
        (Some(b'?'), Some(_)) => slow_segment(&glob[1..], &name[1..]),
        (Some(g), Some(n)) if g == n => slow_segment(&glob[1..], &name[1..]),
        _ => false,
    }
}

fn slow(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.first(), path.first()) {
        (None, _) => true,
        (Some(&"**"), _) => {
            slow(&pattern[1..], path) || (!path.is_empty() && slow(pattern, &path[1..]))
        }
        (Some(g), Some(n)) => {
            slow_segment(g.as_bytes(), n.as_bytes()) && slow(&pattern[1..], &path[1..])
        }
        (Some(_), None) => false,
    }
}

proptest! {
    #[test]
    fn agrees_with_the_plain_matcher(
        pattern in prop::collection::vec(prop_oneof![Just("**".to_owned()), "[ab?]{1,3}", "[ab]?\\*[ab?]?\\*?"], 1..6),
        path in prop::collection::vec("[ab]{1,4}", 0..6),
    ) {
        // `**` inside a segment is refused, not matched.
        prop_assume!(pattern.iter().all(|s| s == "**" || !s.contains("**")));
        let expected = slow(
            &pattern.iter().map(String::as_str).collect::<Vec<_>>(),
            &path.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        let found = covers(&format!("/{}", pattern.join("/")), &format!("/{}", path.join("/")));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn what_covers_a_name_covers_everything_beneath(
        pattern in prop::collection::vec(prop_oneof![Just("**".to_owned()), "[ab?]{1,2}"], 1..5),
        path in prop::collection::vec("[ab]{1,2}", 1..5),
        below in "[ab]{1,3}",
    ) {
        let pattern = format!("/{}", pattern.join("/"));
        let path = format!("/{}", path.join("/"));
        let deeper = format!("{path}/{below}");
        prop_assert!(!covers(&pattern, &path) || covers(&pattern, &deeper));
    }

    #[test]
    fn never_panics(text in "\\PC{0,40}", path in "/\\PC{0,40}") {
        if let Ok(pattern) = Pattern::new(&text, &variables()) {
            pattern.covers(path.as_bytes());
        }
    }
}

#[test]
fn a_tail_as_text_matches_the_same_names() {
    let tail = |pattern: &Pattern| pattern.tail_text();
    assert_eq!(tail(&Pattern::literal(b"/w/[x]*")).unwrap(), "");
    assert_eq!(tail(&Pattern::anywhere(b"a*[b")).unwrap(), "**/a[*][[]b");
    assert_eq!(
        tail(&Pattern::beginning(b"/w/run?.log.")).unwrap(),
        "run[?].log.*"
    );
    assert_eq!(tail(&Pattern::new("/w/[ab]", &variables()).unwrap()), None);
    let again = Pattern::new("/w/run[?].log.*", &variables()).unwrap();
    assert!(again.covers(b"/w/run?.log.1") && !again.covers(b"/w/runx.log.1"));
}
