//! Reads what was staged, for whoever publishes it elsewhere than in a log.

use crate::batch::Batch;
use crate::error::{Result, damaged_file};
use crate::frame::Frame;
use crate::record::Place;
use crate::scan::{Found, Scanner};
use crate::staging::Staged;

/// Reads a staged file from front to back, a frame at a time.
#[derive(Debug)]
pub struct StagedReader {
    staged: Staged,
    scanner: Scanner,
    /// Handed out, and to be passed.
    frame: Option<Frame>,
    places: Vec<Place>,
    /// The records before the next frame.
    records: u64,
}

impl StagedReader {
    pub(crate) fn new(staged: Staged, scanner: Scanner) -> Self {
        Self { staged, scanner, frame: None, places: Vec::new(), records: 0 }
    }

    /// The records of the next frame, numbered from 0 in the whole file; none behind the last.
    ///
    /// # Errors
    /// When the file can't be read, or isn't as it was finished.
    pub fn next_frame(&mut self) -> Result<Option<Batch<'_>>> {
        if let Some(frame) = self.frame.take() {
            self.scanner.pass(&frame);
            self.records += u64::from(frame.records);
        }
        let path = self.staged.path();
        match self.scanner.next()? {
            Found::Frame(frame) => {
                let body = self.scanner.body(&frame);
                let buffer = self.scanner.buffer();
                self.places.clear();
                let mut at = body.start;
                for _ in 0..frame.records {
                    let place = Place::find(buffer, at, body.end);
                    let place = place
                        .ok_or_else(|| damaged_file(path, self.scanner.byte(), "it has half a record"))?;
                    at = place.end;
                    self.places.push(place);
                }
                self.frame = Some(frame);
                let (bytes, first_offset) = (self.scanner.buffer(), self.records);
                Ok(Some(Batch { bytes, places: &self.places, first_offset }))
            }
            Found::Torn(reason) => Err(damaged_file(path, self.scanner.byte(), reason)),
            Found::End if self.records == self.staged.records() => Ok(None),
            Found::End => {
                let reason = format!("expected {} records, found {}", self.staged.records(), self.records);
                Err(damaged_file(path, self.scanner.byte(), reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{OwnedRecord, Record, Stage, Staged, stage};

    fn read(staged: &Staged) -> crate::Result<Vec<OwnedRecord>> {
        let mut reader = staged.reader()?;
        let mut all = Vec::new();
        while let Some(batch) = reader.next_frame()? {
            all.extend(batch.records().map(|(number, record)| OwnedRecord::of(number, &record)));
        }
        Ok(all)
    }

    #[test]
    fn what_was_staged_is_read_in_its_order_and_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        let of = Stage { producer: "shop/out".to_owned(), run: 1, epoch: 3, part: 0 };
        let mut staging = stage(folder.path(), of).unwrap();
        let values: Vec<String> = (0..10).map(|n| format!("value {n}")).collect();
        for values in values.chunks(4) {
            let record = |value| Record { timestamp_ms: 7, key: Some(b"subject"), id: None, value };
            let records: Vec<_> = values.iter().map(|value| record(value.as_bytes())).collect();
            staging.append(0, &records).unwrap();
        }
        let staged = staging.finish().unwrap();
        let found = read(&staged).unwrap();
        assert_eq!(found.iter().map(|r| r.offset).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(found.iter().zip(&values).all(|(r, value)| r.value == value.as_bytes()));
        let whole = std::fs::read(staged.path()).unwrap();
        for length in [whole.len() - 1, whole.len() - 100] {
            std::fs::write(staged.path(), &whole[..length]).unwrap();
            assert!(read(&staged).is_err(), "{length} bytes");
        }
    }
}
