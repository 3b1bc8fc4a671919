//! Sessions, count windows, days of a time zone, allowed lateness and triggers: what comes out, also when the pipeline
//! is killed on the way.

use tidemill_tests::{Consumer, Folder, sorted};

use crate::lives::{SESSIONS, assert_nothing_staged, assert_same, uninterrupted};

/// Rows of a file, `user,at`, counted by user; the fields of results in the order of their names.
fn counted(rows: &str, operator: &str, fields: &str) -> Vec<String> {
    let folder = Folder::with(&[("rows.csv", &format!("user,at\n{rows}"))]);
    folder.run(&pipeline(operator, fields)).well();
    sorted(folder.read("out.csv").lines().skip(1))
}

fn pipeline(operator: &str, fields: &str) -> String {
    format!(
        r#"
        name = "p"
        parallelism = 1
        [sources.rows]
        type = "files"
        path = "rows.csv"
        fields = {{ user = "text", at = {{ type = "timestamp", unit = "ms" }} }}
        event_time = {{ field = "at", out_of_orderness = "0s" }}
        [operators.counted]
        component = "@count"
        input = "rows"
        key = "user"
        {operator}
        [sinks.out]
        type = "files"
        input = "counted"
        path = "out.csv"
        timestamps = "ms"
        fields = {fields}
        "#
    )
}

const BOUNDS: &str = r#"["user", "count", "window_start", "window_end"]"#;
const FIRINGS: &str = r#"["user", "count", "window_start", "window_firing", "window_timing"]"#;

#[test]
fn a_session_ends_a_gap_after_its_last_row() {
    // b comes back just a gap later, c a millisecond after that.
    let rows = "a,0\nb,0\nc,0\na,2500\na,1000\nb,10000\nc,10001\na,40000\n";
    let window = "window = { type = \"session\", gap = \"10s\" }\nallowed_lateness = \"0s\"";
    assert_eq!(
        counted(rows, window, BOUNDS),
        ["a,1,40000,50000", "a,3,0,12500", "b,2,0,20000", "c,1,0,10000", "c,1,10001,20001"]
    );
}

#[test]
fn a_count_window_has_the_bounds_of_its_rows() {
    let rows = "a,5\nb,7\na,9\na,11\na,12\na,20\n";
    let window = "window = { type = \"count\", rows = 2 }";
    assert_eq!(counted(rows, window, BOUNDS), ["a,1,20,21", "a,2,11,13", "a,2,5,10", "b,1,7,8"]);
}

#[test]
fn a_day_is_what_the_time_zone_says() {
    // Berlin, 2026-03-29, has 23 hours: from 2026-03-28T23:00Z to 22:00Z.
    let (start, hour) = (1_774_738_800_000_i64, 3_600_000);
    let rows = format!("a,{start}\na,{}\na,{}\n", start + 23 * hour - 1, start + 23 * hour);
    let window = "window = { type = \"tumbling\", size = \"1d\", time_zone = \"Europe/Berlin\" }";
    let (second, third) = (start + 23 * hour, start + 47 * hour);
    assert_eq!(
        counted(&rows, window, BOUNDS),
        [format!("a,1,{second},{third}"), format!("a,2,{start},{second}")]
    );
}

/// In processing time the two rows are as good as simultaneous, and the end of the input ends their window.
#[test]
fn windows_of_processing_time_end_with_the_input() {
    let window = "window = { type = \"session\", gap = \"1h\", time = \"processing\" }";
    assert_eq!(counted("a,0\na,90000000\n", window, "[\"user\", \"count\"]"), ["a,2"]);
}

#[test]
fn late_rows_make_a_window_fire_again_until_its_lateness_is_over() {
    let folder = Folder::with(&[("rows.csv", "user,at\na,100\na,1500\na,200\na,300\na,3000\na,400\n")]);
    let operator = "window = { type = \"tumbling\", size = \"1s\" }\nallowed_lateness = \"1s\"";
    let ended = folder.run_with(&pipeline(operator, FIRINGS), &["--json"]).well();
    assert_eq!(
        sorted(folder.read("out.csv").lines().skip(1)),
        ["a,1,0,1,on-time", "a,1,1000,1,on-time", "a,1,3000,1,on-time", "a,3,0,2,late"]
    );
    assert_eq!(ended.count("operators", "counted", "late"), 1);
    let late = &folder.json_lines("p.late.jsonl")[0];
    assert!(late.to_string().contains("400"), "{late}");
}

#[test]
fn a_window_fires_early_each_so_many_rows() {
    let rows = "a,1\na,2\na,3\na,4\na,5\n";
    let operator = |mode| {
        let window = "window = { type = \"tumbling\", size = \"1s\" }";
        format!("{window}\ntrigger = {{ early_rows = 2, mode = \"{mode}\" }}")
    };
    assert_eq!(
        counted(rows, &operator("accumulating"), FIRINGS),
        ["a,2,0,1,early", "a,4,0,2,early", "a,5,0,3,on-time"]
    );
    assert_eq!(
        counted(rows, &operator("discarding"), FIRINGS),
        ["a,1,0,3,on-time", "a,2,0,1,early", "a,2,0,2,early"]
    );
    let every = "window = { type = \"global\" }\ntrigger = { rows = 2, mode = \"discarding\" }";
    let fields = "[\"user\", \"count\", \"window_firing\", \"window_timing\"]";
    assert_eq!(counted(rows, every, fields), ["a,2,1,early", "a,2,2,early"]);
}

#[test]
fn windows_of_any_kind_survive_kills_and_other_parallelism() {
    let expected = uninterrupted(SESSIONS);
    assert!(expected.len() > 5_000, "{} rows prove little", expected.len());
    for lives in [[1, 3, 2], [2, 2, 1]] {
        let (folder, mut consumer) = (Folder::new(), Consumer::new("out"));
        for (life, tasks) in lives.into_iter().enumerate() {
            let failpoint = ["commit.done=kill@2", "snapshot.slice=kill@40", ""][life];
            let ended = folder.live(SESSIONS, tasks, failpoint);
            assert_eq!(ended.was_killed(), life < 2, "{tasks} of {lives:?}: {}", ended.stderr);
            consumer.look(&folder);
        }
        assert_nothing_staged(&folder);
        assert_same(&consumer.rows(), &expected, &format!("{lives:?}"));
    }
}

#[test]
fn state_of_other_windows_is_refused() {
    let folder = Folder::new();
    assert!(folder.live(SESSIONS, 1, "commit.done=kill@2").was_killed(), "it ended too early");
    let ended = folder.live(&SESSIONS.replace("gap = \"7ms\"", "gap = \"8ms\""), 1, "").with(2);
    let words =
        "was kept for aggregate-operator by [bidder (integer)], windows session, gap 7 ms, accumulating";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}
