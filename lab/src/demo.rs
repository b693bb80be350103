//! The demo: the three-tier shop, enforced, and shown to be.

mod matrix;
pub(crate) mod shop;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_lab::{Family, Hypervisor, Lab, Listeners, Live, Probe, Service, Workload};

use crate::controller::{Controller, Programs};
use matrix::Matrix;

/// How the demo is to be run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) keep: bool,
    pub(crate) sim: bool,
    pub(crate) all: bool,
}

/// What a change that forbids a live connection may take until the connection is dead.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// A connection whose echo (1 ms) does not come for this long is dead, on a busy machine too.
const DEAD: Duration = Duration::from_millis(700);

/// How long a connection that ought to live may take to say something.
const PATIENCE: Duration = Duration::from_secs(3);

/// The name of the policy that cuts.
const CUT: &str = "demo-cut";

/// What an operator would apply in an emergency: the application tier hears nothing more from the web tier.
const CUT_POLICY: &str = "\
kind: Policy
metadata: {name: demo-cut}
spec:
  tier: emergency
  subject: {matchLabels: {app: shop, tier: app}}
  ingress:
  - {name: no-web, action: deny, from: [{matchLabels: {app: shop, tier: web}}]}
";

/// The shop's switch as a simulated one.
const SIMULATED: &str = "kind: Switch\nmetadata: {name: hv1}\nspec: {driver: sim}\n";

/// A shop that is up.
struct Shop {
    lab: Lab,
    hypervisor: Hypervisor,
    workloads: Vec<Workload>,
    controller: Controller,
}

impl Shop {
    fn build(programs: &Programs, examples: &Path) -> Result<Shop> {
        let begun = Instant::now();
        let mut lab = Lab::new("demo")?;
        let (name, datapath_id) = shop::SWITCH;
        let hypervisor = lab.hypervisor(name, datapath_id)?;
        let workloads = shop::build(&mut lab, &hypervisor)?;
        say("lab", &format!("{name} (Open vSwitch) and {} hosts are up, {}", workloads.len(), seconds(begun)));
        let (controller, openflow) = Controller::start(&mut lab, programs, hypervisor.controller_address(), None)?;
        hypervisor.set_controller(openflow)?;
        say("daemon", &format!("bulkheadd answers at {}, switches at {openflow}", controller.server));
        apply(&controller, examples)?;
        let (revision, entries) = controller.realized(name)?;
        say("switch", &format!("{name} has acknowledged revision {revision}: {entries} entries, {}", seconds(begun)));
        Ok(Shop { lab, hypervisor, workloads, controller })
    }

    fn workload(&self, name: &str) -> Result<&Workload> {
        self.workloads.iter().find(|workload| workload.name() == name).with_context(|| format!("there is no {name}"))
    }

    /// Waits until the last host answers itself; that way leads through no switch.
    fn wait_for_listeners(&self) -> Result<()> {
        let last = self.workloads.last().context("no hosts")?;
        let [service, ..] = shop::SERVICES;
        let probe = Probe::new(last, last, service, Family::V4)?;
        let deadline = Instant::now() + PATIENCE;
        while !probe.run()?.passed() {
            ensure!(
                Instant::now() < deadline,
                "the listeners do not come up: see listeners.log in the lab's directory"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Leaves it up, with listeners, and says what to do with it.
    fn keep(mut self) -> Result<()> {
        let mut serve = Command::new(std::env::current_exe()?);
        serve.arg("serve").args(self.workloads.iter().map(|workload| workload.namespace().name()));
        self.lab.program("listeners", serve)?;
        self.wait_for_listeners()?;
        self.lab.keep()?;
        let tag = self.lab.tag();
        say!("\nThe lab stays up. To play with it:");
        say!("  export BULKHEAD_SERVER={}", self.controller.server);
        say!("  bulkhead status; bulkhead reach web-1 app-1 tcp/8080; bulkhead matrix");
        say!("  bulkhead-lab probe web-1 app-1 8080/tcp        # real packets; -6 for IPv6");
        say!("  ip netns exec {tag}-web-1 ping 10.1.0.31");
        say!("  ovs-ofctl -O OpenFlow15 dump-flows {}/br-int.mgmt", self.hypervisor.dir().display());
        say!("  less {}/bulkheadd.log", self.lab.dir().display());
        say!("Hosts: namespaces {tag}-{{lb,web-1,web-2,app-1,app-2,db,dns,uplink0}}.");
        say!("Take it down with: bulkhead-lab down");
        Ok(())
    }
}

/// Runs the demo; whether everything was as it should be.
pub(crate) fn run(programs: &Programs, examples: &Path, options: Options) -> Result<bool> {
    if options.sim {
        say("lab", "the simulated switch, as asked: no real packets");
        return simulated(programs, examples, options);
    }
    if let Some(why) = bulkhead_lab::missing() {
        say("lab", &format!("NO REAL SWITCH HERE: {why}; the same on the simulated switch"));
        return simulated(programs, examples, options);
    }
    let shop = Shop::build(programs, examples)?;
    let mut checks = Checks::default();
    {
        let listeners = shop.workloads.iter().map(|host| Listeners::start(host.namespace(), &shop::SERVICES));
        let _listeners = listeners.collect::<Result<Vec<_>>>()?;
        let matrix = Matrix::real(&shop.controller, shop::hosts()?, &shop.workloads)?;
        show(&matrix, options, &mut checks);
        cut(&shop, &mut checks)?;
    }
    if options.keep {
        shop.keep()?;
    } else {
        let begun = Instant::now();
        let down = shop.lab.down();
        checks.note(down.is_ok(), &format!("everything is taken down, {}", seconds(begun)));
        down?;
    }
    Ok(checks.close())
}

/// A live connection is cut by a change that forbids it, and another one does not notice.
fn cut(shop: &Shop, checks: &mut Checks) -> Result<()> {
    let (web, app, db) = (shop.workload("web-1")?, shop.workload("app-1")?, shop.workload("db")?);
    let to =
        |host: &Workload, port: u16| -> Result<_> { Ok((host.ip(Family::V4).context("no address")?, port).into()) };
    say!("\nLive connections web-1 -> app-1 8080 and app-1 -> db 5432, then an emergency policy: no web to app");
    let first = Live::open(web.namespace(), to(app, 8080)?, PATIENCE)?;
    let second = Live::open(app.namespace(), to(db, 5432)?, PATIENCE)?;
    ensure!(first.speaks(PATIENCE) && second.speaks(PATIENCE), "the connections carry nothing");
    let begun = Instant::now();
    shop.controller.cli(&["apply", "-f", "-", "--wait=10s"], Some(CUT_POLICY))?;
    let silent = first.wait_for_silence(DEAD, CUT_LIMIT + DEAD);
    let took = silent.map(|last| last.saturating_duration_since(begun));
    let words =
        took.map_or("still speaks".to_owned(), |took| format!("dead {} ms after the command", took.as_millis()));
    checks.note(
        took.is_some_and(|took| took <= CUT_LIMIT) && !second.broken(),
        &format!("web-1 -> app-1 8080 is cut within {} s: {words}", CUT_LIMIT.as_secs()),
    );
    let before = second.echoes();
    let lives = second.speaks(PATIENCE);
    checks.note(lives, &format!("app-1 -> db 5432 never noticed: {} messages there and back so far", before));
    shop.controller.cli(&["delete", "policy", CUT], None)?;
    shop.controller.realized(shop::SWITCH.0)?;
    let again = Probe::new(web, app, Service::Tcp(8080), Family::V4)?.patience(PATIENCE).run()?;
    checks.note(again.passed(), "the policy is deleted: web-1 -> app-1 8080 passes again");
    checks.note(second.speaks(PATIENCE), "app-1 -> db 5432 is still the same connection");
    Ok(())
}

/// The same matrix where there is no real switch: the compiled stages are asked instead of packets.
fn simulated(programs: &Programs, examples: &Path, options: Options) -> Result<bool> {
    if options.keep {
        say("lab", "nothing can be kept of a simulated switch");
    }
    let mut lab = Lab::host_only("sim")?;
    let (controller, _) = Controller::start(&mut lab, programs, Ipv4Addr::LOCALHOST, None)?;
    say("daemon", &format!("bulkheadd answers at {}", controller.server));
    apply(&controller, examples)?;
    controller.cli(&["apply", "-f", "-", "--wait=10s"], Some(SIMULATED))?;
    let (revision, entries) = controller.realized(shop::SWITCH.0)?;
    say("switch", &format!("the simulated hv1 has acknowledged revision {revision}: {entries} entries"));
    let mut checks = Checks::default();
    let matrix = Matrix::traced(&controller, shop::hosts()?)?;
    say("traces", &format!("{} through the compiled stages", matrix.count()));
    show(&matrix, options, &mut checks);
    say!("  live connections are not shown: they need a real switch");
    Ok(checks.close())
}

/// Applies the examples as one change.
fn apply(controller: &Controller, examples: &Path) -> Result<()> {
    ensure!(examples.is_dir(), "{} is no directory of documents", examples.display());
    let examples = examples.to_string_lossy();
    controller.cli(&["apply", "-f", &examples, "--wait=10s"], None)?;
    say("policy", &format!("{examples} is applied"));
    Ok(())
}

/// Prints a matrix and notes how it went.
fn show(matrix: &Matrix, options: Options, checks: &mut Checks) {
    let services: Vec<_> = shop::SERVICES.iter().map(ToString::to_string).collect();
    say!("\nWho reaches whom; five marks for {}, IPv4 and IPv6 together:", services.join(", "));
    say!("  + passes  . is dropped  r is refused  ~ IPv4 and IPv6 differ, each as expected  ! NOT AS EXPECTED");
    let _ = write!(std::io::stdout().lock(), "{}", matrix.grid());
    say!("\nExpected against observed, by the rule that decides:");
    let _ = write!(std::io::stdout().lock(), "{}", matrix.reasons(options.all));
    if matrix.second_looks > 0 {
        say!("  {} probes that ought to pass were lost and passed when sent again", matrix.second_looks);
    }
    for line in matrix.disagreements() {
        say!("  WRONG {line}");
    }
    let (agreeing, count) = (matrix.agreeing(), matrix.count());
    say!();
    checks.note(agreeing == count, &format!("{agreeing} of {count} answers are what the policy says"));
}

/// What was checked, and how it went.
#[derive(Debug, Default)]
struct Checks {
    failed: usize,
    passed: usize,
}

impl Checks {
    fn note(&mut self, good: bool, what: &str) {
        if good {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        say!("  {} {what}", if good { "ok   " } else { "WRONG" });
    }

    /// Prints the sum; whether all was well.
    fn close(self) -> bool {
        let good = self.failed == 0;
        say!("\n{}: {} of {} checks", if good { "PASS" } else { "FAIL" }, self.passed, self.passed + self.failed);
        good
    }
}

fn say(what: &str, how: &str) {
    say!("{what:8} {how}");
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f32())
}
