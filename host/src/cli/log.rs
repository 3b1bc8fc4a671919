//! `tidemill log`: an embedded log, from the command line.

mod append;
mod read;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use tidemill_log::{Info, Log, LogError, Options, Retention, Writer};

use super::exit::Exit;
use super::summary::grouped;

/// What is done with a log.
#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Make a log in a folder that is empty or not there
    Create(CreateArgs),
    /// Append the lines of a file or of the standard input, a record each
    Append(append::AppendArgs),
    /// Print records
    Read(read::ReadArgs),
    /// Show what a log has
    Info(InfoArgs),
    /// Remove old records, as far as they fill whole files
    Trim(TrimArgs),
}

/// The arguments of `tidemill log create`.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The log's folder
    folder: PathBuf,
    /// How many partitions it has, for good
    #[arg(long, value_name = "COUNT", default_value_t = Options::default().partitions)]
    partitions: u32,
    /// Begin another file when one would become larger
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().segment_bytes)]
    segment_bytes: u64,
    /// Remove old files of a partition when the others have as many bytes
    #[arg(long, value_name = "BYTES")]
    retain_bytes: Option<u64>,
    /// Remove files when all in them is older
    #[arg(long, value_name = "HOURS", conflicts_with = "retain_bytes")]
    retain_hours: Option<u64>,
    /// Drop a record whose id is that of one of the last so many of its partition
    #[arg(long, value_name = "COUNT", default_value_t = Options::default().ids_records)]
    ids_records: u64,
}

/// The arguments of `tidemill log info`.
#[derive(Debug, Args)]
pub(super) struct InfoArgs {
    /// The log's folder
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The arguments of `tidemill log trim`.
#[derive(Debug, Args)]
pub(super) struct TrimArgs {
    /// The log's folder
    folder: PathBuf,
    /// The partition
    #[arg(long, value_name = "NUMBER")]
    partition: u32,
    /// The first offset that must stay
    #[arg(long, value_name = "OFFSET")]
    before: u64,
}

pub(super) fn run(command: &LogCommand) -> Result<(), Exit> {
    match command {
        LogCommand::Create(args) => create(args),
        LogCommand::Append(args) => append::run(args),
        LogCommand::Read(args) => read::run(args),
        LogCommand::Info(args) => info(args),
        LogCommand::Trim(args) => trim(args),
    }
}

fn create(args: &CreateArgs) -> Result<(), Exit> {
    let retention = match (args.retain_bytes, args.retain_hours) {
        (Some(bytes), _) => Retention::Bytes(bytes),
        (None, Some(hours)) => Retention::AgeMs(hours.saturating_mul(3_600_000)),
        (None, None) => Retention::None,
    };
    let CreateArgs { partitions, segment_bytes, ids_records, .. } = *args;
    let options = Options { partitions, segment_bytes, retention, ids_records };
    Writer::create(&args.folder, &options).and_then(Writer::close).map_err(exit)?;
    let (folder, s) = (args.folder.display(), if partitions == 1 { "" } else { "s" });
    super::print(&format!(
        "made {folder} with {partitions} partition{s}; now: tidemill log append {folder} FILE\n"
    ))
}

fn info(args: &InfoArgs) -> Result<(), Exit> {
    let info = Log::open(&args.folder).and_then(|log| log.info()).map_err(exit)?;
    let text = if args.json { format!("{:#}\n", as_json(&info)) } else { as_text(&args.folder, &info) };
    super::print(&text)
}

fn trim(args: &TrimArgs) -> Result<(), Exit> {
    let writer = open_writer(&args.folder)?;
    let count = writer.trim(args.partition, args.before).map_err(exit)?;
    let first = writer.log().first_offset(args.partition).map_err(exit)?;
    writer.close().map_err(exit)?;
    let s = if count == 1 { "" } else { "s" };
    super::print(&format!("removed {count} file{s}; partition {} begins at offset {first}\n", args.partition))
}

/// Opens a log to write it, and tells what a crash had left.
fn open_writer(folder: &Path) -> Result<Writer, Exit> {
    let writer = Writer::open(folder).map_err(exit)?;
    for cut in writer.cuts() {
        super::tell(&format!("tidemill: the last writer didn't end in order; {cut}\n"));
    }
    Ok(writer)
}

/// Whether the one who asked can help it decides the exit status.
fn exit(error: LogError) -> Exit {
    match error {
        LogError::NoLog { .. }
        | LogError::NotEmpty { .. }
        | LogError::NoPartition { .. }
        | LogError::Trimmed { .. }
        | LogError::BeyondEnd { .. }
        | LogError::Invalid { .. } => Exit::usage(error),
        _ => Exit::failure(error),
    }
}

fn as_text(folder: &Path, info: &Info) -> String {
    let Options { segment_bytes, retention, ids_records, .. } = info.options;
    let retention = match retention {
        Retention::None => "everything".to_owned(),
        Retention::Bytes(bytes) => format!("{} bytes of a partition", grouped(bytes)),
        Retention::AgeMs(age) => format!("{} hours", grouped(age / 3_600_000)),
    };
    let mut rows = vec![["partition", "first", "next", "bytes", "files", "last written"].map(str::to_owned)];
    rows.extend(info.partitions.iter().map(|p| {
        let numbers = [p.partition.into(), p.first_offset, p.next_offset, p.bytes, p.segments as u64];
        let [partition, first, next, bytes, files] = numbers.map(grouped);
        [partition, first, next, bytes, files, written(p.last_written_ms).unwrap_or_else(|| "-".to_owned())]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        format!("{}\n", cells.join("  "))
    };
    format!(
        "log       {}\nidentity  {:016x}\nfiles of  {} bytes\nkeeps     {retention}\nids of    {} records\n{}",
        folder.display(),
        info.identity,
        grouped(segment_bytes),
        grouped(ids_records),
        rows.iter().map(line).collect::<String>()
    )
}

fn as_json(info: &Info) -> Value {
    let Options { segment_bytes, retention, ids_records, .. } = info.options;
    let (bytes, age_ms) = match retention {
        Retention::None => (None, None),
        Retention::Bytes(bytes) => (Some(bytes), None),
        Retention::AgeMs(age) => (None, Some(age)),
    };
    let partitions = info.partitions.iter().map(|p| {
        json!({
            "partition": p.partition,
            "first_offset": p.first_offset,
            "next_offset": p.next_offset,
            "bytes": p.bytes,
            "segments": p.segments,
            "last_written": written(p.last_written_ms),
        })
    });
    json!({
        "identity": format!("{:016x}", info.identity),
        "segment_bytes": segment_bytes,
        "retain_bytes": bytes,
        "retain_age_ms": age_ms,
        "ids_records": ids_records,
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn written(time_ms: Option<i64>) -> Option<String> {
    Some(Timestamp::from_millisecond(time_ms?).ok()?.to_string())
}
