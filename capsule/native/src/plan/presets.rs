//! The presets' plans, compiled into the binary so that a run under a preset needs no Python.
//!
//! `make presets` writes `presets/*.json` from the policies in the Python package; a test compares them with a fresh
//! compilation, so the two never say different things.

/// Name and canonical plan, sorted by name.
pub const ALL: &[(&str, &str)] = &[];

/// The plan of a preset.
pub fn plan(name: &str) -> Option<&'static str> {
    ALL.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// A hash over all of them: a plan that was cached by another build is not looked at.
pub fn digest() -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("capsule presets v1");
    for (name, text) in ALL {
        for part in [name, text] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize()
}

/// The digest of a preset's own text, `blake3:…`, as its compiled plan names it.
pub fn source_digest(name: &str) -> Option<&'static str> {
    let text = plan(name)?;
    // Canonical JSON has one way to write `{"digest":…,"path":…}`.
    let wanted = format!("\",\"path\":\"preset:{name}\"}}");
    let end = text.find(&wanted)?;
    let start = text[..end].rfind('"')? + 1;
    Some(&text[start..end])
}
