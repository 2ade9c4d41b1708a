// Written by scripts/preset_plans.py.
/// A hash over the names and plans: what another build cached is not looked at.
pub const DIGEST: &str =
    "9a4314c3f3a3a10e41b8466c33b53870ecddf64aceb012a49afd5171ead6a01b";
/// All presets, by name.
pub const ALL: &[Preset] = &[
    Preset {
        name: "c",
        source: "blake3:21e16511ae8346f9f640429926412e1d6275414221818f104041b66a73cd3a8e",
        digest: "blake3:230d861aaf47a47d2d6defaeba31e39f7728905235cccee2e2a55b7bbef420ef",
        plan: include_str!("c.json"),
    },
    Preset {
        name: "git",
        source: "blake3:b55d039b19a702e752b3cbd1fa93e3c8f281a4c02c1171cd32ab055bdf4f059e",
        digest: "blake3:ed6c422f8968cd1ae863806f9884da74f56d7387984739f30219874c66ee8a1d",
        plan: include_str!("git.json"),
    },
    Preset {
        name: "node",
        source: "blake3:e46d8f2a726d386a7f30d3083840211d83d7fb2a8b4dab163d461c5c104575c7",
        digest: "blake3:c12d466ac0c983e7ed132039f69dca8073ee5a8056878d0488afbfb93334170b",
        plan: include_str!("node.json"),
    },
    Preset {
        name: "python",
        source: "blake3:b266a79fc0273ffc385d0b61d25793eff41f05bda3f9380654b6f9a68b9afe12",
        digest: "blake3:e4be9e45a4bbad8c3c4c6bfe3558a9abf012d1b565447767e14daa1d7ecf4e25",
        plan: include_str!("python.json"),
    },
    Preset {
        name: "readonly",
        source: "blake3:d52887b0c399ef4caf4a1a96b9163650d08cb140ff3a4eb68b7edd3dcf5b0e53",
        digest: "blake3:e708c33c96959e98fea0c954e8bad6bfa108480d3fa9c3d81c970b19dba2a004",
        plan: include_str!("readonly.json"),
    },
    Preset {
        name: "rust",
        source: "blake3:3d51b28683ddb0f4f0cb7a47582b30b971009c714faaf5c029b8510f014becb3",
        digest: "blake3:097dc575ca3b39e2a9be633f66439bac51f5e2f223bf19aa73f68dde70de3432",
        plan: include_str!("rust.json"),
    },
    Preset {
        name: "secret-files",
        source: "blake3:2efaa818e5f4eb25674e4e20c0fe43beeba92f8e1885ee71b1d1d6f6f94274ce",
        digest: "blake3:d90530e9f3ee4bb9486c96d87ce3db4bf9245aaf1e06c972a9349d58b3141fcd",
        plan: include_str!("secret-files.json"),
    },
    Preset {
        name: "strict",
        source: "blake3:4cb9816b54835e5699441f2580dbe893742405a673e57b0fbe27f7f10133accd",
        digest: "blake3:27df82417ad89b228727f166e339ee9ceec6d05ea7113ca541a91661b7488cab",
        plan: include_str!("strict.json"),
    },
    Preset {
        name: "toolchains",
        source: "blake3:a502a2bdd44c3d3c3a666d8f7fed32689af2ada84cd49a278846f702dd84c6c3",
        digest: "blake3:ed125ac0347e0a48db1c37901597d8cd430a4c6a74808ffe04a1bafab410aafc",
        plan: include_str!("toolchains.json"),
    },
    Preset {
        name: "workspace",
        source: "blake3:b4ce73ffe97d1a0e808854c51ceec614e01b0ae588a5c55e5db3bdb01dc2b481",
        digest: "blake3:c7b3bd32560e4a2a1a830349531636c59aa20e67e34641e1da66d7da966a9b9b",
        plan: include_str!("workspace.json"),
    },
];
