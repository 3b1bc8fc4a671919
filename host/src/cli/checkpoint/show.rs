//! All of a manifest, for people.

use std::fmt::Write;

use tidemill_checkpoint::{
    Collection, Counts, Field, InFlight, Kind, Manifest, Operator, Partition, Position, Sink,
};

use super::{size, time};
use crate::cli::summary::grouped;

/// The manifest as text.
pub(super) fn as_text(manifest: &Manifest) -> String {
    let mut text = String::new();
    // A string takes all that is written to it.
    let _ = write(&mut text, manifest);
    text
}

fn write(to: &mut String, manifest: &Manifest) -> std::fmt::Result {
    let Manifest { pipeline, checkpoint, run, key_hash, key_groups, .. } = manifest;
    writeln!(to, "checkpoint {checkpoint} of pipeline {pipeline}, made by run {run}")?;
    if let Some(name) = &manifest.savepoint {
        writeln!(to, "  kept as     savepoint {name}, until it is deleted")?;
    }
    let why = match manifest.kind {
        Kind::Checkpoint => "it was time",
        Kind::Savepoint => "it was asked for",
        Kind::Last => "the pipeline was stopped",
        Kind::Finished => "the input ended",
    };
    writeln!(to, "  kind        {}: {why}", manifest.kind.name())?;
    let (made, took) = (time(manifest.created_ms), grouped(manifest.duration_ms));
    writeln!(to, "  made        {made}, within {took} ms")?;
    writeln!(to, "  keys        {key_hash}; {key_groups} key groups")?;
    writeln!(to, "  format      {}", manifest.format)?;
    if manifest.is_unaligned() {
        writeln!(to, "  unaligned   {} rows in flight", grouped(manifest.rows_in_flight()))?;
    }

    for source in &manifest.sources {
        writeln!(to, "\nsource {}", source.id)?;
        for Partition { name, position, watermark, ended } in &source.partitions {
            let ended = if *ended { ", ended" } else { "" };
            writeln!(to, "  {name}: {}, {}{ended}", read_to(position), watermark_text(*watermark))?;
        }
    }
    for operator in &manifest.operators {
        write_operator(to, operator)?;
    }
    let files = &manifest.state.files;
    let (count, bytes) = (super::files(files.len() as u64), size(manifest.state_bytes()));
    writeln!(to, "\nstate, {}: {count}, {bytes}", manifest.state.backend)?;
    let width = files.iter().map(|file| file.name.as_str().len()).max().unwrap_or(0);
    for file in files {
        writeln!(to, "  {:width$}  {:>10}  sha256 {}", file.name.as_str(), size(file.bytes), file.sha256)?;
    }
    for Sink { id, destination, parts, repeatable } in &manifest.sinks {
        writeln!(to, "\nsink {id}, to {destination}")?;
        for part in parts {
            let (bytes, rows) = (size(part.bytes), grouped(part.rows));
            writeln!(to, "  {} becomes {}: {rows} rows, {bytes}", part.staged, part.becomes)?;
        }
        for (partition, offsets) in repeatable.iter().flat_map(|r| r.partitions.iter().enumerate()) {
            let before: u64 = offsets.before.iter().map(|(first, end)| end.saturating_sub(*first)).sum();
            let before = if before > 0 { format!(", and {} before", grouped(before)) } else { String::new() };
            let from = grouped(offsets.from);
            writeln!(to, "  partition {partition}: rows from offset {from} on come again{before}")?;
        }
    }
    let counters = &manifest.counters;
    let kinds = [("source", &counters.sources), ("operator", &counters.operators), ("sink", &counters.sinks)];
    if kinds.iter().any(|(_, counted)| !counted.is_empty()) {
        writeln!(to, "\ncounted so far")?;
    }
    for (kind, counted) in kinds {
        for (id, counts) in counted {
            writeln!(to, "  {kind} {id}: {}", counts_text(counts))?;
        }
    }
    if !manifest.warnings.is_empty() {
        writeln!(to, "\nwarnings")?;
    }
    manifest.warnings.iter().try_for_each(|warning| writeln!(to, "  {warning}"))
}

fn write_operator(to: &mut String, operator: &Operator) -> std::fmt::Result {
    let Operator { id, number, component, world, parallelism, .. } = operator;
    writeln!(to, "\noperator {id}, number {number}, {world}, parallelism {parallelism}")?;
    writeln!(to, "  component   sha256 {component}")?;
    writeln!(to, "  key         {}", fields(&operator.key))?;
    if let Some(windows) = &operator.windows {
        writeln!(to, "  windows     {windows}")?;
    }
    for schema in &operator.state {
        writeln!(to, "  state       version {}: {}", schema.version, fields(&schema.fields))?;
    }
    for collection in &operator.collections {
        let Collection { number, name, entry, value, expires_by } = collection;
        let expires = expires_by.as_ref().map_or_else(String::new, |clock| format!(", expires by {clock}"));
        writeln!(to, "  collection  {number}, {name}: {entry} to {value}{expires}")?;
    }
    if let Some(InFlight { rows, fields: of }) = &operator.in_flight {
        writeln!(to, "  in flight   {} rows: {}", grouped(*rows), fields(of))?;
    }
    for range in &operator.watermarks {
        let (first, last) = (range.first, range.end.saturating_sub(1));
        writeln!(to, "  key groups  {first} to {last}: {}", watermark_text(Some(range.watermark)))?;
    }
    Ok(())
}

fn read_to(position: &Position) -> String {
    match position {
        Position::File { byte, line, within_overlong, .. } => {
            let within = if *within_overlong { ", within a record that is too long" } else { "" };
            format!("read up to byte {}, line {}{within}", grouped(*byte), grouped(*line))
        }
        Position::Generated { last: Some(last) } => format!("made up to record {}", grouped(*last)),
        Position::Generated { last: None } => "made nothing yet".to_owned(),
        Position::Stream { sequence, .. } => format!("read up to message {}", grouped(*sequence)),
        Position::Log { offset, .. } => format!("read up to offset {}", grouped(*offset)),
    }
}

fn watermark_text(watermark: Option<i64>) -> String {
    match watermark {
        None | Some(i64::MIN) => "watermark not known yet".to_owned(),
        Some(i64::MAX) => "watermark at the end of time".to_owned(),
        Some(ms) => format!("watermark {}", time(ms)),
    }
}

fn fields(fields: &[Field]) -> String {
    let field = |field: &Field| {
        let Field { name, r#type, nullable } = field;
        format!("{name}: {type}{}", if *nullable { "?" } else { "" })
    };
    if fields.is_empty() {
        "none".to_owned()
    } else {
        fields.iter().map(field).collect::<Vec<_>>().join(", ")
    }
}

fn counts_text(counts: &Counts) -> String {
    counts.iter().map(|(name, count)| format!("{} {name}", grouped(*count))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;
    use tidemill_checkpoint::FileEntry;

    use super::*;

    /// A manifest without anything in it but files.
    pub(in crate::cli::checkpoint) fn manifest(checkpoint: u64, run: u64, files: Vec<FileEntry>) -> Manifest {
        serde_json::from_value(json!({
            "format": 1, "pipeline": "orders", "checkpoint": checkpoint, "run": run, "kind": "checkpoint",
            "created_ms": 1_700_000_000_000_u64, "duration_ms": 1_012, "key_hash": "xxh3-64, seed 0", "key_groups": 720,
            "sources": [], "operators": [], "state": { "backend": "rocksdb", "files": files }, "sinks": [],
        }))
        .unwrap()
    }

    #[test]
    fn all_of_a_manifest_is_shown() {
        let mut value = json!(manifest(12, 3, Vec::new()));
        let digest = "ab".repeat(32);
        value["kind"] = json!("finished");
        value["format"] = json!(2);
        value["savepoint"] = json!("kept");
        value["sources"] = json!([{ "id": "clicks", "partitions": [
            { "name": "a.json", "watermark": 1_700_000_000_000_u64, "ended": true,
              "position": { "in": "file", "byte": 1_048_576, "line": 9_000, "tail_bytes": 0, "tail_hash": "0123456789abcdef" } },
            { "name": "0", "watermark": null, "ended": false, "position": { "in": "log", "log": "0123456789abcdef", "offset": 17, "history": "0123456789abcdef" } },
        ] }]);
        value["operators"] = json!([{ "id": "count", "number": 1, "component": digest, "world": "aggregate-operator",
            "key": [{ "name": "page", "type": "text", "nullable": true }], "windows": "tumbling, 1m", "parallelism": 2,
            "state": [{ "version": 1, "fields": [{ "name": "n", "type": "integer" }] }],
            "collections": [{ "number": 0, "name": "seen", "entry": "text", "value": "boolean", "expires_by": "event-time" }],
            "in_flight": { "rows": 1_234, "fields": [{ "name": "page", "type": "text", "nullable": true }] },
            "watermarks": [{ "first": 0, "end": 720, "watermark": i64::MAX }] }]);
        value["state"]["files"] =
            json!([{ "name": "000012.sst", "sha256": digest, "bytes": 4_096, "immutable": true }]);
        value["sinks"] = json!([{ "id": "out", "destination": "/data/out", "parts":
            [{ "staged": "staged/1.json", "committed": "1.json", "bytes": 77, "rows": 3 }] }]);
        value["counters"] = json!({ "sources": { "clicks": { "rows": 9_000, "malformed": 1 } } });
        value["warnings"] = json!(["slow"]);
        let text = as_text(&serde_json::from_value(value).unwrap());
        assert_eq!(
            text,
            format!(
                "checkpoint 12 of pipeline orders, made by run 3
  kept as     savepoint kept, until it is deleted
  kind        finished: the input ended
  made        2023-11-14T22:13:20Z, within 1,012 ms
  keys        xxh3-64, seed 0; 720 key groups
  format      2
  unaligned   1,234 rows in flight

source clicks
  a.json: read up to byte 1,048,576, line 9,000, watermark 2023-11-14T22:13:20Z, ended
  0: read up to offset 17, watermark not known yet

operator count, number 1, aggregate-operator, parallelism 2
  component   sha256 {digest}
  key         page: text?
  windows     tumbling, 1m
  state       version 1: n: integer
  collection  0, seen: text to boolean, expires by event-time
  in flight   1,234 rows: page: text?
  key groups  0 to 719: watermark at the end of time

state, rocksdb: 1 file, 4.0 kB
  000012.sst      4.0 kB  sha256 {digest}

sink out, to /data/out
  staged/1.json becomes 1.json: 3 rows, 77 B

counted so far
  source clicks: 1 malformed, 9,000 rows

warnings
  slow
"
            )
        );
    }
}
