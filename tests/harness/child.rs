//! The binary under test as a child process, ended with the test that started it.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// A running `sluicegate`. Dropping it kills it.
pub struct Sluicegate {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    log: tokio::task::JoinHandle<Vec<String>>,
}

/// How a child ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<String>,
    pub log: Vec<String>,
}

/// The command, with an environment that holds nothing of the machine's.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command
        .args(args)
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Sluicegate {
    pub fn start(args: &[&str]) -> Sluicegate {
        let mut child = command(args).spawn().expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let log = tokio::spawn(collect(child.stderr.take().expect("piped")));
        Sluicegate { child, stdout, log }
    }

    /// The next line of standard output.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(super::PATIENCE, self.stdout.next_line()).await;
        line.expect("a line in time").expect("readable").expect("the process still talks")
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

    /// `kill -9`, and waits until the process is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(self) -> Ended {
        let pid = self.child.id().expect("running").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs");
        assert!(sent.success(), "SIGTERM was sent");
        self.ended().await
    }

    /// Waits for the end.
    pub async fn ended(mut self) -> Ended {
        let mut stdout = Vec::new();
        let rest = async {
            while let Ok(Some(line)) = self.stdout.next_line().await {
                stdout.push(line);
            }
        };
        tokio::time::timeout(super::PATIENCE, rest).await.expect("ends in time");
        let status = self.child.wait().await.expect("waited for");
        let log = self.log.await.expect("the log was read");
        Ended { code: status.code(), stdout, log }
    }
}

/// Runs a command to its end.
pub async fn run(args: &[&str]) -> Ended {
    Sluicegate::start(args).ended().await
}

async fn collect(stderr: ChildStderr) -> Vec<String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut log = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        log.push(line);
    }
    log
}

/// Writes `text` to `name` in `dir` and gives the path as text.
pub fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}
