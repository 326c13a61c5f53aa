//! Rows on standard output.
//!
//! CSV and JSON are written batch by batch; a table needs the widths of all its cells, so that it holds rows up to a
//! bound and says so when there are more.

use std::io::{self, Write};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    csv,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    json,
    util::{
        display::{ArrayFormatter, FormatOptions},
        pretty::pretty_format_batches_with_options,
    },
};

use super::{args::Format, error::CliError};

/// Most rows that a table shows; the other formats have no bound.
pub(crate) const MAX_TABLE_ROWS: usize = 10_000;
/// Most bytes of rows that a table holds.
const MAX_TABLE_BYTES: usize = 256 * 1024 * 1024;

/// How cells of a table look.
pub(crate) const CELLS: FormatOptions<'static> =
    FormatOptions::new().with_null("NULL").with_display_error(true);

/// What came of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) rows: usize,
    /// Fewer than `rows` when a table was cut.
    pub(crate) shown: usize,
}

/// Writes one result.
pub(crate) struct Printer<W: Write> {
    format: Format,
    schema: SchemaRef,
    out: W,
    rows: usize,
    /// Rows of a table, held until the end.
    held: Vec<RecordBatch>,
    held_rows: usize,
    held_bytes: usize,
}

impl<W: Write> Printer<W> {
    pub(crate) fn new(format: Format, schema: SchemaRef, out: W) -> Self {
        Self { format, schema, out, rows: 0, held: Vec::new(), held_rows: 0, held_bytes: 0 }
    }

    /// # Errors
    /// [`CliError::Output`] if the output is gone, [`CliError::Show`] if a value can't be shown in this format.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), CliError> {
        let first = self.rows == 0;
        match self.format {
            Format::Table => self.hold(batch),
            Format::Csv if batch.num_columns() > 0 => {
                let text = csv_rows(batch, first)?;
                self.out.write_all(&text).map_err(CliError::Output)?;
            }
            Format::Json if batch.num_rows() > 0 => {
                let text = json_rows(batch)?;
                self.out.write_all(if first { b"[" } else { b",\n " }).map_err(CliError::Output)?;
                self.out.write_all(&text).map_err(CliError::Output)?;
            }
            Format::Csv | Format::Json => {}
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    fn hold(&mut self, batch: &RecordBatch) {
        let room = MAX_TABLE_ROWS.saturating_sub(self.held_rows).min(batch.num_rows());
        if room == 0 || self.held_bytes > MAX_TABLE_BYTES {
            return;
        }
        self.held.push(batch.slice(0, room));
        self.held_rows += room;
        self.held_bytes += batch.get_array_memory_size();
    }

    /// Writes what is left and flushes.
    pub(crate) fn finish(mut self) -> Result<Printed, CliError> {
        // A statement without a result (DDL, SET) has no columns, and prints nothing.
        let empty = self.schema.fields().is_empty();
        let text = match self.format {
            Format::Table if empty => String::new(),
            Format::Table => {
                let schema = SchemaRef::clone(&self.schema);
                let held =
                    if self.held.is_empty() { vec![RecordBatch::new_empty(schema)] } else { self.held };
                format!("{}\n", pretty_format_batches_with_options(&held, &CELLS)?)
            }
            Format::Csv if self.rows == 0 && !empty => {
                let header = csv_rows(&RecordBatch::new_empty(SchemaRef::clone(&self.schema)), true)?;
                String::from_utf8_lossy(&header).into_owned()
            }
            Format::Csv => String::new(),
            Format::Json if self.rows > 0 => "]\n".to_owned(),
            Format::Json if empty => String::new(),
            Format::Json => "[]\n".to_owned(),
        };
        self.out.write_all(text.as_bytes()).map_err(CliError::Output)?;
        self.out.flush().map_err(CliError::Output)?;
        let shown = if self.format == Format::Table { self.held_rows } else { self.rows };
        Ok(Printed { rows: self.rows, shown })
    }
}

/// The batch as CSV, with the header line if `header`.
fn csv_rows(batch: &RecordBatch, header: bool) -> Result<Vec<u8>, ArrowError> {
    let mut text = Vec::new();
    csv::WriterBuilder::new().with_header(header).build(&mut text).write(&flat(batch)?)?;
    Ok(text)
}

/// CSV has no lists and structs: they become the text that a table would show.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !batch.columns().iter().any(|column| column.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if column.data_type().is_nested() {
            let cells = ArrayFormatter::try_new(column, &CELLS)?;
            let texts =
                (0..column.len()).map(|row| column.is_valid(row).then(|| cells.value(row).to_string()));
            columns.push(std::sync::Arc::new(texts.collect::<StringArray>()));
            fields.push(Field::new(field.name(), DataType::Utf8, true));
        } else {
            columns.push(ArrayRef::clone(column));
            fields.push(field.as_ref().clone());
        }
    }
    RecordBatch::try_new(std::sync::Arc::new(Schema::new(fields)), columns)
}

/// Objects one below the other, without the brackets of the array around all batches.
#[derive(Debug, Default)]
struct Objects;

impl json::writer::JsonFormat for Objects {
    fn start_row<W: Write>(&self, writer: &mut W, is_first_row: bool) -> Result<(), ArrowError> {
        if !is_first_row {
            writer.write_all(b",\n ")?;
        }
        Ok(())
    }
}

fn json_rows(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = json::WriterBuilder::new().with_explicit_nulls(true).build::<_, Objects>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

/// Writes text that is ready to standard output.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray};

    use super::*;

    fn batch(from: i64, to: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
        let names: ArrayRef =
            Arc::new((from..to).map(|n| (n != 1).then(|| format!("n\"{n}"))).collect::<StringArray>());
        RecordBatch::try_from_iter_with_nullable([("id", numbers, false), ("name", names, true)]).unwrap()
    }

    fn shown(format: Format, batches: &[RecordBatch]) -> (String, Printed) {
        let mut out = Vec::new();
        let mut printer = Printer::new(format, batch(0, 0).schema(), &mut out);
        for batch in batches {
            printer.write(batch).unwrap();
        }
        let printed = printer.finish().unwrap();
        (String::from_utf8(out).unwrap(), printed)
    }

    #[test]
    fn batches_join_without_a_seam() {
        let batches = [batch(0, 2), batch(0, 0), batch(2, 3)];
        let (csv, printed) = shown(Format::Csv, &batches);
        assert_eq!(csv, "id,name\n0,\"n\"\"0\"\n1,\n2,\"n\"\"2\"\n");
        assert_eq!(printed, Printed { rows: 3, shown: 3 });
        let (json, _) = shown(Format::Json, &batches);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expected = serde_json::json!([
            {"id": 0, "name": "n\"0"}, {"id": 1, "name": null}, {"id": 2, "name": "n\"2"}
        ]);
        assert_eq!(value, expected);
        let (table, _) = shown(Format::Table, &batches);
        assert!(table.contains("| 1  | NULL |"), "{table}");
    }

    #[test]
    fn an_empty_result_still_has_its_columns() {
        assert_eq!(shown(Format::Csv, &[]).0, "id,name\n");
        assert_eq!(shown(Format::Json, &[batch(0, 0)]).0, "[]\n");
        assert!(shown(Format::Table, &[]).0.contains("| id | name |"));
    }

    #[test]
    fn a_table_is_bounded_and_counts_on() {
        let limit = MAX_TABLE_ROWS as i64;
        let (_, printed) = shown(Format::Table, &[batch(0, limit - 1), batch(0, 5), batch(0, 7)]);
        assert_eq!(printed, Printed { rows: MAX_TABLE_ROWS + 11, shown: MAX_TABLE_ROWS });
    }

    #[test]
    fn csv_shows_lists_as_text() {
        let lists =
            ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([Some(vec![Some(1), None])]);
        let batch = RecordBatch::try_from_iter([("l", Arc::new(lists) as ArrayRef)]).unwrap();
        assert_eq!(String::from_utf8(csv_rows(&batch, true).unwrap()).unwrap(), "l\n\"[1, NULL]\"\n");
    }

    #[test]
    fn a_reader_that_went_away_is_told_from_other_failures() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for format in [Format::Csv, Format::Json, Format::Table] {
            let mut printer = Printer::new(format, batch(0, 0).schema(), Gone);
            let error = printer.write(&batch(0, 2)).and_then(|()| printer.finish().map(drop)).unwrap_err();
            assert!(error.is_quiet() && error.exit_code() == 0, "{error}");
        }
    }
}
