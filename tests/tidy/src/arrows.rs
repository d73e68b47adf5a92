//! The arrows between rooms, as drawn in ARCHITECTURE.md: who may depend on whom. Development dependencies are free.

use std::collections::BTreeSet;

use crate::workspace::{Package, Problem};

/// Every package of the product, with what it may depend on within the workspace. Packages under `tests/` may depend
/// on anything and nothing may depend on them.
const ARROWS: [(&str, &[&str]); 11] = [
    ("podwire-proto", &[]),
    ("podwire-config", &[]),
    ("podwire-hostnet", &[]),
    ("podwire-pool", &[]),
    ("podwire-ledger", &["podwire-pool"]),
    ("podwire-trace", &["podwire-pool"]),
    ("podwire-whatif", &["podwire-config", "podwire-pool"]),
    ("podwire-ec2", &["podwire-pool"]),
    ("podwire-cli", &["podwire-ledger", "podwire-pool", "podwire-proto"]),
    ("aws-cni", &["podwire-hostnet", "podwire-proto"]),
    (
        "podwire-ipamd",
        &[
            "podwire-config",
            "podwire-ec2",
            "podwire-hostnet",
            "podwire-ledger",
            "podwire-pool",
            "podwire-proto",
            "podwire-trace",
        ],
    ),
];

/// Everything the pool may depend on: it is pure.
const POOL: (&str, &[&str]) = ("podwire-pool", &["ipnetwork"]);

/// Start of the name of a heavy dependency, and the one package that may carry its weight.
const HEAVY: [(&str, &str); 2] = [("aws-", "podwire-ec2"), ("rustls", "podwire-ec2")];

/// Arrows that are not in the picture.
#[must_use]
pub fn check(packages: &[Package]) -> Vec<Problem> {
    let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let is_test = |package: &Package| package.dir.split('/').next() == Some("tests");
    let product = packages.iter().filter(|package| !is_test(package));
    product
        .flat_map(|package| [inner(package, &names), pure(package), heavy(package, &names)].concat())
        .collect()
}

fn problem(package: &Package, rule: String, fix: &str) -> Problem {
    Problem { path: format!("{}/Cargo.toml", package.dir), line: 0, rule, fix: fix.to_owned() }
}

fn inner(package: &Package, workspace: &BTreeSet<&str>) -> Vec<Problem> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        let rule = format!("package {} is not in the picture", package.name);
        let fix = "draw it in ARCHITECTURE.md and list its arrows in tests/tidy/src/arrows.rs";
        return vec![problem(package, rule, fix)];
    };
    let within = package.dependencies.iter().filter(|name| workspace.contains(name.as_str()));
    within
        .filter(|name| !allowed.contains(&name.as_str()))
        .map(|name| {
            let rule = format!("{} may not depend on {name}", package.name);
            problem(package, rule, "convert at the door of the room instead (ARCHITECTURE.md, arrows)")
        })
        .collect()
}

fn pure(package: &Package) -> Vec<Problem> {
    let (pool, allowed) = POOL;
    let extra =
        package.dependencies.iter().filter(|name| package.name == pool && !allowed.contains(&name.as_str()));
    extra
        .map(|name| {
            let rule = format!("the pool is pure: std and ipnetwork alone, not {name}");
            problem(package, rule, "let what happens come in as an input and go out as an effect")
        })
        .collect()
}

fn heavy(package: &Package, workspace: &BTreeSet<&str>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for name in package.dependencies.iter().filter(|name| !workspace.contains(name.as_str())) {
        let home = HEAVY.iter().find(|(start, _)| name.starts_with(start)).map(|(_, home)| *home);
        if let Some(home) = home.filter(|home| *home != package.name) {
            let rule = format!("{name} is heavy and belongs in {home} alone");
            problems.push(problem(package, rule, "reach it through that package"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dir: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies.iter().map(|&name| name.to_owned()).collect();
        Package { name: name.to_owned(), dir: dir.to_owned(), dependencies }
    }

    #[test]
    fn arrows_outside_the_picture_are_found() {
        let sim = package("podwire-sim", "tests/sim", &["podwire-pool", "anything"]);
        let pool = package("podwire-pool", "ipamd/pool", &["ipnetwork"]);
        assert_eq!(check(&[sim.clone(), pool.clone()]), []);
        for (bad, rule) in [
            (package("podwire-pool", "ipamd/pool", &["serde"]), "the pool is pure"),
            (
                package("podwire-pool", "ipamd/pool", &["podwire-sim"]),
                "podwire-pool may not depend on podwire-sim",
            ),
            (package("aws-cni", "cni-plugin", &["podwire-pool"]), "aws-cni may not depend on podwire-pool"),
            (package("podwire-new", "new", &[]), "package podwire-new is not in the picture"),
            (package("podwire-ipamd", "ipamd", &["aws-sdk-ec2"]), "aws-sdk-ec2 is heavy"),
        ] {
            let found = check(&[sim.clone(), pool.clone(), bad]);
            assert!(found.iter().any(|problem| problem.rule.starts_with(rule)), "{rule}: {found:?}");
        }
    }
}
