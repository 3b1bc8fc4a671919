//! What Tidemill costs, as ratios against something measured in the same run, on this machine.
//!
//! Two questions: the border (a batch through a component against the same code compiled natively, by
//! criterion), and the whole host against a hand-written program that reads and writes the same files, process
//! against process in turns. Results are compared before speed is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::workspace::{Profile, Workspace, output, shown, succeed};
use crate::{Result, guests, setup};

/// Runs of each program; the median of so many moves little when one is disturbed.
const RUNS: usize = 7;
const EVENTS: &str = "2000000";
const PARTITIONS: usize = 2;

/// A query: its operator, and the fields that it writes.
const QUERIES: [(&str, &str, &str); 3] = [
    ("q0", "nexmark_bids", r#"["auction", "bidder", "price", "dateTime", "extra"]"#),
    ("q1", "nexmark_currency", r#"["auction", "bidder", "price", "dateTime", "extra"]"#),
    ("q2", "nexmark_selection", r#"["auction", "price"]"#),
];

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    setup::ensure(workspace)?;
    let tidemill = workspace.build_host(Profile::Release)?;
    guests::build(workspace, &tidemill)?;
    succeed(&mut workspace.cargo([
        "build",
        "--release",
        "-p",
        "tidemill-bench-native",
        "-p",
        "tidemill-benches",
    ]))?;
    workspace.say("the border: cargo bench");
    succeed(&mut workspace.cargo(["bench", "-p", "tidemill-benches"]))?;
    let whole = whole_host(workspace, &tidemill)?;
    println!("\n| what | Tidemill | against | ratio |\n|---|---|---|---|");
    let border = [
        ("transform, 3 numeric columns in, 1 out", "transform/native", "transform/wasm", 4096.0),
        ("aggregate, 64 groups", "aggregate/native", "aggregate/wasm", 4096.0),
    ];
    for (what, native, wasm, rows) in border {
        let (native, wasm) = (median_ns(workspace, native)?, median_ns(workspace, wasm)?);
        let rate = rows / wasm * 1000.0;
        println!(
            "| {what} | {rate:.0} M rows/s and core | the same code native: cost | {:.2} |",
            wasm / native
        );
    }
    let (serde, columns) =
        (median_ns(workspace, "json-lines/serde_json")?, median_ns(workspace, "json-lines/columns")?);
    println!("| decoding JSON lines, 6 fields | | serde_json: speed | {:.2} |", serde / columns);
    let tumbling = median_ns(workspace, "hopping/1")?;
    for slides in ["10", "60"] {
        let cost = median_ns(workspace, &format!("hopping/{slides}"))? / tumbling;
        println!("| a window every 1/{slides} of its size | | one after the other: cost | {cost:.2} |");
    }
    whole.iter().for_each(|line| println!("{line}"));
    Ok(ExitCode::SUCCESS)
}

/// How long rows wait while versions of an operator are exchanged.
pub(crate) fn swaps(workspace: &Workspace) -> Result<ExitCode> {
    setup::ensure(workspace)?;
    let tidemill = workspace.build_host(Profile::Release)?;
    guests::build(workspace, &tidemill)?;
    succeed(&mut workspace.cargo(["run", "--release", "-p", "tidemill-benches", "--bin", "swaps"]))?;
    Ok(ExitCode::SUCCESS)
}

/// Reading a stream, writing one, and the way through a pipeline from one to the other, each against the server alone.
pub(crate) fn nats(workspace: &Workspace) -> Result<ExitCode> {
    setup::ensure(workspace)?;
    workspace.build_host(Profile::Release)?;
    tidemill_nats_test::find()?;
    for example in ["ingest", "output", "latency"] {
        workspace.say(format_args!("the example `{example}` of host/jetstream"));
        let run = ["run", "--release", "-p", "tidemill-jetstream", "--example", example];
        succeed(&mut workspace.cargo(run))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The median of a criterion benchmark, in nanoseconds.
fn median_ns(workspace: &Workspace, name: &str) -> Result<f64> {
    let path = workspace.target()?.join("criterion").join(name).join("new/estimates.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let median = text.split_once(r#""median":"#).map(|(_, rest)| rest);
    median.and_then(|m| number(m, "point_estimate")).ok_or_else(|| format!("no median in {}", path.display()))
}

fn whole_host(workspace: &Workspace, tidemill: &Path) -> Result<Vec<String>> {
    let release = workspace.target()?.join("release");
    let data = workspace.target()?.join("bench-data");
    workspace.say(format_args!("the whole host: {EVENTS} Nexmark events in {}", data.display()));
    let folder = data.display().to_string();
    let partitions = PARTITIONS.to_string();
    succeed(
        &mut workspace.command(release.join("nexmark-files"), [folder.as_str(), EVENTS, partitions.as_str()]),
    )?;
    let mut lines = Vec::new();
    for (query, operator, fields) in QUERIES {
        let pipeline = data.join(format!("{query}.toml"));
        let component = workspace.root.join(guests::FOLDER).join(operator).with_extension("wasm");
        write(&pipeline, &pipeline_file(query, &component, fields))?;
        let mut ours = workspace.command(tidemill, ["run", "--json"]);
        ours.arg(&pipeline);
        let mut theirs = workspace.command(release.join("tidemill-bench-native"), [query]);
        theirs.args((0..PARTITIONS).map(|p| data.join(format!("part-{p}.jsonl"))));
        theirs.arg("--out").arg(data.join(format!("{query}.native")));
        let mut ratios = Vec::new();
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            let (ours, theirs) = (seconds(&mut ours)?, seconds(&mut theirs)?);
            ratios.push(theirs / ours);
            rates.push(EVENTS.parse::<f64>().unwrap_or_default() / ours / 1e6);
        }
        same_rows(&data, query)?;
        ratios.sort_by(f64::total_cmp);
        rates.sort_by(f64::total_cmp);
        let (least, median, most) = (ratios[0], ratios[RUNS / 2], ratios[RUNS - 1]);
        lines.push(format!(
            "| {query}, JSON lines in and out | {:.1} M events/s | hand-written, serde_json: speed | {median:.2} ({least:.2}–{most:.2}) |",
            rates[RUNS / 2]
        ));
    }
    Ok(lines)
}

fn pipeline_file(query: &str, component: &Path, fields: &str) -> String {
    format!(
        r#"name = "{query}"
parallelism = {PARTITIONS}
[sources.events]
type = "files"
path = "part-*.jsonl"
[sources.events.fields]
event_type = "text"
auction = "integer"
bidder = "integer"
price = "integer"
dateTime = {{ type = "timestamp", unit = "ms" }}
extra = "text"
[operators.query]
component = {:?}
input = "events"
[sinks.out]
type = "files"
format = "json-lines"
input = "query"
path = "{query}.out"
fields = {fields}
timestamps = "ms"
"#,
        component.display().to_string()
    )
}

/// The `seconds` that a program says it took.
fn seconds(command: &mut std::process::Command) -> Result<f64> {
    let output = output(command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    match number(&text, "seconds") {
        Some(seconds) if output.status.success() => Ok(seconds),
        _ => Err(format!("`{}` failed: {}", shown(command), String::from_utf8_lossy(&output.stderr))),
    }
}

/// The number behind a key in JSON text.
fn number(text: &str, key: &str) -> Option<f64> {
    let rest = text.split_once(&format!("\"{key}\":"))?.1.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && !".eE+-".contains(c)).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Whether both programs wrote the same rows, in whatever order.
fn same_rows(data: &Path, query: &str) -> Result<()> {
    let ours = sorted(&[data.join(format!("{query}.out"))])?;
    let theirs: Vec<PathBuf> = (0..PARTITIONS).map(|p| data.join(format!("{query}.native.{p}"))).collect();
    if ours == sorted(&theirs)? {
        Ok(())
    } else {
        Err(format!("{query}: the results differ; see {}", data.display()))
    }
}

fn sorted(paths: &[PathBuf]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for path in paths {
        let text =
            std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort_unstable();
    Ok(lines)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_number_is_found_behind_its_key() {
        assert_eq!(number(r#"{"a":1,"seconds": 0.25,"b":2}"#, "seconds"), Some(0.25));
        assert_eq!(number(r#"{"seconds":1e-3}"#, "seconds"), Some(0.001));
        assert_eq!(number("{}", "seconds"), None);
    }
}
