//! Readers that follow while a writer appends, commits, undoes and begins segments.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::folder;
use tidemill_log::{Begun, Log, Options, Record, Writer};

const TRANSACTIONS: u64 = 400;

/// Of both partitions each transaction has the same number of records, with its epoch as value; records
/// appended without a transaction are empty.
fn write(writer: &Writer) {
    for epoch in 1..=TRANSACTIONS {
        for undone in [true, false] {
            let Begun::Transaction(mut transaction) = writer.begin("p", 0, epoch).unwrap() else {
                panic!("committed")
            };
            let text = if undone { "undone".to_owned() } else { epoch.to_string() };
            for _ in 0..=epoch % 4 {
                for partition in [0, 1] {
                    let record = Record { value: text.as_bytes(), ..Record::default() };
                    transaction.append(partition, &[record]).unwrap();
                }
            }
            if !undone {
                transaction.commit().unwrap();
            }
        }
        if epoch % 3 == 0 {
            writer.append(0, &[Record::default()]).unwrap();
        }
    }
}

#[test]
fn readers_see_committed_transactions_in_order_and_whole() {
    let (_keep, folder) = folder();
    let writer =
        Writer::create(&folder, &Options { partitions: 2, segment_bytes: 700, ..Options::default() })
            .unwrap();
    let is_written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for partition in [0, 1] {
            let (folder, is_written) = (&folder, &is_written);
            scope.spawn(move || {
                let log = Log::open(folder).unwrap();
                let (mut reader, mut epoch, mut of_epoch) = (log.reader(partition, 0).unwrap(), 0u64, 0u64);
                let deadline = Instant::now() + Duration::from_secs(120);
                loop {
                    let was_written = is_written.load(Ordering::Acquire);
                    let batch = reader.read(7, 1_000).unwrap();
                    for (_, record) in batch.records().filter(|(_, r)| !r.value.is_empty()) {
                        let now: u64 = std::str::from_utf8(record.value).unwrap().parse().unwrap();
                        if now != epoch {
                            assert!(
                                now == epoch + 1 && (epoch == 0 || of_epoch == 1 + epoch % 4),
                                "{epoch}, {now}"
                            );
                            (epoch, of_epoch) = (now, 0);
                            // What is seen in one partition is there in the other.
                            let seen = log.read(1 - partition, 0, usize::MAX, usize::MAX).unwrap();
                            let count = seen.iter().filter(|r| r.value == record.value).count() as u64;
                            assert_eq!(count, 1 + now % 4);
                        }
                        of_epoch += 1;
                    }
                    if batch.is_empty() && was_written {
                        assert_eq!((epoch, of_epoch), (TRANSACTIONS, 1 + TRANSACTIONS % 4));
                        return;
                    }
                    assert!(Instant::now() < deadline, "stuck at {:?}", reader.position());
                }
            });
        }
        write(&writer);
        is_written.store(true, Ordering::Release);
    });
}

#[test]
fn threads_append_to_one_log() {
    let (_keep, folder) = folder();
    let writer =
        Writer::create(&folder, &Options { partitions: 2, segment_bytes: 5_000, ..Options::default() })
            .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let writer = &writer;
            scope.spawn(move || {
                for i in 0..100u64 {
                    let value = format!("{thread} {i}");
                    let records = [Record { value: value.as_bytes(), ..Record::default() }];
                    if i % 5 == 0 {
                        let producer = format!("p{thread}");
                        writer.transaction(&producer, 0, i + 1, &[(thread % 2, &records)]).unwrap();
                    } else {
                        writer.append(thread % 2, &records).unwrap();
                    }
                }
            });
        }
    });
    for partition in [0, 1] {
        let values = crate::support::values(writer.log(), partition).unwrap();
        for thread in [partition, partition + 2] {
            let prefix = format!("{thread} ");
            let of_thread =
                values.iter().map(|v| std::str::from_utf8(v).unwrap()).filter(|v| v.starts_with(&prefix));
            assert!(of_thread.eq(
                (0..100).map(|i| format!("{thread} {i}")).collect::<Vec<_>>().iter().map(String::as_str)
            ));
        }
    }
}
