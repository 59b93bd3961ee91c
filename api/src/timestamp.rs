//! Times on the wire: RFC 3339 in UTC with milliseconds, to and from epoch milliseconds. Knows no
//! clock.

/// Milliseconds of 0001-01-01T00:00:00Z and of the last one of 9999: what RFC 3339 can write.
pub(crate) const RANGE_MS: std::ops::RangeInclusive<i64> =
    -62_135_596_800_000..=253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;

/// `2026-11-23T14:42:08.123Z`. Outside of the years that RFC 3339 can write, the year gets a sign
/// and six digits or more.
pub(crate) fn format(ms: i64) -> String {
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    // Small and without a sign: what is divided often.
    let small = |number: i64| u32::try_from(number).unwrap_or(0);
    let in_day = small(ms.rem_euclid(DAY_MS));
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1_000 % 60, in_day % 1_000);
    let shown = small(year.rem_euclid(10_000));
    // Two are written for every message that is read, and so without formatting.
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        (0, shown / 100),
        (2, shown % 100),
        (5, small(month)),
        (8, small(day)),
        (11, hour),
        (14, minute),
        (17, second),
        (20, milli / 10),
    ];
    for (at, part) in parts {
        text[at] = digit(part / 10);
        text[at + 1] = digit(part % 10);
    }
    text[22] = digit(milli % 10);
    let text = str::from_utf8(&text).unwrap_or_default();
    match year {
        0..=9999 => text.to_owned(),
        year => format!("{year:+07}{}", &text[4..]),
    }
}

/// The sign of a number below 10.
fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

/// Epoch milliseconds as digits with an optional sign, or an RFC 3339 time with any offset. Digits
/// beyond the millisecond are cut. `None` when it is neither, or outside of the years 1 to 9999.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let ms = if all_digits { text.parse().ok()? } else { parse_rfc3339(text)? };
    RANGE_MS.contains(&ms).then_some(ms)
}

fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !text.is_ascii() {
        return None;
    }
    let shape = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    if shape.iter().any(|(at, sign)| &text[*at..*at + 1] != *sign)
        || !matches!(bytes[10], b'T' | b't' | b' ')
    {
        return None;
    }
    let field = |from: usize, to: usize| number(&text[from..to]);
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    // 60 is a leap second: read as the first moment after it.
    if hour > 23
        || minute > 59
        || second > 60
        || !(1..=12).contains(&month)
        || day < 1
        || day > month_days(year, month)
    {
        return None;
    }
    let (fraction_ms, rest) = fraction(&text[19..])?;
    let local = days(year, month, day) * DAY_MS
        + hour * 3_600_000
        + minute * 60_000
        + second * 1_000
        + fraction_ms;
    Some(local - offset_ms(rest)?)
}

/// The milliseconds of a leading `.123456`, and what follows it.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    if end == 0 {
        return None;
    }
    let padded: String = rest[..end].chars().chain("00".chars()).take(3).collect();
    Some((number(&padded)?, &rest[end..]))
}

/// `Z`, or `+hh:mm` and `-hh:mm`, as milliseconds ahead of UTC.
fn offset_ms(text: &str) -> Option<i64> {
    if text == "Z" || text == "z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        // A `+` that a client forgot to encode in a query arrives as a space.
        b'+' | b' ' => 1,
        b'-' => -1,
        _ => return None,
    };
    if text.len() != 6 || &text[3..4] != ":" {
        return None;
    }
    let (hours, minutes) = (number(&text[1..3])?, number(&text[4..6])?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn number(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn month_days(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. A year is taken to begin in March, so that the leap day is its last day.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let march_year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    march_year * 365 + march_year.div_euclid(4) - march_year.div_euclid(100)
        + march_year.div_euclid(400)
        + day_of_year
        - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(day_number: i64) -> (i64, i64, i64) {
    let shifted = day_number + 719_468;
    let (era, in_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let day_of_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_moments_read_and_write_alike() {
        let moments = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_517_443_200_123, "2018-02-01T00:00:00.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (*RANGE_MS.start(), "0001-01-01T00:00:00.000Z"),
            (*RANGE_MS.end(), "9999-12-31T23:59:59.999Z"),
        ];
        for (ms, text) in moments {
            assert_eq!(format(ms), text);
            assert_eq!(parse(text), Some(ms), "{text}");
            assert_eq!(parse(&ms.to_string()), Some(ms));
        }
    }

    #[test]
    fn every_day_of_eight_centuries_goes_round() {
        for day in -200_000..100_000 {
            let (year, month, dom) = civil(day);
            assert_eq!(days(year, month, dom), day);
        }
    }

    #[test]
    fn offsets_and_fractions_are_understood() {
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse("1970-01-01T01:00:00 01:00"), Some(0));
        assert_eq!(parse("1969-12-31t18:30:00.5-05:30"), Some(500));
        assert_eq!(parse("1970-01-01 00:00:00.123999Z"), Some(123));
        assert_eq!(parse("2016-12-31T23:59:60Z"), parse("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn anything_else_is_refused() {
        let bad = [
            "",
            "-",
            "yesterday",
            "2026-11-23",
            "2026-11-23T14:42:08",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T14:42:08.Z",
            "2026-11-23T14:42:08+1:00",
            "2026-11-23T14:42:08Zx",
            "0000-01-01T00:00:00Z",
            "99999999999999999999",
            "253402300800000",
            "２０26-11-23T14:42:08Z",
            "+1",
        ];
        for text in bad {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_year_beyond_rfc_3339_is_still_written() {
        assert_eq!(format(RANGE_MS.end() + 1), "+010000-01-01T00:00:00.000Z");
    }
}
