//! Which layers this host can give, which the plan needs, and which the user was willing to do without.
//!
//! Mostly pure: [`Host::probe`] looks, [`choose`] decides. Nothing is left out silently: a needed layer that cannot be
//! had refuses the run with the layer, the cause, the fix and the flag. What a policy lists in `require` the flag
//! cannot waive.

use crate::plan::{NetworkMode, Require};
use crate::sandbox::{attempt, landlock};
use crate::supervise::kernel_file;
use crate::supervise::report::Enforced;
use std::collections::{BTreeMap, BTreeSet};

/// Needed without the policy saying so.
const DEFAULT: [Require; 5] = [
    Require::Landlock,
    Require::Namespaces,
    Require::Network,
    Require::Seccomp,
    Require::Supervisor,
];

/// Why there are no user namespaces: what a run finds inside a run, and elsewhere where a host forbids them.
const NO_USERS: &str =
    "user.max_user_namespaces is 0: this is a run inside a run, or the host forbids them";

/// What the host can give; `Err` says why not and what to do.
#[derive(Clone, Debug)]
pub struct Host {
    /// Version of Landlock; 0 for none.
    pub landlock: u32,
    /// User namespaces.
    pub namespaces: Result<(), String>,
    /// A seccomp listener.
    pub supervisor: Result<(), String>,
    /// A delegated cgroup.
    pub cgroup: Result<(), String>,
}

impl Host {
    /// Look, without changing anything. `cgroup` is what came of making a group for the run. What a filter refuses
    /// only an attempt tells: a child tries where we are filtered (most containers), or where `waived` says that
    /// namespaces may be missing.
    #[must_use]
    pub fn probe(cgroup: Result<(), String>, waived: &BTreeSet<Require>) -> Host {
        // SAFETY: plain integers.
        let filtered = unsafe { libc::prctl(libc::PR_GET_SECCOMP) } != 0;
        let try_it = filtered || waived.contains(&Require::Namespaces);
        Host {
            landlock: landlock::version(),
            namespaces: namespaces(try_it),
            supervisor: if filtered { supervisor() } else { Ok(()) },
            cgroup,
        }
    }

    /// Whether all the signs of a run inside a run are there.
    fn nested(&self) -> bool {
        let none = self.namespaces.as_ref().is_err_and(|why| why == NO_USERS);
        self.landlock == 0 && none && self.supervisor.is_err()
    }
}

fn namespaces(try_it: bool) -> Result<(), String> {
    let number = |path: &str| {
        kernel_file::read(path.as_ref())
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    // SAFETY: takes nothing, cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return Err(NO_USERS.into());
    }
    if !root && number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return Err("unprivileged user namespaces are off; run: sudo sysctl -w kernel.unprivileged_userns_clone=1".into());
    }
    if !root && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return Err(
            "AppArmor restricts user namespaces; run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
                .into(),
        );
    }
    if try_it {
        return attempt::namespaces().map_err(|why| {
            format!("{why} (a container or a filter forbids it; capsule doctor says what gives it)")
        });
    }
    Ok(())
}

/// A listener can exist once in a tree of filters, and fetching it can be refused.
fn supervisor() -> Result<(), String> {
    if !attempt::listening() {
        return Err(
            "another supervisor already answers this process tree's system calls (a run inside a run?)".into(),
        );
    }
    if attempt::fetching() {
        return Ok(());
    }
    Err("a filter refuses pidfd_getfd (in a container: --cap-add SYS_PTRACE)".into())
}

/// The layers of one run.
#[derive(Clone, Debug)]
pub struct Tier {
    /// Namespaces, the view and an empty network.
    pub namespaces: bool,
    /// Version of Landlock to use; 0 for none.
    pub landlock: u32,
    /// The seccomp filter.
    pub seccomp: bool,
    /// The monitor.
    pub supervisor: bool,
    /// For the report.
    pub enforced: Enforced,
}

/// The layer's name in policies, flags and reports.
#[must_use]
pub fn name(layer: Require) -> &'static str {
    match layer {
        Require::Cgroup => "cgroup",
        Require::Landlock => "landlock",
        Require::Namespaces => "namespaces",
        Require::Network => "network",
        Require::Seccomp => "seccomp",
        Require::Supervisor => "supervisor",
    }
}

/// The layer of this name.
#[must_use]
pub fn parse(text: &str) -> Option<Require> {
    DEFAULT
        .into_iter()
        .chain([Require::Cgroup])
        .find(|layer| name(*layer) == text)
}

/// Decide. `mode` is the network's, `require` is the policy's own list, `waived` the user's.
///
/// # Errors
/// A sentence for the user: the first layer that is needed and cannot be had.
pub fn choose(
    host: &Host,
    mode: NetworkMode,
    require: &[Require],
    waived: &BTreeSet<Require>,
) -> Result<Tier, String> {
    if mode == NetworkMode::Open && require.contains(&Require::Network) {
        return Err(
            "the policy requires the layer `network`, and its `network.mode` is `open`, which has none; \
             take one of them out"
                .to_owned(),
        );
    }
    let mut layers = BTreeMap::new();
    let mut degraded = Vec::new();
    let mut missing: Vec<(&'static str, String)> = Vec::new();
    let landlock = if host.landlock > 0 {
        Ok(())
    } else {
        Err(
            "this kernel has no Landlock (5.13 or newer, with `landlock` in the boot option lsm=)"
                .to_owned(),
        )
    };
    let mut have = |layer: Require, given: &Result<(), String>| -> Result<bool, String> {
        let label = name(layer);
        let why = match given {
            Ok(()) => {
                layers.insert(label, "enforced");
                return Ok(true);
            }
            Err(why) => why,
        };
        if require.contains(&layer) {
            return Err(format!(
                "the policy requires the layer `{label}`, and it is unavailable: {why}; see `capsule doctor`, or take it out of `require`"
            ));
        }
        let needed = DEFAULT.contains(&layer);
        if needed && !waived.contains(&layer) {
            missing.push((label, why.clone()));
        }
        layers.insert(label, if needed { "degraded" } else { "unavailable" });
        if needed {
            degraded.push(label);
        }
        Ok(false)
    };
    let namespaces = have(Require::Namespaces, &host.namespaces)?;
    // An empty network is a namespace; without one sockets other than Unix are refused by the filter, which is less.
    let network = host
        .namespaces
        .clone()
        .map_err(|_| "it needs the layer `namespaces`".to_owned());
    if mode != NetworkMode::Open {
        have(Require::Network, &network)?;
    }
    let landlock = if have(Require::Landlock, &landlock)? {
        host.landlock
    } else {
        0
    };
    have(Require::Seccomp, &Ok(()))?;
    let supervisor = have(Require::Supervisor, &host.supervisor)?;
    have(Require::Cgroup, &host.cgroup)?;
    if mode == NetworkMode::Open {
        layers.insert(name(Require::Network), "open");
    }
    if !namespaces && landlock == 0 {
        return Err(if host.nested() {
            inside_a_run()
        } else {
            "neither the layer `namespaces` nor `landlock` is available: nothing would keep files apart, and no option changes that"
                .into()
        });
    }
    if !missing.is_empty() {
        let why: Vec<String> = missing
            .iter()
            .map(|(label, why)| format!("the layer `{label}` is unavailable: {why}"))
            .collect();
        let flags: Vec<String> = missing
            .iter()
            .map(|(label, _)| format!("--allow-degraded {label}"))
            .collect();
        return Err(format!(
            "{}; to run without: {}",
            why.join("; "),
            flags.join(" ")
        ));
    }
    let needs = match mode {
        NetworkMode::None => None,
        NetworkMode::Hosts => Some(("hosts", namespaces && supervisor)),
        NetworkMode::Open => Some(("open", supervisor)),
    };
    if let Some((mode, false)) = needs {
        return Err(format!(
            "`network.mode: {mode}` needs the layers `namespaces` and `supervisor`: without them nobody would decide \
             which addresses are reached; take `--allow-degraded` away, or the hosts out of the policy"
        ));
    }
    degraded.sort_unstable();
    let tier = match (namespaces, degraded.is_empty()) {
        (true, true) => "full",
        (true, false) => "reduced",
        (false, _) => "confined",
    };
    let enforced = Enforced {
        tier,
        layers,
        landlock_abi: landlock,
        digest: String::new(),
        degraded,
    };
    Ok(Tier {
        namespaces,
        landlock,
        seccomp: true,
        supervisor,
        enforced,
    })
}

/// Why a run inside a run is refused: what each layer lacks, and that no flag helps.
fn inside_a_run() -> String {
    "this is a run inside a run, where three layers cannot be had: `namespaces` (the outer run makes none within its own); \
     `landlock` (the outer run hides it: it would not bind what that run's monitor opens for the command); `supervisor` \
     (the outer run's monitor already answers this process tree's system calls, and the kernel allows one). The layer \
     `seccomp` alone would neither keep files apart nor this run's log from the command, so no --allow-degraded helps. \
     The outer run's policy holds for the command already: run it without capsule, or start this run from outside"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            landlock: 7,
            namespaces: Ok(()),
            supervisor: Ok(()),
            cgroup: Err("none".into()),
        }
    }

    fn waived(list: &[Require]) -> BTreeSet<Require> {
        list.iter().copied().collect()
    }

    #[test]
    fn everything_is_enforced_where_everything_is_there() {
        let tier = choose(
            &host(),
            NetworkMode::None,
            &[Require::Landlock],
            &waived(&[]),
        )
        .unwrap();
        assert_eq!(tier.enforced.tier, "full");
        assert!(tier.enforced.degraded.is_empty());
        assert_eq!(tier.enforced.layers["cgroup"], "unavailable");
        assert_eq!(tier.enforced.layers["supervisor"], "enforced");
    }

    #[test]
    fn a_missing_layer_refuses_until_it_is_waived() {
        let poor = Host {
            supervisor: Err("nested".into()),
            ..host()
        };
        let error = choose(&poor, NetworkMode::None, &[], &waived(&[])).unwrap_err();
        assert!(
            error.contains("`supervisor`")
                && error.contains("nested")
                && error.contains("--allow-degraded supervisor")
        );
        let tier = choose(
            &poor,
            NetworkMode::None,
            &[],
            &waived(&[Require::Supervisor]),
        )
        .unwrap();
        assert_eq!(tier.enforced.degraded, ["supervisor"]);
        assert_eq!((tier.enforced.tier, tier.supervisor), ("reduced", false));
    }

    #[test]
    fn what_the_policy_requires_cannot_be_waived() {
        let error = choose(
            &host(),
            NetworkMode::None,
            &[Require::Cgroup],
            &waived(&[Require::Cgroup]),
        )
        .unwrap_err();
        assert!(error.contains("requires") && error.contains("`cgroup`"));
    }

    #[test]
    fn without_namespaces_both_they_and_the_network_must_be_waived() {
        let poor = Host {
            namespaces: Err("forbidden".into()),
            ..host()
        };
        assert!(
            choose(
                &poor,
                NetworkMode::None,
                &[],
                &waived(&[Require::Namespaces])
            )
            .unwrap_err()
            .contains("`network`")
        );
        let both = waived(&[Require::Namespaces, Require::Network]);
        let tier = choose(&poor, NetworkMode::None, &[], &both).unwrap();
        assert_eq!((tier.enforced.tier, tier.namespaces), ("confined", false));
        let none = Host {
            landlock: 0,
            ..poor
        };
        let all = waived(&[Require::Namespaces, Require::Network, Require::Landlock]);
        assert!(choose(&none, NetworkMode::None, &[], &all).is_err());
    }

    #[test]
    fn an_open_network_is_no_layer_and_cannot_be_required() {
        let tier = choose(&host(), NetworkMode::Open, &[], &waived(&[])).unwrap();
        assert_eq!(tier.enforced.layers["network"], "open");
        assert_eq!(tier.enforced.layers["namespaces"], "enforced");
        let error = choose(
            &host(),
            NetworkMode::Open,
            &[Require::Network],
            &waived(&[]),
        );
        assert!(error.unwrap_err().contains("`open`"));
    }

    #[test]
    fn hosts_are_not_reached_without_somebody_who_decides() {
        let tier = choose(&host(), NetworkMode::Hosts, &[], &waived(&[])).unwrap();
        assert_eq!(tier.enforced.layers["network"], "enforced");
        for (poor, waives) in [
            (
                Host {
                    supervisor: Err("nested".into()),
                    ..host()
                },
                vec![Require::Supervisor],
            ),
            (
                Host {
                    namespaces: Err("forbidden".into()),
                    ..host()
                },
                vec![Require::Namespaces, Require::Network],
            ),
        ] {
            let error = choose(&poor, NetworkMode::Hosts, &[], &waived(&waives)).unwrap_err();
            assert!(error.contains("needs the layers"), "{error}");
        }
    }

    #[test]
    fn the_line_to_type_is_given_once_and_whole() {
        let poor = Host {
            namespaces: Err("forbidden".into()),
            supervisor: Err("taken".into()),
            ..host()
        };
        let error = choose(&poor, NetworkMode::None, &[], &waived(&[])).unwrap_err();
        assert!(error.ends_with(
            "to run without: --allow-degraded namespaces --allow-degraded network --allow-degraded supervisor"
        ));
        assert!(error.contains("forbidden") && error.contains("taken"));
    }

    #[test]
    fn a_run_inside_a_run_is_told_what_to_do_instead() {
        let inner = Host {
            landlock: 0,
            namespaces: Err(NO_USERS.into()),
            supervisor: Err("taken (in a container: this)".into()),
            ..host()
        };
        let error = choose(&inner, NetworkMode::None, &[], &waived(&DEFAULT)).unwrap_err();
        assert!(error.contains("a run inside a run") && error.contains("without capsule"));
        // What would help a container does not help here.
        assert!(!error.contains("container"));
        let contained = Host {
            namespaces: Err("a filter forbids it".into()),
            ..inner.clone()
        };
        let error = choose(&contained, NetworkMode::None, &[], &waived(&DEFAULT)).unwrap_err();
        assert!(!error.contains("a run inside a run"), "{error}");
        // What the policy requires is said first.
        let error = choose(
            &inner,
            NetworkMode::None,
            &[Require::Landlock],
            &waived(&DEFAULT),
        )
        .unwrap_err();
        assert!(error.contains("requires the layer `landlock`"));
    }

    #[test]
    fn names_of_layers() {
        assert_eq!(parse("landlock"), Some(Require::Landlock));
        assert_eq!(parse("cgroup"), Some(Require::Cgroup));
        assert_eq!(parse("selinux"), None);
    }
}
