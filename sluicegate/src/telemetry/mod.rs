//! Logs by `tracing`, metrics by the `metrics` facade into OpenTelemetry.
//!
//! Logs are for people on a terminal and JSON everywhere else; metrics go out over OTLP when an
//! endpoint is configured, and cost nothing when none is. Libraries only ever use the facades.

mod catalogue;
mod metrics;
mod shards;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub(crate) use metrics::MetricsExport;

/// Lines that the live console keeps of the log.
const RECENT_LINES: usize = 200;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// One line of words each.
    Human,
    /// One JSON object each.
    Json,
}

/// Where log lines go.
#[derive(Debug, Clone)]
pub(crate) enum LogTarget {
    /// Standard error: standard output belongs to a command's result.
    Stderr,
    /// The live console's list of recent lines.
    Recent(RecentLines),
}

/// Starts logging. `level` is a filter such as `info` or `processor=debug,info`.
pub(crate) fn start_logs(level: &str, format: LogFormat, target: LogTarget) -> Result<(), String> {
    let filter = EnvFilter::try_new(with_audit(level, &target))
        .map_err(|error| format!("telemetry.log_level: {level:?} is not a log filter ({error}); for example \"info\" or \"processor=debug,info\""))?;
    let human = match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal() || matches!(target, LogTarget::Recent(_)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let done = match (target, human) {
        (LogTarget::Stderr, true) => {
            builder.with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).try_init()
        }
        (LogTarget::Stderr, false) => {
            builder.with_writer(io::stderr).json().flatten_event(true).try_init()
        }
        (LogTarget::Recent(lines), _) => {
            builder.with_writer(lines).with_ansi(false).without_time().compact().try_init()
        }
    };
    done.map_err(|error| format!("logging cannot be started: {error}"))
}

/// The filter with the audit in it, whatever the level of the rest, unless the filter speaks of it itself. The
/// console's list of lines is for people who look on, not for auditors.
fn with_audit(level: &str, target: &LogTarget) -> String {
    let speaks_of_it = level.split(',').any(|part| part.trim().starts_with("audit"));
    match target {
        LogTarget::Stderr if !speaks_of_it => format!("{level},audit=info"),
        LogTarget::Recent(_) if !speaks_of_it => format!("{level},audit=off"),
        _ => level.to_owned(),
    }
}

/// The newest log lines, bounded. The lock guards a short list and is held for no I/O and no await.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentLines {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl RecentLines {
    /// The newest `count` lines, oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }

    /// Takes every line that was not taken yet, oldest first.
    pub(crate) fn drain(&self) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.drain(..).collect()
    }

    /// Adds a line of the console's own.
    pub(crate) fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == RECENT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl Write for RecentLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.is_empty()) {
            self.push(line.to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for RecentLines {
    type Writer = RecentLines;

    fn make_writer(&self) -> RecentLines {
        self.clone()
    }
}
