//! What state costs: loads rows in random order, then touches a share of them between freezes.
//!
//! `cargo run --release -p tidemill-state --example churn [MEGABYTES [ROUNDS [MEMORY_MEGABYTES]]]`
//!
//! It works in the folder `CHURN_FOLDER`, or else target/churn, and lets `PAUSE_MS`, or else 1000, pass after each round.

#![expect(clippy::unwrap_used, reason = "a measurement that meets an error is none")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tidemill_flow::storage::{Addresses, Storage, Writes};
use tidemill_state::{Database, FrozenFile, RestoredFile, Settings};

const VALUE_BYTES: usize = 100;
/// Address (13 and a key of 12) and value.
const ROW_BYTES: usize = 125;
const BATCH_ROWS: usize = 2000;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>().expect("a number"));
    let megabytes = arguments.next().unwrap_or(1000);
    let rounds = arguments.next().unwrap_or(20);
    let memory = arguments.next().unwrap_or(megabytes / 4);
    let rows = megabytes * 1_000_000 / ROW_BYTES as u64;
    let settings = Settings { memory_bytes: memory * 1_000_000, ..Settings::default() };
    let folder = PathBuf::from(std::env::var("CHURN_FOLDER").unwrap_or("target/churn".into()));
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    let mut random = Random(42);

    let db = Database::create(&settings, &folder.join("work")).unwrap();
    println!("{rows} rows of {ROW_BYTES} bytes, {memory} MB of memory");
    let begin = Instant::now();
    let mut all: Vec<u64> = (0..rows).collect();
    for i in (1..all.len()).rev() {
        all.swap(i, random.below(i as u64 + 1) as usize);
    }
    let begin_load = Instant::now();
    for batch in all.chunks(BATCH_ROWS) {
        write(&db, batch.iter().copied(), 0);
    }
    let load = begin_load.elapsed().as_secs_f64();
    println!(
        "load: {load:.1} s, {:.0} rows/s, {:.0} MB/s; {}",
        rows as f64 / load,
        megabytes as f64 / load,
        resident()
    );
    drop(all);

    let mut known = BTreeMap::new();
    let take = |n: u64, known: &mut BTreeMap<String, u64>| {
        let begin = Instant::now();
        let files = db.freeze(&folder.join(format!("frozen-{n}"))).unwrap();
        let took = begin.elapsed();
        let new = new_bytes(&files, known);
        let all: u64 = files.iter().map(|f| f.bytes).sum();
        (took, new, all, files)
    };
    let (took, new, ..) = take(0, &mut known);
    println!("freeze 0: {took:?}, {:.1} MB", new as f64 / 1e6);
    let mut before = u64::MAX;
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = files_of(&folder.join("work"));
        if now == before {
            break;
        }
        before = now;
    }
    let (took, new, ..) = take(1, &mut known);
    println!(
        "freeze 1, when compacted: {took:?}, {:.1} MB new, {:.1} s since begin",
        new as f64 / 1e6,
        begin.elapsed().as_secs_f64()
    );

    // What others feel while it is frozen.
    let (reads, slowest) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let mut sum = 0;
    let mut last = Vec::new();
    let mut frozen_max = Duration::ZERO;
    let mut worst = 0.0f64;
    let mut touching = Duration::ZERO;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(7);
            while !stop.load(Relaxed) {
                let begin = Instant::now();
                let list: Vec<_> = (0..10).map(|_| address(random.below(rows))).collect();
                assert!(db.read(&list).unwrap().iter().all(Option::is_some));
                slowest.fetch_max(begin.elapsed().as_micros() as u64, Relaxed);
                reads.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for round in 1..=rounds {
            let begin = Instant::now();
            for _ in 0..(rows / 100).div_ceil(BATCH_ROWS as u64) {
                let touched: Vec<_> = (0..BATCH_ROWS).map(|_| random.below(rows)).collect();
                write(&db, touched.into_iter(), round);
            }
            touching += begin.elapsed();
            let slowest_touch = slowest.swap(0, Relaxed);
            let (took, new, bytes, files) = take(round + 1, &mut known);
            let share = new as f64 / bytes as f64 * 100.0;
            println!(
                "round {round:2}: froze {bytes} bytes in {took:7.1?}, {:6.1} MB new = {share:4.1} %, slowest read {} µs, while touching {slowest_touch} µs",
                new as f64 / 1e6,
                slowest.swap(0, Relaxed)
            );
            std::fs::remove_dir_all(folder.join(format!("frozen-{round}"))).unwrap();
            sum += new;
            frozen_max = frozen_max.max(took);
            worst = worst.max(share);
            last = files;
            // The next checkpoint comes a little later; what is to be compacted gets its time.
            std::thread::sleep(Duration::from_millis(
                std::env::var("PAUSE_MS").ok().and_then(|v| v.parse().ok()).unwrap_or(1000),
            ));
        }
        stop.store(true, Relaxed);
    });
    let size: u64 = last.iter().map(|f| f.bytes).sum();
    println!(
        "SUMMARY touched 1 % in {:?} avg; per freeze {:.1} % new (mean), {worst:.1} % (worst); longest freeze {frozen_max:?}; size {:.0} MB",
        touching / rounds as u32,
        sum as f64 / rounds as f64 / size as f64 * 100.0,
        size as f64 / 1e6,
    );

    println!("usage: {:?}; {}", db.usage().unwrap(), resident());

    let begin = Instant::now();
    let files: Vec<_> =
        last.iter().map(|f| RestoredFile { name: f.name.clone(), path: f.path.clone() }).collect();
    let restored = Database::restore(&settings, &folder.join("restored"), &files).unwrap();
    println!("restore: {:?}, {} files", begin.elapsed(), files.len());
    drop(db);
    println!("the original is closed; {}", resident());
    for (what, offset) in [("cold", 0), ("warm", 0), ("warm", 0), ("absent", rows)] {
        let begin = Instant::now();
        let mut count = 0;
        while begin.elapsed() < Duration::from_secs(4) {
            let list: Vec<_> = (0..1000).map(|_| address(offset + random.below(rows))).collect();
            assert!(restored.read(&list).unwrap().iter().all(|v| v.is_some() == (offset == 0)));
            count += list.len();
        }
        println!("random reads, {what}: {:.0}/s", count as f64 / begin.elapsed().as_secs_f64());
    }
    let begin = Instant::now();
    let (from, end) = Addresses { operator: 1 }.all();
    let mut next = from;
    let mut count = 0u64;
    loop {
        let rows = restored.scan(&next, &end, 10_000).unwrap();
        let Some((last, _)) = rows.last() else { break };
        count += rows.len() as u64;
        next = [last.as_slice(), &[0]].concat();
    }
    assert_eq!(count, rows);
    println!("scan of all: {:.0} rows/s", count as f64 / begin.elapsed().as_secs_f64());
    println!("usage: {:?}; {}", restored.usage().unwrap(), resident());
}

/// The memory of this process, as Linux counts it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|l| l.starts_with("VmRSS")).collect()
}

fn address(row: u64) -> Vec<u8> {
    // Keys are hashed into groups.
    let hash = row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Addresses { operator: 1 }.row(0, hash >> 20, &[&hash.to_be_bytes()[..], &[0; 4]].concat())
}

fn write(db: &Database, rows: impl Iterator<Item = u64>, round: u64) {
    let mut writes = Writes::default();
    for row in rows {
        let mut value = vec![0; VALUE_BYTES];
        value[..8].copy_from_slice(&row.to_be_bytes());
        value[8..16].copy_from_slice(&round.to_be_bytes());
        writes.set(address(row), Some(value));
    }
    db.write(writes).unwrap();
}

fn new_bytes(files: &[FrozenFile], known: &mut BTreeMap<String, u64>) -> u64 {
    let tables = files.iter().filter(|f| f.immutable);
    tables.filter(|f| known.insert(f.name.clone(), f.bytes).is_none()).map(|f| f.bytes).sum()
}

fn files_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.filter_map(|e| e.ok()?.metadata().ok()).map(|m| m.len()).sum()
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
