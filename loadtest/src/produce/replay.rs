//! Reads NDJSON inputs line by line, again and again if wanted, holding one line at a time.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::options::{MAX_REQUEST_BYTES, Replay, ReplayInput};

/// Why an input could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file is missing, unreadable or broke off.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is longer than any record can be.
    #[error("{}, line {line}: longer than {MAX_REQUEST_BYTES} bytes, the most that a record can hold", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
    },
}

/// Where the reader stands.
#[derive(Debug)]
pub(crate) struct ReplayReader {
    replay: Replay,
    /// Index of the input that is open or comes next.
    input: usize,
    open: Option<Open>,
    /// The part of a line that has been read so far.
    partial: Vec<u8>,
    line: u64,
    pass: u64,
    lines_in_pass: u64,
}

#[derive(Debug)]
enum Open {
    File(PathBuf, BufReader<File>),
    Memory(Bytes),
}

impl ReplayReader {
    pub(crate) fn new(replay: Replay) -> ReplayReader {
        ReplayReader {
            replay,
            input: 0,
            open: None,
            partial: Vec::new(),
            line: 0,
            pass: 0,
            lines_in_pass: 0,
        }
    }

    /// How many times all inputs have been read to their end.
    pub(crate) fn pass(&self) -> u64 {
        self.pass
    }

    /// The next line that is not empty, without its end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ReplayError> {
        loop {
            if self.open.is_none() && !self.open_next().await? {
                return Ok(None);
            }
            match self.next_line().await? {
                None => {
                    self.open = None;
                    self.input += 1;
                }
                Some(line) => {
                    self.line += 1;
                    if !line.trim_ascii().is_empty() {
                        self.lines_in_pass += 1;
                        return Ok(Some(line));
                    }
                }
            }
        }
    }

    /// Opens the next input; false when there is none.
    async fn open_next(&mut self) -> Result<bool, ReplayError> {
        if self.input >= self.replay.inputs.len() {
            // A pass without a single line would repeat for ever without a message.
            if !self.replay.repeat || self.lines_in_pass == 0 {
                return Ok(false);
            }
            self.input = 0;
            self.pass += 1;
            self.lines_in_pass = 0;
        }
        self.line = 0;
        self.open = Some(match &self.replay.inputs[self.input] {
            ReplayInput::Memory(bytes) => Open::Memory(bytes.clone()),
            ReplayInput::File(path) => match File::open(path).await {
                Ok(file) => Open::File(path.clone(), BufReader::with_capacity(64 * 1024, file)),
                Err(source) => {
                    return Err(ReplayError::Read { path: path.clone(), source });
                }
            },
        });
        Ok(true)
    }

    async fn next_line(&mut self) -> Result<Option<Bytes>, ReplayError> {
        match &mut self.open {
            None => Ok(None),
            Some(Open::Memory(rest)) => Ok(split_line(rest)),
            Some(Open::File(path, reader)) => loop {
                let chunk = reader
                    .fill_buf()
                    .await
                    .map_err(|source| ReplayError::Read { path: path.clone(), source })?;
                if chunk.is_empty() {
                    let last = std::mem::take(&mut self.partial);
                    return Ok((!last.is_empty()).then(|| Bytes::from(last)));
                }
                let end = chunk.iter().position(|b| *b == b'\n');
                let taken = end.unwrap_or(chunk.len());
                if self.partial.len() + taken > MAX_REQUEST_BYTES {
                    return Err(ReplayError::LineTooLong {
                        path: path.clone(),
                        line: self.line + 1,
                    });
                }
                self.partial.extend_from_slice(&chunk[..taken]);
                reader.consume(taken + usize::from(end.is_some()));
                if end.is_some() {
                    return Ok(Some(Bytes::from(std::mem::take(&mut self.partial))));
                }
            },
        }
    }
}

/// Takes the first line off `rest`; `None` when nothing is left.
fn split_line(rest: &mut Bytes) -> Option<Bytes> {
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|b| *b == b'\n');
    let line = rest.split_to(end.unwrap_or(rest.len()));
    if end.is_some() {
        let _ = rest.split_to(1);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(inputs: Vec<ReplayInput>, repeat: bool, most: usize) -> Vec<(u64, String)> {
        let mut reader = ReplayReader::new(Replay { inputs, repeat });
        let mut lines = Vec::new();
        while lines.len() < most {
            let Some(line) = reader.next().await.unwrap() else {
                break;
            };
            lines.push((reader.pass(), String::from_utf8(line.to_vec()).unwrap()));
        }
        lines
    }

    #[tokio::test]
    async fn inputs_follow_each_other_and_empty_lines_are_passed_over() {
        let directory =
            std::env::temp_dir().join(format!("loadtest-replay-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("lines.ndjson");
        std::fs::write(&path, format!("{{\"a\":1}}\n\n  \n{}", "x".repeat(200_000))).unwrap();
        let memory = ReplayInput::Memory(Bytes::from_static(b"first\nsecond"));
        let lines = read(vec![memory, ReplayInput::File(path)], false, 10).await;
        std::fs::remove_dir_all(&directory).unwrap();
        let texts: Vec<_> = lines.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts[..3], ["first", "second", "{\"a\":1}"]);
        assert_eq!(texts[3].len(), 200_000, "a line longer than the buffer, without an end");
        assert_eq!(texts.len(), 4);
    }

    #[tokio::test]
    async fn repeating_counts_passes_and_an_empty_input_ends() {
        let memory = ReplayInput::Memory(Bytes::from_static(b"a\nb\n"));
        let lines = read(vec![memory], true, 5).await;
        let passes: Vec<_> = lines.iter().map(|(pass, text)| (*pass, text.as_str())).collect();
        assert_eq!(passes, [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a")]);
        let empty = ReplayInput::Memory(Bytes::from_static(b"\n\n"));
        assert!(read(vec![empty], true, 5).await.is_empty());
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let input = ReplayInput::File("/nowhere/at-all.ndjson".into());
        let mut reader = ReplayReader::new(Replay { inputs: vec![input], repeat: false });
        let error = reader.next().await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/at-all.ndjson"), "{error}");
    }
}
