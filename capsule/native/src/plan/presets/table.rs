// Written by scripts/preset_plans.py.
/// A hash over the names and plans: what another build cached is not looked at.
pub const DIGEST: &str =
    "5a85da49aa75a6390358396fba953c826ea7876f5645e30fa113d217b78f3849";
/// All presets, by name.
pub const ALL: &[Preset] = &[
    Preset {
        name: "c",
        source: "blake3:21e16511ae8346f9f640429926412e1d6275414221818f104041b66a73cd3a8e",
        digest: "blake3:7648acc8f5ca83b8fa7b045adc3e8095155b1badc5d92c5b9d8299f97d0fbe69",
        plan: include_str!("c.json"),
    },
    Preset {
        name: "git",
        source: "blake3:b55d039b19a702e752b3cbd1fa93e3c8f281a4c02c1171cd32ab055bdf4f059e",
        digest: "blake3:cfe208b98b07a819a033c15c8b26c702e74029eb5b52c1282e3b27a0cc0c3df1",
        plan: include_str!("git.json"),
    },
    Preset {
        name: "node",
        source: "blake3:e46d8f2a726d386a7f30d3083840211d83d7fb2a8b4dab163d461c5c104575c7",
        digest: "blake3:c768ac4435efe259b066204bc9e61e700f2fffb45df3706d3b6294ce87d6e8da",
        plan: include_str!("node.json"),
    },
    Preset {
        name: "python",
        source: "blake3:b266a79fc0273ffc385d0b61d25793eff41f05bda3f9380654b6f9a68b9afe12",
        digest: "blake3:2ba0b3828443ba800311c867de53eab940913bd3b3182317f33d3bfa6c9875be",
        plan: include_str!("python.json"),
    },
    Preset {
        name: "readonly",
        source: "blake3:d52887b0c399ef4caf4a1a96b9163650d08cb140ff3a4eb68b7edd3dcf5b0e53",
        digest: "blake3:bd3bc13a4a4d3b893a98771d0f39c99d43b2a8bb0fd1a7e31b0a394e0317e82c",
        plan: include_str!("readonly.json"),
    },
    Preset {
        name: "rust",
        source: "blake3:3d51b28683ddb0f4f0cb7a47582b30b971009c714faaf5c029b8510f014becb3",
        digest: "blake3:238644daab9748a9a4893f62fbbc2c72cfeec77c22677e99d4f7ad3d55920e05",
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
        source: "blake3:dcaa138f898203e34c3add21f469e1eb2b3d51aa54859e2086119e84d86662b0",
        digest: "blake3:dd6161f737d7866c146250882f051222fbc89ebe1153e5227973afe708a3b090",
        plan: include_str!("toolchains.json"),
    },
    Preset {
        name: "workspace",
        source: "blake3:43e43cc478085b229b9077905dc20b915c6fedf0b4da5cd91c73a1af2d3fa4aa",
        digest: "blake3:92054e9d125168f026034946fcf4c19227f9be1278c922c8a95f44f8bf01182e",
        plan: include_str!("workspace.json"),
    },
];
