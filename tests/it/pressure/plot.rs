//! A plot of the samples: memory under its ceiling, lag by pipeline, lanes by feed, over time.

use std::fmt::Write;

use super::samples::{Phase, Sample, Samples};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 70.0;
const GAP: f64 = 46.0;

struct Line<'a> {
    name: &'a str,
    colour: &'a str,
    value: Box<dyn Fn(&Sample) -> f64>,
}

/// One self-contained picture.
pub fn svg(title: &str, samples: &Samples, ceiling_bytes: u64) -> String {
    let mib = |bytes: u64| bytes as f64 / super::MIB as f64;
    let ceiling = mib(ceiling_bytes);
    let line = |name, colour, value| Line { name, colour, value };
    let panels = [
        (
            "resident memory, MiB",
            vec![
                line(
                    "ceiling: budgets + 64 MiB",
                    "#bbb",
                    Box::new(move |_: &Sample| ceiling) as Box<dyn Fn(&Sample) -> f64>,
                ),
                line("resident", "#06c", Box::new(move |s: &Sample| mib(s.rss_bytes))),
            ],
        ),
        (
            "behind, s (the worst shard)",
            vec![
                line("sync-store", "#06c", Box::new(|s: &Sample| s.behind_ms[0] as f64 / 1e3)),
                line("async-delivery", "#c60", Box::new(|s: &Sample| s.behind_ms[1] as f64 / 1e3)),
            ],
        ),
        (
            "lanes that are not live",
            vec![
                line(
                    "sync-store",
                    "#06c",
                    Box::new(|s: &Sample| (s.feeds[0][1] + s.feeds[0][2]) as f64),
                ),
                line(
                    "async-delivery",
                    "#c60",
                    Box::new(|s: &Sample| (s.feeds[1][1] + s.feeds[1][2]) as f64),
                ),
            ],
        ),
    ];
    let height = 30.0 + panels.len() as f64 * (HEIGHT + GAP);
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/><text x="{LEFT}" y="18" font-size="14">{title}</text>"#,
        LEFT + WIDTH + 20.0
    );
    for (index, (name, lines)) in panels.iter().enumerate() {
        panel(&mut out, samples, name, lines, 30.0 + index as f64 * (HEIGHT + GAP) + 16.0);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, samples: &Samples, name: &str, lines: &[Line<'_>], top: f64) {
    let end = samples.0.last().map_or(1.0, |sample| sample.at_s).max(1.0);
    let values = lines.iter().flat_map(|line| samples.0.iter().map(|s| (line.value)(s)));
    let highest = values.fold(1.0, f64::max) * 1.05;
    let x = |at_s: f64| LEFT + at_s / end * WIDTH;
    let y = |value: f64| top + HEIGHT - value / highest * HEIGHT;
    let dead = samples.0.iter().filter(|sample| sample.phase == Phase::Dead);
    let (from, to) = (
        dead.clone().map(|s| s.at_s).fold(end, f64::min),
        dead.map(|s| s.at_s).fold(0.0, f64::max),
    );
    let _ = write!(
        out,
        r##"<rect x="{:.1}" y="{top}" width="{:.1}" height="{HEIGHT}" fill="#fdeaea"/><rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/><text x="{LEFT}" y="{}">{name}</text><text x="{}" y="{}" text-anchor="end">{highest:.0}</text><text x="{}" y="{}" text-anchor="end">0</text><text x="{}" y="{}" text-anchor="end">{end:.0} s</text>"##,
        x(from),
        (x(to) - x(from)).max(0.0),
        top - 4.0,
        LEFT - 6.0,
        top + 10.0,
        LEFT - 6.0,
        top + HEIGHT,
        LEFT + WIDTH,
        top + HEIGHT + 14.0
    );
    for (index, line) in lines.iter().enumerate() {
        let points: Vec<String> = samples
            .0
            .iter()
            .map(|s| format!("{:.1},{:.1}", x(s.at_s), y((line.value)(s))))
            .collect();
        let (name, colour) = (line.name, line.colour);
        let at = LEFT + WIDTH - 340.0 + index as f64 * 190.0;
        let _ = write!(
            out,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.5"/><text x="{at}" y="{}" fill="{colour}">{name}</text>"#,
            points.join(" "),
            top - 4.0
        );
    }
}
