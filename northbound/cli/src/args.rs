//! The command line.

mod access;

pub use access::{Access, Audit, Context, Token};

use crate::jsonpath::JsonPath;
use bulkhead_types::{Kind, nearest, v1};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// Who may talk to whom, in labels, enforced by the network.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    /// Which controller, and who asks.
    #[command(flatten)]
    pub access: Access,
    /// How to print the answer: table, wide, json, yaml, jsonpath=TEMPLATE (of what json prints, as in
    /// jsonpath='{[*].metadata.name}'); of `topology` also dot and svg.
    #[arg(short, long, global = true, default_value = "table", value_parser = form, value_name = "FORM")]
    pub output: Form,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command that takes a kind says of them.
macro_rules! kinds {
    () => {
        "Kinds: network (net), workload (wl), zone (zn), policy (pol), switch (sw), addressset (as), link (ln);\n       \
         singular or plural, or as KIND/NAME."
    };
}

const COLUMNS: &str = "\
Columns:
  DESIRED        the revision that the switch should have
  ACKNOWLEDGED   the one that is in force there as a whole; 0 while none is known to be
  PENDING        entries that are not confirmed yet, or wait for a port
  DRIFT          entries that were not as they should be when the switch was last read; they are mended
  PLUGGED        interfaces on the host that say whose they are
  QUARANTINED    those of them that are no known workload's, and get nothing";

const EXAMPLES: &str = "\
Examples:
  bulkhead apply -f examples/three-tier --wait   apply a folder as one change, wait until switches have it
  bulkhead plan -f policies.yaml                 what would change, and who would gain or lose whom
  bulkhead reach web-1 app-1 tcp/8080            may it, and which rule says so
  bulkhead matrix -l app=shop --port 443/tcp     who reaches whom on a port
  bulkhead get policies -o yaml                  everything printed can be applied again

Exit codes: 0 yes or done; 1 failed; 2 wrong usage; 3 the answer is no (denied, drift found).";

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns.
    Table,
    /// More columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Graphviz's language; of `topology` alone.
    Dot,
    /// A picture; of `topology` alone.
    Svg,
}

/// The form of an answer, and what is taken out of it.
#[derive(Debug, Clone)]
pub struct Form {
    /// The form; JSON with a template.
    pub output: Output,
    /// What is printed of the JSON.
    pub path: Option<JsonPath>,
}

fn form(text: &str) -> Result<Form, String> {
    if let Some(template) = text.strip_prefix("jsonpath=") {
        return Ok(Form { output: Output::Json, path: Some(JsonPath::parse(template)?) });
    }
    match Output::from_str(text, false) {
        Ok(output) => Ok(Form { output, path: None }),
        Err(_) => Err("known are table, wide, json, yaml, jsonpath=TEMPLATE, and of `topology` dot and svg".into()),
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Apply documents as one atomic change and print the revision.
    #[command(
        after_help = "Examples:\n  bulkhead apply -f shop.yaml\n  bulkhead apply -f shop/ -f extra.yaml --wait=30s\n  \
                            generate | bulkhead apply -f - --dry-run"
    )]
    Apply {
        #[command(flatten)]
        files: Files,
        #[command(flatten)]
        how: How,
    },
    /// Say what documents would change: resources, entries by switch, reachability gained and lost.
    Plan {
        #[command(flatten)]
        files: Files,
    },
    /// Check documents without a controller: shape, references, conflicts, with line and column.
    ///
    /// References are looked up among the documents alone. Exit code 1: there are errors; warnings alone are 0.
    #[command(after_help = "Example:\n  bulkhead validate -f shop/ -f networks.yaml")]
    Validate {
        #[command(flatten)]
        files: Files,
    },
    /// List resources of a kind, or print some of them by name.
    #[command(after_help = concat!("Examples:\n  bulkhead get workloads -l app=shop -o wide\n  bulkhead get policy web-to-app \
                                    -o yaml\n  bulkhead get workloads -l app=shop -w\n\n", kinds!()))]
    Get {
        #[command(flatten)]
        target: Target,
        /// Go on with what changes from then on, line by line, until it is interrupted.
        #[arg(short, long)]
        watch: bool,
    },
    /// Show everything about resources: rules with what they matched, zones' members, where workloads are attached.
    #[command(after_help = concat!("Examples:\n  bulkhead describe policy web-to-app\n  bulkhead describe switch hv1\n\n",
                                   kinds!()))]
    Describe(Target),
    /// Change a resource in an editor ($VISUAL, else $EDITOR), and apply it when the editor ends.
    ///
    /// Nothing is changed if the editor fails, nothing was edited, or somebody else has changed the resource meanwhile.
    #[command(after_help = concat!("Example:\n  bulkhead edit zone/shop\n\n", kinds!()))]
    Edit {
        /// Kind, or KIND/NAME.
        kind: String,
        /// The resource's name, if it is not said with the kind.
        name: Option<String>,
    },
    /// Remove resources by name, by label, or those that documents name, as one atomic change.
    ///
    /// Nothing is removed if one of them is still named by a resource that stays, or if a name does not exist.
    /// Of documents only kind and name matter; those that are gone already count as unchanged.
    #[command(
        after_help = concat!("Examples:\n  bulkhead delete workload web-1 web-2\n  bulkhead delete workloads -l app=shop \
                              --wait\n  bulkhead delete -f shop/ --dry-run\n\n", kinds!())
    )]
    Delete {
        #[command(flatten)]
        target: OptionalTarget,
        /// Documents whose resources are removed: a file, a folder, or - for standard input.
        #[arg(short, long = "filename", value_name = "FILE|DIR|-", conflicts_with_all = ["kind", "selector"])]
        files: Vec<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// Say whether policy lets a connection pass, and which rule decides on either side. Exit code 3: it does not.
    ///
    /// Asks the controller; no packet is sent.
    ///
    /// Of a group (a multicast address that the network carries) it tells the sender's side; ask each receiver for its own.
    #[command(
        after_help = "Examples:\n  bulkhead reach web-1 app-1 tcp/8080\n  bulkhead reach ip:198.51.100.7 lb tcp/443\n  \
                            bulkhead reach web-1 db icmp/8/0\n  bulkhead reach web-1 db 47\n  bulkhead reach web-1 \
                            ip:239.1.2.3 udp/5353"
    )]
    Reach(Question),
    /// Print who reaches whom by policy; no packet is sent.
    #[command(after_help = "Example:\n  bulkhead matrix -l app=shop --port 443/tcp -o wide")]
    Matrix {
        /// Only workloads with these labels, as in app=shop,tier in (web,app).
        #[arg(short = 'l', long = "selector", value_parser = selector)]
        selector: Option<String>,
        /// Only this service, as 443/tcp, tcp/443 or icmp; left out, every one that policies and named ports speak of.
        #[arg(long, value_parser = service)]
        port: Option<String>,
    },
    /// Follow a connection's first packet through what switches are programmed with, stage by stage. Exit code 3: it is
    /// dropped.
    ///
    /// The controller walks the programs that it wants on the switches; no packet is sent.
    #[command(after_help = "Example:\n  bulkhead trace web-1 app-1 tcp/8080")]
    Trace(Question),
    /// Show how switches, tunnels, hosts, links and certificates are. Exit code 3: drift was found.
    #[command(after_help = COLUMNS)]
    Status {
        /// Only this switch; all if left out.
        switch: Option<String>,
    },
    /// Show switches and the links between them, declared or discovered; `-o dot` and `-o svg` draw them.
    #[command(after_help = "Example:\n  bulkhead topology -o svg > fabric.svg")]
    Topology,
    /// Show a switch's ports: whether they are up, and what is there.
    #[command(after_help = "Example:\n  bulkhead ports leaf1")]
    Ports {
        /// The switch.
        switch: String,
    },
    /// Show the ways that packets take from one switch to another, link by link. Exit code 3: there is none.
    #[command(after_help = "Examples:\n  bulkhead path web-1 db-1\n  bulkhead path switch:leaf1 switch:leaf2 -o json")]
    Path {
        /// Where they come from: a workload or a switch; switch:NAME where a workload has the same name.
        from: String,
        /// Where they go, named likewise.
        to: String,
    },
    /// List revisions: who made them, when, and what they changed.
    History {
        /// How many.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
        limit: usize,
        /// Only those before this revision.
        #[arg(long, value_name = "REV")]
        before: Option<u64>,
    },
    /// Show what differs between two revisions: resources, and who gains and loses whom. Exit code 3: something does.
    #[command(after_help = "Examples:\n  bulkhead diff 17       from revision 17 to now\n  bulkhead diff 12 17")]
    Diff {
        /// The first revision.
        #[arg(value_name = "REV")]
        from: u64,
        /// The second; the newest if left out.
        #[arg(value_name = "REV")]
        to: Option<u64>,
    },
    /// Make a new revision with the content of an old one. Shows what that changes, and asks.
    #[command(after_help = "Examples:\n  bulkhead rollback 17 --wait\n  bulkhead rollback 17 --dry-run")]
    Rollback {
        /// The old revision.
        #[arg(value_name = "REV")]
        revision: u64,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        how: How,
    },
    /// Write everything that the controller has stored to a file, as of one moment: resources, numbers, history.
    Backup {
        /// The file, which must not be there yet; - for standard output.
        file: PathBuf,
    },
    /// Bring a backup back, into a controller that has nothing yet.
    Restore {
        /// The file.
        file: PathBuf,
    },
    /// Write what whoever helps has to know to one file: status, metrics, history, audit log, documents, log.
    ///
    /// No token, password or private key is in it. It goes to nobody but that file.
    #[command(after_help = "Example:\n  bulkhead support-bundle\n  tar tzf bulkhead-support.tar.gz")]
    SupportBundle {
        /// The file, which must not be there yet
        #[arg(default_value = "bulkhead-support.tar.gz")]
        file: PathBuf,
        /// Leave out the documents: names in status and history tell enough
        #[arg(long)]
        no_documents: bool,
    },
    /// Make resources from other people's policies, and print them or apply them.
    ///
    /// What is made never lets more pass than what it was made from. What cannot be said is named, with its file, object and
    /// field; where leaving it out would let more pass, nothing is made, and the exit code is 1.
    #[command(subcommand)]
    Import(Import),
    /// Write policies for somebody else.
    #[command(subcommand)]
    Export(Export),
    /// Work with zones without writing YAML.
    #[command(subcommand)]
    Zone(Zone),
    /// Say who has access: make, list and revoke tokens.
    #[command(subcommand)]
    Token(Token),
    /// Read and check the audit log.
    #[command(subcommand)]
    Audit(Audit),
    /// Say what a kind's fields are.
    #[command(after_help = concat!("Examples:\n  bulkhead explain policy\n  bulkhead explain policy.ingress.from\n  bulkhead \
                                    explain network.spec.gateways\n\n", kinds!()))]
    Explain {
        /// KIND, or KIND.FIELD.FIELD...
        #[arg(value_name = "KIND[.FIELD]")]
        what: String,
    },
    /// Name controllers, and choose the one that commands ask.
    ///
    /// They are in $BULKHEAD_CONFIG, else in bulkhead/config.yaml of $XDG_CONFIG_HOME or ~/.config.
    #[command(subcommand)]
    Context(Context),
    /// Write manual pages, one for each command.
    #[command(after_help = "Example:\n  bulkhead man /usr/local/share/man/man1")]
    Man {
        /// The folder, which has to be there.
        folder: PathBuf,
    },
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  source <(bulkhead completions bash)")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Documents.
#[derive(Debug, Args)]
pub struct Files {
    /// A file, a folder (its .yaml, .yml and .json files), or - for standard input. May be repeated.
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
}

/// How a change is made.
#[derive(Debug, Default, Args)]
pub struct How {
    /// Let the controller check everything, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until every connected switch has acknowledged the change, for 10s or as long as said (500ms, 30s, 2m); exit
    /// with 1 if one refuses it or does not in time. Switches that are not connected are named.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "10s",
          value_parser = duration)]
    pub wait: Option<Duration>,
}

/// Resources that a command is about.
#[derive(Debug, Args)]
pub struct Target {
    /// Kind, or KIND/NAME.
    pub kind: String,
    /// Names; all of the kind if left out.
    pub names: Vec<String>,
    /// Only workloads with these labels, as in app=shop,tier in (web,app).
    #[arg(short = 'l', long = "selector", value_parser = selector)]
    pub selector: Option<String>,
}

/// The same where documents may say it instead.
#[derive(Debug, Args)]
pub struct OptionalTarget {
    /// Kind, or KIND/NAME.
    #[arg(required_unless_present = "files")]
    pub kind: Option<String>,
    /// Names.
    pub names: Vec<String>,
    /// Every workload with these labels, as in app=shop,tier in (web,app).
    #[arg(short = 'l', long = "selector", value_parser = selector)]
    pub selector: Option<String>,
}

/// A question about one connection.
#[derive(Debug, Args)]
pub struct Question {
    /// Where the connection comes from: a workload's name, or an address as ip:198.51.100.7.
    pub from: String,
    /// Where it goes, named likewise.
    pub to: String,
    /// What it asks for: tcp/443, udp/53, sctp/3868, icmp[/TYPE[/CODE]], icmpv6[/TYPE[/CODE]] (echo request if left out),
    /// or an IP protocol's number, as 47.
    #[arg(value_name = "PROTO[/PORT]", value_parser = service)]
    pub service: String,
    /// IPv4 or IPv6: 4 or 6; the first that both ends have if left out.
    #[arg(long, value_parser = family, value_name = "4|6")]
    pub family: Option<u8>,
    /// The network; needed only where both ends are addresses.
    #[arg(long)]
    pub network: Option<String>,
}

/// Where resources come from.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// NetworkPolicies, AdminNetworkPolicies, BaselineAdminNetworkPolicies and ClusterNetworkPolicies as policies; pods as
    /// workloads.
    ///
    /// A pod becomes the workload NAMESPACE.POD, with its own labels and its namespace's: `team` of a namespace is
    /// `namespace/team`, and its name is `namespace.kubernetes.io/metadata.name`. The policy `kubernetes-default` says what
    /// Kubernetes does not say: pods that nothing isolates may do anything.
    #[command(visible_alias = "kubernetes", after_help = KUBERNETES)]
    K8s {
        #[command(flatten)]
        files: Files,
        /// The network that pods are in; it has to be there, with their addresses in its subnets.
        #[arg(long)]
        network: Option<String>,
        #[command(flatten)]
        carry: Carry,
    },
    /// Security groups, as `aws ec2 describe-security-groups` or `terraform show -json` prints them.
    ///
    /// A group becomes a policy of its name about the workloads that have the label security-group.aws/ID, which it isolates.
    #[command(after_help = AWS)]
    Aws {
        #[command(flatten)]
        files: Files,
        #[command(flatten)]
        carry: Carry,
    },
}

const KUBERNETES: &str = "\
Examples:
  kubectl get namespaces,pods,networkpolicies -A -o yaml | bulkhead import k8s -f - --network prod > pods.yaml
  bulkhead import k8s -f policies/ --apply --yes --wait";

const AWS: &str = "\
Examples:
  aws ec2 describe-security-groups > groups.json && bulkhead import aws -f groups.json
  terraform show -json | bulkhead import aws -f - > groups.yaml";

/// What policies are written for.
#[derive(Debug, Subcommand)]
pub enum Export {
    /// Write a zone's policies as Kubernetes' NetworkPolicies, as far as these can say them.
    ///
    /// They never let more pass to and from the zone's members than its policies do. What cannot be said (denials, addresses
    /// of no workload, ICMP, staged policies...) is named: a rule that a denial might have cut is left out with it. Workloads
    /// are taken for pods with the labels that `import k8s` gives them.
    #[command(visible_alias = "netpol", after_help = NETWORK_POLICY)]
    Networkpolicy {
        /// The zone.
        #[arg(long)]
        zone: String,
        /// The namespace of workloads whose labels name none.
        #[arg(long)]
        namespace: Option<String>,
    },
}

const NETWORK_POLICY: &str = "\
Examples:
  bulkhead export networkpolicy --zone cluster | kubectl apply --dry-run=server -f -
  bulkhead export networkpolicy --zone shop --namespace shop";

/// What is done with what was made.
#[derive(Debug, Args)]
pub struct Carry {
    /// Show what it would change, ask, and apply it.
    #[arg(long)]
    pub apply: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub how: How,
}

/// Zones.
#[derive(Debug, Subcommand)]
pub enum Zone {
    /// List zones with their networks, selectors and modes.
    List,
    /// Create a zone.
    #[command(
        after_help = "Examples:\n  bulkhead zone create shop --network prod -l app=shop --isolate ingress\n  bulkhead \
                            zone create shop -l app=shop --isolate --mode monitor"
    )]
    Create {
        /// Its name.
        name: String,
        /// The network whose workloads it selects from; may be left out where there is one network alone.
        #[arg(long)]
        network: Option<String>,
        /// Its members, as in app=shop,env in (prod,test).
        #[arg(short = 'l', long = "selector", value_parser = selector)]
        selector: String,
        /// Directions in which members are denied what no policy decides: ingress, egress, or both if none is said.
        #[arg(long, value_delimiter = ',', value_parser = ["ingress", "egress"], num_args = 0..=1,
              default_missing_values = ["ingress", "egress"])]
        isolate: Vec<String>,
        /// Whether denials are enforced: monitor: they are counted and logged, and pass; canary: a fixed share of the members
        /// enforces them; enforce: all do.
        #[arg(long, default_value = "enforce", value_parser = MODES)]
        mode: String,
    },
    /// Change the labels that a zone selects by: KEY=VALUE sets one, KEY- removes one.
    ///
    /// A member has all of them. Where the zone selects by expressions too (`zone create -l` and documents make such),
    /// these stay as they are, and a member meets both.
    #[command(after_help = "Example:\n  bulkhead zone label shop env=prod tier-")]
    Label {
        /// The zone.
        name: String,
        /// KEY=VALUE or KEY-.
        #[arg(required = true)]
        labels: Vec<String>,
    },
    /// Change whether denials are enforced at a zone's members.
    #[command(after_help = "Example:\n  bulkhead zone mode shop monitor")]
    Mode {
        /// The zone.
        name: String,
        /// monitor: denials are counted and logged, and pass; canary: a fixed share of the members enforces them; enforce:
        /// all do. In several zones the strictest mode holds.
        #[arg(value_parser = MODES)]
        mode: String,
    },
    /// List a zone's members.
    Members {
        /// The zone.
        name: String,
    },
}

const MODES: [&str; 3] = ["monitor", "canary", "enforce"];

fn duration(text: &str) -> Result<Duration, String> {
    bulkhead_types::parse_duration(text).ok_or_else(|| "write a time as 10s, 500ms or 2m".into())
}

fn family(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|family| matches!(family, 4 | 6)).ok_or_else(|| "write 4 or 6".into())
}

fn selector(text: &str) -> Result<String, String> {
    bulkhead_types::parse_selector(text).map(|_| text.to_string()).map_err(|e| e.why)
}

fn service(text: &str) -> Result<String, String> {
    bulkhead_types::parse_service(text).map(|_| text.to_string()).map_err(|e| e.why)
}

/// The kind that a user names: singular, plural or short, in any letter case.
pub fn kind(text: &str) -> Result<Kind, String> {
    let lower = text.to_ascii_lowercase();
    let short = match lower.as_str() {
        "net" | "nets" => Some(Kind::Network),
        "wl" => Some(Kind::Workload),
        "zn" => Some(Kind::Zone),
        "pol" => Some(Kind::Policy),
        "sw" => Some(Kind::Switch),
        "as" => Some(Kind::AddressSet),
        "ln" => Some(Kind::Link),
        _ => None,
    };
    let long =
        || v1::KINDS.into_iter().find(|k| v1::kind_plural(*k) == lower || v1::kind_name(*k).to_lowercase() == lower);
    short.or_else(long).ok_or_else(|| {
        let hint = match nearest(&lower, v1::KINDS.into_iter().flat_map(|k| [v1::kind_plural(k), v1::kind_name(k)])) {
            Some(near) => format!("did you mean `{}`?", near.to_lowercase()),
            None => format!("known are {}", v1::KINDS.map(v1::kind_plural).join(", ")),
        };
        format!("there is no kind `{text}`; {hint}")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
        let wait = |args: &[&str]| match Cli::try_parse_from(args).unwrap().command {
            Command::Apply { how, .. } => how.wait,
            other => unreachable!("{other:?}"),
        };
        assert_eq!(wait(&["bulkhead", "apply", "-f", "a"]), None);
        assert_eq!(wait(&["bulkhead", "apply", "-f", "a", "--wait"]), Some(Duration::from_secs(10)));
        assert_eq!(
            wait(&["bulkhead", "apply", "--wait=500ms", "-f", "a", "-f", "b"]),
            Some(Duration::from_millis(500))
        );
        for bad in [
            &["apply"][..],
            &["delete"],
            &["reach", "a", "b"],
            &["reach", "a", "b", "tcp"],
            &["zone", "mode", "z", "off"],
        ] {
            assert!(Cli::try_parse_from(["bulkhead"].iter().chain(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kinds_have_kubectls_spellings() {
        for text in ["policy", "policies", "pol", "Policy", "POLICIES"] {
            assert_eq!(kind(text), Ok(Kind::Policy), "{text}");
        }
        assert_eq!(kind("as"), Ok(Kind::AddressSet));
        assert!(kind("polices").unwrap_err().contains("policies"));
    }
}
