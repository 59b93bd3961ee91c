//! `filter`: which messages of a file a filter lets through, as a subscription would.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use store::pattern::{Pattern, Reader};

use crate::cli::FilterArgs;

/// The longest line; a record of a stream is no longer.
const MAX_LINE_BYTES: u64 = 10 * 1024 * 1024;

/// `sluicegate filter`
pub(crate) fn run(args: &FilterArgs) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let unreadable = match &args.file {
        Some(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            let what = || path.display().to_string();
            pass(&args.filter, BufReader::new(file), &mut out).with_context(what)?
        }
        None => pass(&args.filter, io::stdin().lock(), &mut out)?,
    };
    if unreadable > 0 {
        let note = "subscriptions get such messages unfiltered, so they are among the lines above";
        let _ =
            writeln!(io::stderr(), "{unreadable} lines cannot be read for their content; {note}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the lines that the filter lets through; how many of them could not be read for their content.
fn pass(filter: &Pattern, mut input: impl BufRead, out: &mut impl Write) -> anyhow::Result<u64> {
    let (mut reader, mut line, mut unreadable) = (Reader::default(), Vec::new(), 0);
    for number in 1_u64.. {
        line.clear();
        if input.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        anyhow::ensure!(
            line.len() as u64 <= MAX_LINE_BYTES,
            "line {number} has more than {MAX_LINE_BYTES} bytes: one message a line is wanted"
        );
        let message = line.trim_ascii();
        let passes = match reader.read(message) {
            _ if message.is_empty() => continue,
            Ok(document) => filter.matches(&document),
            Err(_) => {
                unreadable += 1;
                true
            }
        };
        if passes {
            out.write_all(message)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(unreadable)
}

/// For clap: a filter, or what is wrong with it; `@FILE` reads it from a file.
pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
    let Some(path) = text.strip_prefix('@') else {
        return Pattern::parse(text).map_err(|e| e.to_string());
    };
    let read = std::fs::read_to_string(Path::new(path));
    let json = read.map_err(|e| format!("{path}: {e}"))?;
    Pattern::parse(json.trim()).map_err(|e| format!("{path}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_pass_or_do_not_and_what_cannot_be_read_passes() {
        let filter = Pattern::parse(r#"{"a":["x"]}"#).unwrap();
        let input = "{\"a\":\"x\"}\n\n  {\"a\":\"y\"}\r\n{\"a\":1e999}\n{\"a\":[\"x\"]}";
        let mut out = Vec::new();
        assert_eq!(pass(&filter, input.as_bytes(), &mut out).unwrap(), 1);
        assert_eq!(out, b"{\"a\":\"x\"}\n{\"a\":1e999}\n{\"a\":[\"x\"]}\n");
    }

    #[test]
    fn a_filter_stands_on_the_command_line_or_in_a_file() {
        assert!(parse(r#"{"a":["x"]}"#).is_ok());
        let refused = parse(r#"{"a":"x"}"#).unwrap_err();
        assert!(refused.contains("the filter at `/a`"), "{refused}");
        let path = std::env::temp_dir().join(format!("filter-{}.json", std::process::id()));
        std::fs::write(&path, "\n{\"a\":[{\"prefix\":\"x\"}]}\n").unwrap();
        assert!(parse(&format!("@{}", path.display())).is_ok());
        std::fs::write(&path, "[]").unwrap();
        let refused = parse(&format!("@{}", path.display())).unwrap_err();
        assert!(refused.contains("filter-") && refused.contains("at its top"), "{refused}");
        std::fs::remove_file(&path).unwrap();
        assert!(parse(&format!("@{}", path.display())).unwrap_err().contains("filter-"));
    }
}
