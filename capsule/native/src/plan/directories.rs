//! Capsule's own directories of a user, by the XDG base directory rules; nothing is created here.
//!
//! ```
//! use capsule::plan::Directories;
//! let d = Directories::of(Some("/home/u".as_ref()), |_| None);
//! assert_eq!(d.cache.unwrap(), std::path::Path::new("/home/u/.cache/capsule"));
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Each `None` when there is neither a variable nor a home.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directories {
    /// Compiled plans.
    pub cache: Option<PathBuf>,
    /// Remembered heads, overlays.
    pub state: Option<PathBuf>,
    /// The user's settings.
    pub config: Option<PathBuf>,
    /// The key of the log.
    pub data: Option<PathBuf>,
}

impl Directories {
    /// From the home directory and the environment; a relative value counts as none, as the rules say.
    pub fn of(home: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let one = |name: &str, beneath: &str| {
            let set = variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute());
            let base = set.or_else(|| Some(home?.join(beneath)))?;
            Some(base.join("capsule"))
        };
        Self {
            cache: one("XDG_CACHE_HOME", ".cache"),
            state: one("XDG_STATE_HOME", ".local/state"),
            config: one("XDG_CONFIG_HOME", ".config"),
            data: one("XDG_DATA_HOME", ".local/share"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_win_and_relative_ones_do_not_count() {
        let found = Directories::of(Some(Path::new("/h")), |name| match name {
            "XDG_CACHE_HOME" => Some("/c".into()),
            "XDG_STATE_HOME" => Some("relative".into()),
            _ => None,
        });
        assert_eq!(found.cache.unwrap(), Path::new("/c/capsule"));
        assert_eq!(found.state.unwrap(), Path::new("/h/.local/state/capsule"));
        assert_eq!(found.data.unwrap(), Path::new("/h/.local/share/capsule"));
        assert_eq!(Directories::of(None, |_| None), Directories::default());
    }
}
