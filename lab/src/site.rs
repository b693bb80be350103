//! `bulkhead-lab up`, `down`, `status`, `exec` and `probe`: scenarios that outlive the command that put them up.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead_lab::{Answer, Fabric, Family, Listeners, Namespace, Probe, Scenario, Service, Site, state};

use crate::NO;
use crate::controller::{Controller, Programs, southbound};

/// How long a controller's first program may take to be acknowledged by all switches.
const REALIZED: &str = "--wait=20s";

/// How long `probe` waits: a SYN is repeated once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads a scenario's file.
pub(crate) fn read(file: &Path) -> Result<Scenario> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Scenario::parse(&text).with_context(|| file.display().to_string())
}

/// Puts a scenario up and leaves it up.
pub(crate) fn up(file: &Path, programs: Option<&Programs>) -> Result<()> {
    let scenario = read(file)?;
    if let Some(site) = Site::kept()?.into_iter().find(|site| site.scenario().lab == scenario.lab) {
        if site.scenario() == &scenario && (programs.is_none() || site.server().is_some()) {
            say!("{} is up already", site.tag());
            return Ok(());
        }
        bail!("{} is up, and is not as asked: `bulkhead-lab down {}` first", site.tag(), scenario.lab);
    }
    let mut fabric = Fabric::up_telling(&scenario, &mut |line| say!("  {line}"))?;
    if let Some(programs) = programs {
        let (address, tls) = (fabric.controller_address()?, fabric.southbound());
        let (controller, openflow) = Controller::start(fabric.lab(), programs, address, tls.as_ref())?;
        say!("  bulkheadd answers at {}, switches at {openflow}", controller.server);
        fabric.note_server(&controller.server)?;
        let resources = fabric.resources();
        controller.cli(&["apply", "-f", &resources.to_string_lossy(), REALIZED], None)?;
        for host in &scenario.hypervisors {
            let (revision, entries) = controller.realized(&host.name)?;
            say!("  {} has acknowledged revision {revision}: {entries} entries", host.name);
        }
    }
    fabric.keep()?;
    say!("\n{} stays up.", fabric.tag());
    say!("  bulkhead-lab status; bulkhead-lab exec {} COMMAND...", first(&fabric));
    match fabric.server() {
        Some(server) => say!("  export BULKHEAD_SERVER={server}; bulkhead status; bulkhead matrix"),
        None => {
            if let Some(files) = fabric.southbound() {
                let flags: Vec<_> = southbound(&files).iter().map(|word| word.to_string_lossy().into_owned()).collect();
                say!("  bulkheadd {}", flags.join(" "));
            }
            say!("  bulkhead apply -f {}", fabric.resources().display());
        }
    }
    say!("  bulkhead-lab down {}", scenario.lab);
    Ok(())
}

fn first(site: &Site) -> &str {
    site.workloads().first().map_or("WORKLOAD", bulkhead_lab::Workload::name)
}

/// What is up, or the one of it that was asked for: by scenario, file or tag.
fn chosen(lab: Option<&str>) -> Result<Vec<Site>> {
    let mut sites = Site::kept()?;
    let Some(lab) = lab else { return Ok(sites) };
    let name = if Path::new(lab).is_file() { read(Path::new(lab))?.lab } else { lab.to_owned() };
    sites.retain(|site| site.tag() == name || site.scenario().lab == name);
    if sites.is_empty() {
        bail!("{name} is not up");
    }
    Ok(sites)
}

/// The one that is meant.
pub(crate) fn the(lab: Option<&str>) -> Result<Site> {
    let mut sites = chosen(lab)?;
    match (sites.pop(), sites.is_empty()) {
        (Some(site), true) => Ok(site),
        (None, _) => bail!("no scenario is up: `bulkhead-lab up FILE` first"),
        _ => bail!("several are up: say which by `--lab`"),
    }
}

/// Takes one down, or everything.
pub(crate) fn down(lab: Option<&str>) -> Result<ExitCode> {
    let mut swept = state::Swept::default();
    match lab {
        None => swept = state::take_down()?,
        // One that died half-way up is nobody's; it goes with whatever else is left behind.
        Some(lab) => {
            let name = if Path::new(lab).is_file() { read(Path::new(lab))?.lab } else { lab.to_owned() };
            swept.add(state::sweep()?);
            for site in Site::kept()? {
                if site.tag() == name || site.scenario().lab == name {
                    swept.add(state::remove_kept(site.tag())?);
                }
            }
        }
    }
    for tag in &swept.removed {
        say!("{tag} is gone");
    }
    for (tag, pid) in &swept.busy {
        say!("{tag} belongs to process {pid}, which still runs; left alone");
    }
    for (tag, why) in &swept.failed {
        say!("{tag} is not wholly gone: {why}");
    }
    if swept == state::Swept::default() {
        say!("there is no such lab");
    }
    Ok(if swept.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says what is up.
pub(crate) fn status(lab: Option<&str>) -> Result<ExitCode> {
    let sites = chosen(lab)?;
    if sites.is_empty() {
        say!("no scenario is up");
    }
    let mut good = true;
    for site in &sites {
        say!("{}: {}", site.tag(), site.scenario().about);
        say!("  directory   {}", site.dir().display());
        say!("  resources   {}", site.resources().display());
        say!("  controller  {}", site.server().unwrap_or("none of its own"));
        say!("  attacker    {} in {}", site.underlay().rogue_ip(), site.underlay().rogue().name());
        for host in &site.scenario().hypervisors {
            let state = match (site.leaf(&host.name), site.hypervisor(&host.name)) {
                (Ok(leaf), _) if leaf.answers() => "runs",
                (Ok(_), _) => "the switch does not answer",
                (_, Ok(hypervisor)) => match hypervisor.vsctl(&["show"]) {
                    Ok(_) if hypervisor.control().is_ok() => "runs",
                    Ok(_) => "ovs-vswitchd does not answer",
                    Err(_) => "ovsdb-server does not answer",
                },
                (Err(_), Err(_)) => "is not there",
            };
            good &= state == "runs";
            say!("  {:<15} VTEP {:<15} {state}; {}", host.name, host.vtep.to_string(), site.address(host)?);
        }
        for (guest, workload) in site.guests() {
            let there = workload.namespace().exists();
            good &= there;
            let ips: Vec<_> = guest.ips.iter().map(ToString::to_string).collect();
            let gone = if there { "" } else { "; its namespace is gone" };
            say!("  {:<15} {} port {}, {}{gone}", guest.name, guest.hypervisor, workload.port(), ips.join(", "));
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// Runs a program in one of the lab's namespaces, with this terminal, and returns what it returns.
pub(crate) fn exec(lab: Option<&str>, place: &str, program: &[String]) -> Result<ExitCode> {
    let site = the(lab)?;
    let (name, arguments) = program.split_first().context("no program")?;
    let (namespace, mut command): (Namespace, Command) = if let Ok(hypervisor) = site.hypervisor(place) {
        // With its directory in the environment, so that `ovs-vsctl` and the like find its daemons.
        (hypervisor.namespace().clone(), hypervisor.command(name))
    } else if let Ok(leaf) = site.leaf(place) {
        (leaf.namespace().clone(), Command::new(name))
    } else if place == "rogue" {
        (site.underlay().rogue().clone(), Command::new(name))
    } else {
        (site.workload(place)?.namespace().clone(), Command::new(name))
    };
    let mut child = namespace.spawn(command.args(arguments))?;
    let status = child.wait()?;
    // The shell's way to say that a signal ended it (128 and its number).
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|number| 128 + number);
    let code = status.code().or(signal).and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Sends one probe between two workloads of a scenario that is up; `None` if no scenario has both.
pub(crate) fn ask(lab: Option<&str>, from: &str, to: &str, service: Service, family: Family) -> Result<Option<Answer>> {
    for site in chosen(lab)? {
        let (Ok(from), Ok(to)) = (site.workload(from), site.workload(to)) else { continue };
        // Somebody who listens there already answers as well.
        let _listeners = Listeners::start(to.namespace(), &[service]);
        return Ok(Some(Probe::new(from, to, service, family)?.patience(PATIENCE).run()?));
    }
    Ok(None)
}
