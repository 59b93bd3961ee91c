//! "Did you mean": the known word that is closest to a mistyped one.

/// The closest of `known` words, if one is close enough to have been meant.
pub(super) fn closest<'k>(
    found: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let allowed = (found.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|word| (distance(found, word), word))
        .filter(|(distance, word)| *distance <= allowed || same_letters(found, word))
        .min()
        .map(|(_, word)| word)
}

/// `log-level` and `logLevel` mean `log_level`.
fn same_letters(a: &str, b: &str) -> bool {
    let letters = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    letters(a) == letters(b)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_is_suggested_only_when_it_is_close() {
        let known = ["listen", "public_url", "log_level", "linger"];
        assert_eq!(closest("lisetn", known), Some("listen"));
        assert_eq!(closest("lsten", known), Some("listen"));
        assert_eq!(closest("log-level", known), Some("log_level"));
        assert_eq!(closest("publicUrl", known), Some("public_url"));
        assert_eq!(closest("colour", known), None);
    }
}
