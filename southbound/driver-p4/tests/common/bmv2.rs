//! BMv2's simple_switch_grpc. Its ports are pipes and files, so that nobody has to be root.

// Every test file uses a part of it.
#![allow(dead_code)]

use super::{PATIENCE, Process};
use bulkhead_driver_p4::controller;
use std::{
    collections::BTreeMap,
    env,
    fs::{self, File, OpenOptions},
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

/// Frames on each port that are on their way at once: fewer than its queues hold.
const AT_ONCE: u32 = 8;

/// A device whose ports are pipes that it reads and files that it writes.
pub struct Switch {
    _process: Process,
    pub address: String,
    folder: PathBuf,
    pipes: Vec<File>,
}

impl Switch {
    /// One with ports from 1 on; `None` where there is no BMv2.
    pub fn start(ports: u32) -> Option<Self> {
        let folders = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&folders).map(|folder| folder.join("simple_switch_grpc")).find(|it| it.is_file());
        let Some(program) = found else {
            println!("NOT TESTED: simple_switch_grpc is not on the PATH");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = env::temp_dir().join(format!("bulkhead-p4-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let address = format!("127.0.0.1:{port}");
        let mut command = std::process::Command::new(program);
        command.args(["--no-p4", "--device-id", "1", "--log-level", "off", "--use-files", "0"]);
        let inward = |port: u32| folder.join(format!("p{port}_in.pcap"));
        for port in 1..=ports {
            let _ = fs::remove_file(inward(port));
            assert!(std::process::Command::new("mkfifo").arg(inward(port)).status().unwrap().success());
            command.arg("-i").arg(format!("{port}@{}", folder.join(format!("p{port}")).display()));
        }
        command.args(["--", "--grpc-server-addr", &address, "--cpu-port", &controller::PORT.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process(command.spawn().unwrap());
        let pipes = (1..=ports).map(|port| {
            let mut pipe = OpenOptions::new().write(true).open(inward(port)).unwrap();
            let head = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1];
            pipe.write_all(&head.map(u32::to_ne_bytes).concat()).unwrap();
            pipe
        });
        let pipes = pipes.collect();
        Some(Self { _process: process, address, folder, pipes })
    }

    /// A frame goes in; of frames of one time, that on the lowest port is first.
    pub fn send(&mut self, port: u32, time: usize, frame: &[u8]) {
        let length = frame.len() as u32;
        let head = [time as u32, 0, length, length].map(u32::to_ne_bytes).concat();
        self.pipes[port as usize - 1].write_all(&[&head[..], frame].concat()).unwrap();
    }

    /// What came out of a port, by the number behind each frame.
    pub fn sent(&self, port: u32) -> Vec<(u32, Vec<u8>)> {
        let Ok(file) = fs::read(self.folder.join(format!("p{port}_out.pcap"))) else { return Vec::new() };
        let mut rest = file.get(24..).unwrap_or_default();
        let mut frames = Vec::new();
        while let Some((head, more)) = rest.split_first_chunk::<16>() {
            let length = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
            let Some((frame, more)) = more.split_at_checked(length) else { break };
            let (frame, id) = frame.split_last_chunk::<4>().unwrap();
            frames.push((u32::from_be_bytes(*id), frame.to_vec()));
            rest = more;
        }
        frames
    }

    /// Sends frames, numbered from 1 on, to the ports in turn, and gives the number of the last one that was taken and
    /// what came out, by number. `due` says how many frames are to come out of those up to a number.
    pub async fn exchange(
        &mut self,
        frames: &BTreeMap<u32, (u32, Vec<u8>)>,
        due: impl Fn(u32) -> usize,
    ) -> (u32, BTreeMap<u32, Vec<(u32, Vec<u8>)>>) {
        let ports = self.pipes.len() as u32;
        let last = frames.len() as u32 - ports;
        for (id, (port, frame)) in frames {
            let round = (id - 1) / ports;
            self.send(*port, round as usize, frame);
            if id % (ports * AT_ONCE) != 0 && *id != frames.len() as u32 {
                continue;
            }
            // It takes a round once each port has a frame of the next one.
            let due = due(id - ports);
            let waited = Instant::now();
            while (1..=ports).map(|port| self.sent(port).len()).sum::<usize>() < due {
                if waited.elapsed() > PATIENCE / 8 {
                    return (id - ports, self.outputs());
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        (last, self.outputs())
    }

    fn outputs(&self) -> BTreeMap<u32, Vec<(u32, Vec<u8>)>> {
        let mut outputs: BTreeMap<u32, Vec<(u32, Vec<u8>)>> = BTreeMap::new();
        for port in 1..=self.pipes.len() as u32 {
            for (id, frame) in self.sent(port) {
                outputs.entry(id).or_default().push((port, frame));
            }
        }
        outputs
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
