//! A child process: what it says, what it costs, and that it does not outlive us.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::sync::mpsc;

use super::CompareError;

/// The kernel counts CPU time in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;
/// Lines that may wait to be looked at; a child that says more waits.
const LINES: usize = 64;
/// How much of a log an error quotes.
const QUOTED_BYTES: usize = 2_000;

/// What a process used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time of all its threads, user and system.
    pub cpu_s: f64,
    /// The most memory that was resident at once.
    pub peak_rss_bytes: u64,
}

/// A process that ends when this is dropped.
pub(super) struct Child {
    name: String,
    child: std::process::Child,
    lines: mpsc::Receiver<String>,
    log: PathBuf,
}

impl Child {
    /// Starts a program; its standard error goes to a log in `directory`.
    pub(super) fn spawn(
        name: &str,
        mut command: Command,
        directory: &Path,
    ) -> Result<Child, CompareError> {
        let log = directory.join(format!("{name}.log"));
        let file =
            File::create(&log).map_err(|cause| CompareError::File { path: log.clone(), cause })?;
        let program = command.get_program().to_string_lossy().into_owned();
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).spawn();
        let mut child = spawned.map_err(|cause| CompareError::Spawn { program, cause })?;
        let (said, lines) = mpsc::channel(LINES);
        if let Some(stdout) = child.stdout.take() {
            tokio::task::spawn_blocking(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if said.blocking_send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Child { name: name.to_owned(), child, lines, log })
    }

    /// The next line of its standard output.
    pub(super) async fn line(&mut self, within: Duration) -> Result<String, CompareError> {
        match tokio::time::timeout(within, self.lines.recv()).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(self.problem("it ended".to_owned())),
            Err(_) => Err(self.problem(format!("it said nothing within {} s", within.as_secs()))),
        }
    }

    /// Waits until it has ended well; what it says is passed over.
    pub(super) async fn success(mut self, within: Duration) -> Result<(), CompareError> {
        let ended = async { while self.lines.recv().await.is_some() {} };
        if tokio::time::timeout(within, ended).await.is_err() {
            return Err(self.problem(format!("it did not end within {} s", within.as_secs())));
        }
        // Its output is closed: it is ending, if it has not ended.
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.problem(status.to_string())),
            Err(error) => Err(self.problem(error.to_string())),
        }
    }

    /// What it used so far.
    pub(super) fn usage(&self) -> Result<Usage, CompareError> {
        let read = |file: &str| {
            let path = PathBuf::from(format!("/proc/{}/{file}", self.child.id()));
            std::fs::read_to_string(&path).map_err(|cause| CompareError::File { path, cause })
        };
        usage(&read("stat")?, &read("status")?)
            .ok_or_else(|| self.problem("/proc says nothing about it".to_owned()))
    }

    pub(super) fn problem(&self, problem: String) -> CompareError {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log =
            String::from_utf8_lossy(&log[log.len().saturating_sub(QUOTED_BYTES)..]).into_owned();
        CompareError::Child { name: self.name.clone(), problem, log }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already; either way it must not stay as a zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads `/proc/PID/stat` and `/proc/PID/status`.
fn usage(stat: &str, status: &str) -> Option<Usage> {
    // The program's name stands in brackets and may hold anything, blanks and brackets too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    let ticks = ticks.next()?? + ticks.next()??;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(Usage { cpu_s: ticks as f64 / TICKS_PER_SECOND, peak_rss_bytes: kib * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_whatever_the_program_is_called() {
        let stat = "12 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 1";
        let status = "Name:\ta\nVmPeak:\t  9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n";
        let expected = Usage { cpu_s: 2.0, peak_rss_bytes: 2 * 1024 * 1024 };
        assert_eq!(usage(stat, status), Some(expected));
        assert_eq!(usage("12 (a) S 1", status), None);
        assert_eq!(usage(stat, "Name:\ta\n"), None, "a zombie has no memory");
    }

    #[tokio::test]
    async fn a_child_is_listened_to_and_its_end_is_explained() {
        let directory = std::env::temp_dir();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo why >&2; exit 3"]);
        let mut child = Child::spawn("compare-child-test", command, &directory).unwrap();
        assert_eq!(child.line(Duration::from_secs(10)).await.unwrap(), "one");
        let error = child.success(Duration::from_secs(10)).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
        std::fs::remove_file(directory.join("compare-child-test.log")).unwrap();
    }

    #[tokio::test]
    async fn a_child_does_not_outlive_its_owner() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let directory = std::env::temp_dir();
        let child = Child::spawn("compare-sleep-test", command, &directory).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", child.child.id()));
        assert!(proc.exists());
        drop(child);
        assert!(!proc.exists());
        std::fs::remove_file(directory.join("compare-sleep-test.log")).unwrap();
    }
}
