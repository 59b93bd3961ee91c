//! What is wrong with a configuration, for a tired person: where, which key, what was found, what
//! is allowed. Never shows the value of a secret.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Keys whose values must not be shown, wherever they stand.
const SECRET_WORDS: [&str; 2] = ["pepper", "signing_key"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// The file; line and column count from 1.
    File {
        /// Line of the value.
        line: usize,
        /// Column of its first character.
        column: usize,
        /// Characters of it on that line.
        width: usize,
    },
    /// An environment variable, by name.
    Env(String),
    /// `--set` with this key.
    Flag(String),
}

impl Origin {
    /// The place of a span within the file's text.
    pub(super) fn in_file(text: &str, span: Range<usize>) -> Origin {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.floor_char_boundary(span.end.min(text.len())).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let first_line = text[start..end].split('\n').next().unwrap_or_default();
        Origin::File {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: first_line.trim_end().chars().count().max(1),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    origin: Origin,
    path: String,
    text: String,
}

impl Problem {
    /// A key holds something that it must not.
    pub(super) fn value(
        origin: Origin,
        path: &str,
        found: String,
        allowed: impl fmt::Display,
    ) -> Problem {
        let found = if is_secret(path) { "something else".to_owned() } else { found };
        Problem::message(origin, path, format!("found {found}; allowed is {allowed}"))
    }

    /// Nobody reads this key.
    pub(super) fn unknown_key(origin: Origin, path: &str, meant: Option<&str>) -> Problem {
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        Problem::message(origin, path, format!("unknown key{meant}"))
    }

    /// A key that must be there is not.
    pub(super) fn missing(path: &str, allowed: impl fmt::Display) -> Problem {
        Problem::message(Origin::Default, path, format!("missing; needed is {allowed}"))
    }

    /// The file is not TOML.
    pub(super) fn syntax(origin: Origin, message: &str) -> Problem {
        Problem::message(origin, "", format!("not TOML: {message}"))
    }

    /// Anything else, in words.
    pub(super) fn message(origin: Origin, path: &str, text: String) -> Problem {
        Problem { origin, path: path.to_owned(), text }
    }

    /// Adds what helps.
    pub(super) fn with_hint(mut self, hint: &str) -> Problem {
        self.text = format!("{} ({hint})", self.text);
        self
    }
}

fn is_secret(text: &str) -> bool {
    SECRET_WORDS.iter().any(|word| text.contains(word)) && !text.ends_with("_file")
}

/// Why a configuration is refused: everything that is wrong with it, as far as could be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    file: Option<PathBuf>,
    /// The lines that problems point at.
    excerpts: Vec<(usize, String)>,
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(
        file: Option<PathBuf>,
        text: &str,
        mut problems: Vec<Problem>,
    ) -> ConfigError {
        problems.sort_by_key(|problem| match problem.origin {
            Origin::File { line, column, .. } => (0, line, column),
            _ => (1, 0, 0),
        });
        problems.dedup();
        let wanted = |line: usize| {
            problems.iter().any(|p| matches!(p.origin, Origin::File { line: at, .. } if at == line))
        };
        let excerpts = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            // A secret that stands in the file by mistake must not reach a log.
            .filter(|(line, text)| wanted(*line) && !SECRET_WORDS.iter().any(|w| text.contains(w)))
            .map(|(line, text)| (line, text.to_owned()))
            .collect();
        ConfigError { file, excerpts, problems }
    }

    fn place(&self, origin: &Origin) -> String {
        match origin {
            Origin::Default => String::new(),
            Origin::File { line, column, .. } => {
                let file =
                    self.file.as_ref().map_or("the file".into(), |f| f.display().to_string());
                format!("{file}, line {line}, column {column}: ")
            }
            Origin::Env(name) => format!("environment variable {name}: "),
            Origin::Flag(path) => format!("--set {path}: "),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => writeln!(f, "the configuration is refused:")?,
            n => writeln!(f, "the configuration is refused for {n} reasons:")?,
        }
        for problem in &self.problems {
            let Problem { origin, path, text } = problem;
            let separator = if path.is_empty() { "" } else { ": " };
            write!(f, "\n{}{path}{separator}{text}\n", self.place(origin))?;
            let Origin::File { line, column, width } = origin else { continue };
            if let Some((_, excerpt)) = self.excerpts.iter().find(|(number, _)| number == line) {
                let margin = " ".repeat(column - 1);
                writeln!(f, "{line:>5} | {excerpt}\n      | {margin}{}", "^".repeat(*width))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
