//! `bulkhead-load`: many simulated OpenFlow switches, as load for a controller. They forward no packet.

use bulkhead_tests::fake::{
    Manners, Refuses, Switch,
    run::{Echoes, Habits, Shared, look, run},
};
use clap::Parser;
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use tokio::time::sleep;

/// Connects many SIMULATED OpenFlow 1.3 switches to a controller; they hold tables and forward nothing.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-load", version)]
struct Arguments {
    /// Where the controller listens for switches.
    #[arg(long, default_value = "127.0.0.1:6653")]
    connect: SocketAddr,
    /// How many switches.
    #[arg(long, default_value_t = 1_000)]
    switches: u64,
    /// Datapath id of the first; the others follow it.
    #[arg(long, default_value_t = 0x1000)]
    first: u64,
    /// Names of the ports that each has.
    #[arg(long, value_delimiter = ',', default_values_t = ["p0".to_owned(), "p1".to_owned()])]
    ports: Vec<String>,
    /// Echo requests per second and switch.
    #[arg(long, default_value_t = 10)]
    echoes: u64,
    /// So many of them are slow: they think 200 ms before each answer.
    #[arg(long, default_value_t = 0)]
    slow: u64,
    /// So many of them lose their connection every second.
    #[arg(long, default_value_t = 0)]
    flappy: u64,
    /// So many of them refuse every bundle.
    #[arg(long, default_value_t = 0)]
    rejecting: u64,
}

/// How often it says what goes on.
const REPORT: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    eprintln!("bulkhead-load: a SIMULATOR: {} switches that are not there", arguments.switches);
    let echoes = Arc::new(Echoes::default());
    let mut switches: Vec<Shared> = Vec::new();
    for number in 0..arguments.switches {
        let mut switch = Switch::new(arguments.first + number, &arguments.ports);
        let mut habits = Habits { echo: Duration::from_secs(1).checked_div(arguments.echoes as u32), flap: None };
        // The odd ones are the first of all.
        let (slow, flappy) = (arguments.slow, arguments.slow + arguments.flappy);
        if number < slow {
            switch.manners = Manners { delay: Duration::from_millis(200), ..Manners::default() };
        } else if number < flappy {
            habits.flap = Some(Duration::from_secs(1));
        } else if number < flappy + arguments.rejecting {
            switch.manners = Manners { refuses: Refuses::Commits, ..Manners::default() };
        }
        let switch = Arc::new(Mutex::new(switch));
        switches.push(Arc::clone(&switch));
        tokio::spawn(run(switch, arguments.connect, habits, Arc::clone(&echoes)));
    }
    loop {
        sleep(REPORT).await;
        let (mut entries, mut commits, mut refusals, mut sessions, mut reads) = (0, 0, 0, 0, 0);
        for switch in &switches {
            let switch = look(switch);
            entries += switch.len();
            commits += switch.counts.commits;
            refusals += switch.counts.refusals;
            sessions += switch.counts.sessions;
            reads += switch.counts.reads;
        }
        let times = echoes.take();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied();
        let line = json!({"simulated": switches.len(), "sessions": sessions, "entries": entries, "commits": commits,
            "refusals": refusals, "readBacks": reads, "echoesAsked": echoes.sent.load(Ordering::Relaxed),
            "echoesAnswered": times.len(), "echoP50us": at(50), "echoP99us": at(99)});
        println!("{line}");
    }
}
