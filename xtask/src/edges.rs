//! Which crate may use which: the direction of the architecture, as one table.

/// Crates of the workspace, and which others of it each may name in its (not development) dependencies. A crate that
/// is not listed may not be built: whoever adds one says here what it may know. Development dependencies are free, so
/// that a test can hold a crate against another one.
///
/// `types` knows `topology` and `policy` because documents are parsed into them (docs/adr/0001).
const ALLOWED: &[(&str, &[&str])] = &[
    ("bulkhead-topology", &[]),
    ("bulkhead-policy", &["topology"]),
    ("bulkhead-pipeline", &["topology"]),
    ("bulkhead-compile", &["topology", "policy", "pipeline"]),
    ("bulkhead-reconcile", &["topology", "pipeline"]),
    ("bulkhead-store", &[]),
    ("bulkhead-dataplane", &["topology", "pipeline"]),
    ("bulkhead-netlink", &[]),
    ("bulkhead-openflow", &[]),
    ("bulkhead-tls", &[]),
    ("bulkhead-hands", &[]),
    ("bulkhead-ovsdb", &["tls"]),
    ("bulkhead-p4runtime", &[]),
    ("bulkhead-driver-host", &["topology", "dataplane", "ovsdb", "tls"]),
    ("bulkhead-driver-kernel", &["netlink"]),
    ("bulkhead-driver-ovs", &["topology", "pipeline", "dataplane", "openflow", "tls"]),
    ("bulkhead-driver-p4", &["topology", "pipeline", "dataplane", "p4runtime"]),
    ("bulkhead-driver-sim", &["topology", "pipeline", "dataplane"]),
    ("bulkhead-runtime", &["topology", "policy", "pipeline", "compile", "reconcile", "store", "dataplane", "hands"]),
    ("bulkhead-types", &["topology", "policy"]),
    ("bulkhead-proto", &[]),
    ("bulkhead-convert", &["topology", "policy", "types"]),
    ("bulkhead-access", &["topology", "policy", "types"]),
    ("bulkhead-api", &["topology", "policy", "types", "proto", "access", "tls", "hands"]),
    ("bulkhead-client", &["types"]),
    ("bulkhead-cli", &["types", "client", "convert", "hands"]),
    (
        "bulkhead-daemon",
        &[
            "topology",
            "policy",
            "pipeline",
            "compile",
            "reconcile",
            "store",
            "runtime",
            "dataplane",
            "openflow",
            "driver-ovs",
            "driver-p4",
            "driver-host",
            "driver-kernel",
            "driver-sim",
            "netlink",
            "tls",
            "types",
            "access",
            "api",
            "client",
        ],
    ),
    ("bulkhead-lab", &["topology", "netlink", "types"]),
    ("bulkhead-p4-target", &["topology", "pipeline", "dataplane", "p4runtime", "driver-p4", "netlink"]),
    (
        "bulkhead-tests",
        &[
            "topology",
            "policy",
            "pipeline",
            "compile",
            "reconcile",
            "store",
            "runtime",
            "dataplane",
            "openflow",
            "p4runtime",
            "driver-ovs",
            "driver-p4",
            "driver-host",
            "driver-sim",
            "types",
            "api",
            "client",
            "daemon",
            "lab",
            "p4-target",
        ],
    ),
    (
        "bulkhead-fuzz",
        &[
            "topology",
            "policy",
            "pipeline",
            "compile",
            "store",
            "runtime",
            "dataplane",
            "openflow",
            "ovsdb",
            "p4runtime",
            "tls",
            "types",
            "convert",
        ],
    ),
    ("xtask", &[]),
];

/// What all crates but `xtask` are called by.
const PREFIX: &str = "bulkhead-";

/// Findings about one package's declared dependencies.
pub(crate) fn check<'a>(package: &str, dependencies: impl Iterator<Item = &'a str>) -> Vec<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package) else {
        return vec![format!("{package}: is not in the table of xtask/src/edges.rs; say there what it may use")];
    };
    let own = dependencies.filter_map(|name| name.strip_prefix(PREFIX));
    let forbidden = own.filter(|name| !allowed.contains(name));
    forbidden.map(|name| format!("{package}: may not use {PREFIX}{name} (xtask/src/edges.rs)")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_cycles() {
        // What a crate may use, all the way down, must not reach itself.
        for (name, _) in ALLOWED {
            let mut reached = vec![name.trim_start_matches(PREFIX)];
            let mut at = 0;
            while at < reached.len() {
                let full = format!("{PREFIX}{}", reached[at]);
                if let Some((_, next)) = ALLOWED.iter().find(|(other, _)| *other == full) {
                    for name in *next {
                        assert_ne!(*name, reached[0], "a cycle through {full}");
                        if !reached.contains(name) {
                            reached.push(name);
                        }
                    }
                }
                at += 1;
            }
        }
    }

    #[test]
    fn a_forbidden_edge_is_found_and_an_allowed_one_is_not() {
        assert_eq!(check("bulkhead-cli", ["bulkhead-types", "serde"].into_iter()), Vec::<String>::new());
        let found = check("bulkhead-runtime", ["bulkhead-driver-ovs", "tokio"].into_iter());
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("bulkhead-runtime") && found[0].contains("bulkhead-driver-ovs"), "{found:?}");
    }

    #[test]
    fn an_unknown_crate_is_found() {
        assert_eq!(check("bulkhead-novel", [].into_iter()).len(), 1);
    }
}
