//! The binary under test as a child process, ended with the test that started it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tokio::sync::mpsc;

/// Lines of a child that nobody has read yet, at most; a child that says more waits.
const UNREAD_LINES: usize = 10_000;

/// A running `sluicegate`. Dropping it kills it.
pub struct Sluicegate {
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
    /// What of the log was looked at before the end.
    log: Vec<String>,
}

/// How a child ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<String>,
    pub log: Vec<String>,
}

/// The command, with an environment that holds nothing of the machine's.
#[allow(clippy::disallowed_methods, reason = "which build is meant is said from outside")]
fn command(args: &[&str]) -> Command {
    // A measurement may want the release build.
    let binary = std::env::var_os("SLUICEGATE_BINARY");
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_sluicegate").into());
    let mut command = Command::new(binary);
    command
        .args(args)
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", "/nonexistent")
        .env("SLUICEGATE_SECRETS__PEPPER", "0123456789abcdef0123456789abcdef")
        .env("SLUICEGATE_SECRETS__LINK_SIGNING_KEY", "fedcba9876543210fedcba9876543210")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Sluicegate {
    pub fn start(args: &[&str]) -> Sluicegate {
        Sluicegate::start_with(args, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(args: &[&str], environment: &[(String, String)]) -> Sluicegate {
        let environment = environment.iter().map(|(name, value)| (name, value));
        let mut child = command(args).envs(environment).spawn().expect("the binary starts");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Sluicegate { child, stdout, stderr, log: Vec::new() }
    }

    /// The next line of standard output.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(super::PATIENCE, self.stdout.recv())
            .await
            .expect("a line in time");
        match line {
            Some(line) => line,
            None => panic!("the process ended: {:#?}", drain(&mut self.stderr).await),
        }
    }

    /// Lines up to and with the first that contains `text`.
    pub async fn lines_until(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            let found = line.contains(text);
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    /// The log so far.
    pub fn log(&mut self) -> &[String] {
        while let Ok(line) = self.stderr.try_recv() {
            self.log.push(line);
        }
        &self.log
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, as `kill -NAME` does.
    pub async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = run_in_shell("kill", &[&format!("-{name}"), &pid]).await;
        assert!(sent.status.success(), "SIG{name} was sent");
    }

    /// `kill -9`, and waits until the process is gone.
    pub async fn kill(mut self) {
        self.child.kill().expect("killed");
        tokio::task::block_in_place(|| self.child.wait()).expect("waited for");
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(self) -> Ended {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Waits for the end.
    pub async fn ended(mut self) -> Ended {
        let all = async {
            let stdout = drain(&mut self.stdout).await;
            (stdout, drain(&mut self.stderr).await)
        };
        let (stdout, rest) =
            tokio::time::timeout(super::PATIENCE, all).await.expect("ends in time");
        let status = tokio::task::block_in_place(|| self.child.wait()).expect("waited for");
        let log = std::mem::take(&mut self.log).into_iter().chain(rest).collect();
        Ended { code: status.code(), stdout, log }
    }
}

impl Drop for Sluicegate {
    fn drop(&mut self) {
        // Gone already, or gone now: both are what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the binary to its end.
pub async fn run(args: &[&str]) -> Ended {
    Sluicegate::start(args).ended().await
}

/// Runs another program to its end.
pub async fn run_in_shell(program: &str, args: &[&str]) -> Output {
    tokio::task::block_in_place(|| Command::new(program).args(args).output())
        .expect("the program runs")
}

/// A thread reads the child's lines, so that it never waits for a full pipe.
fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(UNREAD_LINES);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn drain(lines: &mut mpsc::Receiver<String>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        all.push(line);
    }
    all
}

/// Writes `text` to `name` in `dir` and gives the path as text.
pub fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}
