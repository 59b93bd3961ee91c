//! Writes a configuration as it is understood: TOML, with where each value came from.

use processor::integration::Integration;
use serde::Serialize;

use super::context::Effective;
use super::problem::Origin;
use super::secrets;

#[derive(Serialize)]
struct Written<'i> {
    integrations: &'i [Integration],
}

pub(super) fn print(effective: &[Effective], integrations: &[Integration]) -> String {
    // A table that was read in between must not split the table it stands in.
    let mut sections: Vec<&str> = Vec::new();
    for Effective { section, .. } in effective {
        if !sections.contains(&section.as_str()) {
            sections.push(section);
        }
    }
    let mut text = String::new();
    for section in sections {
        text.push_str(&header(section));
        effective.iter().filter(|e| e.section == section).for_each(|e| text.push_str(&line(e)));
    }
    if !integrations.is_empty() {
        // Integrations were read from TOML, so they can be written as TOML.
        let written = toml::to_string(&Written { integrations }).unwrap_or_default();
        text.push_str(&format!("\n{written}"));
    }
    text.trim_start().to_owned()
}

fn line(effective: &Effective) -> String {
    let Effective { section, key, value, origin } = effective;
    let line = match value {
        Some(value) => format!("{key} = {value}"),
        None if section == "secrets" && *origin != Origin::Default => secrets::print(key, origin),
        None => format!("# {key} is not set"),
    };
    let from = match origin {
        Origin::Env(name) if value.is_some() => format!("  # {name}"),
        Origin::Default | Origin::Env(_) => String::new(),
        Origin::File { line, .. } => format!("  # line {line}"),
        Origin::Flag(_) => "  # --set".to_owned(),
    };
    format!("{line}{from}\n")
}

/// `[api.limits]`, or `[[streams]]` for each table of a list.
fn header(path: &str) -> String {
    match path.split_once('[') {
        Some((list, _)) => format!("\n[[{list}]]\n"),
        None => format!("\n[{path}]\n"),
    }
}
