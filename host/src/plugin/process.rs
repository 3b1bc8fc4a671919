//! Running process operators: a batch or the timers that are due cross once, with the values of their keys.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, StringArray, TimestampMillisecondArray};
use tidemill_flow::batch::EVENT_TIME_LIMIT_MS;
use tidemill_flow::schema::{Field, FieldType, Schema};
use wasmtime::Store;

use super::bindings::process::ProcessOperator;
use super::bindings::process::exports::tidemill::operator::keyed_process;
use super::bindings::transform::tidemill::operator::types::{self, ColumnParam, ColumnResult};
use super::collections::{Collections, LentCollections};
use super::columns::{Lent, take_over, write_u32s};
use super::description::Collection;
use super::failure::Failure;
use super::guest::{Guest, Limits, readable};
use super::instance::{Emission, begin_call, count, emitted, failure, refused, start};
use super::load::{Code, Plugin};
use super::verify::{self, Beside, Difference, Recording, Replaying, Said, Twin};

/// The name of a timer is a part of the address at which it is kept.
const TIMER_NAME_BYTES_MAX: usize = 255;
/// Timers that a call may set or cancel: 64 for each row of a full batch.
const TIMER_CHANGES_MAX: usize = 64 * tidemill_flow::batch::BATCH_ROWS_MAX;

/// The columns of timers that a guest sets and cancels.
static CHANGE_FIELDS: LazyLock<[Field; 4]> = LazyLock::new(|| {
    [
        Field::new("key", FieldType::Integer),
        Field::new("processing-time", FieldType::Boolean),
        Field::new("name", FieldType::Text),
        Field::nullable("at", FieldType::Timestamp),
    ]
});

/// The rows of a call, or timers that are due, with the state of their keys.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    /// For each row the number of its key, below `keys`.
    pub key_of: &'a [u32],
    /// How many keys there are.
    pub keys: usize,
    /// A column for each field of the described state, with a row for each key.
    pub values: &'a [ArrayRef],
    /// The columns that the operator reads, or [`due_columns`].
    pub columns: &'a [ArrayRef],
    /// How far event time has come, in milliseconds.
    pub watermark_ms: i64,
    /// The host's clock at this call, in milliseconds since the Unix epoch.
    pub processing_time_ms: i64,
}

/// What a process operator made of a call, checked.
#[derive(Clone, Debug)]
pub struct Processed {
    /// The rows that came out; origins and rejections name rows of the call.
    pub emission: Emission,
    /// For each field of the state its new values, a row for each key; `None`: as before.
    pub values: Vec<Option<ArrayRef>>,
    /// Timers set and cancelled.
    pub timers: TimerChanges,
}

/// Timers that a call set and cancelled, in order.
#[derive(Clone, Debug)]
pub struct TimerChanges {
    columns: Vec<ArrayRef>,
}

/// A timer that was set or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerChange<'a> {
    /// The number of its key in the call.
    pub key: u32,
    /// Whether it is on the host's clock, and not on event time.
    pub processing_time: bool,
    /// Its name, of at most 255 bytes; a key has one timer of a name on each clock.
    pub name: &'a str,
    /// When it is due, in milliseconds, within [`EVENT_TIME_LIMIT_MS`]; `None`: it was cancelled.
    pub at_ms: Option<i64>,
}

impl TimerChanges {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.columns[0].len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The changes, in order: of two for the same timer the later one counts.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TimerChange<'_>> {
        let keys = self.columns[0].as_primitive::<Int64Type>();
        let clocks = self.columns[1].as_boolean();
        let names = self.columns[2].as_string::<i32>();
        let times = self.columns[3].as_primitive::<TimestampMillisecondType>();
        (0..self.len()).map(|at| TimerChange {
            key: u32::try_from(keys.value(at)).expect("checked: below the number of keys"),
            processing_time: clocks.value(at),
            name: names.value(at),
            at_ms: times.is_valid(at).then(|| times.value(at)),
        })
    }
}

/// The columns in which timers that are due are handed over: when, which, and whether on the host's clock.
pub fn due_columns(at_ms: Vec<i64>, names: StringArray, processing_time: BooleanArray) -> [ArrayRef; 3] {
    let at = TimestampMillisecondArray::from(at_ms).with_data_type(FieldType::Timestamp.arrow());
    [Arc::new(at), Arc::new(names), Arc::new(processing_time)]
}

/// A running process operator.
pub struct Process {
    store: Store<Guest>,
    guest: ProcessOperator,
    returned: Schema,
    state: Schema,
    collections: Arc<[Collection]>,
    beside: Beside,
}

impl Plugin {
    /// Starts an instance of a process operator, for the operator of this id, with its settings.
    ///
    /// # Errors
    /// When the guest fails, or refuses the settings.
    ///
    /// # Panics
    /// When the plugin's world is another.
    pub async fn process(
        &self,
        operator: &str,
        settings: &[(String, String)],
        limits: Limits,
    ) -> Result<Process, Failure> {
        let Code::Process(pre) = &self.code else { panic!("{operator} is a {}", self.world().name()) };
        let (store, guest) = start!(self, pre, operator, settings, limits);
        let description = self.description();
        Ok(Process {
            store,
            guest,
            returned: description.output.returned(),
            state: description.state.clone(),
            collections: description.collections.clone().into(),
            beside: Beside::default(),
        })
    }
}

/// Which of the two calls.
#[derive(Clone, Copy)]
enum Call {
    Process,
    OnTimer,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::OnTimer => "on-timer",
        }
    }

    /// What each row of it is.
    fn thing(self) -> &'static str {
        match self {
            Self::Process => "row",
            Self::OnTimer => "timer",
        }
    }
}

impl Process {
    /// With this twin each call is made again.
    pub fn compared(self, twin: Option<Twin>) -> Self {
        Self { beside: Beside::new(twin), ..self }
    }

    /// How a fresh instance answered the last call otherwise, if it did.
    pub fn difference(&mut self) -> Option<Difference> {
        self.beside.difference()
    }

    /// Hands a batch across, with the values of its keys. The guest may reach into `collections` meanwhile; they come
    /// back with the answer.
    ///
    /// # Errors
    /// When the guest fails. Its instance is then finished, and what it wrote into `collections` must not be kept.
    pub async fn process<C: Collections>(
        &mut self,
        input: &Keyed<'_>,
        collections: C,
    ) -> (C, Result<Processed, Failure>) {
        self.call(Call::Process, input, collections).await
    }

    /// Hands over timers that are due, as [`due_columns`], with the values of their keys. They are gone then, unless
    /// the answer sets them again.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub async fn on_timer<C: Collections>(
        &mut self,
        due: &Keyed<'_>,
        collections: C,
    ) -> (C, Result<Processed, Failure>) {
        self.call(Call::OnTimer, due, collections).await
    }

    async fn call<C: Collections>(
        &mut self,
        call: Call,
        input: &Keyed<'_>,
        collections: C,
    ) -> (C, Result<Processed, Failure>) {
        if self.beside.comparing().is_none() {
            return self.once(call, input, collections).await;
        }
        let (recording, answer) = self.once(call, input, Recording::of(collections)).await;
        let Recording { kept, said } = recording;
        if let Ok(processed) = &answer {
            self.again(call, input, said, processed).await;
        }
        (kept, answer)
    }

    /// Makes a call again, on a fresh instance which is told what this one read of collections.
    async fn again(&mut self, call: Call, input: &Keyed<'_>, said: Vec<Said>, processed: &Processed) {
        let Some(twin) = self.beside.comparing() else { return };
        let name = call.name();
        let mut fresh = match twin.plugin.process(&twin.operator, &twin.settings, twin.limits).await {
            Ok(fresh) => fresh,
            Err(failure) => return twin.heard(name, Err::<(), _>(failure), |()| None),
        };
        let (replaying, answer) = fresh.once(call, input, Replaying::of(said)).await;
        if let Some(differs) = replaying.differs() {
            return twin.heard(name, Ok(()), |()| Some(differs));
        }
        let (returned, state) = (self.returned.fields(), self.state.fields());
        twin.heard(name, answer, |again| {
            verify::processed(returned, state, call.thing(), input, processed, again)
        });
    }

    async fn once<C: Collections>(
        &mut self,
        call: Call,
        input: &Keyed<'_>,
        collections: C,
    ) -> (C, Result<Processed, Failure>) {
        let lent = LentCollections::new(collections, self.collections.clone(), count(input.keys));
        self.store.data_mut().lent = Some(lent);
        let answer = self.cross(call, input).await;
        let lent = self.store.data_mut().lent.take().expect("lent above");
        (lent.into_kept(), answer.and_then(|answer| self.take_over(input, answer)))
    }

    async fn cross(&mut self, call: Call, input: &Keyed<'_>) -> Result<keyed_process::Processed, Failure> {
        let (values, columns): (Vec<Lent<'_>>, Vec<Lent<'_>>) =
            (input.values.iter().map(Lent::of).collect(), input.columns.iter().map(Lent::of).collect());
        let values: Vec<ColumnParam<'_>> = values.iter().map(Lent::param).collect();
        let columns: Vec<ColumnParam<'_>> = columns.iter().map(Lent::param).collect();
        let key_of = write_u32s(input.key_of);
        let keyed = keyed_process::Keyed {
            keys: count(input.keys),
            key_of: &key_of,
            values: &values,
            rows: types::Batch { rows: count(input.key_of.len()), columns: &columns },
            watermark: input.watermark_ms,
            processing_time: input.processing_time_ms,
        };
        begin_call(&mut self.store);
        let operator = self.guest.tidemill_operator_keyed_process();
        let answer = match call {
            Call::Process => operator.call_process(&mut self.store, keyed).await,
            Call::OnTimer => operator.call_on_timer(&mut self.store, keyed).await,
        };
        answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)
    }

    fn take_over(&self, input: &Keyed<'_>, answer: keyed_process::Processed) -> Result<Processed, Failure> {
        let emission = emitted(self.returned.fields(), input.key_of.len(), answer.emission)?;
        let values = values(self.state.fields(), input.keys, answer.values)?;
        Ok(Processed { emission, values, timers: timers(input.keys, answer.timers)? })
    }
}

fn values(
    fields: &[Field],
    keys: usize,
    columns: Vec<Option<ColumnResult>>,
) -> Result<Vec<Option<ArrayRef>>, Failure> {
    if columns.len() != fields.len() {
        let (found, wanted) = (columns.len(), fields.len());
        return Err(Failure::Malformed(format!("{found} columns of values, but it described {wanted}")));
    }
    let column = |(field, column): (&Field, Option<ColumnResult>)| {
        let Some(column) = column else { return Ok(None) };
        take_over(std::slice::from_ref(field), keys, vec![column]).map(|mut one| one.pop())
    };
    fields.iter().zip(columns).map(column).collect()
}

fn timers(keys: usize, changes: keyed_process::TimerChanges) -> Result<TimerChanges, Failure> {
    let malformed = |what: String| Err(Failure::Malformed(format!("timers: {what}")));
    let rows = changes.rows as usize;
    if rows > TIMER_CHANGES_MAX {
        return malformed(format!("{rows} set or cancelled in one call; {TIMER_CHANGES_MAX} are the most"));
    }
    let columns = vec![changes.key, changes.processing_time, changes.name, changes.at];
    let columns = take_over(CHANGE_FIELDS.as_slice(), rows, columns);
    let columns = columns.map_err(|failure| match failure {
        Failure::Malformed(what) => Failure::Malformed(format!("timers: {what}")),
        other => other,
    })?;
    let keys_of = columns[0].as_primitive::<Int64Type>();
    if let Some(key) = keys_of.values().iter().find(|&&key| usize::try_from(key).map_or(true, |k| k >= keys))
    {
        return malformed(format!("one of key {key}, but the call is about {keys} keys"));
    }
    let names = columns[2].as_string::<i32>();
    if let Some(name) = names.iter().flatten().find(|name| name.len() > TIMER_NAME_BYTES_MAX) {
        let (name, bytes) = (readable(&name[..name.floor_char_boundary(40)]), name.len());
        return malformed(format!(
            "the name `{name}…` has {bytes} bytes; {TIMER_NAME_BYTES_MAX} are the most"
        ));
    }
    let times = columns[3].as_primitive::<TimestampMillisecondType>();
    let possible = |at: &i64| at.unsigned_abs() <= EVENT_TIME_LIMIT_MS.unsigned_abs();
    if let Some(at) = times.iter().flatten().find(|at| !possible(at)) {
        return malformed(format!("one at {at}, which is no time within 285,000 years of 1970"));
    }
    Ok(TimerChanges { columns })
}
