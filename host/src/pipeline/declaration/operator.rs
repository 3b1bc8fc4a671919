//! `[operators.<id>]`: a component, what it reads, and what it may use.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use tidemill_flow::window::Windows;

use super::PARALLELISM_MAX;
use super::file::Spanned;
use super::ids::{Ids, Upstream};
use super::keys;
use super::table::Table;
use super::ttl::{self, Ttl};
use super::value::Value;
use super::window;

const MEMORY_BYTES_DEFAULT: u64 = 64 << 20;

/// A page of WebAssembly's memory, and all that its 32-bit addresses reach.
const MEMORY_BYTES_MIN: u64 = 64 << 10;
const MEMORY_BYTES_MAX: u64 = 4 << 30;

const CALL_TIMEOUT_MS_DEFAULT: i64 = 10_000;

/// A component at its place in the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its name, unique in the file; its state is filed under it.
    pub id: Spanned<String>,
    /// The component's file, relative to the pipeline file.
    pub component: Spanned<PathBuf>,
    /// What it reads, one at least, in the order of the component's inputs; never late rows.
    pub inputs: Vec<Spanned<Upstream>>,
    /// What the component is told when it opens, by name, in the order of the file.
    pub settings: Vec<(Spanned<String>, Spanned<String>)>,
    /// How much memory an instance may have.
    pub memory_bytes: u64,
    /// How long a call may take.
    pub call_timeout_ms: i64,
    /// The fields by which rows are grouped, all different; empty: one group.
    pub key: Vec<Spanned<String>>,
    /// The windows by which rows are grouped; `None`: nothing is written, which means the global one.
    pub window: Option<Spanned<Windows>>,
    /// How long its state is kept, by slot; those that aren't there keep it for ever.
    pub ttl: Vec<Ttl>,
    /// Tasks, if other than the pipeline's.
    pub parallelism: Option<NonZeroUsize>,
}

impl Operator {
    /// The windows by which rows are grouped.
    pub fn windows(&self) -> Windows {
        self.window.map_or(Windows::Global, |window| window.value)
    }
}

/// What was understood of an operator or a sink: the inputs are worth a look though the rest has errors.
pub(super) type Read<T> = (Option<Vec<Spanned<Upstream>>>, Option<T>);

/// The operator that a section declares.
pub(super) fn read(section: &Value<'_>, ids: &Ids) -> Read<Operator> {
    let Some(table) = section.table(&keys::OPERATOR) else { return (None, None) };
    table.check_keys(None);
    let inputs = read_inputs(&table, ids, &section.key());
    (inputs.clone(), read_with(section, &table, inputs))
}

fn read_with(
    section: &Value<'_>,
    table: &Table<'_>,
    inputs: Option<Vec<Spanned<Upstream>>>,
) -> Option<Operator> {
    let component = table.required("component", |v| v.path());
    let settings = table.or("settings", Vec::new(), read_settings);
    let memory_bytes = table.or("memory", MEMORY_BYTES_DEFAULT, read_memory);
    let call_timeout_ms = table.or("call_timeout", CALL_TIMEOUT_MS_DEFAULT, |v| v.positive_duration_ms());
    let key = table.or("key", Vec::new(), |v| v.distinct(v.one_or_more(|v| v.name())?));
    let window = table.optional("window", window::read);
    let ttl = table.or("ttl", Vec::new(), ttl::read);
    let parallelism = table.optional("parallelism", |v| v.count(PARALLELISM_MAX));
    Some(Operator {
        id: section.key(),
        component: component?,
        inputs: inputs?,
        settings: settings?,
        memory_bytes: memory_bytes?,
        call_timeout_ms: call_timeout_ms?,
        key: key?,
        window: window?,
        ttl: ttl?,
        parallelism: parallelism?,
    })
}

fn read_inputs(table: &Table<'_>, ids: &Ids, own: &str) -> Option<Vec<Spanned<Upstream>>> {
    let inputs = table.optional("inputs", |v| v.array(|v| ids.operator_input(v, own)));
    match table.get("input") {
        None if table.get("inputs").is_none() => {
            table.report(format!("missing key `input` or `inputs` {}", table.place()))
        }
        None => inputs?,
        Some(value) if table.get("inputs").is_some() => {
            value.refuse("stands beside `inputs`; write one of them")
        }
        Some(value) if value.is_array() => value.refuse("expected text, found array; several are `inputs`"),
        Some(value) => ids.operator_input(value, own).map(|input| vec![input]),
    }
}

fn read_settings(value: Value<'_>) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
    let table = value.table_of_names()?;
    // Each is read before any is judged: all their errors count.
    let settings: Vec<_> = table.values().iter().map(|v| Some((v.key(), v.scalar()?))).collect();
    settings.into_iter().collect()
}

fn read_memory(value: Value<'_>) -> Option<u64> {
    let bytes = value.size_bytes()?.unsigned_abs();
    match (MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&bytes) {
        true => Some(bytes),
        false => value.refuse("must be from \"64KiB\" to \"4GiB\""),
    }
}
