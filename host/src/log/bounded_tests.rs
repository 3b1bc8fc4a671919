//! Reading up to a position, and not a row further, for each kind of source.

use std::path::PathBuf;

use tidemill_flow::batch::Position;
use tidemill_flow::schema::{Field, FieldType, Schema};
use tidemill_log::{Options, Record, Writer};

use super::{Begin, Partition, ReadPosition, Rows, nexmark};
use crate::formats::{CsvOptions, Demand, Format};
use crate::pipeline::plan::{LogStart, SourceInput, SourcePlan};

fn source(input: SourceInput, schema: Schema) -> SourcePlan {
    let id = "s".to_owned();
    SourcePlan { id, input, schema, event_time: None, idle_after_ms: None, align: None }
}

fn numbers() -> (Schema, Vec<Demand>) {
    let field = Field::nullable("n", FieldType::Integer);
    (Schema::new(vec![field.clone()]).unwrap(), vec![Demand::named(field)])
}

fn files(path: PathBuf, format: Format) -> SourcePlan {
    let (schema, demands) = numbers();
    source(SourceInput::Files { paths: vec![path], format, demands }, schema)
}

/// What was read: rows by their numbers, and what was no row.
fn seen(rows: &Rows) -> Vec<u64> {
    let records = rows.positions.iter().map(|&p| Position::unpack(p).record);
    records.chain(rows.malformed.iter().map(|m| m.line)).collect()
}

/// Reads between two positions; gives what was read, and where it ended.
async fn read(
    source: &SourcePlan,
    from: Option<&ReadPosition>,
    to: Option<&ReadPosition>,
) -> (Vec<u64>, Vec<ReadPosition>) {
    let mut partition = Partition::open(source, 0, 0).unwrap();
    from.iter().for_each(|from| partition.resume(from).unwrap());
    to.iter().for_each(|to| partition.end_at(to).unwrap());
    let (mut all, mut positions) = (Vec::new(), vec![partition.position().unwrap()]);
    while let Some(rows) = partition.next().await.unwrap() {
        all.extend(seen(&rows));
        positions.push(partition.position().unwrap());
    }
    // Asked again, it has still ended.
    assert!(partition.next().await.unwrap().is_none());
    positions.push(partition.position().unwrap());
    (all, positions)
}

/// Every stretch between two places where a checkpoint could be is read alone, and all of them make the whole.
async fn check_stretches(source: &SourcePlan, places_min: usize) {
    let (whole, mut places) = read(source, None, None).await;
    places.dedup();
    assert!(places.len() >= places_min, "only {} places", places.len());
    let mut cut = Vec::new();
    for pair in places.windows(2) {
        let (rows, positions) = read(source, Some(&pair[0]), Some(&pair[1])).await;
        assert_eq!(positions.last(), Some(&pair[1]));
        cut.extend(rows);
    }
    assert!(cut == whole, "{} rows in stretches, {} in all", cut.len(), whole.len());
    for (at, place) in places.iter().enumerate() {
        let (before, positions) = read(source, None, Some(place)).await;
        assert_eq!(positions.last(), Some(place), "place {at}");
        assert!(whole.starts_with(&before), "place {at}");
        let (nothing, _) = read(source, Some(place), Some(place)).await;
        assert_eq!(nothing, [0; 0], "place {at}");
    }
}

fn lines(count: usize) -> String {
    (0..count)
        .map(|n| if n % 1_000 == 7 { "{\"n\":?}\n".to_owned() } else { format!("{{\"n\":{n}}}\n") })
        .collect()
}

#[tokio::test]
async fn a_file_is_read_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    // Without a last line break, as of a writer that isn't done or doesn't care.
    std::fs::write(&path, lines(60_000) + "{\"n\":1}").unwrap();
    check_stretches(&files(path.clone(), Format::JsonLines), 15).await;
    let csv: String = (0..60_000).map(|n| format!("{n},x\n")).collect();
    std::fs::write(&path, format!("n,m\n{csv}\n\n")).unwrap();
    check_stretches(&files(path.clone(), Format::Csv(CsvOptions::default())), 15).await;
    std::fs::write(&path, "").unwrap();
    check_stretches(&files(path, Format::JsonLines), 1).await;
}

#[tokio::test]
async fn a_bound_within_an_overlong_record_is_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let overlong = "x".repeat(18 << 20);
    std::fs::write(&path, format!("{}{overlong}\n{}", lines(10), lines(10))).unwrap();
    let source = files(path, Format::JsonLines);
    let (_, places) = read(&source, None, None).await;
    let within = |p: &&ReadPosition| matches!(p, ReadPosition::File(p) if p.within_overlong);
    assert!(places.iter().any(|p| within(&p)), "{places:?}");
    check_stretches(&source, 3).await;
}

#[tokio::test]
async fn generated_events_are_read_up_to_the_event() {
    for out_of_orderness_ms in [0, 40] {
        let options = nexmark::Options {
            events: Some(20_000),
            out_of_orderness_ms,
            partitions: 2,
            ..nexmark::Options::default()
        };
        let (schema, _) = (nexmark::schema(), ());
        let source = source(SourceInput::Nexmark { options, paced: false }, schema);
        check_stretches(&source, 3).await;
        // Between two batches too.
        let (whole, _) = read(&source, None, None).await;
        for count in [1, 100, 5_000] {
            let end = ReadPosition::Generated { last: Some(whole[count - 1]) };
            let (rows, positions) = read(&source, None, Some(&end)).await;
            assert_eq!((rows.as_slice(), positions.last()), (&whole[..count], Some(&end)));
        }
    }
}

fn log(folder: &std::path::Path) -> SourcePlan {
    let (schema, demands) = numbers();
    let (path, format) = (folder.join("log"), Format::JsonLines);
    let input =
        SourceInput::Log { path, partitions: 1, format, demands, from: LogStart::Beginning, until_end: true };
    source(input, schema)
}

fn append(writer: &Writer, first: i64, count: i64) {
    let values: Vec<String> = (first..first + count).map(|n| format!("{{\"n\":{n}}}")).collect();
    let record = |(at, value): (i64, &'_ String)| (at, value.clone());
    let values: Vec<(i64, String)> = (first..).zip(&values).map(record).collect();
    let records: Vec<Record<'_>> = values
        .iter()
        .map(|(at, value)| Record { value: value.as_bytes(), timestamp_ms: *at * 10, ..Record::default() })
        .collect();
    writer.append(0, &records).unwrap();
}

#[tokio::test]
async fn a_log_is_read_to_the_offset_and_waits_for_nothing_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(&folder.path().join("log"), &Options::default()).unwrap();
    (0..30).for_each(|at| append(&writer, at * 1_000, 1_000));
    let source = log(folder.path());
    check_stretches(&source, 7).await;
    let (_, places) = read(&source, None, None).await;
    let Some(ReadPosition::Log(last)) = places.last() else { panic!("{places:?}") };
    for offset in [0, 1, 999, 1_000, 4_097] {
        let end = ReadPosition::Log(super::LogPosition { offset, history: 0, ..*last });
        let (rows, _) = read(&source, None, Some(&end)).await;
        assert_eq!(rows, (0..offset).collect::<Vec<_>>());
    }
    let mut partition = Partition::open(&source, 0, 0).unwrap();
    let beyond = ReadPosition::Log(super::LogPosition { offset: 30_001, ..*last });
    assert!(partition.end_at(&beyond).unwrap_err().to_string().contains("30001"));
    let other = ReadPosition::Log(super::LogPosition { identity: last.identity ^ 1, ..*last });
    assert!(partition.end_at(&other).unwrap_err().to_string().contains("isn't the one"));
    let kind = partition.end_at(&ReadPosition::Generated { last: None }).unwrap_err().to_string();
    assert!(kind.contains("another kind of source"), "{kind}");
}

#[tokio::test]
async fn a_log_is_begun_at_an_offset_or_time() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(&folder.path().join("log"), &Options::default()).unwrap();
    append(&writer, 0, 5_000);
    let source = log(folder.path());
    for (begin, first) in [
        (Begin::Sequence(0), 0),
        (Begin::Sequence(4_500), 4_500),
        (Begin::Sequence(99_999), 5_000),
        (Begin::Time(-1), 0),
        (Begin::Time(45_001), 4_501),
        (Begin::Time(1_000_000), 5_000),
    ] {
        let mut partition = Partition::open(&source, 0, 0).unwrap();
        partition.begin_at(begin).unwrap();
        let mut read = Vec::new();
        while let Some(rows) = partition.next().await.unwrap() {
            read.extend(seen(&rows));
        }
        assert_eq!(read, (first..5_000).collect::<Vec<_>>(), "{begin:?}");
    }
}

#[test]
fn a_file_knows_no_sequences_and_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, "").unwrap();
    let mut partition = Partition::open(&files(path, Format::JsonLines), 0, 0).unwrap();
    for (begin, what) in
        [(Begin::Sequence(1), "where a sequence stands"), (Begin::Time(1), "where a time stands")]
    {
        let refused = partition.begin_at(begin).unwrap_err().to_string();
        assert!(refused.contains(what) && refused.contains("`beginning`"), "{refused}");
    }
}
