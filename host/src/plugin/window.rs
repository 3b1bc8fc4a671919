//! Running window operators: all the rows of some windows cross in one call.

use arrow_array::ArrayRef;
use tidemill_flow::schema::Schema;
use wasmtime::Store;

use super::bindings::transform::tidemill::operator::types::{self, ColumnParam};
use super::bindings::window::WindowOperator;
use super::bindings::window::exports::tidemill::operator::window::Bounds;
use super::columns::Lent;
use super::failure::Failure;
use super::guest::{Guest, Limits};
use super::instance::{Emission, begin_call, count, emitted_of, failure, refused, start};
use super::load::{Code, Plugin};
use super::verify::{self, Beside, Difference, Twin};

/// A window of one key, and where its rows stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRows {
    /// The first millisecond of the window, since the Unix epoch; the smallest number if it has no bounds.
    pub start: i64,
    /// The first millisecond after the window; the largest number if it has no bounds.
    pub end: i64,
    /// Its rows end before this one; they begin where those of the window before end.
    pub rows_end: usize,
}

/// A running window operator.
pub struct Window {
    store: Store<Guest>,
    guest: WindowOperator,
    returned: Schema,
    beside: Beside,
}

impl Plugin {
    /// Starts an instance of a window operator, for the operator of this id, with its settings.
    ///
    /// # Errors
    /// When the guest fails, or refuses the settings.
    ///
    /// # Panics
    /// When the plugin's world is another.
    pub async fn window(
        &self,
        operator: &str,
        settings: &[(String, String)],
        limits: Limits,
    ) -> Result<Window, Failure> {
        let Code::Window(pre) = &self.code else { panic!("{operator} is a {}", self.world().name()) };
        let (store, guest) = start!(self, pre, operator, settings, limits);
        let returned = self.description().output.returned();
        Ok(Window { store, guest, returned, beside: Beside::default() })
    }
}

impl Window {
    /// With this twin each call is made again.
    pub fn compared(self, twin: Option<Twin>) -> Self {
        Self { beside: Beside::new(twin), ..self }
    }

    /// How a fresh instance answered the last call otherwise, if it did.
    pub fn difference(&mut self) -> Option<Difference> {
        self.beside.difference()
    }

    /// Hands windows across with their rows: the columns that the operator described, in its order, the rows of each
    /// window together and in order of event time. Origins of the answer name windows, rejections rows.
    ///
    /// # Errors
    /// When the guest fails. The instance is then finished, except after [`Failure::Refused`].
    ///
    /// # Panics
    /// When a window has no row, or the windows don't end with the last row.
    pub async fn evaluate(
        &mut self,
        windows: &[WindowRows],
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Emission, Failure> {
        let emission = self.call(windows, columns, rows).await?;
        if let Some(twin) = self.beside.comparing() {
            let again = match twin.plugin.window(&twin.operator, &twin.settings, twin.limits).await {
                Ok(mut fresh) => fresh.call(windows, columns, rows).await,
                Err(failure) => Err(failure),
            };
            let returned = self.returned.fields();
            twin.heard("evaluate", again, |again| {
                verify::emission(returned, "window", windows.len(), "row", &emission, again)
            });
        }
        Ok(emission)
    }

    async fn call(
        &mut self,
        windows: &[WindowRows],
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Emission, Failure> {
        let bounds = bounds(windows, rows);
        let lent: Vec<Lent<'_>> = columns.iter().map(Lent::of).collect();
        let params: Vec<ColumnParam<'_>> = lent.iter().map(Lent::param).collect();
        let batch = types::Batch { rows: count(rows), columns: &params };
        begin_call(&mut self.store);
        let operator = self.guest.tidemill_operator_window();
        let answer = operator.call_evaluate(&mut self.store, &bounds, batch).await;
        let emission = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        emitted_of(self.returned.fields(), windows.len(), "window", rows, emission)
    }
}

fn bounds(windows: &[WindowRows], rows: usize) -> Vec<Bounds> {
    let mut rows_begin = 0;
    let bounds = windows.iter().map(|&WindowRows { start, end, rows_end }| {
        assert!(rows_begin < rows_end, "a window from row {rows_begin} up to row {rows_end}");
        rows_begin = rows_end;
        Bounds { start, end, rows_end: count(rows_end) }
    });
    let bounds = bounds.collect();
    assert_eq!(rows_begin, rows, "the rows of {} windows", windows.len());
    bounds
}
