// Written by scripts/preset_plans.py.
/// A hash over the names and plans: what another build cached is not looked at.
pub const DIGEST: &str =
    "4d8c2083a35b187ca720a2b0f417c2629e2a0531aad4a2779616a242abd6d30f";
/// All presets, by name.
pub const ALL: &[Preset] = &[
    Preset {
        name: "c",
        source: "blake3:21e16511ae8346f9f640429926412e1d6275414221818f104041b66a73cd3a8e",
        digest: "blake3:5d360cd7efe57e92162120c81d77f58d14ecc2e2eeb558dbde013b9b8e1a5723",
        plan: include_str!("c.json"),
    },
    Preset {
        name: "git",
        source: "blake3:b55d039b19a702e752b3cbd1fa93e3c8f281a4c02c1171cd32ab055bdf4f059e",
        digest: "blake3:8e6612dab85ad244fc5ee08dd46502f18c432de190ad9e4c7059eecb2d1c57b6",
        plan: include_str!("git.json"),
    },
    Preset {
        name: "node",
        source: "blake3:e46d8f2a726d386a7f30d3083840211d83d7fb2a8b4dab163d461c5c104575c7",
        digest: "blake3:716ff3f680f69132a125eedfbfe6bf455666c11b3b3d915f4f33575282335774",
        plan: include_str!("node.json"),
    },
    Preset {
        name: "python",
        source: "blake3:b266a79fc0273ffc385d0b61d25793eff41f05bda3f9380654b6f9a68b9afe12",
        digest: "blake3:461aee381ed065df5c965f37013a826c363fce52d476f0aaadd07142f1035a39",
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
        digest: "blake3:191e0dfc489791fa49e97cd1df125fbe685f17d2882bc3ec035e2f7affb98fd7",
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
        source: "blake3:868cab1184ccfadfddf7fe1c2f20870080d1df0bec649ad97387b148ac9e45b9",
        digest: "blake3:d7b33c9dacd8662595984cf35ee2c7cdc58893b9fa1f40f14ff5c2db4c48bde2",
        plan: include_str!("workspace.json"),
    },
];
