//! Secrets: given by the environment or by a file that a key names, never by the configuration
//! file itself, and never shown.

use std::fmt;
use std::path::PathBuf;

use super::problem::{Origin, Problem};
use super::section::Section;

/// The least that a secret must have to be worth its name.
const LEAST_BYTES: usize = 32;
/// A file that holds more is not a secret's.
const MOST_BYTES: usize = 4096;

/// Bytes that are never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// The bytes, for the one place that computes with them.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(redacted, {} bytes)", self.0.len())
    }
}

/// What must never be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secrets {
    /// What API keys are hashed with: HMAC-SHA-256's key. The same in every API task.
    pub(crate) pepper: Option<Secret>,
    /// What links and cursors are signed with. The same in every API task.
    pub(crate) link_signing_key: Option<Secret>,
}

impl Secrets {
    /// Adds a problem for each that is not set.
    pub(super) fn require(&self, problems: &mut Vec<Problem>) {
        let secrets = [("pepper", &self.pepper), ("link_signing_key", &self.link_signing_key)];
        for (key, _) in secrets.iter().filter(|(_, secret)| secret.is_none()) {
            let needed = format!(
                "at least {LEAST_BYTES} random bytes in SLUICEGATE_SECRETS__{}, or a file of them named by secrets.{key}_file",
                key.to_ascii_uppercase()
            );
            problems.push(Problem::missing(&format!("secrets.{key}"), needed));
        }
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Secrets {
    Secrets {
        pepper: secret(section, "pepper", "pepper_file"),
        link_signing_key: secret(section, "link_signing_key", "link_signing_key_file"),
    }
}

fn secret(section: &mut Section<'_>, key: &'static str, file_key: &'static str) -> Option<Secret> {
    let direct = section.secret_text(key);
    let file = section.optional(file_key, "a path of a file", |text| {
        (!text.is_empty()).then(|| Path(PathBuf::from(text)))
    });
    let (text, from) = match (direct, file) {
        (Some(_), Some(_)) => {
            let allowed = format!("one of them: {key} is set in the environment as well");
            section.refuse(file_key, "a second place", allowed);
            return None;
        }
        (None, None) => return None,
        (Some((text, origin)), None) => {
            section.note_secret(key, origin);
            (text.into_bytes(), key)
        }
        (None, Some(Path(path))) => match read_file(&path) {
            Ok(bytes) => (bytes, file_key),
            Err(error) => {
                section.refuse(
                    file_key,
                    format!("{} ({error})", path.display()),
                    "a file that can be read",
                );
                return None;
            }
        },
    };
    // Files and `echo` end with a newline that nobody means.
    let bytes = text.trim_ascii().to_vec();
    if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes.len()) {
        section.refuse_length(from, bytes.len(), LEAST_BYTES..=MOST_BYTES);
        return None;
    }
    Some(Secret(bytes))
}

fn read_file(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST_BYTES as u64 + 2).read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct Path(PathBuf);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Where a secret came from, for the printed configuration.
pub(super) fn print(key: &str, origin: &Origin) -> String {
    match origin {
        Origin::Env(name) => format!("# {key} is set by {name} and not shown"),
        _ => format!("# {key} is not shown"),
    }
}
