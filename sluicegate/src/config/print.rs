//! Writes a configuration as it is understood: TOML, with where each value came from.

use processor::integration::Integration;
use serde::Serialize;

use super::problem::Origin;
use super::section::Effective;
use super::secrets;

#[derive(Serialize)]
struct Written<'i> {
    integrations: &'i [Integration],
}

pub(super) fn print(effective: &[Effective], integrations: &[Integration]) -> String {
    let mut text = String::new();
    let mut section = None;
    for Effective { section: path, key, value, origin } in effective {
        if section != Some(path) {
            section = Some(path);
            text.push_str(&header(path));
        }
        let line = match value {
            Some(value) => format!("{key} = {value}"),
            None if path == "secrets" && *origin != Origin::Default => secrets::print(key, origin),
            None => format!("# {key} is not set"),
        };
        let from = match origin {
            Origin::Default => String::new(),
            Origin::File { line, .. } => format!("  # line {line}"),
            Origin::Env(name) => format!("  # {name}"),
            Origin::Flag(_) => "  # --set".to_owned(),
        };
        text.push_str(&format!("{line}{from}\n"));
    }
    if !integrations.is_empty() {
        // Integrations were read from TOML, so they can be written as TOML.
        let written = toml::to_string(&Written { integrations }).unwrap_or_default();
        text.push_str(&format!("\n{written}"));
    }
    text
}

/// `[api.limits]`, or `[[streams]]` for each table of a list.
fn header(path: &str) -> String {
    match path.split_once('[') {
        Some((list, _)) => format!("\n[[{list}]]\n"),
        None => format!("\n[{path}]\n"),
    }
}
