//! `tidemill log append`: lines to records.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::Value;
use tidemill_log::{Appended, RECORD_BYTES_MAX, Record, Writer, partition_of};

use super::super::exit::Exit;
use super::{exit, open_writer};

/// What is read at once, and how many of that wait while the log is synced: together about the batch for
/// which a sync costs little.
const BLOCK_BYTES: usize = 64 << 10;
const BLOCKS_WAITING: usize = 16;

/// The arguments of `tidemill log append`.
#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    /// The log's folder
    folder: PathBuf,
    /// The file with a record in each line; default: the standard input
    file: Option<PathBuf>,
    /// Append to this partition; default: by key, or to each in turn
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Give all records this key
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// Take the key from this field of the lines, which are JSON objects
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    key_field: Option<String>,
    /// Take the id, by which copies are dropped, from this field of the lines, which are JSON objects
    #[arg(long, value_name = "NAME")]
    id_field: Option<String>,
}

pub(super) fn run(args: &AppendArgs) -> Result<(), Exit> {
    let writer = open_writer(&args.folder)?;
    if let Some(partition) = args.partition {
        writer.log().first_offset(partition).map_err(exit)?;
    }
    let blocks = blocks(args)?;
    let mut appender = Appender { args, writer: &writer, line: 0, totals: BTreeMap::new() };
    let appended = appender.append_all(&blocks);
    let totals = appender.totals();
    writer.close().map_err(exit)?;
    match appended {
        Ok(()) => super::super::print(&totals),
        Err(message) => Err(Exit::failure(format!("{message}; before it:\n{}", totals.trim_end()))),
    }
}

/// Reads in a thread of its own: what comes in while the log is synced is one batch.
fn blocks(args: &AppendArgs) -> Result<Receiver<io::Result<Vec<u8>>>, Exit> {
    let mut input: Box<dyn Read + Send> = match &args.file {
        None => Box::new(io::stdin()),
        Some(path) => {
            let file = File::open(path);
            Box::new(file.map_err(|e| Exit::usage(format!("cannot open {}: {e}", path.display())))?)
        }
    };
    let (sender, receiver) = sync_channel(BLOCKS_WAITING);
    std::thread::spawn(move || {
        loop {
            let mut block = vec![0; BLOCK_BYTES];
            let read = input.read(&mut block).map(|count| {
                block.truncate(count);
                block
            });
            let is_last = read.as_ref().is_ok_and(Vec::is_empty);
            let is_failed = read.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Interrupted);
            let is_retried = read.is_err() && !is_failed;
            if !is_retried && (sender.send(read).is_err() || is_last || is_failed) {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Where a line goes, and as what.
struct Parsed {
    partition: u32,
    key: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
}

struct Appender<'a> {
    args: &'a AppendArgs,
    writer: &'a Writer,
    /// The number of the last line.
    line: u64,
    /// By partition.
    totals: BTreeMap<u32, Appended>,
}

impl Appender<'_> {
    fn append_all(&mut self, blocks: &Receiver<io::Result<Vec<u8>>>) -> Result<(), String> {
        let mut bytes = Vec::new();
        let mut is_ended = false;
        while !is_ended {
            let mut next = blocks.recv().ok();
            is_ended = next.is_none();
            while let Some(block) = next {
                let block = block.map_err(|e| format!("cannot read {}: {e}", self.input()))?;
                is_ended = block.is_empty();
                bytes.extend_from_slice(&block);
                next = (bytes.len() < BLOCK_BYTES * BLOCKS_WAITING).then(|| blocks.try_recv().ok()).flatten();
            }
            let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1);
            let end = if is_ended { bytes.len() } else { end };
            self.append(&bytes[..end])?;
            bytes.drain(..end);
            if bytes.len() > RECORD_BYTES_MAX {
                let line = self.line + 1;
                return Err(format!("{} line {line} is longer than {RECORD_BYTES_MAX} bytes", self.input()));
            }
        }
        Ok(())
    }

    /// Appends lines, those of each partition at once.
    fn append(&mut self, lines: &[u8]) -> Result<(), String> {
        let timestamp_ms = now_ms();
        let mut parsed = Vec::new();
        let mut refused = None;
        for line in lines.split_inclusive(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            match self.parse(line) {
                Ok(about) => parsed.push((line, about)),
                Err(message) => {
                    refused = Some(message);
                    break;
                }
            }
        }
        let mut partitions: BTreeMap<u32, Vec<Record<'_>>> = BTreeMap::new();
        for (value, Parsed { partition, key, id }) in &parsed {
            let record = Record { timestamp_ms, key: key.as_deref(), id: id.as_deref(), value };
            partitions.entry(*partition).or_default().push(record);
        }
        for (partition, records) in partitions {
            let appended = self.writer.append(partition, &records).map_err(|e| e.to_string())?;
            let total =
                self.totals.entry(partition).or_insert(Appended { records: 0, copies: 0, ..appended });
            total.records += appended.records;
            total.copies += appended.copies;
        }
        refused.map_or(Ok(()), Err)
    }

    fn parse(&mut self, line: &[u8]) -> Result<Parsed, String> {
        let partitions = self.writer.log().partitions();
        let turn =
            u32::try_from(self.line % u64::from(partitions)).expect("less than the number of partitions");
        self.line += 1;
        let args = self.args;
        let object: Option<Value> = match args.key_field.is_some() || args.id_field.is_some() {
            true => {
                let parsed = serde_json::from_slice(line);
                Some(parsed.map_err(|e| format!("{} line {} isn't JSON: {e}", self.input(), self.line))?)
            }
            false => None,
        };
        let field = |name: &Option<String>| -> Result<Option<Vec<u8>>, String> {
            let (Some(name), Some(object)) = (name, &object) else { return Ok(None) };
            match object.get(name) {
                Some(Value::String(text)) => Ok(Some(text.clone().into_bytes())),
                Some(value) if !value.is_null() => Ok(Some(value.to_string().into_bytes())),
                _ => Err(format!("{} line {} has no field `{name}`", self.input(), self.line)),
            }
        };
        let key = field(&args.key_field)?.or_else(|| args.key.clone().map(String::into_bytes));
        let by_key = key.as_deref().map(|key| partition_of(key, partitions));
        let partition = args.partition.or(by_key).unwrap_or(turn);
        Ok(Parsed { partition, key, id: field(&args.id_field)? })
    }

    fn input(&self) -> String {
        self.args.file.as_ref().map_or("the standard input".to_owned(), |f| f.display().to_string())
    }

    fn totals(&self) -> String {
        if self.totals.is_empty() {
            return "nothing was appended\n".to_owned();
        }
        let line = |(partition, total): (&u32, &Appended)| {
            let Appended { first_offset, records, copies } = total;
            let copies = if *copies > 0 { format!("; copies dropped: {copies}") } else { String::new() };
            let s = if *records == 1 { "" } else { "s" };
            format!("partition {partition}: {records} record{s} from offset {first_offset} on{copies}\n")
        };
        self.totals.iter().map(line).collect()
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tidemill_log::{Log, Options};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AppendArgs,
    }

    /// What partition 0 and 1 of a log have after lines were appended that came in these blocks.
    fn check(options: &[&str], blocks: &[&str], expected: [&[&str]; 2], result: Result<(), &str>) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let writer = Writer::create(&log, &Options { partitions: 2, ..Options::default() }).unwrap();
        let line = [&["append", log.to_str().unwrap()], options].concat();
        let Line { args } = Line::try_parse_from(line).unwrap();
        let (sender, receiver) = sync_channel(blocks.len() + 1);
        for block in blocks.iter().chain([&""]) {
            sender.send(Ok(block.as_bytes().to_vec())).unwrap();
        }
        let mut appender = Appender { args: &args, writer: &writer, line: 0, totals: BTreeMap::new() };
        let appended = appender.append_all(&receiver);
        assert_eq!(appended, result.map_err(str::to_owned), "{options:?}");
        let read = |partition| {
            let records = Log::open(&log).unwrap().read(partition, 0, 100, 10_000).unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            records
                .iter()
                .map(|r| text(&r.value) + &r.key.as_deref().map_or(String::new(), text))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            [read(0), read(1)],
            expected.map(|v| v.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>())
        );
    }

    #[test]
    fn each_line_is_a_record() {
        check(&[], &["a\nb", "c\n\nd"], [&["a", ""], &["bc", "d"]], Ok(()));
        check(&[], &[], [&[], &[]], Ok(()));
        check(&["--partition", "1"], &["a\nb\n"], [&[], &["a", "b"]], Ok(()));
        check(&["--key", " K"], &["a\nb\n"], [&[], &["a K", "b K"]], Ok(()));
    }

    #[test]
    fn a_field_of_a_line_is_its_key() {
        let lines = ["{\"k\":7}\n{\"k\":\"JFK\"}\n", "{\"k\":7}"];
        let (seven, jfk) = ("{\"k\":7}7", "{\"k\":\"JFK\"}JFK");
        check(&["--key-field", "k"], &lines, [&[seven, seven], &[jfk]], Ok(()));
        check(&["--key-field", "k", "--partition", "0"], &lines, [&[seven, jfk, seven], &[]], Ok(()));
        let once = [&[seven][..], &[jfk][..]];
        check(&["--key-field", "k", "--id-field", "k"], &lines, once, Ok(()));
    }

    #[test]
    fn a_line_without_the_field_ends_it_and_those_before_are_there() {
        let refused = "the standard input line 2 has no field `k`";
        check(
            &["--key-field", "k", "--partition", "0"],
            &["{\"k\":1}\n{}\n{\"k\":2}\n"],
            [&["{\"k\":1}1"], &[]],
            Err(refused),
        );
        let refused = "the standard input line 1 isn't JSON: expected value at line 1 column 1";
        check(&["--key-field", "k"], &["a\n"], [&[], &[]], Err(refused));
    }
}
