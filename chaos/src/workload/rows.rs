//! Rows as texts, and a digest of them that does not depend on their order.

use arrow::{
    array::RecordBatch,
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};

/// As `polybolos tpch answers` writes them.
const NULL: &str = "NULL";
const BETWEEN: &str = " | ";

/// Each row as text.
///
/// # Errors
/// Arrow can't show a value.
pub fn texts(batches: &[RecordBatch]) -> Result<Vec<String>, ArrowError> {
    let options = FormatOptions::default().with_null(NULL);
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(cells.join(BETWEEN));
        }
    }
    Ok(rows)
}

/// FNV-1a over the sorted rows, and their number.
pub fn digest(mut rows: Vec<String>) -> String {
    rows.sort_unstable();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in rows.iter().flat_map(|row| row.bytes().chain([b'\n'])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{}-{hash:016x}", rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_does_not_matter_and_all_else_does() {
        let of = |rows: &[&str]| digest(rows.iter().map(|row| (*row).to_owned()).collect());
        assert_eq!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert_ne!(of(&["a"]), of(&["a", "a"]));
    }
}
