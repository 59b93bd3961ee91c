//! What of the API's configuration means nothing where something else brings its requests: listening, connections, streams and the
//! operators' port.

use super::context::Effective;
use super::problem::Origin;

/// Tables of which no key means anything, with what is in them.
const TABLES: [&str; 2] = ["api.tls", "operators"];

/// Other keys, with their table.
const KEYS: [(&str, &[&str]); 2] = [
    ("api", &["listen", "operators_listen", "transport"]),
    (
        "api.limits",
        &[
            "handshake_timeout",
            "header_read_timeout",
            "idle_timeout",
            "max_connection_age",
            "max_connections",
            "max_streams_per_connection",
            "max_tail_age",
            "max_tail_bytes",
            "max_tails",
            "shutdown_deadline",
            "write_stall_timeout",
        ],
    ),
];

/// Those of them that somebody set.
pub(super) fn in_vain(effective: &[Effective]) -> Vec<String> {
    let set = effective.iter().filter(|e| e.origin != Origin::Default && means_nothing(e));
    set.map(|e| format!("{}.{}", e.section, e.key)).collect()
}

fn means_nothing(effective: &Effective) -> bool {
    let Effective { section, key, .. } = effective;
    TABLES.iter().any(|table| section.starts_with(table))
        || KEYS.iter().any(|(table, keys)| table == section && keys.contains(key))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn only_what_somebody_set_and_means_nothing_is_named() {
        let in_vain = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            let config = Config::load(None, std::iter::empty(), &set).unwrap();
            config.said_in_vain_to_a_function()
        };
        assert_eq!(in_vain(&[]), Vec::<String>::new());
        let means_something = [
            ("api.hsts", "false"),
            ("api.limits.max_wait", "5s"),
            ("telemetry.log_level", "debug"),
        ];
        assert_eq!(in_vain(&means_something), Vec::<String>::new());
        let nothing = [
            ("operators.listen", "127.0.0.1:0"),
            ("api.listen", "127.0.0.1:0"),
            ("api.limits.max_tails", "5"),
        ];
        assert_eq!(in_vain(&nothing), ["operators.listen", "api.listen", "api.limits.max_tails"]);
    }
}
