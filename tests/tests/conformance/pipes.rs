//! BMv2 with pipes and files for ports: nobody has to be root, and nothing is lost on the way.

use bulkhead_topology::underlay::CONTROLLER_PORT;
use std::{
    collections::BTreeMap,
    env, fs,
    fs::{File, OpenOptions},
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Pause between two looks at what came out.
const PAUSE: Duration = Duration::from_millis(2);

/// A switch that runs.
pub struct Pipes {
    process: Child,
    /// HOST:PORT of its P4Runtime server.
    pub address: String,
    folder: tempfile::TempDir,
    /// By port, from 1.
    pipes: Vec<File>,
    time: u32,
    /// How many bytes of what came out of each port were looked at.
    read: BTreeMap<u32, usize>,
}

impl Pipes {
    /// A switch with so many ports; `None`, and says so, where there can be none.
    pub fn start(ports: u32) -> Option<Self> {
        let folders = env::var_os("PATH").unwrap_or_default();
        let program =
            env::split_paths(&folders).map(|folder| folder.join("simple_switch_grpc")).find(|it| it.is_file());
        let Some(program) = program else {
            eprintln!("NOT TESTED: packets through BMv2: simple_switch_grpc is not on the PATH");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.args(["--no-p4", "--device-id", "1", "--log-level", "off", "--use-files", "0"]);
        let inward: Vec<PathBuf> = (1..=ports).map(|port| folder.path().join(format!("p{port}_in.pcap"))).collect();
        for (port, pipe) in (1..).zip(&inward) {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
            command.arg("-i").arg(format!("{port}@{}", folder.path().join(format!("p{port}")).display()));
        }
        command.args(["--", "--grpc-server-addr", &address, "--cpu-port", &CONTROLLER_PORT.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let pipes = inward.iter().map(|path| {
            let mut pipe = OpenOptions::new().write(true).open(path).unwrap();
            // The head of a file of packets: what is after it is Ethernet.
            let head = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1];
            pipe.write_all(&head.map(u32::to_ne_bytes).concat()).unwrap();
            pipe
        });
        let pipes = pipes.collect();
        Some(Self { process, address, folder, pipes, time: 0, read: BTreeMap::new() })
    }

    /// A frame goes in at a port. The switch takes the oldest one of all ports, and waits until it knows of each: so
    /// there is one at every port, now and afterwards. The others are none that any table sees.
    pub fn send(&mut self, at: u32, frame: &[u8]) {
        const NOTHING: [u8; 34] = {
            let mut frame = [0; 34];
            frame[12] = 8;
            frame
        };
        for last in [false, true] {
            self.time += 1;
            for (port, pipe) in (1..).zip(&mut self.pipes) {
                let frame = if port == at && !last { frame } else { &NOTHING };
                let length = frame.len() as u32;
                let head = [self.time, 0, length, length].map(u32::to_ne_bytes).concat();
                pipe.write_all(&[&head[..], frame].concat()).unwrap();
            }
        }
    }

    /// What came out of a port next, if something does within this time.
    pub fn next(&mut self, port: u32, patience: Duration) -> Option<Vec<u8>> {
        let began = Instant::now();
        loop {
            let file = fs::read(self.folder.path().join(format!("p{port}_out.pcap"))).unwrap_or_default();
            let at = self.read.entry(port).or_insert(24);
            let record = file.get(*at..).and_then(|rest| rest.split_first_chunk::<16>());
            let frame = record.and_then(|(head, rest)| {
                let length = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
                rest.get(..length)
            });
            if let Some(frame) = frame {
                *at += 16 + frame.len();
                return Some(frame.to_vec());
            }
            if began.elapsed() >= patience {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
