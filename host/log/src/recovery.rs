//! Finds the end of a partition when its writer opens it.
//!
//! What a crash can leave: the last append cut short, frames of a transaction that wasn't committed (perhaps
//! in segments of their own), an empty last segment. That is cut off. What it can't leave: a bad frame with
//! committed ones behind it. That is damage, and nothing is touched.

use std::path::{Path, PathBuf};

use crate::error::{Result, damaged_file, damaged_segment};
use crate::files::sync_folder;
use crate::frame::{self, Frame};
use crate::header::{End, Options};
use crate::ids::Ids;
use crate::index::{Index, Place};
use crate::partition::{Partition, open_end};
use crate::record;
use crate::scan::{Found, Scanner};
use crate::segments::{self, partition_folder, segment_path};

/// Bytes that were cut off a file when a log was opened, as they were never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: PathBuf,
    /// Where it ends now.
    pub byte: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// What they were.
    pub reason: String,
}

/// What recovery needs to know of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) options: &'a Options,
    /// The number of the last committed transaction, and where that is written.
    pub(crate) committed: u64,
    pub(crate) journal: &'a Path,
}

/// The committed part of a segment.
struct Scan {
    bytes: u64,
    next: u64,
    last_written_ms: Option<i64>,
    stop: Stop,
}

enum Stop {
    End,
    Torn(&'static str),
    Uncommitted,
}

/// Finds the end of a partition and cuts off what isn't committed. `closed` is where the last writer left it,
/// if that ended in order.
pub(crate) fn open(
    known: Known<'_>,
    number: u32,
    seed: u64,
    closed: Option<&End>,
    index: &Index,
    cuts: &mut Vec<Cut>,
) -> Result<Partition> {
    let folder = partition_folder(known.folder, number);
    let mut segments = segments::list(&folder)?;
    let scan = loop {
        let Some(last) = segments.last_mut() else {
            return Err(damaged_file(&folder, 0, "it has no segment"));
        };
        let path = segment_path(&folder, last.first);
        let scan = scan(&path, seed, last.first, known, |place| index.note(number, last.first, place))?;
        check_closed(&path, last.first, &scan, closed)?;
        if last.bytes > scan.bytes {
            let reason = match scan.stop {
                Stop::Uncommitted => "a transaction that wasn't committed",
                Stop::Torn(reason) => reason,
                Stop::End => "bytes that were gone when they were read",
            };
            let bytes = last.bytes - scan.bytes;
            cuts.push(Cut { file: path, byte: scan.bytes, bytes, reason: reason.to_owned() });
        }
        last.bytes = scan.bytes;
        let first = last.first;
        if scan.bytes > 0 {
            break scan;
        }
        match before_empty(known, &folder, seed, &segments)? {
            Before::Committed { last_written_ms } => break Scan { last_written_ms, ..scan },
            Before::Uncommitted => {}
        }
        // The transaction began in the segment before.
        segments::remove(&folder, first)?;
        segments.pop();
        if let Some(last) = segments.last_mut() {
            last.bytes = std::fs::metadata(segment_path(&folder, last.first))
                .map_err(crate::error::io_error("read", &folder))?
                .len();
        }
    };
    sync_folder(&folder)?;
    let last = *segments.last().expect("looked at above");
    let mut partition = Partition {
        file: open_end(&folder, last.first, last.bytes)?,
        folder,
        seed,
        segment_bytes: known.options.segment_bytes,
        retention: known.options.retention,
        is_retention_due: false,
        segments,
        next: scan.next,
        last_written_ms: scan.last_written_ms,
        ids: Ids::new(known.options.ids_records, seed),
        unsynced: false,
        stopped: None,
        buffer: Vec::new(),
    };
    remember_ids(&mut partition)?;
    Ok(partition)
}

/// What stands before a last segment that is empty.
enum Before {
    Committed { last_written_ms: Option<i64> },
    Uncommitted,
}

fn before_empty(
    known: Known<'_>,
    folder: &Path,
    seed: u64,
    segments: &[segments::Segment],
) -> Result<Before> {
    let Some(before) = segments.len().checked_sub(2).and_then(|i| segments.get(i)) else {
        return Ok(Before::Committed { last_written_ms: None });
    };
    let path = segment_path(folder, before.first);
    let scan = scan(&path, seed, before.first, known, |_| {})?;
    match scan.stop {
        Stop::Uncommitted => Ok(Before::Uncommitted),
        // It was synced before the last one was made.
        Stop::Torn(reason) => Err(damaged_segment(&path, scan.bytes, reason)),
        Stop::End if segments.last().is_some_and(|last| last.first != scan.next) => {
            Err(damaged_segment(&path, scan.bytes, "records between it and the next segment are missing"))
        }
        Stop::End => Ok(Before::Committed { last_written_ms: scan.last_written_ms }),
    }
}

fn scan(path: &Path, seed: u64, first: u64, known: Known<'_>, mut note: impl FnMut(Place)) -> Result<Scan> {
    let mut scanner = Scanner::open(path, 0, seed)?;
    let mut scan = Scan { bytes: 0, next: first, last_written_ms: None, stop: Stop::End };
    let mut next = first;
    loop {
        match scanner.next()? {
            Found::Frame(frame) => {
                if frame.first_offset != next {
                    let reason = format!("expected offset {next}, found {}", frame.first_offset);
                    return Err(damaged_segment(path, scanner.byte(), reason));
                }
                next = frame.end_offset();
                let committed = check_number(path, scanner.byte(), &frame, known, &scan.stop)?;
                let byte = scanner.byte();
                scanner.pass(&frame);
                if committed {
                    note(Place { offset: frame.first_offset, byte });
                    scan.bytes = scanner.byte();
                    scan.next = frame.end_offset();
                    scan.last_written_ms = Some(frame.written_ms);
                } else {
                    scan.stop = Stop::Uncommitted;
                }
            }
            Found::End => return Ok(scan),
            Found::Torn(reason) => {
                let committed = |frame: &Frame| frame.tag <= known.committed;
                if let Some((byte, _)) = frame::find(path, scanner.byte() + 1, seed, committed)? {
                    let reason = format!("{reason}, and a good frame follows at byte {byte}");
                    return Err(damaged_segment(path, scanner.byte(), reason));
                }
                if matches!(scan.stop, Stop::End) {
                    scan.stop = Stop::Torn(reason);
                }
                return Ok(scan);
            }
        }
    }
}

/// Whether a frame is committed. Only frames of the one transaction that was under way may not be, and
/// nothing follows them; else it is the journal that lost something.
fn check_number(path: &Path, byte: u64, frame: &Frame, known: Known<'_>, stop: &Stop) -> Result<bool> {
    let committed = frame.tag <= known.committed;
    let lost = frame.tag > known.committed + 1 || (committed && matches!(stop, Stop::Uncommitted));
    if !lost {
        return Ok(committed);
    }
    let reason = format!(
        "it knows of {} transactions, but {} tells of later ones at byte {byte}",
        known.committed,
        path.display()
    );
    Err(damaged_file(known.journal, 0, reason))
}

/// What a writer left in order must be there as it was left.
fn check_closed(path: &Path, first: u64, scan: &Scan, closed: Option<&End>) -> Result<()> {
    let found = End { segment: first, bytes: scan.bytes, next: scan.next };
    match closed {
        Some(closed) if *closed != found || !matches!(scan.stop, Stop::End) => {
            let what =
                |end: &End| format!("offset {} at byte {} of segment {}", end.next, end.bytes, end.segment);
            let reason = format!("the log was closed at {}, found is {}", what(closed), what(&found));
            Err(damaged_segment(path, scan.bytes, reason))
        }
        _ => Ok(()),
    }
}

/// Reads the ids of the last records, as many as count.
fn remember_ids(partition: &mut Partition) -> Result<()> {
    let from = partition.ids.from(partition.next);
    let behind = partition.segments.partition_point(|s| s.first <= from);
    for segment in partition.segments.get(behind.saturating_sub(1)..).unwrap_or_default() {
        let path = segment_path(&partition.folder, segment.first);
        let mut scanner = Scanner::open(&path, 0, partition.seed)?;
        loop {
            match scanner.next()? {
                Found::Frame(frame) => {
                    if frame.has_ids && frame.end_offset() > from {
                        let body = scanner.body(&frame);
                        let ids = &mut partition.ids;
                        let add = |offset, id: &[u8]| ids.add(offset, id);
                        each_id(scanner.buffer(), body, frame.first_offset, frame.records, add).ok_or_else(
                            || damaged_segment(&path, scanner.byte(), "it isn't full of records"),
                        )?;
                    }
                    scanner.pass(&frame);
                }
                Found::End => break,
                Found::Torn(reason) => return Err(damaged_segment(&path, scanner.byte(), reason)),
            }
        }
    }
    Ok(())
}

/// Gives the ids of records that lie one behind the other, with their offsets; nothing if there aren't so
/// many.
pub(crate) fn each_id(
    bytes: &[u8],
    body: std::ops::Range<usize>,
    first: u64,
    records: u32,
    mut add: impl FnMut(u64, &[u8]),
) -> Option<()> {
    let mut at = body.start;
    for index in 0..u64::from(records) {
        let place = record::Place::find(bytes, at, body.end)?;
        if let Some(id) = place.record(bytes).id {
            add(first + index, id);
        }
        at = place.end;
    }
    Some(())
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, byte, bytes, reason } = self;
        write!(f, "{bytes} bytes were cut off {} at byte {byte}: {reason}", file.display())
    }
}
