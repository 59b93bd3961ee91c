//! What this process carries, as the fleet shares work out by it: CPU, memory, bytes in flight.
//!
//! The figures come from `/proc`; where there is none they are zero, and every worker counts as equally large.

use std::time::Duration;

use lease_manager::{FleetHandle, Load};
use processor::ProcessorHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the figures are taken.
const INTERVAL: Duration = Duration::from_secs(2);
/// The kernel counts CPU time in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;
/// The newest measurement's share in the average.
const NEWEST: f64 = 0.3;

/// Tells the fleet what this worker carries and what ails it, until `stop`.
pub(crate) async fn report(
    fleet: FleetHandle,
    processor: ProcessorHandle,
    stop: CancellationToken,
) {
    let mut cpu = Cpu::new(cores(), Instant::now(), cpu_ticks());
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let load = Load {
            cpu_percent: cpu.percent(Instant::now(), cpu_ticks()),
            memory_bytes: memory_bytes(),
            in_flight_bytes: processor.in_flight_bytes(),
        };
        fleet.report(load, processor.ailments());
    }
}

/// The cores that this process may use; a container's quota counts.
fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// The average use of the CPU.
struct Cpu {
    cores: f64,
    at: Instant,
    ticks: u64,
    average: Option<f64>,
}

impl Cpu {
    fn new(cores: f64, at: Instant, ticks: u64) -> Cpu {
        Cpu { cores, at, ticks, average: None }
    }

    fn percent(&mut self, now: Instant, ticks: u64) -> f64 {
        let passed = (now - self.at).as_secs_f64();
        if passed >= 0.1 {
            let used = ticks.saturating_sub(self.ticks) as f64 / TICKS_PER_SECOND;
            let percent = (used / passed / self.cores * 100.0).min(100.0);
            let average = |before: f64| before + (percent - before) * NEWEST;
            self.average = Some(self.average.map_or(percent, average));
            (self.at, self.ticks) = (now, ticks);
        }
        self.average.unwrap_or(0.0)
    }
}

/// CPU time that this process has used, in hundredths of a second.
fn cpu_ticks() -> u64 {
    std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| ticks_of(&stat)).unwrap_or(0)
}

/// User and system time: the 14th and 15th field, counted behind the name, which may contain anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

/// Memory that is resident.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    resident_of(&status).unwrap_or(0)
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194560 99 0 0 0 250 50 0 0 20 0 3 0 7 8 9";
        assert_eq!(ticks_of(stat), Some(300));
        assert_eq!(ticks_of("nothing"), None);
        assert_eq!(resident_of("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(resident_of(""), None);
    }

    #[test]
    fn the_average_follows_what_was_used() {
        let start = Instant::now();
        let mut cpu = Cpu::new(2.0, start, 0);
        assert_eq!(cpu.percent(start, 0), 0.0);
        assert_eq!(cpu.percent(start + Duration::from_secs(1), 100), 50.0, "one of two cores");
        assert_eq!(cpu.percent(start + Duration::from_secs(2), 100), 35.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_figures() {
        assert!(memory_bytes() > 1024 * 1024);
    }
}
