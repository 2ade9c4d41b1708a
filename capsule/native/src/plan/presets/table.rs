// Written by scripts/preset_plans.py.
/// A hash over the names and plans: what another build cached is not looked at.
pub const DIGEST: &str =
    "7307ee4382a9a616f8a4d7ca1419f8138de6599bf7d2197ca83980be46a1e94d";
/// All presets, by name.
pub const ALL: &[Preset] = &[
    Preset {
        name: "anthropic",
        source: "blake3:41e49ad74fa791ab6ade4772ac0151444be22d284b6feae4e9d2c23585eb7682",
        digest: "blake3:bd83abf012ca17597e760a369e7c7bf67f0b9ff6c9d69151103a9d94ac6f0cec",
        plan: include_str!("anthropic.json"),
    },
    Preset {
        name: "c",
        source: "blake3:21e16511ae8346f9f640429926412e1d6275414221818f104041b66a73cd3a8e",
        digest: "blake3:859fc4f08be319f236e79f7b7352af4474a78c262d989118ee2fc678b7847efa",
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
        digest: "blake3:62331fa3bb32fc6f8a24edbbc6fcf8356dbc5248308e26c6557114752ff63204",
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
        digest: "blake3:3fe19022b46c7c4ad3053b6aae512f3e1e5a98aefa27c1be243510af22e8971f",
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
        name: "proxy",
        source: "blake3:997f14e433c2bb45838a5ca60064ebc848b2d5f4029c5020bbf02cde4251c5a7",
        digest: "blake3:74fe856db2e83f7841f2d94ec0e759b8cdf2e67d22be29085859cb7b0714fd39",
        plan: include_str!("proxy.json"),
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
        digest: "blake3:9ccd41d618e7c5079bebbc88534d5ec95bd1848a2cd51bc74efd1ef4825f1a32",
        plan: include_str!("python.json"),
    },
    Preset {
        name: "qemu",
        source: "blake3:bb210af888169ed0259d82284870b4a181e31c39db3b18ebaff03282481d1f4a",
        digest: "blake3:3f8d03f94967771a0ebf8d1700bc680d0cfbeb4b3f305757ed109229c084468b",
        plan: include_str!("qemu.json"),
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
        digest: "blake3:e4858a33f90daebddfd4e31fe8814698faa8dd991a833a5cff9f16f67d600657",
        plan: include_str!("rust.json"),
    },
    Preset {
        name: "secret-files",
        source: "blake3:2efaa818e5f4eb25674e4e20c0fe43beeba92f8e1885ee71b1d1d6f6f94274ce",
        digest: "blake3:736b756f33f926bff6a6d6ebcd2abb37a2472b1aac055a17cbf7c250d997a964",
        plan: include_str!("secret-files.json"),
    },
    Preset {
        name: "share",
        source: "blake3:0de10fceed1fb9201ecc8b3daa2f633b9917c3345dfeb25d449c521662e178a6",
        digest: "blake3:dea12e6eb71ddc70976c3966b7099a7f2b489fed60449121c157f4cf11b6c300",
        plan: include_str!("share.json"),
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
        source: "blake3:e318a8cee77d46d9ee42a6fdb8c978f4d2599fd2a7acd27566352460d6a33611",
        digest: "blake3:f8951f549a80356d77aac13107c06f594afc5d5646610b8fefc8268ab9661b57",
        plan: include_str!("workspace.json"),
    },
];
