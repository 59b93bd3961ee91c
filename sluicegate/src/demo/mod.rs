//! The demo: the whole platform on this machine, on real data, with nothing to install.
//!
//! An embedded Kinesis and DynamoDB on loopback, the processor with both pipelines, the HTTPS API, a
//! webhook receiver that verifies signatures, and a producer that replays a file of real
//! earthquakes. Every part is the real one, reached through the same SDK clients and the same
//! configuration as in production; only the endpoint is this machine's.

mod certificate;
mod console;
mod receiver;
mod stage;
mod tasks;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyModifiers};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::DemoArgs;
use crate::telemetry::{self, LogFormat, LogTarget, RecentLines};

use console::{Console, Frame, summary};
use stage::Stage;

/// The bundled events: USGS earthquakes of February 2018, in the public domain.
pub(crate) const EARTHQUAKES: &[u8] = include_bytes!("../../../tests/data/earthquakes.ndjson");

/// How often the console is drawn on a terminal, and written to a pipe.
const DRAW_TERMINAL: Duration = Duration::from_millis(200);
const DRAW_PIPE: Duration = Duration::from_secs(1);

/// What a person at the keyboard asks for.
enum Key {
    Receiver,
    Throttle,
    Quit,
}

/// Runs the demo until it is stopped.
pub(crate) async fn run(args: DemoArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let log = RecentLines::default();
    telemetry::start_logs("warn", LogFormat::Human, LogTarget::Recent(log.clone()))
        .map_err(anyhow::Error::msg)?;
    let mut stage = Box::pin(Stage::set(&args, log.clone())).await?;
    say(&stage.welcome())?;
    let done = show(&mut stage, &args, &log, &stop).await;
    let last = stage.frame(Vec::new()).await;
    stage.clear().await;
    say(&format!("\n{}\n", summary(&last)))?;
    let missing = done? && args.until_done && last.missing() > 0;
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Draws and obeys keys until it is time to end. True when it ended because everything was done.
async fn show(
    stage: &mut Stage,
    args: &DemoArgs,
    log: &RecentLines,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut console = Console::open()?;
    let mut keys = keys(console.is_terminal(), stop.clone());
    let every = if console.is_terminal() { DRAW_TERMINAL } else { DRAW_PIPE };
    let mut draw = tokio::time::interval(every);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(false),
            why = stage.broken() => anyhow::bail!("the platform ended by itself: {why}"),
            Some(key) = keys.recv() => match key {
                Key::Receiver => stage.toggle_receiver().await?,
                Key::Throttle => stage.toggle_throttle(),
                Key::Quit => return Ok(false),
            },
            _ = draw.tick() => {
                let lines = if console.is_terminal() { log.last(console::LOG_LINES) } else { log.drain() };
                let frame = stage.frame(lines).await;
                console.show(&frame)?;
                if args.until_done && frame.is_done() {
                    return Ok(true);
                }
            }
        }
    }
}

/// Keys from the terminal, read by a thread of their own because a terminal blocks.
fn keys(terminal: bool, stop: CancellationToken) -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(8);
    if !terminal {
        // Never closed while the demo runs, so that the console just never hears of a key.
        tokio::spawn(async move {
            stop.cancelled().await;
            drop(sender);
        });
        return receiver;
    }
    std::thread::spawn(move || {
        while !stop.is_cancelled() {
            match crossterm::event::poll(Duration::from_millis(100)) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(_) => return,
            }
            let Ok(Event::Key(pressed)) = crossterm::event::read() else { continue };
            let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
            let key = match pressed.code {
                KeyCode::Char('c') if control => Key::Quit,
                KeyCode::Char('q') => Key::Quit,
                KeyCode::Char('r') => Key::Receiver,
                KeyCode::Char('t') => Key::Throttle,
                _ => continue,
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Frame {
    /// Every event went the whole way.
    fn is_done(&self) -> bool {
        self.total == Some(self.written)
            && self.missing() == 0
            && self.parked_now == 0
            && self.open_ranges == 0
    }

    /// Events that are not stored, or not delivered.
    fn missing(&self) -> u64 {
        let total = self.total.unwrap_or(self.written);
        let stored = total.saturating_sub(self.stored);
        stored.max(total.saturating_sub(self.received.messages))
    }
}
