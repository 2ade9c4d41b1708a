// Written by scripts/preset_plans.py.
/// A hash over the names and plans: what another build cached is not looked at.
pub const DIGEST: &str =
    "d6e773de17d24782b667efac35f55406483d9a4301547ad6bcde417e642d26fc";
/// All presets, by name.
pub const ALL: &[Preset] = &[
    Preset {
        name: "c",
        source: "blake3:21e16511ae8346f9f640429926412e1d6275414221818f104041b66a73cd3a8e",
        digest: "blake3:7a52dec60b9c9818c0abb49bd48091bb9c12bdbc4ed1d04273593c472f00cb6e",
        plan: include_str!("c.json"),
    },
    Preset {
        name: "git",
        source: "blake3:b55d039b19a702e752b3cbd1fa93e3c8f281a4c02c1171cd32ab055bdf4f059e",
        digest: "blake3:cb9feb797dd501191dfe55733bde31d9667cdd7af6413aceba31db4ffd80fe1e",
        plan: include_str!("git.json"),
    },
    Preset {
        name: "node",
        source: "blake3:e46d8f2a726d386a7f30d3083840211d83d7fb2a8b4dab163d461c5c104575c7",
        digest: "blake3:dd30dd65cfc43d4a50df51f3f669be5e2ff23a0e260d0ab8df37fb70b626803d",
        plan: include_str!("node.json"),
    },
    Preset {
        name: "python",
        source: "blake3:b266a79fc0273ffc385d0b61d25793eff41f05bda3f9380654b6f9a68b9afe12",
        digest: "blake3:c6ef358506f71669655550c96531c32be8923a088146a3849db0ae7cb35fd281",
        plan: include_str!("python.json"),
    },
    Preset {
        name: "readonly",
        source: "blake3:d52887b0c399ef4caf4a1a96b9163650d08cb140ff3a4eb68b7edd3dcf5b0e53",
        digest: "blake3:e01c3699b48ce73d900c72235b19b70302086ba38dc2b8c1eedb34de717c3843",
        plan: include_str!("readonly.json"),
    },
    Preset {
        name: "rust",
        source: "blake3:3d51b28683ddb0f4f0cb7a47582b30b971009c714faaf5c029b8510f014becb3",
        digest: "blake3:f802beb647c556b8e74d5a8306056cb773946154bb790757f08786a513d251f8",
        plan: include_str!("rust.json"),
    },
    Preset {
        name: "secret-files",
        source: "blake3:2efaa818e5f4eb25674e4e20c0fe43beeba92f8e1885ee71b1d1d6f6f94274ce",
        digest: "blake3:ffa423a1ceecd2a23eb7f8b2176ebe720d6070fbbea7b45d4d2cab613d8a6baa",
        plan: include_str!("secret-files.json"),
    },
    Preset {
        name: "strict",
        source: "blake3:4cb9816b54835e5699441f2580dbe893742405a673e57b0fbe27f7f10133accd",
        digest: "blake3:e42c934ed94b9c62e88ff7c700ae4daf37b3b85467e5b28046af4c0d0a05ae3a",
        plan: include_str!("strict.json"),
    },
    Preset {
        name: "toolchains",
        source: "blake3:a502a2bdd44c3d3c3a666d8f7fed32689af2ada84cd49a278846f702dd84c6c3",
        digest: "blake3:648f3db9913a3637022aae9dc7301355fa424d8122705ec859db6e9e9f66b470",
        plan: include_str!("toolchains.json"),
    },
    Preset {
        name: "workspace",
        source: "blake3:b4ce73ffe97d1a0e808854c51ceec614e01b0ae588a5c55e5db3bdb01dc2b481",
        digest: "blake3:95d710f6c447186d12210a145e9670d4abde8a037bf9ba1e34ea166f20bab3d3",
        plan: include_str!("workspace.json"),
    },
];
