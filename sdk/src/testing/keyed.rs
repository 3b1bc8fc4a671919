//! A stand-in for the host of a process operator: keeps the state and the timers of keys over batches.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::memory::{Memory, join, split};
use super::{borrow, columns, emitted, origins};
use crate::batch::{Batch, ColumnBuffer, Field};
use crate::encoding::{EntryValue, OwnedEntry};
use crate::operator::Description;
use crate::process::{self, ProcessOperator, Processed};
use crate::record::{Checked, FromRow, Record};
use crate::state::Collection;
use crate::timers::{Changed, Clock, Due};
use crate::value::Timestamp;

/// Runs a process operator as the host does, with whole batches and timers, for keys of the type `K`.
///
/// ```
/// use tidemill_sdk::{prelude::*, testing::Keyed};
///
/// #[derive(State)]
/// struct Counted { count: Option<i64> }
///
/// #[derive(Record, Debug, PartialEq)]
/// struct Count { count: i64 }
///
/// #[derive(Default)]
/// struct CountByKey;
///
/// #[operator]
/// impl Process for CountByKey {
///     type Input<'a> = ();
///     type State = Counted;
///     type Output = Count;
///
///     fn process(&self, counted: &mut Counted, (): (), _: &mut Timers) -> Count {
///         let count = counted.count.unwrap_or(0) + 1;
///         counted.count = Some(count);
///         Count { count }
///     }
/// }
///
/// let mut keyed = Keyed::new(&describe(), open(&[])?);
/// keyed.process::<(), Count>([("EWR", ()), ("JFK", ())])?;
/// let came = keyed.process::<(), Count>([("EWR", ())])?;
/// assert_eq!(came.rows, [("EWR", Count { count: 2 })]);
/// # Ok::<(), String>(())
/// ```
pub struct Keyed<K> {
    operator: Box<dyn ProcessOperator>,
    fields: &'static [Field],
    collections: &'static [Collection],
    entries: Rc<Memory>,
    /// In the order of their first rows; elsewhere a key is its place here.
    keys: Vec<K>,
    /// For each key its values, as bytes.
    values: Vec<Vec<Option<Vec<u8>>>>,
    timers: BTreeMap<(Clock, usize, String), Timestamp>,
    watermark: Timestamp,
    processing_time: Timestamp,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Came<K, O> {
    /// Rows, each with what it came from: its key; or the number of its window, or of its pair.
    pub rows: Vec<(K, O)>,
    /// The reasons for refusals, each with what was refused: a key's row or timer; or the number of a row of the batch,
    /// or of a pair.
    pub rejected: Vec<(K, String)>,
}

impl<K: Clone + PartialEq> Keyed<K> {
    /// The operator that describes itself so, without any state, as long as event time isn't known, at 1970 on the
    /// host's clock.
    pub fn new(description: &Description, operator: Box<dyn ProcessOperator>) -> Self {
        Self {
            operator,
            fields: description.state,
            collections: description.collections,
            entries: Rc::default(),
            keys: Vec::new(),
            values: Vec::new(),
            timers: BTreeMap::new(),
            watermark: Timestamp(i64::MIN),
            processing_time: Timestamp(0),
        }
    }

    /// Processes the rows of a batch.
    ///
    /// # Errors
    /// If they don't fit the operator.
    pub fn process<R: Record, O: for<'a> FromRow<'a>>(
        &mut self,
        rows: impl IntoIterator<Item = (K, R)>,
    ) -> Result<Came<K, O>, String> {
        let (keys, rows): (Vec<K>, Vec<R>) = rows.into_iter().unzip();
        let keys: Vec<usize> = keys.into_iter().map(|key| self.number(key)).collect();
        let came =
            self.call(&keys, &columns(rows), |operator, input, entries| operator.process(input, entries))?;
        self.came(&keys, &came)
    }

    /// Advances the watermark. Timers that are then due fire, those of one key in order; so do those that they set.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub fn advance_watermark<O: for<'a> FromRow<'a>>(&mut self, to: Timestamp) -> Result<Came<K, O>, String> {
        self.watermark = self.watermark.max(to);
        self.fire(Clock::Event, self.watermark)
    }

    /// Advances the host's clock. Timers that are then due fire, as in
    /// [`advance_watermark`](Self::advance_watermark).
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub fn advance_clock<O: for<'a> FromRow<'a>>(&mut self, to: Timestamp) -> Result<Came<K, O>, String> {
        self.processing_time = self.processing_time.max(to);
        self.fire(Clock::Processing, self.processing_time)
    }

    /// The values of a key, as a record with the fields of the state.
    ///
    /// # Errors
    /// If the record has other fields.
    pub fn values<V: for<'a> FromRow<'a>>(&self, key: &K) -> Result<Option<V>, String> {
        let Some(key) = self.keys.iter().position(|known| known == key) else { return Ok(None) };
        Ok(super::rows(&self.columns_of(&[key]), 1)?.pop())
    }

    /// The entries of a collection of a key, ascending.
    ///
    /// # Panics
    /// If there is no collection of this name, or its entries and values have other types.
    pub fn entries<E: OwnedEntry, V: EntryValue>(&self, key: &K, collection: &str) -> Vec<(E, V)> {
        let named = |described: &Collection| described.name == collection;
        let number = self.collections.iter().position(named);
        let number = number.unwrap_or_else(|| panic!("there is no collection `{collection}`"));
        let key = self.keys.iter().position(|known| known == key);
        let entries = key.map(|key| self.entries.of(number as u8, key)).unwrap_or_default();
        let decode = |(entry, value): (Vec<u8>, Vec<u8>)| Some((E::decode(&entry)?, V::decode(&value)?));
        let typed = entries.into_iter().map(decode).collect::<Option<_>>();
        typed.unwrap_or_else(|| panic!("the collection `{collection}` is one of other types"))
    }

    /// The timers of a key that are set on a clock, by name.
    pub fn timers(&self, key: &K, clock: Clock) -> Vec<(&str, Timestamp)> {
        let of_key = self.timers.iter().filter(|((on, of, _), _)| *on == clock && self.keys[*of] == *key);
        of_key.map(|((_, _, name), at)| (name.as_str(), *at)).collect()
    }

    fn number(&mut self, key: K) -> usize {
        let known = self.keys.iter().position(|known| *known == key);
        known.unwrap_or_else(|| {
            self.keys.push(key);
            self.values.push(vec![None; self.fields.len()]);
            self.keys.len() - 1
        })
    }

    fn columns_of(&self, keys: &[usize]) -> Vec<ColumnBuffer> {
        let column = |(at, field): (usize, &Field)| {
            join(field.data_type, keys.iter().map(|key| self.values[*key][at].as_deref()))
        };
        self.fields.iter().enumerate().map(column).collect()
    }

    /// One call for rows of these keys, and what it changes.
    fn call(
        &mut self,
        keys: &[usize],
        columns: &[ColumnBuffer],
        call: impl FnOnce(&dyn ProcessOperator, process::Keyed<'_>, Rc<Memory>) -> Result<Processed, String>,
    ) -> Result<Processed, String> {
        let mut distinct: Vec<usize> = Vec::new();
        let mut key_of = Vec::new();
        for key in keys {
            let known = distinct.iter().position(|earlier| earlier == key);
            let number = known.unwrap_or_else(|| {
                distinct.push(*key);
                distinct.len() - 1
            });
            key_of.extend_from_slice(&(number as u32).to_le_bytes());
        }
        let values = self.columns_of(&distinct);
        let (values, columns) = (borrow(&values), borrow(columns));
        self.entries.begin(&distinct);
        let input = process::Keyed {
            keys: distinct.len(),
            key_of: &key_of,
            values: &values,
            rows: Batch { rows: keys.len(), columns: &columns },
            watermark: self.watermark.0,
            processing_time: self.processing_time.0,
        };
        let processed = call(self.operator.as_ref(), input, self.entries.clone())?;
        self.keep(&distinct, &processed)?;
        Ok(processed)
    }

    fn keep(&mut self, keys: &[usize], processed: &Processed) -> Result<(), String> {
        for (at, (field, column)) in self.fields.iter().zip(&processed.values).enumerate() {
            let Some(column) = column else { continue };
            for (key, value) in keys.iter().zip(split(field.data_type, column, keys.len())?) {
                self.values[*key][at] = value;
            }
        }
        let changes = borrow(&processed.timers.columns);
        Checked::<Changed<'_>>::new(processed.timers.rows as usize, &changes)?.for_each(|_, change| {
            let clock = if change.processing_time { Clock::Processing } else { Clock::Event };
            let timer = (clock, keys[change.key as usize], change.name.to_owned());
            match change.at {
                Some(at) => drop(self.timers.insert(timer, at)),
                None => drop(self.timers.remove(&timer)),
            }
        });
        Ok(())
    }

    /// Fires timers until none is due: in each call, of each key the first.
    fn fire<O: for<'a> FromRow<'a>>(&mut self, clock: Clock, now: Timestamp) -> Result<Came<K, O>, String> {
        let mut all = Came { rows: Vec::new(), rejected: Vec::new() };
        loop {
            let of_clock = self.timers.iter().filter(|((on, ..), at)| *on == clock && **at <= now);
            let mut due: Vec<_> = of_clock.map(|((_, key, name), at)| (*at, *key, name.clone())).collect();
            if due.is_empty() {
                return Ok(all);
            }
            due.sort();
            let mut keys: Vec<usize> = Vec::new();
            due.retain(|(_, key, _)| {
                let first = !keys.contains(key);
                keys.extend(first.then_some(*key));
                first
            });
            for (_, key, name) in &due {
                self.timers.remove(&(clock, *key, name.clone()));
            }
            let processing_time = clock == Clock::Processing;
            let rows = due.iter().map(|(at, _, name)| Due { at: *at, name, processing_time });
            let came =
                self.call(&keys, &columns(rows), |operator, due, entries| operator.on_timer(due, entries))?;
            let came = self.came(&keys, &came)?;
            all.rows.extend(came.rows);
            all.rejected.extend(came.rejected);
        }
    }

    fn came<O: for<'a> FromRow<'a>>(
        &self,
        keys: &[usize],
        processed: &Processed,
    ) -> Result<Came<K, O>, String> {
        let emission = &processed.emission;
        let key = |row: usize| self.keys[keys[row]].clone();
        let rows = origins(emission).into_iter().zip(emitted::<O>(emission)?);
        let rejected = emission.rejected.iter();
        Ok(Came {
            rows: rows.map(|(row, output)| (key(row), output)).collect(),
            rejected: rejected
                .map(|rejected| (key(rejected.row as usize), rejected.reason.clone()))
                .collect(),
        })
    }
}
