//! How fast a log is appended to and read: batches of 4,096 records of 200 bytes.
//!
//! ```text
//! cargo run --release -p tidemill-log --example throughput -- FOLDER
//! ```
//!
//! The folder must not be there; it is removed. What is read was just written, so it comes from the system's
//! memory.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use tidemill_log::{Durability, Log, Options, Record, Stage, Writer, stage};

const RECORDS: usize = 4_096;
const VALUE_BYTES: usize = 200;
const BATCHES: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("say in which folder, which must not be there")?;
    let folder = Path::new(&folder);
    let value = vec![b'x'; VALUE_BYTES];
    let record = Record { value: &value, ..Record::default() };
    let records = vec![record; RECORDS];

    let writer = Writer::create(folder, &Options::default())?;
    measure("append, a sync each", BATCHES / 4, || writer.append(0, &records).map(|_| ()))?;
    let writer = writer.with_durability(Durability::OnRequest);
    measure("append, a sync each 64 MiB", BATCHES, || writer.append(0, &records).map(|_| ()))?;
    let ids: Vec<[u8; 8]> = (0..RECORDS as u64).map(u64::to_le_bytes).collect();
    let mut round = 0u64;
    measure("append, with ids", BATCHES / 4, || {
        round += 1;
        let ids: Vec<[u8; 16]> =
            ids.iter().map(|id| [*id, round.to_le_bytes()].concat().try_into().unwrap_or([0; 16])).collect();
        let records: Vec<_> = ids.iter().map(|id| Record { id: Some(id), ..record }).collect();
        writer.append(0, &records).map(|_| ())
    })?;
    let one = [record];
    measure_records("append one at a time", 100_000, || writer.append(0, &one).map(|_| 1))?;
    writer.sync()?;

    let log = Log::open(folder)?;
    let mut reader = log.reader(0, 0)?;
    let mut sum = 0usize;
    measure_records("read", usize::MAX, || {
        let batch = reader.read(RECORDS, 1 << 20)?;
        sum += batch
            .records()
            .map(|(_, r)| r.value.iter().step_by(64).map(|b| usize::from(*b)).sum::<usize>())
            .sum::<usize>();
        Ok(batch.len())
    })?;
    let begun = Instant::now();
    let middle = log.next_offset(0)? / 2;
    log.reader(0, middle)?;
    println!("{:32} {:>10.1} ms", "open at an offset", begun.elapsed().as_secs_f64() * 1e3);
    drop(writer);
    let begun = Instant::now();
    let writer = Writer::open(folder)?;
    println!("{:32} {:>10.1} ms", "open to write", begun.elapsed().as_secs_f64() * 1e3);

    let of = Stage { producer: "p".to_owned(), run: 0, epoch: 1, part: 0 };
    let mut staging = stage(&folder.join("staged"), of)?;
    measure("stage", BATCHES / 4, || staging.append(0, &records))?;
    let begun = Instant::now();
    let staged = [staging.finish()?];
    println!("{:32} {:>10.1} ms", "finish", begun.elapsed().as_secs_f64() * 1e3);
    let mut outcome = None;
    measure_records("publish", 1, || {
        outcome = Some(writer.publish(0, &staged)?);
        Ok(BATCHES / 4 * RECORDS)
    })?;
    drop(writer);
    std::fs::remove_dir_all(folder)?;
    println!("({sum}, {outcome:?})");
    Ok(())
}

fn measure(
    what: &str,
    batches: usize,
    mut step: impl FnMut() -> tidemill_log::Result<()>,
) -> tidemill_log::Result<()> {
    measure_records(what, batches, || step().map(|()| RECORDS))
}

fn measure_records(
    what: &str,
    steps_max: usize,
    mut step: impl FnMut() -> tidemill_log::Result<usize>,
) -> tidemill_log::Result<()> {
    let (begun, mut records) = (Instant::now(), 0);
    for _ in 0..steps_max {
        match step()? {
            0 => break,
            count => records += count,
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (millions, megabytes) = (records as f64 / 1e6, (records * VALUE_BYTES) as f64 / 1e6);
    println!("{what:32} {:>10.1} MB/s {:>10.2} million records/s", megabytes / seconds, millions / seconds);
    Ok(())
}
