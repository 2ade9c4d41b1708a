//! The presets' plans, compiled into the binary so that a run under a preset needs no Python.
//!
//! `scripts/preset_plans.py` writes `presets/` from the policies in the Python package; a test compares them with a fresh
//! compilation, so the two never say different things. The digests are written down because hashing half a megabyte
//! would be a tenth of a short run.

/// A preset.
#[derive(Debug)]
pub struct Preset {
    /// As `--policy` names it.
    pub name: &'static str,
    /// `blake3:…` of its own text.
    pub source: &'static str,
    /// `blake3:…` of its plan.
    pub digest: &'static str,
    /// Its plan, canonical JSON.
    pub plan: &'static str,
}

include!("presets/table.rs");

/// The preset of a name.
pub fn named(name: &str) -> Option<&'static Preset> {
    ALL.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse;

    #[test]
    fn every_preset_is_a_plan_with_the_digests_written_beside_it() {
        let mut together = blake3::Hasher::new_derive_key("capsule presets v1");
        for preset in ALL {
            let plan =
                parse(preset.plan.as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", preset.name));
            assert_eq!(plan.name, preset.name);
            assert_eq!(
                plan.policy.sources[0].path,
                format!("preset:{}", preset.name)
            );
            assert_eq!(plan.policy.sources[0].digest, preset.source);
            assert_eq!(
                crate::plan::sources::digest(preset.plan.as_bytes()),
                preset.digest
            );
            assert_eq!(
                serde_json::to_value(&plan).unwrap(),
                serde_json::from_str::<serde_json::Value>(preset.plan).unwrap()
            );
            for part in [preset.name, preset.plan] {
                together.update(&(part.len() as u64).to_le_bytes());
                together.update(part.as_bytes());
            }
        }
        assert_eq!(together.finalize().to_hex().as_str(), DIGEST);
        assert!(named("workspace").is_some() && named("nosuch").is_none());
    }
}
