//! Points in time as `--to-datetime` and `--by-duration` take them.

use regex::{Captures, Regex};

const MS_PER_SECOND: i64 = 1000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Reads `2026-11-23T18:00:00.000`, with `Z` or an offset such as `+01:00` after it, as milliseconds since 1970.
///
/// Without an offset it is UTC. Errors in Java's words when it is no such date.
pub(super) fn datetime_ms(text: &str) -> Result<i64, String> {
    let Some((_, time)) = text.split_once('T').filter(|(_, time)| !time.is_empty()) else {
        let message =
            "Error parsing timestamp. It does not contain a 'T' according to ISO8601 format";
        return Err(format!("java.text.ParseException: {message}"));
    };
    let has_zone = time.contains(['+', '-', 'Z']);
    let text = if has_zone {
        text.to_owned()
    } else {
        format!("{text}Z")
    };
    let unparseable = || format!("java.text.ParseException: Unparseable date: \"{text}\"");
    let pattern = r"^(\d{1,6})-(\d{1,2})-(\d{1,2})T(\d{1,2}):(\d{1,2}):(\d{1,2})\.(\d{1,9})(?:Z|([+-])(\d{2}):?(\d{2})?)$";
    let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
    let fields = pattern.captures(&text).ok_or_else(unparseable)?;
    milliseconds(&fields).ok_or_else(unparseable)
}

/// Adds up the fields; `None` where one of them is out of its range.
fn milliseconds(fields: &Captures<'_>) -> Option<i64> {
    let field = |index: usize| match fields.get(index) {
        Some(digits) => digits.as_str().parse::<i64>().ok(),
        None => Some(0),
    };
    let within = |index, least, most| field(index).filter(|value| (least..=most).contains(value));
    let (year, month) = (field(1)?, within(2, 1, 12)?);
    let day = within(3, 1, days_of(year, month))?;
    let (hour, minute, second) = (within(4, 0, 23)?, within(5, 0, 59)?, within(6, 0, 59)?);
    let (zone_hour, zone_minute) = (within(9, 0, 23)?, within(10, 0, 59)?);
    let zone = (zone_hour * 60 + zone_minute) * 60;
    let east = fields.get(8).is_some_and(|sign| sign.as_str() == "+");
    let local = (hour * 60 + minute) * 60 + second;
    let seconds = if east { local - zone } else { local + zone };
    let days = days_before_year(year) + days_before_month(year, month) + day - 1;
    // Java takes the digits after the point for milliseconds, however many there are.
    Some((days * SECONDS_PER_DAY + seconds) * MS_PER_SECOND + within(7, 0, 999)?)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_before_month(year: i64, month: i64) -> i64 {
    (1..month).map(|earlier| days_of(year, earlier)).sum()
}

/// Counts the days from 1970 to the first of a year.
fn days_before_year(year: i64) -> i64 {
    let days_to = |year: i64| {
        let last = year - 1;
        year * 365 + last.div_euclid(4) - last.div_euclid(100) + last.div_euclid(400)
    };
    days_to(year) - days_to(1970)
}

/// Reads a duration such as `P1DT2H3M4.5S` in milliseconds.
///
/// Errors in Java's words when it is none.
pub(super) fn duration_ms(text: &str) -> Result<i64, String> {
    let unparseable = || "Text cannot be parsed to a Duration".to_owned();
    let pattern = r"(?i)^([+-]?)P(?:([+-]?\d+)D)?(T(?:([+-]?\d+)H)?(?:([+-]?\d+)M)?(?:([+-]?\d+)(?:[.,](\d{0,9}))?S)?)?$";
    let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
    let fields = pattern.captures(text).ok_or_else(unparseable)?;
    duration(&fields).ok_or_else(unparseable)
}

/// Adds up the fields; `None` where there is none, or the sum is too large.
fn duration(fields: &Captures<'_>) -> Option<i64> {
    let units = [(2, SECONDS_PER_DAY), (4, 3600), (5, 60), (6, 1)];
    let given = units.iter().any(|(index, _)| fields.get(*index).is_some());
    // A `T` with nothing after it is an error to Java.
    let is_cut_short = fields.get(3).is_some_and(|time| time.len() == 1);
    if !given || is_cut_short {
        return None;
    }
    let mut sum: i64 = 0;
    for (index, unit_s) in units {
        let Some(digits) = fields.get(index) else {
            continue;
        };
        let amount: i64 = digits.as_str().parse().ok()?;
        let amount_ms = amount.checked_mul(unit_s)?.checked_mul(MS_PER_SECOND)?;
        sum = sum.checked_add(amount_ms)?;
    }
    let fraction = fields.get(7).map_or("", |digits| digits.as_str());
    let fraction_ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let is_before = fields
        .get(6)
        .is_some_and(|seconds| seconds.as_str().starts_with('-'));
    sum = sum.checked_add(if is_before { -fraction_ms } else { fraction_ms })?;
    let is_negated = fields.get(1).is_some_and(|sign| sign.as_str() == "-");
    if is_negated {
        sum.checked_neg()
    } else {
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_in_utc_unless_it_says_otherwise() {
        assert_eq!(datetime_ms("1970-01-01T00:00:00.000"), Ok(0));
        assert_eq!(datetime_ms("1969-12-31T23:59:59.999Z"), Ok(-1));
        // By `date -d … +%s`.
        assert_eq!(
            datetime_ms("2024-02-29T12:34:56.789"),
            Ok(1_709_210_096_789)
        );
        assert_eq!(
            datetime_ms("2100-03-01T00:00:00.000Z"),
            Ok(4_107_542_400_000)
        );
        assert_eq!(
            datetime_ms("2026-11-23T18:00:00.000+02:30"),
            Ok(1_795_447_800_000)
        );
        assert_eq!(
            datetime_ms("2026-11-23T18:00:00.000-0230"),
            Ok(1_795_465_800_000)
        );
        assert_eq!(
            datetime_ms("2026-11-23T18:00:00.5+01"),
            Ok(1_795_453_200_005)
        );
    }

    #[test]
    fn what_is_no_date_is_refused_in_javas_words() {
        assert_eq!(
            datetime_ms("2026-11-23").unwrap_err(),
            "java.text.ParseException: Error parsing timestamp. It does not contain a 'T' according to ISO8601 format"
        );
        for text in [
            "2026-11-23T18:00:00",
            "2026-13-01T00:00:00.000",
            "2023-02-29T00:00:00.000",
            "2026-11-23T24:00:00.000",
            "2026-11-23T18:00:00.1000",
            "todayTnow",
        ] {
            let expected = format!("java.text.ParseException: Unparseable date: \"{text}Z\"");
            assert_eq!(datetime_ms(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_duration_has_days_hours_minutes_and_seconds() {
        let hour = 3_600_000;
        assert_eq!(duration_ms("P1D"), Ok(24 * hour));
        assert_eq!(duration_ms("pt1h30m"), Ok(hour * 3 / 2));
        assert_eq!(duration_ms("P1DT-2H0.25S"), Ok(22 * hour + 250));
        assert_eq!(duration_ms("-PT1,5S"), Ok(-1500));
        assert_eq!(duration_ms("PT-1.5S"), Ok(-1500));
        assert_eq!(duration_ms("PT0S"), Ok(0));
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "1D",
            "P1H",
            "PX",
            "P999999999999999999D",
        ] {
            let expected = Err("Text cannot be parsed to a Duration".to_owned());
            assert_eq!(duration_ms(text), expected, "{text}");
        }
    }
}
