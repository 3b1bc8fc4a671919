//! The hand-written program that the host is measured against: what an engineer would write who has one
//! machine, these files and this query.
//!
//! One thread per file parses its lines with serde_json, typed and borrowed, just the fields that the
//! query reads. Rows that need nothing else are written at once; aggregates are kept in the thread's own
//! hash maps and merged at the end of the input. No exchange, no watermark, no checkpoint, no sandbox: a
//! bound to measure against, not an engine.

mod query;

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use query::{Input, Q0, Q1, Q2, Q5, Q7, Query, WordCount};

const USAGE: &str = "\
usage: tidemill-bench-native QUERY INPUT... [--out PATH] [--full]

QUERY   q0, q1, q2, q5, q7 over Nexmark events as JSON lines; wc over lines of words
INPUT   a file or a glob; each file is a partition with a thread of its own
--out   q0, q1, q2 write PATH, or PATH.0, PATH.1, ... if there are several inputs; the others write PATH.
        Without it the rows are made all the same and go to /dev/null
--full  parse all fields of an event, not just those that the query reads";

/// Large enough that system calls don't show, small enough for the L2 cache.
const BUFFER_BYTES: usize = 256 << 10;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let result = Arguments::parse(std::env::args().skip(1)).and_then(|arguments| {
        let measure = match arguments.query.as_str() {
            "q0" => measure::<Q0>,
            "q1" => measure::<Q1>,
            "q2" => measure::<Q2>,
            "q5" => measure::<Q5>,
            "q7" => measure::<Q7>,
            "wc" => measure::<WordCount>,
            other => return Err(format!("there is no query {other:?}\n{USAGE}").into()),
        };
        println!("{}", serde_json::to_string(&measure(&arguments)?)?);
        Ok(())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    query: String,
    inputs: Vec<String>,
    out: Option<String>,
    full: bool,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self { query: String::new(), inputs: Vec::new(), out: None, full: false };
        parsed.query = arguments.next().ok_or(USAGE)?;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--out" => parsed.out = Some(arguments.next().ok_or("--out wants a path")?),
                "--full" => parsed.full = true,
                flag if flag.starts_with('-') => return Err(format!("unknown option {flag}\n{USAGE}").into()),
                pattern => {
                    for path in glob::glob(pattern)? {
                        parsed.inputs.push(path?.display().to_string());
                    }
                }
            }
        }
        if parsed.inputs.is_empty() {
            return Err(format!("no input file found\n{USAGE}").into());
        }
        Ok(parsed)
    }

    /// The output of the thread that reads this input, if the query writes while it reads.
    fn out_of_input(&self, at: usize) -> Option<String> {
        let out = self.out.as_ref()?;
        Some(if self.inputs.len() == 1 { out.clone() } else { format!("{out}.{at}") })
    }
}

/// The line that is printed.
#[derive(Serialize)]
struct Measured {
    engine: &'static str,
    query: String,
    events: u64,
    rows: u64,
    /// From the first file's opening to the last flush.
    seconds: f64,
    /// Of all threads, in user mode and in the kernel; in steps of 10 ms.
    cpu_seconds: f64,
}

fn measure<Q: Query>(arguments: &Arguments) -> Result<Measured> {
    let (begin, cpu_before) = (Instant::now(), cpu_seconds()?);
    let (events, rows) = run::<Q>(arguments)?;
    Ok(Measured {
        engine: if arguments.full { "native-full" } else { "native" },
        query: arguments.query.clone(),
        events,
        rows,
        seconds: begin.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds()? - cpu_before,
    })
}

/// Events read and rows written.
fn run<Q: Query>(arguments: &Arguments) -> Result<(u64, u64)> {
    let parts: Vec<Result<_>> = std::thread::scope(|scope| {
        let threads: Vec<_> = arguments
            .inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                scope.spawn(move || {
                    let out = arguments.out_of_input(at).filter(|_| Q::WRITES_WHILE_READING);
                    read::<Q>(input, out.as_deref(), arguments.full)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a reader panicked")).collect()
    });
    let (mut queries, mut events, mut rows) = (Vec::new(), 0, 0);
    for part in parts {
        let (query, events_read, rows_written) = part?;
        queries.push(query);
        events += events_read;
        rows += rows_written;
    }
    if !Q::WRITES_WHILE_READING {
        let mut out = Out::create(arguments.out.as_deref())?;
        Q::finish(queries, &mut out)?;
        rows += out.close()?;
    }
    Ok((events, rows))
}

/// One partition's share: what the query keeps, events read, rows written.
fn read<Q: Query>(path: &str, out: Option<&str>, full: bool) -> Result<(Q, u64, u64)> {
    let mut out = Out::create(out)?;
    let (mut query, mut events) = (Q::default(), 0);
    each_line(path, |line| {
        events += 1;
        let input = Q::Input::parse(line, full).map_err(|e| format!("{path}: line {events}: {e}"))?;
        Ok(query.row(input, &mut out)?)
    })?;
    Ok((query, events, out.close()?))
}

/// Lines are borrowed from the buffer; only one that a buffer's end cuts in two is copied.
fn each_line(path: &str, mut line: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|e| format!("cannot open {path}: {e}"))?;
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut cut = Vec::new();
    loop {
        let buffer = input.fill_buf().map_err(|e| format!("cannot read {path}: {e}"))?;
        if buffer.is_empty() {
            break;
        }
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', buffer) {
            if cut.is_empty() {
                line(&buffer[start..end])?;
            } else {
                cut.extend_from_slice(&buffer[start..end]);
                line(&cut)?;
                cut.clear();
            }
            start = end + 1;
        }
        cut.extend_from_slice(&buffer[start..]);
        let length = buffer.len();
        input.consume(length);
    }
    if cut.is_empty() { Ok(()) } else { line(&cut) }
}

/// Where rows go, one JSON object a line.
struct Out {
    file: BufWriter<File>,
    rows: u64,
}

impl Out {
    fn create(path: Option<&str>) -> Result<Self> {
        let path = path.unwrap_or("/dev/null");
        let file = File::create(path).map_err(|e| format!("cannot create {path}: {e}"))?;
        Ok(Self { file: BufWriter::with_capacity(BUFFER_BYTES, file), rows: 0 })
    }

    fn write(&mut self, row: &impl Serialize) -> io::Result<()> {
        self.rows += 1;
        serde_json::to_writer(&mut self.file, row)?;
        self.file.write_all(b"\n")
    }

    /// How many rows were written.
    fn close(mut self) -> io::Result<u64> {
        self.file.flush()?;
        Ok(self.rows)
    }
}

/// User and system time of this process. The kernel counts both in hundredths of a second.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name in parentheses and may hold anything; utime and stime are
    // the 12th and 13th after it.
    let fields = stat.rsplit_once(')').ok_or("/proc/self/stat names no program")?.1;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}
