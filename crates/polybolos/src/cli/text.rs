//! Plain text for people: aligned columns, bytes, counts, times.

use arrow::{array::TimestampMillisecondArray, util::display::array_value_to_string};

/// Aligned columns below their headers, two spaces apart; columns of numbers are aligned to the right.
pub(crate) fn columns(headers: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headers.get(column).map(|header| header.chars().count())).max().unwrap_or(0)
    };
    let numeric = |column: usize| {
        let mut cells =
            rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty()).peekable();
        cells.peek().is_some()
            && cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit()) && cell.len() < 16)
    };
    let shape: Vec<(usize, bool)> =
        (0..headers.len()).map(|column| (width(column), numeric(column))).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, (width, right)) in cells.zip(&shape) {
            let padding = " ".repeat(width - cell.chars().count().min(*width));
            let (before, after) = if *right { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(&format!("{before}{cell}{after}  "));
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut headers.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// `1.5 GB`, in powers of 1000.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], " ")
}

/// `1.5M`, in powers of 1000.
pub(crate) fn count(count: u64) -> String {
    scaled(count, &["", "k", "M", "G", "T", "P", "E"], "")
}

fn scaled(count: u64, units: &[&str], space: &str) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let unit_name = units.get(unit).copied().unwrap_or_default();
    match unit {
        0 => format!("{count}{space}{unit_name}"),
        _ if value < 9.95 => format!("{value:.1}{space}{unit_name}"),
        _ => format!("{value:.0}{space}{unit_name}"),
    }
}

/// `0.8 ms`, `35 ms`, `2.41 s`.
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1_000.0),
    }
}

/// A time of day in UTC, or nothing for 0.
pub(crate) fn utc(epoch_ms: u64) -> String {
    match i64::try_from(epoch_ms) {
        Ok(ms) if ms > 0 => {
            array_value_to_string(&TimestampMillisecondArray::from(vec![ms]).with_timezone("+00:00"), 0)
                .unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// The first `limit` characters of a line.
pub(crate) fn cut(line: &str, limit: usize) -> String {
    if line.chars().count() <= limit {
        return line.to_owned();
    }
    line.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// On one line, cut to `limit` characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases =
            [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (15_300_000, "15 MB"), (999_600, "1.0 MB")];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
        assert_eq!((count(6_001_215), count(12)), ("6.0M".into(), "12".into()));
        assert_eq!(
            (milliseconds(0.84), milliseconds(35.2), milliseconds(2_414.0)),
            ("0.8 ms".into(), "35 ms".into(), "2.41 s".into())
        );
        assert_eq!(utc(1_000), "1970-01-01T00:00:01Z");
        assert_eq!(utc(0), "");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "5".to_owned()], vec!["long".to_owned(), "1234".to_owned()]];
        assert_eq!(columns(&["name", "rows"], &rows), "name  rows\na        5\nlong  1234\n");
        assert_eq!(one_line("select\n  1,\n 2", 9), "select 1…");
    }
}
