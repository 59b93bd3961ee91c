//! What operators' commands share: tables, and what goes to the terminal beside the result (progress, a question),
//! all of that on standard error.

use std::io::{IsTerminal, Write, stderr, stdin};
use std::time::Duration;

use tokio::sync::oneshot;

/// Says something beside the result.
pub(crate) fn say(text: &str) {
    let mut err = stderr().lock();
    // A terminal that went away is no reason to fail.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// A line that shows how far a wait is; only on a terminal.
pub(crate) struct Progress {
    what: String,
    whole: Duration,
    shown: bool,
}

const WIDTH: u32 = 20;

impl Progress {
    pub(crate) fn new(what: &str, whole: Duration) -> Progress {
        Progress { what: what.to_owned(), whole, shown: stderr().is_terminal() }
    }

    pub(crate) fn tick(&mut self, so_far: Duration) {
        if self.shown {
            say(&format!("\r{}", self.line(so_far)));
        }
    }

    fn line(&self, so_far: Duration) -> String {
        let share = so_far.as_secs_f64() / self.whole.as_secs_f64().max(0.001);
        let bar = bar(share);
        let (so_far, whole) = (so_far.as_secs_f64(), self.whole.as_secs_f64());
        format!("{} [{bar}] {so_far:.1} of {whole:.1} s ", self.what)
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        if self.shown {
            say("\r\x1b[2K");
        }
    }
}

/// Asks for a yes; `None` where nobody can be asked.
pub(crate) async fn confirm(question: &str) -> Option<bool> {
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

/// A bar that is filled to this share, 0 to 1.
pub(crate) fn bar(share: f64) -> String {
    let filled = (1..=WIDTH).filter(|n| f64::from(*n) <= share * f64::from(WIDTH)).count();
    "#".repeat(filled) + &"-".repeat(WIDTH as usize - filled)
}

/// A line that counts up; only on a terminal.
pub(crate) struct Counted {
    what: &'static str,
    shown: bool,
}

impl Counted {
    pub(crate) fn new(what: &'static str) -> Counted {
        Counted { what, shown: stderr().is_terminal() }
    }

    pub(crate) fn tick(&mut self, so_far: &str) {
        if self.shown {
            say(&format!("\r\x1b[2K{}: {so_far}", self.what));
        }
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        if self.shown {
            say("\r\x1b[2K");
        }
    }
}

/// Columns side by side.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows =
            [["A", "LONGER", ""], ["shard", "b", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), "A      LONGER\nshard  b       x\n");
    }

    #[test]
    fn the_bar_fills_with_time() {
        let progress = Progress::new("waiting", Duration::from_secs(10));
        let line = progress.line(Duration::from_secs(5));
        assert_eq!(line, "waiting [##########----------] 5.0 of 10.0 s ");
        assert!(progress.line(Duration::from_secs(90)).contains(&"#".repeat(20)));
        assert!(progress.line(Duration::ZERO).contains(&"-".repeat(20)));
    }
}
