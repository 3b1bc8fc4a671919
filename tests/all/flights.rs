//! A month of real departures against results that `fixtures/flights/golden.py` computed without Tidemill.

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill_tests::{Ended, Folder, example, sorted, workspace, workspace_file};

const DATA: &str = "examples/flights/data/flights-2013-01.csv";
const BOUND_HOURS: i64 = 17;

#[test]
fn both_outputs_are_the_golden_ones_at_any_parallelism() {
    for parallelism in ["1", "2", "4"] {
        let folder = Folder::new();
        let ended = folder.run_with(&on_the_data(), &["--json", "--parallelism", parallelism]).well();
        for (output, golden) in
            [("hourly-by-origin", "hourly_by_origin"), ("daily-by-carrier", "daily_by_carrier")]
        {
            let expected = workspace_file(&format!("tests/fixtures/flights/{golden}.csv"));
            let found = folder.rows(&format!("out/{output}.csv"));
            assert_eq!(found, sorted(expected.lines()), "{output} with {parallelism} tasks");
        }
        check_totals(&ended);
    }
}

fn check_totals(ended: &Ended) {
    let totals: Value = serde_json::from_str(&workspace_file("tests/fixtures/flights/totals.json")).unwrap();
    assert_eq!(totals["bound_hours"], BOUND_HOURS, "the fixture was computed for the example's bound");
    let (hourly, daily) = (&totals["hourly_by_origin"], &totals["daily_by_carrier"]);
    let count = |section: &str, id: &str, what: &str| Value::from(ended.count(section, id, what));
    assert_eq!(count("sources", "departures", "rows"), hourly["rows"]);
    assert_eq!(count("sources", "departures", "malformed"), 0);
    assert_eq!(count("operators", "clean", "rejected"), hourly["rejected"]);
    assert_eq!(count("operators", "by-origin", "late"), hourly["late_rows"]);
    assert_eq!(count("operators", "by-carrier", "late"), daily["late_rows"]);
    assert_eq!(count("sinks", "hourly-by-origin", "rows"), hourly["results"]);
    assert_eq!(count("sinks", "daily-by-carrier", "rows"), daily["results"]);
}

#[test]
fn every_rejected_and_late_row_is_filed_with_its_place() {
    let folder = Folder::new();
    folder.run(&on_the_data()).well();
    let (cancelled, late) = cancelled_and_late();
    assert!(!cancelled.is_empty() && !late.is_empty());
    assert_eq!(places(&folder, "out/rejected.jsonl", "clean", "cancelled: no departure time"), cancelled);
    assert_eq!(places(&folder, "out/late.jsonl", "by-origin", "every window of the row had fired"), late);
}

/// The origin and carrier of each filed row by its line, after looking at who filed it, why, and from which file.
fn places(folder: &Folder, file: &str, operator: &str, reason: &str) -> BTreeMap<u64, String> {
    let letters = folder.json_lines(file);
    let count = letters.len();
    let place = |letter: Value| {
        assert_eq!(letter["operator"], operator, "{letter}");
        assert_eq!(letter["reason"], reason, "{letter}");
        assert_eq!(letter["from"], workspace().join(DATA).to_str().unwrap(), "{letter}");
        (letter["record"].as_u64().unwrap(), letter["row"]["origin"].as_str().unwrap().to_owned())
    };
    let places: BTreeMap<u64, String> = letters.into_iter().map(place).collect();
    assert_eq!(places.len(), count, "each row is filed once");
    places
}

/// The same from the file itself: line by line, with the rule for lateness as the golden results have it.
fn cancelled_and_late() -> (BTreeMap<u64, String>, BTreeMap<u64, String>) {
    let (mut cancelled, mut late) = (BTreeMap::new(), BTreeMap::new());
    let mut latest = i64::MIN;
    for (line, text) in (1..).zip(workspace_file(DATA).lines()).skip(1) {
        let cells: Vec<&str> = text.split(',').collect();
        let (delay, origin, hour) = (cells[5], cells[12].to_owned(), hour(cells[18]));
        if delay == "NA" {
            cancelled.insert(line, origin);
        } else if latest.saturating_sub(BOUND_HOURS) > hour {
            late.insert(line, origin);
        }
        latest = latest.max(hour);
    }
    (cancelled, late)
}

/// Hours since the year began; the file ends in the first hours of February.
fn hour(time: &str) -> i64 {
    let number = |at: usize| time[at..at + 2].parse::<i64>().unwrap();
    ((number(5) - 1) * 31 + number(8)) * 24 + number(11)
}

#[test]
fn three_partitions_give_what_one_file_gives() {
    let folder = Folder::new();
    let one = example("flights/pipeline.toml").replace("17h", "18h");
    let data = workspace_file(DATA);
    folder.write("data/flights-all.csv", &data);
    let expected = results(&folder, &one);
    std::fs::remove_file(folder.path("data/flights-all.csv")).unwrap();

    let (header, rows) = data.split_once('\n').unwrap();
    for part in 0..3 {
        let rows: Vec<&str> = rows.lines().skip(part).step_by(3).collect();
        folder.write(&format!("data/flights-{part}.csv"), format!("{header}\n{}\n", rows.join("\n")));
    }
    assert_eq!(results(&folder, &one), expected);
}

fn results(folder: &Folder, pipeline: &str) -> Vec<Vec<String>> {
    let ended = folder.run_with(pipeline, &["--json", "--parallelism", "3"]).well();
    assert_eq!(ended.count("sources", "departures", "rows"), 27_004);
    assert!(!folder.has("out/late.jsonl"), "18 hours are enough for every row");
    ["hourly-by-origin", "daily-by-carrier"].map(|o| folder.rows(&format!("out/{o}.csv"))).to_vec()
}

/// The example, reading its data where it lies.
fn on_the_data() -> String {
    let data = workspace().join("examples/flights/data/flights-2013-01.csv");
    example("flights/pipeline.toml").replace("\"data/flights-*.csv\"", &format!("{data:?}"))
}
