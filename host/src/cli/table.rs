//! The first rows of a file that was written, as a table for people.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use tidemill::formats::{Decoder, Demand};
use tidemill::pipeline::plan::{SinkOutput, SinkPlan};
use tidemill::sink::PartFiles;
use tidemill_flow::schema::{Field, FieldType};

/// Enough of a file for as many rows as anybody looks at.
const BYTES_MAX: usize = 1 << 20;

/// The first rows that a sink wrote, if it wrote a file.
pub(super) fn of(sink: &SinkPlan, rows_max: usize) -> String {
    let SinkOutput::File(path) = &sink.output else { return String::new() };
    let Some(path) = &PartFiles::of_path(path).into_iter().next() else {
        return format!("{}: no rows\n", path.display());
    };
    match first_rows(sink, path, rows_max) {
        Ok((table, rows)) => format!("{}, the first {rows} rows:\n{table}\n", path.display()),
        Err(reason) => format!("cannot show {}: {reason}\n", path.display()),
    }
}

fn first_rows(sink: &SinkPlan, path: &std::path::Path, rows_max: usize) -> Result<(String, usize), String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(BYTES_MAX as u64).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let demand = |field: &Field| {
        let line = matches!(sink.format, tidemill::formats::Format::Text);
        let name = if line { "line".to_owned() } else { field.name.clone() };
        // As it was written, so that a table shows what the file has; numbers are aligned by their type.
        let written = match field.field_type {
            FieldType::Bytes | FieldType::Timestamp if is_text(sink) => FieldType::Text,
            other => other,
        };
        Demand { field: Field::nullable(&field.name, written), path: vec![name], unit: sink.timestamps }
    };
    let mut decoder = Decoder::new(&sink.format, sink.schema.fields().iter().map(demand).collect())
        .map_err(|e| e.to_string())?;
    decoder.decode(&bytes, bytes.len() < BYTES_MAX, rows_max).map_err(|e| e.to_string())?;
    let decoded = decoder.take();
    let columns: Vec<Vec<String>> =
        sink.schema.fields().iter().zip(&decoded.columns).map(|(f, c)| cells(f, c)).collect();
    Ok((lay_out(&columns, &decoded.columns, decoded.rows), decoded.rows))
}

fn is_text(sink: &SinkPlan) -> bool {
    use tidemill::formats::TimestampUnit;
    matches!(sink.timestamps, TimestampUnit::Auto | TimestampUnit::Rfc3339)
}

/// The name and values of a column.
fn cells(field: &Field, column: &ArrayRef) -> Vec<String> {
    let cell = |row: usize| {
        if column.is_null(row) {
            return String::new();
        }
        if let Some(integers) = column.as_primitive_opt::<Int64Type>() {
            return integers.value(row).to_string();
        }
        if let Some(floats) = column.as_primitive_opt::<Float64Type>() {
            return format!("{:.2}", floats.value(row));
        }
        if let Some(booleans) = column.as_boolean_opt() {
            return booleans.value(row).to_string();
        }
        column.as_string_opt::<i32>().map_or_else(|| "…".to_owned(), |text| text.value(row).to_owned())
    };
    std::iter::once(field.name.clone()).chain((0..column.len()).map(cell)).collect()
}

fn lay_out(columns: &[Vec<String>], of: &[ArrayRef], rows: usize) -> String {
    let widths: Vec<usize> =
        columns.iter().map(|c| c.iter().map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in 0..=rows {
        let mut line = String::from("  ");
        for ((cells, width), column) in columns.iter().zip(&widths).zip(of) {
            let number = column.data_type().is_numeric();
            let cell = &cells[row];
            line += &if number { format!("{cell:>width$}  ") } else { format!("{cell:width$}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
