//! What tests of several crates share. No part of the product: a dependency for tests only.
//!
//! Some promises can be tried on some machines only: the kernel must have cgroups, or who runs the
//! tests must be root. A test that passes without having looked says something that is not true, so
//! where something is lacking the test fails ([`lacking`]). Who knows what a machine cannot do allows
//! it by name, in [`ALLOWED`]; the gate allows nothing. Refused: a test that is marked as ignored
//! (nobody would run it), and one variable that allows everything (it would be set and forgotten).

/// The variable that names, with commas between, what this machine may lack: of [`Ability`].
pub const ALLOWED: &str = "ATOLL_TESTS_WITHOUT";

/// What not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// Cgroups in which this process may make its own.
    Cgroups,
    /// Controllers of cgroups in their first version, among them the one of processor time.
    CgroupsV1,
    /// A kernel that tells in which cgroup the other end of a connection is.
    Callers,
    /// Mount namespaces for services.
    Sandbox,
    /// A user who may do everything.
    Root,
    /// A Python with grpcio; `cargo xtask test` installs it.
    PythonGrpc,
}

impl Ability {
    /// Its name in [`ALLOWED`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroups => "cgroups",
            Self::CgroupsV1 => "cgroups-v1",
            Self::Callers => "callers",
            Self::Sandbox => "sandbox",
            Self::Root => "root",
            Self::PythonGrpc => "python-grpc",
        }
    }
}

/// Says that something was not tried here because the machine cannot do it.
///
/// # Panics
/// Unless [`ALLOWED`] names the ability: then the test may end early.
#[track_caller]
pub fn lacking(ability: Ability) {
    let allowed = std::env::var(ALLOWED).unwrap_or_default();
    let name = ability.name();
    assert!(
        is_allowed(&allowed, ability),
        "this machine lacks '{name}', so this was not tried; {ALLOWED}={name} lets it pass"
    );
    eprintln!("not tried: {ALLOWED} says that this machine lacks '{name}'");
}

fn is_allowed(allowed: &str, ability: Ability) -> bool {
    allowed.split(',').any(|name| name.trim() == ability.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_allowed() {
        assert!(is_allowed("root, cgroups", Ability::Cgroups));
        assert!(is_allowed("root, cgroups", Ability::Root));
        for other in ["", "cgroup", "all", "1", "cgroups-v1"] {
            assert!(!is_allowed(other, Ability::Cgroups), "{other}");
        }
    }
}
