//! The demo's live console: what happens, a few times a second, in place on a terminal.
//!
//! [`render`] is pure: a frame in, lines out. Where there is no terminal, [`summary`] is printed as
//! one line whenever something changed.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crossterm::{cursor, execute, queue, style::Print, terminal};

use super::receiver::Received;

/// Narrowest terminal that lines are cut for.
const MIN_WIDTH: usize = 40;
/// Log lines below the figures.
pub(crate) const LOG_LINES: usize = 8;

/// Everything that one frame shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Frame {
    pub(crate) elapsed: Duration,
    pub(crate) written: u64,
    /// How many events there will be, when they end.
    pub(crate) total: Option<u64>,
    pub(crate) read: u64,
    pub(crate) shards: usize,
    pub(crate) stored: u64,
    pub(crate) store_lag_ms: u64,
    pub(crate) store_retried: u64,
    pub(crate) store_throttled: bool,
    pub(crate) delivered: u64,
    pub(crate) parked_now: u64,
    /// Shards from which the destination is owed what it did not get: it is down, or behind.
    pub(crate) open_ranges: usize,
    pub(crate) delivery_lag_ms: u64,
    pub(crate) breaker: String,
    pub(crate) dead_letters: u64,
    pub(crate) receiver_up: bool,
    pub(crate) received: Received,
    pub(crate) log: Vec<String>,
}

/// The frame as lines of at most `width` characters.
pub(crate) fn render(frame: &Frame, width: usize) -> Vec<String> {
    let seconds = frame.elapsed.as_secs();
    let throttle = if frame.store_throttled { "  TABLE THROTTLED" } else { "" };
    let receiver = if frame.receiver_up { "up     " } else { "STOPPED" };
    let mut lines = vec![
        format!("── live ── {:02}:{:02} ──", seconds / 60, seconds % 60),
        format!(
            "  stream         {} events written   {} read   {} shards",
            written(frame),
            frame.read,
            frame.shards
        ),
        format!(
            "  sync-store     {} stored   lag {}   {} refused for now{throttle}",
            frame.stored,
            lag(frame.store_lag_ms),
            frame.store_retried
        ),
        format!(
            "  async-delivery {} delivered   {} parked{}   lag {}   breaker {}",
            frame.delivered,
            frame.parked_now,
            owed(frame.open_ranges),
            lag(frame.delivery_lag_ms),
            frame.breaker
        ),
        format!(
            "  receiver       {receiver}   {} verified   {} refused   {} duplicates",
            frame.received.verified, frame.received.refused, frame.received.duplicates
        ),
        format!("  dead letters   {}", frame.dead_letters),
        "  keys: r stop/start the receiver   t throttle/free the store's table   q quit".to_owned(),
        String::new(),
    ];
    lines.extend(frame.log.iter().rev().take(LOG_LINES).rev().map(|line| format!("  {line}")));
    let width = width.max(MIN_WIDTH);
    for line in &mut lines {
        if let Some((cut, _)) = line.char_indices().nth(width.saturating_sub(1)) {
            line.truncate(cut);
        }
    }
    lines
}

/// The frame as one line, for output that is no terminal.
pub(crate) fn summary(frame: &Frame) -> String {
    format!(
        "written {} read {} | stored {} lag {} | delivered {} parked {} lag {} | verified {} duplicates {} | dead letters {}",
        written(frame),
        frame.read,
        frame.stored,
        lag(frame.store_lag_ms),
        frame.delivered,
        frame.parked_now,
        lag(frame.delivery_lag_ms),
        frame.received.verified,
        frame.received.duplicates,
        frame.dead_letters
    )
}

fn owed(open_ranges: usize) -> String {
    match open_ranges {
        0 => String::new(),
        1 => "   the rest waits in 1 shard".to_owned(),
        shards => format!("   the rest waits in {shards} shards"),
    }
}

fn written(frame: &Frame) -> String {
    match frame.total {
        Some(total) => format!("{} of {total}", frame.written),
        None => frame.written.to_string(),
    }
}

fn lag(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        _ => format!("{} s", ms / 1_000),
    }
}

/// Where frames go: in place on a terminal, or a line at a time.
pub(crate) struct Console {
    terminal: bool,
    drawn: u16,
    last: String,
}

impl Console {
    /// Looks at standard output and input, and switches the terminal to single keys if they are one.
    pub(crate) fn open() -> io::Result<Console> {
        let terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        if terminal {
            terminal::enable_raw_mode()?;
            execute!(io::stdout(), cursor::Hide)?;
        }
        Ok(Console { terminal, drawn: 0, last: String::new() })
    }

    /// Whether a person sees it and can press keys.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Shows a frame.
    pub(crate) fn show(&mut self, frame: &Frame) -> io::Result<()> {
        if self.terminal { self.draw(frame) } else { self.tell(frame) }
    }

    fn draw(&mut self, frame: &Frame) -> io::Result<()> {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let mut lines = render(frame, usize::from(width));
        lines.truncate(usize::from(height.saturating_sub(1)));
        let mut out = io::stdout().lock();
        if self.drawn > 0 {
            queue!(out, cursor::MoveToPreviousLine(self.drawn))?;
        }
        queue!(out, terminal::Clear(terminal::ClearType::FromCursorDown))?;
        for line in &lines {
            queue!(out, Print(line), Print("\r\n"))?;
        }
        self.drawn = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        out.flush()
    }

    fn tell(&mut self, frame: &Frame) -> io::Result<()> {
        let line = summary(frame);
        if line == self.last {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        for logged in &frame.log {
            writeln!(out, "{logged}")?;
        }
        writeln!(out, "{line}")?;
        self.last = line;
        out.flush()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if self.terminal {
            // The terminal is given back as it was found; there is nobody left to tell of a failure.
            let _ = execute!(io::stdout(), cursor::Show);
            let _ = terminal::disable_raw_mode();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_never_pass_the_width_and_say_what_is_wrong() {
        let frame = Frame {
            store_throttled: true,
            breaker: "open".to_owned(),
            log: vec!["é".repeat(300)],
            ..Frame::default()
        };
        let lines = render(&frame, 60);
        assert!(lines.iter().all(|line| line.chars().count() < 60));
        assert!(lines.iter().any(|line| line.contains("STOPPED")));
        assert!(render(&frame, 200).iter().any(|line| line.contains("TABLE THROTTLED")));
    }

    #[test]
    fn only_the_newest_log_lines_are_shown() {
        let frame =
            Frame { log: (0..50).map(|n| format!("line {n}")).collect(), ..Frame::default() };
        let lines = render(&frame, 80);
        assert_eq!(lines.last().map(String::as_str), Some("  line 49"));
        assert!(!lines.iter().any(|line| line.contains("line 41")));
    }
}
