//! Running transforms, and what the calls of all worlds have in common: one call for a batch.

use arrow_array::ArrayRef;
use tidemill_flow::schema::{Field, Schema};
use wasmtime::Store;

use super::bindings::transform::TransformOperator;
use super::bindings::transform::tidemill::operator::types::{self, ColumnParam};
use super::columns::{Lent, read_u32s, take_over};
use super::failure::Failure;
use super::guest::{Guest, Limits, readable};
use super::load::{Code, Plugin};
use super::verify::{self, Beside, Difference, Twin};

/// What an operator made of a batch, checked.
#[derive(Clone, Debug)]
pub struct Emission {
    /// For each output row the input row that it came from; `None`: row i came from row i.
    pub origins: Option<Vec<u32>>,
    /// The columns of the described output fields.
    pub columns: Vec<ArrayRef>,
    /// The number of output rows.
    pub rows: usize,
    /// Input rows that the operator couldn't use.
    pub rejected: Vec<Rejection>,
}

/// An input row that an operator couldn't use, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The row of the input.
    pub row: u32,
    /// The operator's reason.
    pub reason: String,
}

/// A running transform.
pub struct Transform {
    store: Store<Guest>,
    guest: TransformOperator,
    returned: Schema,
    beside: Beside,
}

/// Instantiates and opens a guest; the generated types of the worlds differ in their module only.
macro_rules! start {
    ($plugin:expr, $pre:expr, $operator:expr, $settings:expr, $limits:expr) => {{
        use super::instance::{begin_call, borrowed, failure, refused};
        let mut store = $plugin.store($operator, $limits);
        begin_call(&mut store);
        let guest = $pre.instantiate_async(&mut store).await;
        let guest = guest.map_err(|e| failure(&mut store, &e))?;
        let answer = guest.tidemill_operator_lifecycle().call_open(&mut store, &borrowed($settings)).await;
        answer.map_err(|e| failure(&mut store, &e))?.map_err(refused)?;
        (store, guest)
    }};
}
pub(super) use start;

impl Plugin {
    /// Starts an instance of a transform, for the operator of this id, with its settings.
    ///
    /// # Errors
    /// When the guest fails, or refuses the settings.
    ///
    /// # Panics
    /// When the plugin's world is another.
    pub async fn transform(
        &self,
        operator: &str,
        settings: &[(String, String)],
        limits: Limits,
    ) -> Result<Transform, Failure> {
        let Code::Transform(pre) = &self.code else { panic!("{operator} is a {}", self.world().name()) };
        let (store, guest) = start!(self, pre, operator, settings, limits);
        let returned = self.description().output.returned();
        Ok(Transform { store, guest, returned, beside: Beside::default() })
    }
}

impl Transform {
    /// With this twin each call is made again.
    pub fn compared(self, twin: Option<Twin>) -> Self {
        Self { beside: Beside::new(twin), ..self }
    }

    /// How a fresh instance answered the last call otherwise, if it did.
    pub fn difference(&mut self) -> Option<Difference> {
        self.beside.difference()
    }

    /// Hands a batch across: the columns that the operator described, in its order.
    ///
    /// # Errors
    /// When the guest fails. The instance is then finished, except after [`Failure::Refused`].
    pub async fn process(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Emission, Failure> {
        let emission = self.call(columns, rows).await?;
        if let Some(twin) = self.beside.comparing() {
            let again = match twin.plugin.transform(&twin.operator, &twin.settings, twin.limits).await {
                Ok(mut fresh) => fresh.call(columns, rows).await,
                Err(failure) => Err(failure),
            };
            twin.heard("process", again, |again| {
                verify::emission(self.returned.fields(), "row", rows, "row", &emission, again)
            });
        }
        Ok(emission)
    }

    async fn call(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Emission, Failure> {
        let lent: Vec<Lent<'_>> = columns.iter().map(Lent::of).collect();
        let params: Vec<ColumnParam<'_>> = lent.iter().map(Lent::param).collect();
        let batch = types::Batch { rows: count(rows), columns: &params };
        begin_call(&mut self.store);
        let answer = self.guest.tidemill_operator_transform().call_process(&mut self.store, batch).await;
        let emission = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        emitted(self.returned.fields(), rows, emission)
    }
}

pub(super) fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

pub(super) fn count(rows: usize) -> u32 {
    u32::try_from(rows).expect("a batch has fewer than 2^32 rows")
}

/// Before every entry: a guest without a deadline traps at once.
pub(super) fn begin_call(store: &mut Store<Guest>) {
    store.data_mut().begin_call();
    store.set_epoch_deadline(1);
}

pub(super) fn refused(reason: String) -> Failure {
    Failure::Refused(readable(&reason))
}

/// What a failed call means.
pub(super) fn failure(store: &mut Store<Guest>, error: &wasmtime::Error) -> Failure {
    let guest = store.data_mut();
    let trap = error.downcast_ref::<wasmtime::Trap>();
    if matches!(trap, Some(wasmtime::Trap::Interrupt)) && guest.timed_out() {
        return Failure::TimedOut { limit_ms: guest.limits().call_ms };
    }
    let cause = guest.last_error.take().unwrap_or_else(|| error.root_cause().to_string());
    if guest.memory_refused {
        return Failure::OutOfMemory { limit_bytes: guest.limits().memory_bytes, then: cause };
    }
    let calls = error.downcast_ref::<wasmtime::WasmBacktrace>().map(ToString::to_string).unwrap_or_default();
    Failure::Trapped(if calls.is_empty() { cause } else { format!("{cause}\n{}", calls.trim_end()) })
}

/// An emission whose origins and rejections both name rows of the input.
pub(super) fn emitted(
    fields: &[Field],
    input_rows: usize,
    emission: types::Emission,
) -> Result<Emission, Failure> {
    let emission = emitted_of(fields, input_rows, "row", input_rows, emission)?;
    let Emission { origins, rejected, .. } = &emission;
    if !rejected.is_empty() {
        let mut went_on = vec![origins.is_none(); input_rows];
        origins.iter().flatten().for_each(|&row| went_on[row as usize] = true);
        if let Some(both) = rejected.iter().find(|r| went_on[r.row as usize]) {
            return Err(Failure::Malformed(format!("row {} both emitted and rejected", both.row)));
        }
    }
    Ok(emission)
}

/// An emission whose origins name `things`, each a `thing`, and its rejections rows of the input.
pub(super) fn emitted_of(
    fields: &[Field],
    things: usize,
    thing: &str,
    input_rows: usize,
    emission: types::Emission,
) -> Result<Emission, Failure> {
    let rows = emission.rows as usize;
    let origins = emission.origins.map(|o| read_u32s(&o, count(things), "origins", thing)).transpose()?;
    let expected = origins.as_ref().map_or(things, Vec::len);
    if rows != expected {
        return Err(Failure::Malformed(match origins {
            Some(_) => format!("{rows} rows with {expected} origins"),
            None => format!("{rows} rows without origins for {things} {thing}s of input"),
        }));
    }
    let columns = take_over(fields, rows, emission.columns)?;
    Ok(Emission { origins, columns, rows, rejected: rejections(emission.rejected, input_rows)? })
}

/// Rejected rows, ascending, each once.
pub(super) fn rejections(rejected: Vec<types::Rejection>, rows: usize) -> Result<Vec<Rejection>, Failure> {
    if let Some(bad) = rejected.iter().find(|r| r.row as usize >= rows) {
        return Err(Failure::Malformed(format!("row {} rejected, but there are {rows} rows", bad.row)));
    }
    let mut rejected: Vec<Rejection> =
        rejected.into_iter().map(|r| Rejection { row: r.row, reason: readable(&r.reason) }).collect();
    rejected.sort_by_key(|r| r.row);
    rejected.dedup_by_key(|r| r.row);
    Ok(rejected)
}
