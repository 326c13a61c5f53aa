//! The house stands as `docs/architecture.md` draws it: who may import whom, and what may exist only once.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Room → rooms it may import. Test-only imports are free.
const ARROWS: &[(&str, &[&str])] = &[
    ("polybolos-model", &[]),
    ("polybolos-state", &["model"]),
    ("polybolos-proto", &["model"]),
    ("polybolos-env", &["model"]),
    ("polybolos-consensus", &["model", "state", "proto", "env"]),
    ("polybolos-planner", &["model"]),
    ("polybolos-shuffle", &["model", "planner", "proto", "env"]),
    ("polybolos-scheduler", &["model", "consensus", "state", "planner", "proto", "env"]),
    ("polybolos-executor", &["model", "planner", "shuffle", "proto", "env"]),
    ("polybolos-client", &["model", "proto", "env"]),
    (
        "polybolos",
        &[
            "model",
            "consensus",
            "state",
            "planner",
            "proto",
            "env",
            "shuffle",
            "scheduler",
            "executor",
            "client",
        ],
    ),
    (
        "polybolos-sim",
        &[
            "model",
            "consensus",
            "state",
            "planner",
            "proto",
            "env",
            "shuffle",
            "scheduler",
            "executor",
            "client",
            "",
        ],
    ),
    ("jepsen-lite", &[]),
    ("polybolos-chaos", &["client", "model", "env", "jepsen-lite", "chaos-shim"]),
    ("polybolos-chaos-shim", &[]),
];

/// Package → rooms that may know it.
const SECRETS: &[(&str, &[&str])] = &[
    ("openraft", &["polybolos-consensus"]),
    ("sled", &["polybolos-consensus"]),
    ("turmoil", &["polybolos-sim"]),
    (
        "datafusion",
        &[
            "polybolos-planner",
            "polybolos-shuffle",
            "polybolos-executor",
            "polybolos-scheduler",
            "polybolos",
            "polybolos-sim",
        ],
    ),
];

/// Two versions of one of these would not understand each other's types.
const ONCE: &[&str] = &[
    "arrow",
    "arrow-schema",
    "arrow-flight",
    "parquet",
    "datafusion",
    "tonic",
    "prost",
    "object_store",
    "tokio",
];

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
const LOCK: &str = include_str!("../../../Cargo.lock");

/// The rooms and what they declare; without `no_deps` cargo would download every platform's packages.
fn rooms() -> Vec<Package> {
    MetadataCommand::new().manifest_path(MANIFEST).no_deps().exec().expect("cargo metadata").packages
}

/// The versions of `package` in the lock file.
fn locked(package: &str) -> Vec<&'static str> {
    let marker = format!("name = \"{package}\"");
    let mut lines = LOCK.lines();
    let mut versions = Vec::new();
    while lines.any(|line| line == marker) {
        versions.extend(lines.next().and_then(|line| line.strip_prefix("version = ")));
    }
    versions
}

fn imports(package: &Package) -> BTreeSet<&str> {
    let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
    normal.map(|d| d.name.as_str()).collect()
}

#[test]
fn every_room_imports_only_what_the_design_allows() {
    let packages = rooms();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let rooms: BTreeSet<&str> = packages.iter().map(|p| p.name.as_str()).collect();
    for package in &packages {
        let may =
            allowed.get(package.name.as_str()).unwrap_or_else(|| panic!("{} is not in ARROWS", package.name));
        for import in imports(package).into_iter().filter(|name| rooms.contains(name)) {
            let short = import.strip_prefix("polybolos").unwrap_or(import).trim_start_matches('-');
            assert!(may.contains(&short), "{} may not import {import}", package.name);
        }
    }
}

#[test]
fn only_the_named_rooms_know_the_big_dependencies() {
    for package in &rooms() {
        for import in imports(package) {
            // `datafusion-proto` and its like count as `datafusion`.
            let secret =
                SECRETS.iter().find(|(name, _)| import == *name || import.starts_with(&format!("{name}-")));
            if let Some((_, rooms)) = secret {
                assert!(rooms.contains(&package.name.as_str()), "{} may not know {import}", package.name);
            }
        }
    }
}

#[test]
fn the_packages_that_exchange_types_exist_once() {
    for name in ONCE {
        let versions = locked(name);
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

#[test]
fn the_pins_of_consensus_hold() {
    assert_eq!(locked("openraft"), ["\"0.9.25\""]);
    assert_eq!(locked("sled"), ["\"0.34.7\""]);
}
