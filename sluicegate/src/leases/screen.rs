//! What goes to the terminal beside the result: progress, and a question. All of it on standard error.

use std::io::{IsTerminal, Write, stderr, stdin};
use std::time::Duration;

use tokio::sync::oneshot;

/// Says something beside the result.
pub(super) fn say(text: &str) {
    let mut err = stderr().lock();
    // A terminal that went away is no reason to fail.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// A line that shows how far a wait is; only on a terminal.
pub(super) struct Progress {
    what: String,
    whole: Duration,
    shown: bool,
}

const WIDTH: u32 = 20;

impl Progress {
    pub(super) fn new(what: &str, whole: Duration) -> Progress {
        Progress { what: what.to_owned(), whole, shown: stderr().is_terminal() }
    }

    pub(super) fn tick(&mut self, so_far: Duration) {
        if self.shown {
            say(&format!("\r{}", self.line(so_far)));
        }
    }

    fn line(&self, so_far: Duration) -> String {
        let share = so_far.as_secs_f64() / self.whole.as_secs_f64().max(0.001);
        let filled = (1..=WIDTH).filter(|n| f64::from(*n) <= share * f64::from(WIDTH)).count();
        let bar = "#".repeat(filled) + &"-".repeat(WIDTH as usize - filled);
        let (so_far, whole) = (so_far.as_secs_f64(), self.whole.as_secs_f64());
        format!("{} [{bar}] {so_far:.1} of {whole:.1} s ", self.what)
    }

    /// Takes the line away.
    pub(super) fn end(&mut self) {
        if self.shown {
            say("\r\x1b[2K");
        }
    }
}

/// Asks for a yes; `None` where nobody can be asked.
pub(super) async fn confirm(question: &str) -> Option<bool> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return None;
    }
    say(&format!("{question} [y/N] "));
    let (sender, receiver) = oneshot::channel();
    // A thread of its own: one of the runtime's would hold up the end of the process until a line comes.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = stdin().read_line(&mut line).is_ok();
        let _ = sender.send(read && matches!(line.trim(), "y" | "Y" | "yes"));
    });
    Some(receiver.await.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_with_time() {
        let progress = Progress::new("waiting", Duration::from_secs(10));
        let line = progress.line(Duration::from_secs(5));
        assert_eq!(line, "waiting [##########----------] 5.0 of 10.0 s ");
        assert!(progress.line(Duration::from_secs(90)).contains(&"#".repeat(20)));
        assert!(progress.line(Duration::ZERO).contains(&"-".repeat(20)));
    }
}
