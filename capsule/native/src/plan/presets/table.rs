// Written by scripts/preset_plans.py.
/// A hash over the names and plans: what another build cached is not looked at.
pub const DIGEST: &str =
    "1c013b166c633d285b0ccec8c455ce603856bf33fda6a2cdf34212a740201b3b";
/// All presets, by name.
pub const ALL: &[Preset] = &[
    Preset {
        name: "anthropic",
        source: "blake3:802d67e0946dcb242e81fc57acbb9e2cdb17b03568cfeaf6782e85779e7dea1f",
        digest: "blake3:ff9483ce3ad51afb2d94d84acab2e85e182216485ed0c01cf7161b12ad7fc451",
        plan: include_str!("anthropic.json"),
    },
    Preset {
        name: "c",
        source: "blake3:21e16511ae8346f9f640429926412e1d6275414221818f104041b66a73cd3a8e",
        digest: "blake3:1f6a1e82c70df4a9cbe927c1112eb2a09e750c1b972c30b132d8a7a2871e42e5",
        plan: include_str!("c.json"),
    },
    Preset {
        name: "crates",
        source: "blake3:61865d39e4562460f0affa1281e9ca2e78c562f9eff3083b5717ff0a44428c40",
        digest: "blake3:0fe8ae5573999ca2ebd85515f63e5ce222bd7fc6fd21195526964230eedd8e5d",
        plan: include_str!("crates.json"),
    },
    Preset {
        name: "debian",
        source: "blake3:2981626534db1ca3c0fb4c9c51a7d6d7b2c4d873dc80fd7335b1a4d6183f1fa8",
        digest: "blake3:86926fbc32487f69a0d3af1ca88d0e32893e179c39a8f0e92404dd946872a38f",
        plan: include_str!("debian.json"),
    },
    Preset {
        name: "egress",
        source: "blake3:5f5478b6d91cf65d54daa5d61a37372fc0c2eaeffe2b41af7b89c898a253580a",
        digest: "blake3:f32efd49cbca5b7fbda4ff4f64b496ca8ca633067b77e7405cab4cdab611d13b",
        plan: include_str!("egress.json"),
    },
    Preset {
        name: "git",
        source: "blake3:b55d039b19a702e752b3cbd1fa93e3c8f281a4c02c1171cd32ab055bdf4f059e",
        digest: "blake3:45c30bba26b88ce69b4ce442f327bd5ae55d588ed265ee6dbb762e02a41110d3",
        plan: include_str!("git.json"),
    },
    Preset {
        name: "github",
        source: "blake3:3af84134afc2d69772b273e273ac3dbba19e8eb5c962ffede856a36b5b5bcfc8",
        digest: "blake3:5125183d7f82c170dda906b3e399f9ab3322acbbe2349a645dea33e413700421",
        plan: include_str!("github.json"),
    },
    Preset {
        name: "go",
        source: "blake3:b26e12e507f802dc6e9ceda7d54bd657aaa35bc48337be28e4082c449dc351ea",
        digest: "blake3:4f53cb7f7b915bb7709bcfaa11dece9a0a851229321116d8a14c9c0086182074",
        plan: include_str!("go.json"),
    },
    Preset {
        name: "google-ai",
        source: "blake3:94a816694a1c12fa387a04a5786f034dfcd280580b3f268a2320ca6d04cfba98",
        digest: "blake3:3163356bb8cde14ce215714bf486bebab3e699fcf33e59383983d644946e5bed",
        plan: include_str!("google-ai.json"),
    },
    Preset {
        name: "node",
        source: "blake3:e46d8f2a726d386a7f30d3083840211d83d7fb2a8b4dab163d461c5c104575c7",
        digest: "blake3:555f59389b652565f7cd967eda30cf363f151c49986293f00a09788e50a95924",
        plan: include_str!("node.json"),
    },
    Preset {
        name: "npm",
        source: "blake3:90ae685d528bfa6013e63364ef7ce2ca11bcb755073d384eef57f745272c7169",
        digest: "blake3:2ae5925519d0440f139f4e2541914d6491d843dc1ac3e3af87d9c26783fc73f6",
        plan: include_str!("npm.json"),
    },
    Preset {
        name: "openai",
        source: "blake3:598619bee85a3e61eb8009cf514864719f52e3d839b1fe29190da1d144014a86",
        digest: "blake3:73a34009e3c83c8d79f5133b2e6285ee8ca1228d5490c29d411434b76b0335f4",
        plan: include_str!("openai.json"),
    },
    Preset {
        name: "pypi",
        source: "blake3:ff08a1ee91222c01db6b6396f43effa90c355eb21d7b965b9b4e6a918183b32d",
        digest: "blake3:089713c950183fe6b5715571f1b44cbee9a5cdf1391d36b28e13807216ad4ad8",
        plan: include_str!("pypi.json"),
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
