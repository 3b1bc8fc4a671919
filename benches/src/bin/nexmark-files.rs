//! Writes Nexmark events as JSON lines: `nexmark-files FOLDER EVENTS PARTITIONS` makes `part-0.jsonl` and so on. Files that
//! are there already are kept: equal arguments make equal files.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, events, partitions] = arguments.as_slice() else {
        return Err("usage: nexmark-files FOLDER EVENTS PARTITIONS".into());
    };
    let (events, partitions): (u64, u32) = (events.parse()?, partitions.parse()?);
    std::fs::create_dir_all(folder)?;
    let made = format!("{events} events in {partitions} partitions");
    let mark = Path::new(folder).join("made");
    if std::fs::read_to_string(&mark).is_ok_and(|before| before == made) {
        return Ok(());
    }
    for partition in 0..partitions {
        let lines = tidemill_benches::nexmark_lines(events, partition, partitions);
        std::fs::write(Path::new(folder).join(format!("part-{partition}.jsonl")), lines)?;
    }
    std::fs::write(mark, made)?;
    Ok(())
}
