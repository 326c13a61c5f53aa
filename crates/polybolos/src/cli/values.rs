//! Values of flags: sizes, addresses, names. Each parser's error says what was expected.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, time::Duration};

use url::Url;

/// Longest scale that fits TPC-H's 32-bit keys in `tpchgen`.
const MAX_SCALE: f64 = 1_000.0;

/// A value is not what its flag expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("expected a size such as 512MB or 2GiB (units B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)")]
    Size,
    #[error("'{0}' is ambiguous: write {0}B for powers of 1000 or {0}iB for powers of 1024")]
    SizeUnit(String),
    #[error("a size must be at least one byte and below 2^63")]
    SizeRange,
    #[error("expected HOST:PORT, such as 127.0.0.1:7600 (no http://, no path)")]
    Address,
    #[error("the port must be a number from {least} to 65535")]
    Port { least: u16 },
    #[error("expected ID=HOST:PORT, such as 1=127.0.0.1:7600, with an ID above 0")]
    Member,
    #[error("replica {0} is named twice")]
    MemberTwice(u64),
    #[error("expected NAME=PATH, such as trips=data/trips.parquet")]
    Table,
    #[error("expected NAME=VALUE, such as zone=a")]
    Label,
    #[error("expected a scale above 0 and at most {MAX_SCALE}, such as 0.1 or 10")]
    Scale,
    #[error("expected a time such as 500ms, 30s, 2m or 1h, above 0 and at most a day")]
    Duration,
    #[error("expected a URL such as s3://bucket/prefix or file:///shared/folder")]
    Url,
}

/// A byte count, as `512MB` (powers of 1000) or `2GiB` (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            "k" | "m" | "g" | "t" => return Err(ValueError::SizeUnit(unit.trim().to_ascii_uppercase())),
            _ => return Err(ValueError::Size),
        };
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(factor),
            Err(_) => {
                let fraction = number.parse::<f64>().map_err(|_| ValueError::Size)?;
                Some((fraction * factor as f64) as u64)
            }
        };
        match bytes {
            Some(bytes) if bytes > 0 && bytes < 1 << 63 => Ok(Self { bytes }),
            _ => Err(ValueError::SizeRange),
        }
    }
}

fn host_port(text: &str, least_port: u16) -> Result<String, ValueError> {
    let (host, port) = text.trim().rsplit_once(':').ok_or(ValueError::Address)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c) || (bracketed && ":[]%".contains(c));
    if host.is_empty() || !host.chars().all(allowed) || port.is_empty() {
        return Err(ValueError::Address);
    }
    match port.parse::<u16>() {
        Ok(number) if number >= least_port => Ok(format!("{host}:{number}")),
        _ => Err(ValueError::Port { least: least_port }),
    }
}

/// The address of a server to reach.
pub(crate) fn address(text: &str) -> Result<String, ValueError> {
    host_port(text, 1)
}

/// An address to listen on; port 0 takes a free one.
pub(crate) fn listen_address(text: &str) -> Result<String, ValueError> {
    host_port(text, 0)
}

/// One replica of `--cluster`.
pub(crate) fn member(text: &str) -> Result<(u64, String), ValueError> {
    let (id, at) = text.trim().split_once('=').ok_or(ValueError::Member)?;
    match id.parse::<u64>() {
        Ok(id) if id > 0 => Ok((id, address(at)?)),
        _ => Err(ValueError::Member),
    }
}

/// All replicas of `--cluster`, by id.
pub(crate) fn members(list: &[(u64, String)]) -> Result<BTreeMap<u64, String>, ValueError> {
    let mut members = BTreeMap::new();
    for (id, at) in list {
        if members.insert(*id, at.clone()).is_some() {
            return Err(ValueError::MemberTwice(*id));
        }
    }
    Ok(members)
}

/// `--table NAME=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedTable {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl FromStr for NamedTable {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, path)) if !name.trim().is_empty() && !path.is_empty() => {
                Ok(Self { name: name.trim().to_owned(), path: PathBuf::from(path) })
            }
            _ => Err(ValueError::Table),
        }
    }
}

/// `--label NAME=VALUE`.
pub(crate) fn label(text: &str) -> Result<(String, String), ValueError> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(ValueError::Label),
    }
}

/// `--shuffle-durable`.
pub(crate) fn url(text: &str) -> Result<Url, ValueError> {
    Url::parse(text.trim()).map_err(|_| ValueError::Url)
}

/// `--scale`.
pub(crate) fn scale(text: &str) -> Result<f64, ValueError> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= MAX_SCALE => Ok(scale),
        _ => Err(ValueError::Scale),
    }
}

/// Longest time that a flag may say.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// `500ms`, `30s`, `2m`, `1h`. A number alone would leave its unit to the reader's memory.
pub(crate) fn duration(text: &str) -> Result<Duration, ValueError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or(ValueError::Duration)?;
    let (number, unit) = text.split_at(end);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(ValueError::Duration),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    let duration = ms.map(Duration::from_millis).filter(|time| !time.is_zero() && *time <= MAX_DURATION);
    duration.ok_or(ValueError::Duration)
}

/// As [`duration`], or `0`.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, ValueError> {
    if text.trim() == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_or_binary_and_never_guessed() {
        let bytes = |text: &str| text.parse::<Size>().map(|size| size.bytes);
        assert_eq!(bytes("512MB"), Ok(512_000_000));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(bytes(" 1.5 kib "), Ok(1536));
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("1B"), Ok(1));
        assert_eq!(bytes("2g"), Err(ValueError::SizeUnit("G".into())));
        assert_eq!(bytes("lots"), Err(ValueError::Size));
        assert_eq!(bytes("MB"), Err(ValueError::Size));
        assert_eq!(bytes("1.2.3MB"), Err(ValueError::Size));
        assert_eq!(bytes("-1MB"), Err(ValueError::Size));
        assert_eq!(bytes("0"), Err(ValueError::SizeRange));
        assert_eq!(bytes("99999999TiB"), Err(ValueError::SizeRange));
        let message = ValueError::SizeUnit("G".into()).to_string();
        assert!(message.contains("GB") && message.contains("GiB"), "{message}");
    }

    #[test]
    fn addresses_are_host_and_port_only() {
        assert_eq!(address("127.0.0.1:7600"), Ok("127.0.0.1:7600".into()));
        assert_eq!(address(" db-1.local:1 "), Ok("db-1.local:1".into()));
        assert_eq!(address("[::1]:7600"), Ok("[::1]:7600".into()));
        assert_eq!(listen_address("0.0.0.0:0"), Ok("0.0.0.0:0".into()));
        assert_eq!(address("127.0.0.1:0"), Err(ValueError::Port { least: 1 }));
        assert_eq!(address("h:70000"), Err(ValueError::Port { least: 1 }));
        for bad in ["", "host", ":80", "host:", "http://host:80", "::1:80", "a b:80"] {
            assert_eq!(address(bad), Err(ValueError::Address), "{bad}");
        }
    }

    #[test]
    fn members_have_distinct_ids() {
        assert_eq!(member("2=h:1"), Ok((2, "h:1".into())));
        for bad in ["h:1", "0=h:1", "x=h:1"] {
            assert_eq!(member(bad), Err(ValueError::Member), "{bad}");
        }
        let twice = [(1, "a:1".to_owned()), (1, "b:1".to_owned())];
        assert_eq!(members(&twice), Err(ValueError::MemberTwice(1)));
    }

    #[test]
    fn tables_labels_and_scales() {
        let table: NamedTable = "t=a=b.csv".parse().unwrap();
        assert_eq!((table.name.as_str(), table.path), ("t", PathBuf::from("a=b.csv")));
        assert_eq!("t".parse::<NamedTable>(), Err(ValueError::Table));
        assert_eq!(label("zone=a"), Ok(("zone".into(), "a".into())));
        assert_eq!(label("=a"), Err(ValueError::Label));
        assert_eq!(scale("0.01"), Ok(0.01));
        for bad in ["0", "-1", "NaN", "inf", "5000", "one"] {
            assert_eq!(scale(bad), Err(ValueError::Scale), "{bad}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        let ms = |text: &str| duration(text).map(|time| time.as_millis());
        assert_eq!(
            [ms("500ms"), ms("30s"), ms("2m"), ms(" 1h ")],
            [Ok(500), Ok(30_000), Ok(120_000), Ok(3_600_000)]
        );
        for bad in ["30", "s", "", "0s", "1.5s", "-1s", "30 s", "25h", "99999999999999999999h"] {
            assert_eq!(ms(bad), Err(ValueError::Duration), "{bad}");
        }
    }
}
