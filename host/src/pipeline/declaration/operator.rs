//! `[operators.<id>]`: a component, what it reads, and what it may use.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use tidemill_flow::timers;
use tidemill_flow::window::Windows;
use tidemill_flow::windowing::Definition;

use super::PARALLELISM_MAX;
use super::file::Spanned;
use super::ids::{Ids, Upstream};
use super::join::{self, Join, JoinOn};
use super::keys;
use super::table::Table;
use super::trigger::{self, Firings};
use super::ttl::{self, Clock, Ttl};
use super::value::Value;
use super::window::{self, Window};

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
    /// For a join the fields of the second input that are the key there, as many as `key` has; otherwise none.
    pub right_key: Vec<Spanned<String>>,
    /// How the two inputs are joined, if they are.
    pub join: Option<Spanned<Join>>,
    /// The windows by which rows are grouped; `None`: nothing is written, which means the global one.
    pub window: Option<Spanned<Window>>,
    /// How long after its end a window takes rows, in milliseconds; `None`: not at all.
    pub allowed_lateness_ms: Option<Spanned<i64>>,
    /// When windows fire; `None`: once, when they are complete.
    pub trigger: Option<Spanned<Firings>>,
    /// How long its state is kept, by slot; those that aren't there keep it for ever.
    pub ttl: Vec<Ttl>,
    /// Tasks, if other than the pipeline's.
    pub parallelism: Option<NonZeroUsize>,
}

impl Operator {
    /// The field by which a version says that it removes its key, for a join with a table.
    pub fn delete_when(&self) -> Option<&Spanned<String>> {
        match self.join.as_ref().map(|join| &join.value.on) {
            Some(JoinOn::Table { delete_when, .. }) => delete_when.as_ref(),
            _ => None,
        }
    }

    /// The windows by which rows are grouped.
    pub fn windows(&self) -> &Window {
        self.window.as_ref().map_or(&Window::GLOBAL, |window| &window.value)
    }

    /// Whether a window of a key may have more than one result.
    pub fn fires_repeatedly(&self) -> bool {
        self.trigger.is_some() || self.lateness_ms() > 0
    }

    /// The windows, if nothing is asked of them but a result at their end.
    pub fn plain_windows(&self) -> Option<Windows> {
        if self.fires_repeatedly() { None } else { self.windows().plain() }
    }

    /// All that is said of windows.
    pub fn definition(&self) -> Definition {
        let Window { assigner, time } = self.windows().clone();
        let Firings { trigger, mode } = self.trigger.as_ref().map_or(Firings::ON_TIME, |t| t.value);
        let time = match time {
            Clock::Event => timers::Clock::Event,
            Clock::Processing => timers::Clock::Processing,
        };
        Definition { assigner, time, lateness_ms: self.lateness_ms(), trigger, mode }
    }

    fn lateness_ms(&self) -> i64 {
        self.allowed_lateness_ms.as_ref().map_or(0, |lateness| lateness.value)
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

/// The operator of a section that reads these inputs.
pub(super) fn read_with(
    section: &Value<'_>,
    table: &Table<'_>,
    inputs: Option<Vec<Spanned<Upstream>>>,
) -> Option<Operator> {
    let component = table.required("component", |v| v.path());
    let settings = table.or("settings", Vec::new(), read_settings);
    let memory_bytes = table.or("memory", MEMORY_BYTES_DEFAULT, read_memory);
    let call_timeout_ms = table.or("call_timeout", CALL_TIMEOUT_MS_DEFAULT, |v| v.positive_duration_ms());
    let key = table.or("key", Vec::new(), |v| v.distinct(v.one_or_more(|v| v.name())?));
    let keys = table.optional("keys", read_keys);
    let join = table.optional("join", join::read);
    let window = table.optional("window", window::read);
    let allowed_lateness_ms =
        table.optional("allowed_lateness", |v| v.duration_ms().map(|lateness_ms| v.at(lateness_ms)));
    let trigger = table.optional("trigger", trigger::read);
    let ttl = table.or("ttl", Vec::new(), ttl::read);
    let parallelism = table.optional("parallelism", |v| v.count(PARALLELISM_MAX));
    let (keys, join) = (keys?, join?);
    let (key, right_key) = match (key?, keys) {
        (key, Some(_)) if !key.is_empty() => {
            return table.get("keys")?.refuse("stands beside `key`; write one of them");
        }
        (_, Some(keys)) => keys,
        (key, None) if join.is_some() => (key.clone(), key),
        (key, None) => (key, Vec::new()),
    };
    Some(Operator {
        id: section.key(),
        component: component?,
        inputs: inputs?,
        settings: settings?,
        memory_bytes: memory_bytes?,
        call_timeout_ms: call_timeout_ms?,
        key,
        right_key,
        join,
        window: window?,
        allowed_lateness_ms: allowed_lateness_ms?,
        trigger: trigger?,
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

/// The fields of a key.
type Key = Vec<Spanned<String>>;

/// `keys = [["customer"], ["id"]]`: the keys of both inputs of a join.
fn read_keys(value: Value<'_>) -> Option<(Key, Key)> {
    let sides = value.array(|v| v.distinct(v.one_or_more(|v| v.name())?))?;
    let Ok([left, right]) = <[_; 2]>::try_from(sides) else {
        return value.refuse("expected the fields of two inputs, such as [[\"customer\"], [\"id\"]]");
    };
    if left.len() != right.len() {
        return value.refuse("the keys of both inputs must have as many fields");
    }
    Some((left, right))
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
