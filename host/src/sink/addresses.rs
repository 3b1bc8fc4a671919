//! Where each row's message goes, and what stands above its payload: a subject and headers, made of fields' values.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use tidemill_jetstream::{HeaderTemplate, Template};

use super::lines::Keys;
use crate::pipeline::plan::StreamOutput;

/// Makes the addresses of rows.
pub(super) struct Addresses {
    subject: (Template, Vec<usize>),
    headers: Vec<(HeaderTemplate, Vec<usize>)>,
    /// Those of a row, as long as it isn't known whether it has one.
    address: String,
}

impl Addresses {
    pub(super) fn new(output: &StreamOutput) -> Self {
        let StreamOutput { subject, headers, .. } = output;
        Self { subject: subject.clone(), headers: headers.clone(), address: String::new() }
    }

    /// The addresses of rows that have one, and the others with the reason.
    pub(super) fn of(&mut self, rows: &RecordBatch) -> (Keys, Vec<(u32, String)>) {
        let (mut addresses, mut refused) = (Keys::default(), Vec::new());
        for row in 0..rows.num_rows() {
            self.address.clear();
            match self.address(rows, row) {
                Ok(()) => addresses.push(self.address.as_bytes()),
                Err(why) => refused.push((u32::try_from(row).expect("a batch is small"), why)),
            }
        }
        (addresses, refused)
    }

    /// The subject, and for each header a line with its name and its value.
    fn address(&mut self, rows: &RecordBatch, row: usize) -> Result<(), String> {
        let (template, columns) = &self.subject;
        let values = values(rows, columns, row);
        if let Some(absent) = values.iter().position(Option::is_none) {
            let field = template.fields().nth(absent).unwrap_or_default();
            return Err(format!("the field `{field}` is absent, which can't be a part of a subject"));
        }
        let values: Vec<&str> = values.iter().flatten().map(String::as_str).collect();
        template.fill(&values, &mut self.address).map_err(|e| e.to_string())?;
        for (template, columns) in &self.headers {
            let values = self::values(rows, columns, row);
            let values: Vec<&str> = values.iter().map(|value| value.as_deref().unwrap_or_default()).collect();
            self.address.push('\n');
            self.address.push_str(template.name());
            self.address.push(':');
            template.fill(&values, &mut self.address).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

fn values(rows: &RecordBatch, columns: &[usize], row: usize) -> Vec<Option<String>> {
    columns.iter().map(|&column| value(rows.column(column), row)).collect()
}

/// A value as it stands in a template; the check lets in no other types.
fn value(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(texts.value(row).to_owned());
    }
    if let Some(integers) = column.as_primitive_opt::<Int64Type>() {
        return Some(integers.value(row).to_string());
    }
    Some(column.as_boolean().value(row).to_string())
}
