// Written by scripts/preset_plans.py.
/// A hash over the names and plans: what another build cached is not looked at.
pub const DIGEST: &str =
    "87ae631100fa5dcfe00364bb9017a0e0513b951c61d73652bade35b3456c64a2";
/// All presets, by name.
pub const ALL: &[Preset] = &[
    Preset {
        name: "c",
        source: "blake3:21e16511ae8346f9f640429926412e1d6275414221818f104041b66a73cd3a8e",
        digest: "blake3:1f6a1e82c70df4a9cbe927c1112eb2a09e750c1b972c30b132d8a7a2871e42e5",
        plan: include_str!("c.json"),
    },
    Preset {
        name: "git",
        source: "blake3:b55d039b19a702e752b3cbd1fa93e3c8f281a4c02c1171cd32ab055bdf4f059e",
        digest: "blake3:45c30bba26b88ce69b4ce442f327bd5ae55d588ed265ee6dbb762e02a41110d3",
        plan: include_str!("git.json"),
    },
    Preset {
        name: "node",
        source: "blake3:e46d8f2a726d386a7f30d3083840211d83d7fb2a8b4dab163d461c5c104575c7",
        digest: "blake3:555f59389b652565f7cd967eda30cf363f151c49986293f00a09788e50a95924",
        plan: include_str!("node.json"),
    },
    Preset {
        name: "python",
        source: "blake3:b266a79fc0273ffc385d0b61d25793eff41f05bda3f9380654b6f9a68b9afe12",
        digest: "blake3:72ca9f9dd58bb983344a660c8c87ac61627eda1afdddd2cdaba891f5dc26c6e0",
        plan: include_str!("python.json"),
    },
    Preset {
        name: "readonly",
        source: "blake3:d52887b0c399ef4caf4a1a96b9163650d08cb140ff3a4eb68b7edd3dcf5b0e53",
        digest: "blake3:96996af841265a6e97a446f4c827045ceba89ae3c3c26499b684b7a1a940b6d9",
        plan: include_str!("readonly.json"),
    },
    Preset {
        name: "rust",
        source: "blake3:3d51b28683ddb0f4f0cb7a47582b30b971009c714faaf5c029b8510f014becb3",
        digest: "blake3:af3822a05c10e81ed51a3f83b5ace910530ada5a9a9607c1c509336979626fe9",
        plan: include_str!("rust.json"),
    },
    Preset {
        name: "secret-files",
        source: "blake3:2efaa818e5f4eb25674e4e20c0fe43beeba92f8e1885ee71b1d1d6f6f94274ce",
        digest: "blake3:736b756f33f926bff6a6d6ebcd2abb37a2472b1aac055a17cbf7c250d997a964",
        plan: include_str!("secret-files.json"),
    },
    Preset {
        name: "strict",
        source: "blake3:4cb9816b54835e5699441f2580dbe893742405a673e57b0fbe27f7f10133accd",
        digest: "blake3:4dc0408c52a77e6a3d919073576ce5b5b433b9b1659e8a6e97d04fef4e67c5cf",
        plan: include_str!("strict.json"),
    },
    Preset {
        name: "toolchains",
        source: "blake3:a502a2bdd44c3d3c3a666d8f7fed32689af2ada84cd49a278846f702dd84c6c3",
        digest: "blake3:2a072cb7e78e8957bd8d5951b8b3be054a2f0d0545950269ae69c662556f6982",
        plan: include_str!("toolchains.json"),
    },
    Preset {
        name: "workspace",
        source: "blake3:868cab1184ccfadfddf7fe1c2f20870080d1df0bec649ad97387b148ac9e45b9",
        digest: "blake3:6e3eeb1f521b96d7a0a02f8ce01449ce24a159a4e00fc503d1c618743a3c9a1d",
        plan: include_str!("workspace.json"),
    },
];
