//! The collections of a call that is made twice: what the first call reads is recorded, and the second one is told the
//! same. It writes nowhere; what it would write has to be what the first one wrote.

use std::collections::VecDeque;

use arrow_array::BinaryArray;

use super::super::collections::{Collections, Entry};
use super::compare::Differs;

/// Something that a guest asked of its collections, and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plugin) struct Said {
    asked: Asked,
    answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Read { collection: u8, keys: Vec<u32>, entries: Vec<Vec<u8>> },
    Write { collection: u8, keys: Vec<u32>, entries: Vec<Vec<u8>>, values: Vec<Option<Vec<u8>>> },
    Range { collection: u8, key: u32, first: Option<Vec<u8>>, end: Option<Vec<u8>>, limit: usize },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Values(Vec<Option<Vec<u8>>>),
    Written,
    Entries(Vec<Entry>),
}

impl Asked {
    fn read(collection: u8, keys: &[u32], entries: &BinaryArray) -> Self {
        Self::Read { collection, keys: keys.to_vec(), entries: present(entries) }
    }

    fn write(collection: u8, keys: &[u32], entries: &BinaryArray, values: &BinaryArray) -> Self {
        let values = values.iter().map(|value| value.map(<[u8]>::to_vec)).collect();
        Self::Write { collection, keys: keys.to_vec(), entries: present(entries), values }
    }

    fn range(collection: u8, key: u32, first: Option<&[u8]>, end: Option<&[u8]>, limit: usize) -> Self {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Self::Range { collection, key, first: owned(first), end: owned(end), limit }
    }

    /// The first key that it is about, and what it is for people.
    fn told(&self) -> (usize, String) {
        let (keys, what): (&[u32], String) = match self {
            Self::Read { collection, keys, entries } => {
                (keys, format!("read {} entries of collection {collection}", entries.len()))
            }
            Self::Write { collection, keys, entries, .. } => {
                (keys, format!("wrote {} entries of collection {collection}", entries.len()))
            }
            Self::Range { collection, key, .. } => {
                (std::slice::from_ref(key), format!("read a range of collection {collection}"))
            }
        };
        (keys.first().map_or(0, |&key| key as usize), what)
    }
}

fn present(entries: &BinaryArray) -> Vec<Vec<u8>> {
    entries.iter().flatten().map(<[u8]>::to_vec).collect()
}

/// The collections of a first call.
pub(in crate::plugin) struct Recording<C> {
    pub(in crate::plugin) kept: C,
    pub(in crate::plugin) said: Vec<Said>,
}

impl<C> Recording<C> {
    pub(in crate::plugin) fn of(kept: C) -> Self {
        Self { kept, said: Vec::new() }
    }
}

impl<C: Collections> Collections for Recording<C> {
    fn read(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
    ) -> Result<Vec<Option<Vec<u8>>>, String> {
        let values = self.kept.read(collection, keys, entries)?;
        let asked = Asked::read(collection, keys, entries);
        self.said.push(Said { asked, answer: Answer::Values(values.clone()) });
        Ok(values)
    }

    fn write(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
        values: &BinaryArray,
    ) -> Result<(), String> {
        let asked = Asked::write(collection, keys, entries, values);
        self.said.push(Said { asked, answer: Answer::Written });
        self.kept.write(collection, keys, entries, values)
    }

    fn range(
        &mut self,
        collection: u8,
        key: u32,
        first: Option<&[u8]>,
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, String> {
        let entries = self.kept.range(collection, key, first, end, limit)?;
        let asked = Asked::range(collection, key, first, end, limit);
        self.said.push(Said { asked, answer: Answer::Entries(entries.clone()) });
        Ok(entries)
    }
}

/// The collections of a second call.
pub(in crate::plugin) struct Replaying {
    said: VecDeque<Said>,
    differs: Option<Differs>,
}

impl Replaying {
    pub(in crate::plugin) fn of(said: Vec<Said>) -> Self {
        Self { said: said.into(), differs: None }
    }

    /// How what it asked differs from what the first call did.
    pub(in crate::plugin) fn differs(mut self) -> Option<Differs> {
        if self.differs.is_none()
            && let Some(left) = self.said.pop_front()
        {
            let (key, what) = left.asked.told();
            self.differs = Some(found(key, &what, "nothing more"));
        }
        self.differs
    }

    fn answer(&mut self, asked: &Asked) -> Result<Answer, String> {
        let said = self.said.pop_front();
        if let Some(said) = said.as_ref().filter(|said| said.asked == *asked) {
            return Ok(said.answer.clone());
        }
        let (key, again) = asked.told();
        let (key, first) = said.map_or((key, "nothing more".to_owned()), |said| said.asked.told());
        let same = first == again;
        let differs = if same { found(key, &first, "others") } else { found(key, &first, &again) };
        self.differs.get_or_insert(differs);
        Err("it asked for something else than an instance before".to_owned())
    }
}

fn found(key: usize, first: &str, again: &str) -> Differs {
    Differs {
        about: Some(("key", key)),
        what: format!("collections: {first} on one instance, {again} on a fresh one"),
    }
}

impl Collections for Replaying {
    fn read(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
    ) -> Result<Vec<Option<Vec<u8>>>, String> {
        match self.answer(&Asked::read(collection, keys, entries))? {
            Answer::Values(values) => Ok(values),
            other => unreachable!("{other:?} was the answer to a read"),
        }
    }

    fn write(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
        values: &BinaryArray,
    ) -> Result<(), String> {
        self.answer(&Asked::write(collection, keys, entries, values)).map(drop)
    }

    fn range(
        &mut self,
        collection: u8,
        key: u32,
        first: Option<&[u8]>,
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, String> {
        match self.answer(&Asked::range(collection, key, first, end, limit))? {
            Answer::Entries(entries) => Ok(entries),
            other => unreachable!("{other:?} was the answer to a range"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry of one key, which counts how often it was written.
    #[derive(Default)]
    struct One(i64);

    impl Collections for One {
        fn read(&mut self, _: u8, keys: &[u32], _: &BinaryArray) -> Result<Vec<Option<Vec<u8>>>, String> {
            Ok(vec![Some(self.0.to_le_bytes().to_vec()); keys.len()])
        }

        fn write(&mut self, _: u8, _: &[u32], _: &BinaryArray, _: &BinaryArray) -> Result<(), String> {
            self.0 += 1;
            Ok(())
        }

        fn range(
            &mut self,
            _: u8,
            _: u32,
            _: Option<&[u8]>,
            _: Option<&[u8]>,
            _: usize,
        ) -> Result<Vec<Entry>, String> {
            Ok(vec![(b"e".to_vec(), self.0.to_le_bytes().to_vec())])
        }
    }

    fn entries(entry: &[u8]) -> BinaryArray {
        BinaryArray::from(vec![entry])
    }

    fn recorded() -> Vec<Said> {
        let mut first = Recording::of(One::default());
        assert_eq!(first.read(0, &[1], &entries(b"e")).unwrap(), [Some(vec![0; 8])]);
        first.write(0, &[1], &entries(b"e"), &entries(b"1")).unwrap();
        first.range(0, 1, None, None, 9).unwrap();
        assert_eq!(first.kept.0, 1);
        first.said
    }

    #[test]
    fn a_second_call_is_told_what_the_first_was_and_writes_nothing() {
        let mut again = Replaying::of(recorded());
        assert_eq!(again.read(0, &[1], &entries(b"e")).unwrap(), [Some(vec![0; 8])]);
        again.write(0, &[1], &entries(b"e"), &entries(b"1")).unwrap();
        assert_eq!(again.range(0, 1, None, None, 9).unwrap()[0].1, 1i64.to_le_bytes());
        assert_eq!(again.differs(), None);
    }

    #[test]
    fn what_a_second_call_asks_or_writes_otherwise_is_found() {
        let check = |calls: fn(&mut Replaying), expected: &str| {
            let mut again = Replaying::of(recorded());
            calls(&mut again);
            let differs = again.differs().unwrap();
            assert_eq!((differs.about, differs.what.as_str()), (Some(("key", 1)), expected));
        };
        check(
            |again| {
                again.read(0, &[1], &entries(b"x")).unwrap_err();
            },
            "collections: read 1 entries of collection 0 on one instance, others on a fresh one",
        );
        check(
            |again| {
                again.read(0, &[1], &entries(b"e")).unwrap();
                again.write(0, &[1], &entries(b"e"), &entries(b"2")).unwrap_err();
            },
            "collections: wrote 1 entries of collection 0 on one instance, others on a fresh one",
        );
        check(
            |again| {
                again.read(0, &[1], &entries(b"e")).unwrap();
                again.range(0, 1, None, None, 9).unwrap_err();
            },
            "collections: wrote 1 entries of collection 0 on one instance, read a range of collection 0 on a fresh one",
        );
        check(
            |again| {
                again.read(0, &[1], &entries(b"e")).unwrap();
            },
            "collections: wrote 1 entries of collection 0 on one instance, nothing more on a fresh one",
        );
    }
}
