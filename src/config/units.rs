//! Quantities: numbers with a unit.
//!
//! The name of a quantity setting ends with its unit, and it has two spellings:
//!
//! ```text
//!   patience_ms = 120000      a plain number: the unit is in the name
//!   patience = "2min"         a text with a unit: the name has none
//! ```
//!
//! A text with a unit is also valid with the long name. A plain number with the short name is
//! refused, because its unit would be a guess. Conversions are exact: a value finer than the
//! setting's unit is refused, not rounded.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Seconds,
    Bytes,
}

/// Units of time, in nanoseconds.
const TIMES: &[(&str, u128)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("sec", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Units of size, in bytes. A single letter is binary, as in systemd's units and in the docker
/// command.
const SIZES: &[(&str, u128)] = &[
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

impl Unit {
    /// The unit at the end of a setting's name, and the name without it.
    pub fn of(name: &str) -> Option<(Unit, &str)> {
        let endings = [("_ms", Unit::Milliseconds), ("_s", Unit::Seconds), ("_bytes", Unit::Bytes)];
        endings.into_iter().find_map(|(ending, unit)| Some((unit, name.strip_suffix(ending)?)))
    }

    /// The valid units of a text, for error messages.
    pub fn names(self) -> &'static str {
        match self {
            Unit::Milliseconds | Unit::Seconds => "ms, s, min, h or d",
            Unit::Bytes => "KiB, MiB, GiB (1024), kB, MB, GB (1000) or B",
        }
    }

    /// An example for error messages.
    pub fn example(self) -> &'static str {
        match self {
            Unit::Milliseconds => "\"1500ms\"",
            Unit::Seconds => "\"90s\"",
            Unit::Bytes => "\"128MiB\"",
        }
    }

    /// What a plain number is likely to have been meant as: small ones are seconds and MiB, others
    /// are of the unit itself.
    pub fn guess(self, number: u64) -> String {
        match self {
            Unit::Milliseconds if number < 1000 => format!("\"{number}s\""),
            Unit::Milliseconds => format!("\"{number}ms\""),
            Unit::Seconds => format!("\"{number}s\""),
            Unit::Bytes if number < 1 << 20 => format!("\"{number}MiB\""),
            Unit::Bytes => format!("{:?}", self.show(number)),
        }
    }

    /// One of this unit, in nanoseconds or bytes.
    fn base(self) -> u128 {
        match self {
            Unit::Milliseconds => 1_000_000,
            Unit::Seconds => 1_000_000_000,
            Unit::Bytes => 1,
        }
    }

    fn known(self) -> &'static [(&'static str, u128)] {
        match self {
            Unit::Milliseconds | Unit::Seconds => TIMES,
            Unit::Bytes => SIZES,
        }
    }

    /// Parses a text such as `"1.5 GiB"` or `"1min 30s"` into a number of this unit.
    ///
    /// # Errors
    /// A message that continues the text itself.
    pub fn parse(self, text: &str) -> Result<u64, String> {
        let mut rest = text.trim();
        let mut sum = 0_u128;
        if rest.is_empty() {
            return Err(format!("is empty; use a number and a unit, such as {}", self.example()));
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(rest.len());
            let (number, behind) = rest.split_at(end);
            let behind = behind.trim_start();
            let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
            let (name, behind) = behind.split_at(end);
            if number.is_empty() {
                return Err(format!("is not a number with a unit; use one, such as {}", self.example()));
            }
            if name.is_empty() {
                return Err(format!("has no unit; use one of {}, such as {}", self.names(), self.example()));
            }
            let lower = name.to_ascii_lowercase();
            let Some((_, size)) = self.known().iter().find(|(known, _)| *known == lower) else {
                return Err(format!("has the unit {name:?}; use one of {}", self.names()));
            };
            let part = times(number, *size).ok_or_else(|| {
                format!("has {number:?}, which is not a number with at most 9 decimals that is exact in this unit")
            })?;
            sum = sum.saturating_add(part);
            rest = behind.trim_start();
        }
        if !sum.is_multiple_of(self.base()) {
            let finest = if self == Unit::Milliseconds { "1ms" } else { "1s" };
            return Err(format!("is finer than {finest}, the unit of this setting"));
        }
        // the largest integer of TOML
        u64::try_from(sum / self.base()).ok().filter(|all| *all <= i64::MAX as u64).ok_or("is too large".to_owned())
    }

    /// The shortest text that [`Unit::parse`] converts back to `number`.
    pub fn show(self, number: u64) -> String {
        let names: &[&str] = match self {
            Unit::Milliseconds | Unit::Seconds => &["d", "h", "min", "s", "ms"],
            Unit::Bytes => &["TiB", "GiB", "MiB", "KiB", "B"],
        };
        let whole = u128::from(number) * self.base();
        let fits = |name: &&&str| {
            let lower = name.to_ascii_lowercase();
            self.known().iter().any(|(known, size)| *known == lower && whole.is_multiple_of(*size) && whole > 0)
        };
        let smallest = match self {
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::Bytes => "B",
        };
        let name = names.iter().find(fits).copied().unwrap_or(smallest);
        let lower = name.to_ascii_lowercase();
        let size = self.known().iter().find(|(known, _)| *known == lower).map_or(1, |(_, size)| *size);
        format!("{}{name}", whole / size)
    }
}

/// Multiplies a decimal number by an integer; `None` if the number is invalid or the product is not
/// an integer.
fn times(number: &str, size: u128) -> Option<u128> {
    let plain = number.replace('_', "");
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?;
    if whole.is_empty() || plain.ends_with('.') {
        return None;
    }
    let all: u128 = format!("{whole}{fraction}").parse().ok()?;
    let product = all.checked_mul(size)?;
    let scale = 10_u128.pow(digits);
    (product % scale == 0).then_some(product / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_a_unit_is_converted_exactly() {
        for (unit, text, number) in [
            (Unit::Bytes, "128MiB", 128 << 20),
            (Unit::Bytes, "1.5 GiB", 3 << 29),
            (Unit::Bytes, "512m", 512 << 20),
            (Unit::Bytes, "2 kB", 2000),
            (Unit::Bytes, "0B", 0),
            (Unit::Milliseconds, "10s", 10_000),
            (Unit::Milliseconds, "1.5s", 1500),
            (Unit::Milliseconds, "1min 30s", 90_000),
            (Unit::Milliseconds, "1_000ms", 1000),
            (Unit::Seconds, "1h", 3600),
            (Unit::Seconds, "0.5min", 30),
        ] {
            assert_eq!(unit.parse(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn an_invalid_quantity_is_an_error_with_a_reason() {
        for (unit, text, expected) in [
            (Unit::Bytes, "10s", "KiB, MiB, GiB"),
            (Unit::Bytes, "12", "has no unit"),
            (Unit::Bytes, "much", "not a number"),
            (Unit::Bytes, "1.0000000001KiB", "at most 9 decimals"),
            (Unit::Bytes, "99999999TiB", "too large"),
            (Unit::Seconds, "1500ms", "finer than 1s"),
            (Unit::Milliseconds, "10 parsecs", "parsecs"),
            (Unit::Milliseconds, "-1s", "not a number"),
            (Unit::Milliseconds, "1.s", "at most 9 decimals"),
            (Unit::Milliseconds, "", "is empty"),
        ] {
            let error = unit.parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_shown_quantity_can_be_parsed_again() {
        for unit in [Unit::Bytes, Unit::Milliseconds, Unit::Seconds] {
            for number in [0, 1, 7, 1000, 1024, 1500, 60_000, 86_400_000, 512 << 20, i64::MAX as u64] {
                assert_eq!(unit.parse(&unit.show(number)), Ok(number), "{unit:?} {number}");
            }
        }
        assert_eq!(Unit::Milliseconds.show(120_000), "2min");
        assert_eq!(Unit::Bytes.show(512 << 20), "512MiB");
    }
}
