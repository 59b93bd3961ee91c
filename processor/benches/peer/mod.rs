//! The other end of a benchmark, in a process of its own, and the CPU time of this one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Given to this program, it is the server.
pub(crate) const SERVE: &str = "--serve";

/// This program again, as an HTTP/1.1 server that reads requests and gives every one the same answer.
pub(crate) struct Server {
    process: Child,
    pub(crate) endpoint: String,
}

impl Server {
    pub(crate) fn start() -> Server {
        let program = std::env::current_exe().expect("this program");
        let spawned = Command::new(program).arg(SERVE).stdout(Stdio::piped()).spawn();
        let mut process = spawned.expect("the server starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("its address");
        Server { process, endpoint: format!("http://{}", line.trim()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Is the server, until somebody ends this process.
pub(crate) fn serve(answer: &'static [u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    for connection in listener.incoming().flatten() {
        std::thread::spawn(move || reply(&connection, answer));
    }
}

fn reply(connection: &TcpStream, answer: &[u8]) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut reader = BufReader::with_capacity(256 * 1024, connection);
    let mut writer = connection;
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
        writer.write_all(answer).ok()?;
    }
}

/// CPU time of all threads of this process, in ns.
pub(crate) fn cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux's accounting");
    let stats = tasks.flatten().filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    stats.sum()
}
