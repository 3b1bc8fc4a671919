//! How the value slots of an operator lie in a row of its table: a column for each slot, and, as far as some slot has
//! a time to live, one for each clock with the time at which the key was last used.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow_select::nullif::nullif;

use crate::rows::Codec;
use crate::schema::{Field, FieldType, Schema};
use crate::timers::Clock;
use crate::ttl::{Times, Ttl};

/// A value that is kept for each key, or absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueSlot {
    /// Its name and type. It may be absent whatever the field says.
    pub field: Field,
    /// How long it is there after its key was last used; `None`: for ever.
    pub ttl: Option<Ttl>,
}

/// What an operator keeps for each key.
#[derive(Debug)]
pub struct Layout {
    pub(super) codec: Arc<Codec>,
    /// For each value slot how long it lives.
    slots: Vec<Option<Ttl>>,
    /// For each clock the column with the time of last use.
    used: [Option<usize>; 2],
    pub(super) collections: Vec<Option<Ttl>>,
}

/// When keys are used in a call, each at its number.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// The time of each key's first row: what is over by then is absent.
    pub first: Vec<Times>,
    /// The time until which each key is used; `None` where a clock can't tell.
    pub last: Vec<[Option<i64>; 2]>,
}

impl Layout {
    /// For these value slots, and a collection for each of `collections`, with its time to live. Rows are written
    /// under the number `version`; `older` are numbers and [`schema`](Self::schema)s of rows that a storage may still
    /// have. Whether a collection has a time to live, and on which clock, must not change while a storage has entries of it.
    ///
    /// # Errors
    /// When two slots share a name, one begins with `@`, something lives for less than a millisecond, or rows of an older schema can't be read under this one;
    /// the message is for the author of the operator.
    pub fn new(
        version: u8,
        slots: &[ValueSlot],
        older: &[(u8, Schema)],
        collections: Vec<Option<Ttl>>,
    ) -> Result<Self, String> {
        let mut fields: Vec<Field> =
            slots.iter().map(|slot| Field { nullable: true, ..slot.field.clone() }).collect();
        if let Some(field) = fields.iter().find(|f| f.name.starts_with('@')) {
            return Err(format!("the state's value {} can't have a name that begins with @", field.name));
        }
        let ttls = slots.iter().map(|slot| slot.ttl).chain(collections.iter().copied());
        if let Some(ttl) = ttls.flatten().find(|ttl| ttl.after_ms <= 0) {
            return Err(format!("state can't live for {} ms; let it live for 1 ms at least", ttl.after_ms));
        }
        let mut used = [None; 2];
        for (clock, name) in Clock::ALL.into_iter().zip(["@last used, event", "@last used, processing"]) {
            if slots.iter().any(|slot| slot.ttl.is_some_and(|ttl| ttl.clock == clock)) {
                used[clock as usize] = Some(fields.len());
                fields.push(Field::nullable(name, FieldType::Integer));
            }
        }
        let schema =
            Schema::new(fields).map_err(|name| format!("two values of the state are named {name}"))?;
        let codec = Arc::new(Codec::new(version, &schema, older, None)?);
        Ok(Self { codec, slots: slots.iter().map(|slot| slot.ttl).collect(), used, collections })
    }

    /// The schema that rows are written under, to be kept with the checkpoints that have such rows.
    pub fn schema(&self) -> &Schema {
        self.codec.schema()
    }

    /// The number of value slots.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Whether value slots live for ever.
    pub(super) fn is_everlasting(&self) -> bool {
        self.used == [None; 2]
    }

    /// The shortest time to live of anything on event time.
    pub(super) fn shortest_event_ttl(&self) -> Option<i64> {
        let all = self.slots.iter().chain(&self.collections).flatten();
        all.filter(|ttl| ttl.clock == Clock::Event).map(|ttl| ttl.after_ms).min()
    }

    /// Makes the slots of these rows absent whose time is over at `now`, which is each row's. Returns whether there
    /// were any.
    pub(super) fn expire(&self, columns: &mut [ArrayRef], now: impl Fn(usize) -> Times) -> bool {
        let mut any = false;
        for (slot, ttl) in self.slots.iter().enumerate() {
            let Some((ttl, used)) = ttl.and_then(|ttl| Some((ttl, self.used[ttl.clock as usize]?))) else {
                continue;
            };
            let (column, last) = (&columns[slot], columns[used].as_primitive::<Int64Type>());
            let is_over = |row: usize| {
                column.is_valid(row)
                    && last.is_valid(row)
                    && ttl.is_over(last.value(row), now(row).on(ttl.clock))
            };
            let over: BooleanArray = (0..column.len()).map(|row| Some(is_over(row))).collect();
            if over.true_count() > 0 {
                any = true;
                columns[slot] = nullif(column, &over).expect("as many flags as rows");
            }
        }
        any
    }

    /// Notes in these rows that their keys were used.
    pub(super) fn touch(&self, columns: &mut [ArrayRef], uses: &Uses) {
        for clock in Clock::ALL {
            let Some(column) = self.used[clock as usize] else { continue };
            let last = columns[column].as_primitive::<Int64Type>();
            let used = uses.last.iter().zip(&uses.first).zip(last).map(|((now, first), before)| {
                match now[clock as usize] {
                    Some(now) => Some(before.map_or(now, |before| before.max(now))),
                    None => Some(before.unwrap_or(first.on(clock))),
                }
            });
            columns[column] = Arc::new(used.collect::<Int64Array>());
        }
    }

    /// Which of these rows have a value.
    pub(super) fn occupied(&self, columns: &[ArrayRef], rows: usize) -> Vec<bool> {
        let slots = &columns[..self.slots.len()];
        if slots.iter().any(|column| column.null_count() == 0) {
            return vec![true; rows];
        }
        (0..rows).map(|row| slots.iter().any(|column| column.is_valid(row))).collect()
    }
}
