//! Times on the command line and in tables. All are UTC, as in reports and receipts: the machine's
//! zone is not asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// What `--since` and `--until` accept, for their help and for errors.
pub const FORMS: &str = "use today, yesterday, an age such as 90m, 12h or 7d, a date (2026-11-29), or a time \
                         (2026-11-29T18:30), in UTC";

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time as [`FORMS`] says, in milliseconds since 1970.
pub fn parse(text: &str, now_ms: i64) -> Option<i64> {
    let midnight = now_ms - now_ms.rem_euclid(DAY_MS);
    match text {
        "now" => return Some(now_ms),
        "today" => return Some(midnight),
        "yesterday" => return Some(midnight - DAY_MS),
        _ => {}
    }
    if let Some(age) = age_ms(text) {
        return now_ms.checked_sub(age);
    }
    date_ms(text)
}

/// A date, or a time in UTC.
fn date_ms(text: &str) -> Option<i64> {
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        _ => text.to_owned(),
    };
    let time = humantime::parse_rfc3339_weak(&full).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// What `--expires` accepts, for errors.
pub const FUTURE_FORMS: &str = "use a time from now such as 12h, 90d or 52w, a date (2027-01-31), or a time \
                                (2027-01-31T18:30), in UTC, that is not over";

/// A time to come as [`FUTURE_FORMS`] says, in milliseconds since 1970.
pub fn parse_future(text: &str, now_ms: i64) -> Option<i64> {
    let at = match age_ms(text) {
        Some(ahead) => now_ms.checked_add(ahead)?,
        None => date_ms(text)?,
    };
    (at > now_ms).then_some(at)
}

fn age_ms(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return None,
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse::<i64>().ok()?.checked_mul(seconds * 1000)).flatten()
}

/// A time in milliseconds since 1970 as text, to the second.
pub fn show(ms: i64) -> String {
    let Ok(since) = u64::try_from(ms) else { return "-".to_owned() };
    // the text of later years is longer, and such a time is nonsense
    let since = Duration::from_millis(since.min(253_402_300_799_000));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string().replace('T', " ").trim_end_matches('Z').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_time_is_understood() {
        // 2026-11-30 15:40:00
        let now = 1_796_053_200_000;
        let at = |text: &str| parse(text, now).map(show);
        let is = |text: &str, expected: &str| assert_eq!(at(text).as_deref(), Some(expected), "{text}");
        is("now", "2026-11-30 15:40:00");
        is("today", "2026-11-30 00:00:00");
        is("yesterday", "2026-11-29 00:00:00");
        is("90m", "2026-11-30 14:10:00");
        is("12h", "2026-11-30 03:40:00");
        is("7d", "2026-11-23 15:40:00");
        is("2w", "2026-11-16 15:40:00");
        is("30s", "2026-11-30 15:39:30");
        is("2026-11-29", "2026-11-29 00:00:00");
        is("2026-11-29T18:30", "2026-11-29 18:30:00");
        is("2026-11-29 18:30", "2026-11-29 18:30:00");
        is("2026-11-29T18:30:05Z", "2026-11-29 18:30:05");
        for text in ["", "d", "x", "-1d", "1y", "2026-13-01", "yesterday ", "é", "99999999999999999999d"] {
            assert_eq!(at(text), None, "{text}");
        }
        assert_eq!((show(-1).as_str(), show(i64::MAX).as_str()), ("-", "9999-12-31 23:59:59"));
    }

    #[test]
    fn an_end_is_a_time_to_come() {
        let now = 1_796_053_200_000;
        let at = |text: &str| parse_future(text, now).map(show);
        assert_eq!(at("90d").as_deref(), Some("2027-02-28 15:40:00"));
        assert_eq!(at("1s").as_deref(), Some("2026-11-30 15:40:01"));
        assert_eq!(at("2027-01-31").as_deref(), Some("2027-01-31 00:00:00"));
        assert_eq!(at("2026-11-30T18:30").as_deref(), Some("2026-11-30 18:30:00"));
        for over in ["0s", "2026-11-29", "now", "yesterday", "soon", "", "99999999999999999w"] {
            assert_eq!(at(over), None, "{over}");
        }
    }
}
