//! Durations, sizes and shares as people write them.

use std::time::Duration;

use loadtest::produce::Size;

/// `250ms`, `10s`, `5m`, `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => {
            return Err("a duration is a number and ms, s, m or h, such as 250ms or 10s".to_owned());
        }
    };
    let seconds = number.parse::<f64>().map_err(|e| e.to_string())? * scale;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// `512`, `512B`, `64KiB`, `1MiB`, `10kB`, `5MB`.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "" | "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        _ => return Err("a size is a number and B, KiB, MiB, kB or MB, such as 1KiB".to_owned()),
    };
    let bytes = number.parse::<f64>().map_err(|e| e.to_string())? * scale;
    if bytes.is_finite() && (0.0..=1e12).contains(&bytes) {
        return Ok(bytes as usize);
    }
    Err("out of range".to_owned())
}

/// `1KiB`, or `200..10KiB` for a range.
pub(crate) fn size(text: &str) -> Result<Size, String> {
    match text.split_once("..") {
        None => Ok(Size::Fixed(bytes(text)?)),
        Some((low, high)) => Ok(Size::Uniform(bytes(low)?, bytes(high)?)),
    }
}

/// `0.01` or `1%`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    let share = number.parse::<f64>().map_err(|e| e.to_string())? * scale;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("a share is 0 to 1, or 0% to 100%".to_owned())
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_and_shares_are_read_as_people_write_them() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5_400)));
        assert!(duration("10").is_err() && duration("-1s").is_err() && duration("s").is_err());
        assert_eq!(bytes("1KiB"), Ok(1024));
        assert_eq!(bytes("10kB"), Ok(10_000));
        assert!(bytes("1GiBB").is_err() && bytes("-5").is_err());
        assert_eq!(size("200..1KiB"), Ok(Size::Uniform(200, 1024)));
        assert_eq!(share("1%"), Ok(0.01));
        assert!(share("101%").is_err() && share("x").is_err());
    }
}
