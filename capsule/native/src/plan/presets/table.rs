// Written by scripts/preset_plans.py.
/// A hash over the names and plans: what another build cached is not looked at.
pub const DIGEST: &str =
    "827cf8300b2b032f365cc302de3ab51e8205e278f6ba57268eb22de40aa80d1f";
/// All presets, by name.
pub const ALL: &[Preset] = &[
    Preset {
        name: "c",
        source: "blake3:21e16511ae8346f9f640429926412e1d6275414221818f104041b66a73cd3a8e",
        digest: "blake3:9a0440142e9938b7366c2a36c31cfbd3757c44e35a2813837051a261a3820044",
        plan: include_str!("c.json"),
    },
    Preset {
        name: "git",
        source: "blake3:b55d039b19a702e752b3cbd1fa93e3c8f281a4c02c1171cd32ab055bdf4f059e",
        digest: "blake3:b442f90df6584b42973ef7e1b337d7c0115a2ce6fd8fd244bad4d209569029e4",
        plan: include_str!("git.json"),
    },
    Preset {
        name: "node",
        source: "blake3:e46d8f2a726d386a7f30d3083840211d83d7fb2a8b4dab163d461c5c104575c7",
        digest: "blake3:909be062f9463a2d118df1b308249932c1bec95f7255cb49cb41fbf3646fbc5d",
        plan: include_str!("node.json"),
    },
    Preset {
        name: "python",
        source: "blake3:b266a79fc0273ffc385d0b61d25793eff41f05bda3f9380654b6f9a68b9afe12",
        digest: "blake3:cc71b9925d80c78f10e99b6120c38e35bbb459eda69d190d46af435928d2b9c9",
        plan: include_str!("python.json"),
    },
    Preset {
        name: "readonly",
        source: "blake3:d52887b0c399ef4caf4a1a96b9163650d08cb140ff3a4eb68b7edd3dcf5b0e53",
        digest: "blake3:c5b16a655c0c05f77de7e86d7c22b3396a5fe4654096128a819e39d69ba7e2a3",
        plan: include_str!("readonly.json"),
    },
    Preset {
        name: "rust",
        source: "blake3:3d51b28683ddb0f4f0cb7a47582b30b971009c714faaf5c029b8510f014becb3",
        digest: "blake3:f28c9fd763c49593dd74329afd5569989d82af55db1fa5562dda20348a987342",
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
        source: "blake3:4b139ba3819f5e203983b74f7eee19220a46a7a3875cc019741be90eac6953ba",
        digest: "blake3:895cd5e2327c7bc7963a7901b6c989f0f1fbb42b66b36b0a874b763b0f717e45",
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
        digest: "blake3:6b775f62fc8a1c300ac2393d03c003c422c28eb331a60c3387446a15cd928711",
        plan: include_str!("workspace.json"),
    },
];
