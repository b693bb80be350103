//! The built command, and a server that it asks.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

/// A server that gives canned answers by method and path, and remembers what it was asked.
pub struct Server {
    pub url: String,
    pub asked: Arc<Mutex<Vec<String>>>,
    /// The heads of the same.
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn new(answers: &'static [(&'static str, u16, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (log, head_log) = (asked.clone(), heads.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if stream.read_line(&mut head).unwrap() == 0 {
                        break;
                    }
                }
                let length =
                    head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ").map(String::from));
                let mut body = vec![0; length.map_or(0, |l| l.parse().unwrap())];
                stream.read_exact(&mut body).unwrap();
                let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_string();
                head_log.lock().unwrap().push(head.to_ascii_lowercase());
                let found = answers.iter().find(|(asked, ..)| *asked == line);
                let (status, answer) = found.map_or((404, "{}"), |(_, status, answer)| (*status, *answer));
                log.lock().unwrap().push(format!("{line} {}", String::from_utf8_lossy(&body)));
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
                let _ = stream.get_mut().write_all((head + answer).as_bytes());
            }
        });
        Self { url, asked, heads }
    }

    pub fn run(&self, args: &[&str], stdin: &str) -> Output {
        bulkhead(&[args, &["--server", &self.url]].concat(), stdin)
    }
}

pub fn bulkhead(args: &[&str], stdin: &str) -> Output {
    bulkhead_in(Path::new("."), args, stdin)
}

/// The same in a folder. It finds no controller, unless its arguments say where one is.
pub fn bulkhead_in(folder: &Path, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(args)
        .current_dir(folder)
        // Nobody listens there.
        .env("BULKHEAD_SERVER", "http://127.0.0.1:9")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever ends before it reads everything is to be looked at for what it says.
    let written = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    assert!(written.is_ok() || written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe));
    child.wait_with_output().unwrap()
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}
