use capsule::plan::{VariableError, Variables};
use std::path::Path;

#[test]
fn the_three_variables_and_nothing_else() {
    let v = Variables::new("/w", Some("/home/u"), "/w/src").unwrap();
    for (text, path) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("${workspace}", "/w"),
        ("${home}/.x", "/home/u/.x"),
        ("${cwd}/a", "/w/src/a"),
    ] {
        assert_eq!(v.path(text).unwrap(), Path::new(path));
    }
    for text in [
        "",
        "a",
        "~",
        "~/x",
        "$HOME",
        "${home",
        "${home}x",
        "${root}/x",
        "/a/${cwd}",
        "${home}/${cwd}",
    ] {
        assert!(v.path(text).is_err(), "{text}");
    }
    for text in [
        "/a/",
        "//a",
        "/a//b",
        "/.",
        "/a/..",
        "${home}/../x",
        "${home}/",
        "${cwd}/./x",
    ] {
        assert!(
            matches!(v.path(text), Err(VariableError::Segment(_))),
            "{text}"
        );
    }
}

#[test]
fn values_must_be_clean_and_absolute() {
    for bad in ["", "w", "/w/..", "/w/", "//w", "/./w", "/w\0"] {
        assert!(Variables::new(bad, None, "/").is_err(), "{bad:?}");
    }
    let root = Variables::new("/", None, "/").unwrap();
    assert_eq!(root.path("${workspace}/a").unwrap(), Path::new("/a"));
    assert_eq!(root.path("${home}/a"), Err(VariableError::NoHome));
}

#[test]
fn names_are_written_as_a_person_would() {
    let v = Variables::new("/home/u/w", Some("/home/u"), "/").unwrap();
    for (path, text) in [
        ("/home/u/w", "."),
        ("/home/u/w/a", "./a"),
        ("/home/u", "~"),
        ("/home/u/x", "~/x"),
        ("/home/user", "/home/user"),
    ] {
        assert_eq!(v.written(path.as_bytes()).unwrap(), text);
    }
    assert_eq!(v.written(b"/\xff"), None);
}
