//! `tidemill log read`: records to lines.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value};
use tidemill_log::{Log, Reader, Record};

use super::super::exit::Exit;
use super::exit;
use tidemill::sink::row_id;

const BATCH_RECORDS: usize = 4_096;
const BATCH_BYTES: usize = 1 << 20;
/// How long to wait before looking for new records: short for a person, and little work for the machine.
const WAIT: Duration = Duration::from_millis(50);

/// The arguments of `tidemill log read`.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// The log's folder
    folder: PathBuf,
    /// Read this partition; default: one after the other
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Begin with this offset; default: the first that there is
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    from: Option<u64>,
    /// Print so many records at most
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Wait for more, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Print each record as JSON, with its partition, offset, timestamp, key and id
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ReadArgs) -> Result<(), Exit> {
    let log = Log::open(&args.folder).map_err(exit)?;
    let partitions = args.partition.map_or(0..log.partitions(), |p| p..p.saturating_add(1));
    let mut readers = Vec::new();
    for partition in partitions {
        let from = match args.from {
            Some(from) => from,
            None => log.first_offset(partition).map_err(exit)?,
        };
        readers.push(log.reader(partition, from).map_err(exit)?);
    }
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut lines = Vec::new();
    while left > 0 {
        let mut is_waiting = true;
        for reader in &mut readers {
            // To its end, so that without --follow each partition is one piece.
            while left > 0 && take(reader, &mut left, args.json, &mut lines)? {
                is_waiting = false;
                if !print(&mut lines)? {
                    return Ok(());
                }
            }
        }
        if is_waiting && !args.follow {
            break;
        }
        if is_waiting {
            std::thread::sleep(WAIT);
        }
    }
    Ok(())
}

/// Writes the next records as lines; says whether there were any.
fn take(reader: &mut Reader, left: &mut u64, json: bool, lines: &mut Vec<u8>) -> Result<bool, Exit> {
    let partition = reader.partition();
    let records_max = usize::try_from(*left).unwrap_or(usize::MAX).min(BATCH_RECORDS);
    let batch = reader.read(records_max, BATCH_BYTES).map_err(exit)?;
    for (offset, record) in batch.records() {
        if json {
            lines.extend_from_slice(as_json(partition, offset, &record).to_string().as_bytes());
        } else {
            lines.extend_from_slice(record.value);
        }
        lines.push(b'\n');
    }
    *left -= batch.len() as u64;
    Ok(!batch.is_empty())
}

fn as_json(partition: u32, offset: u64, record: &Record<'_>) -> Value {
    let mut object = Map::new();
    object.insert("partition".to_owned(), partition.into());
    object.insert("offset".to_owned(), offset.into());
    object.insert("timestamp_ms".to_owned(), record.timestamp_ms.into());
    // The id of a pipeline's row is no text, and people compare it with others as hex.
    let row_id = record.id.and_then(row_id);
    if let Some(id) = row_id {
        object.insert("row_id".to_owned(), format!("{id:032x}").into());
    }
    let id = record.id.filter(|_| row_id.is_none());
    for (name, bytes) in [("key", record.key), ("id", id), ("value", Some(record.value))] {
        let Some(bytes) = bytes else { continue };
        match std::str::from_utf8(bytes) {
            Ok(text) => object.insert(name.to_owned(), text.into()),
            Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
        };
    }
    Value::Object(object)
}

/// Prints the lines and takes them away; says whether anybody still reads them.
fn print(lines: &mut Vec<u8>) -> Result<bool, Exit> {
    let mut stdout = std::io::stdout().lock();
    let printed = stdout.write_all(lines).and_then(|()| stdout.flush());
    lines.clear();
    match printed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Exit::failure(format!("cannot write the standard output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_id_of_a_row_is_printed_as_hex() {
        let id: Vec<u8> = [1; 1].into_iter().chain(0xf0..=0xff).collect();
        let record = Record { id: Some(&id), value: b"v", ..Record::default() };
        let expected = json!({
            "partition": 0, "offset": 0, "timestamp_ms": 0, "value": "v",
            "row_id": "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
        });
        assert_eq!(as_json(0, 0, &record), expected);
    }

    #[test]
    fn bytes_that_are_no_text_are_printed_as_base64() {
        let record = Record { timestamp_ms: 7, key: Some(b"JFK"), id: None, value: b"\xff\x00" };
        let expected =
            json!({"partition": 2, "offset": 9, "timestamp_ms": 7, "key": "JFK", "value_base64": "/wA="});
        assert_eq!(as_json(2, 9, &record), expected);
    }
}
