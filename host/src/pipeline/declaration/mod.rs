//! The pipeline file: TOML text in, a [`Declaration`] out, or every error in it with its line.
//!
//! The text becomes a tree that remembers where each value stands (`table`, `value`), the sections become typed
//! things whose references to one another are resolved (`source`, `operator`, `sink`), and the whole is
//! checked as a graph (`graph`). The tree is walked by hand: serde's tagged enums lose the places of
//! their values, and an error without its line is half an error.
//!
//! Nothing here does I/O. Paths are as written; they are meant relative to the pipeline file. What only
//! the components can tell (fields, types, whether a key fits) is checked later, by whoever has loaded
//! them, who reports in the same form: see [`Declaration::problems`].

mod checkpoints;
mod connection;
mod delivery;
mod errors;
mod file;
mod format;
mod graph;
mod ids;
mod join;
mod keys;
mod operator;
mod paths;
mod restart;
pub mod script;
mod sink;
mod source;
mod stream;
mod suggest;
mod table;
#[cfg(test)]
mod tests;
mod trigger;
mod ttl;
mod units;
mod value;
mod window;
mod zone;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use tidemill_checkpoint::Place as StorePlace;

pub use checkpoints::{Checkpoints, State, StateBackend};
pub use connection::{Connection, CredentialsDecl, SecretDecl, TlsDecl};
pub use delivery::Delivery;
pub use errors::{Errors, Problems};
pub use file::{File, Place, Span, Spanned};
pub use format::{CsvDecl, FormatDecl, TimestampDecl};
pub use ids::Upstream;
pub use join::{Join, JoinOn};
pub use operator::Operator;
pub use restart::Restart;
pub use sink::{CreateDecl, Sink, SinkKind};
pub use source::{Align, Decoding, EventTime, FieldDecl, LogStart, Nexmark, Pace, Source, SourceKind};
pub use stream::{Metadata, MetadataDecl, StreamStart};
pub use suggest::hint;
pub use trigger::Firings;
pub use ttl::{Clock, Ttl};
pub use units::duration_ms;
pub(crate) use window::WINDOWS_OF_ROW_MAX;
pub use window::Window;

use ids::Ids;
use table::Table;
use value::Value;

/// A key group is the smallest share of the work, and there are 720: a task beyond that would own none.
const PARALLELISM_MAX: i64 = 720;

/// Some ten thousand operators. References are looked up one by one, in time that grows with the square.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A pipeline as its file declares it: every reference leads somewhere, nothing goes in a circle, and
/// everything is read by something.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// The file that says all this.
    pub file: File,
    /// The pipeline's name.
    pub name: Spanned<String>,
    /// Tasks per stage; `None`: as many as there are cores.
    pub parallelism: Option<NonZeroUsize>,
    /// Where rejected rows go. Where there are checkpoints the name has a `*`, which becomes the checkpoint's number.
    pub dead_letters: Spanned<PathBuf>,
    /// Where late rows go that no sink reads; with a `*` as the dead letters.
    pub late: Spanned<PathBuf>,
    /// The checkpoints; `None`: there are none, and each run starts at the beginning.
    pub checkpoints: Option<Checkpoints>,
    /// Where state stands meanwhile.
    pub state: State,
    /// What happens when the pipeline fails; it begins again only where there are checkpoints.
    pub restart: Restart,
    /// The connections, in the order of the file.
    pub connections: Vec<Connection>,
    /// The sources, in the order of the file.
    pub sources: Vec<Source>,
    /// The operators, in the order of the file.
    pub operators: Vec<Operator>,
    /// The sinks, in the order of the file.
    pub sinks: Vec<Sink>,
    /// Every operator once, after all those that it reads; the order of the file if that will do.
    pub order: Vec<usize>,
}

/// Reads a pipeline file.
///
/// `file_name` only stands in messages.
///
/// # Errors
/// All that is wrong with the file, in its order.
pub fn parse(file_name: &str, text: &str) -> Result<Declaration, Errors> {
    let problems = Problems::new(File::new(file_name, text));
    if text.len() > FILE_BYTES_MAX {
        let megabytes = text.len() >> 20;
        problems.report(Span::default(), format!("the file has {megabytes} MiB; a pipeline fits into one"));
        return problems.settle(None);
    }
    let declaration = table::tree(text, &problems)
        .and_then(|tree| read(&Table::root(&keys::PIPELINE, tree.get_ref(), &problems)));
    problems.settle(declaration)
}

fn read(root: &Table<'_>) -> Option<Declaration> {
    root.check_keys(None);
    let name = root.required("name", |v| v.id());
    let parallelism = root.optional("parallelism", |v| v.count(PARALLELISM_MAX));
    let has_checkpoints = root.get("checkpoints").is_some();
    let dead_letters = read_own_path(root, "dead_letters", has_checkpoints, &name);
    let late = read_own_path(root, "late", has_checkpoints, &name);
    let checkpoints = root.optional("checkpoints", |v| checkpoints::read(v, name.as_ref()));
    let state = checkpoints::read_state(root);
    let restart = restart::read(root);

    let sections = [needed(root, "sources"), root.get("operators"), needed(root, "sinks")];
    let sections = sections.map(|section| section.and_then(|value| value.table_of_names()));
    let [sources, operators, sinks] =
        sections.each_ref().map(|s| s.as_ref().map_or(Vec::new(), Table::values));
    let ids = Ids::collect(&sources, &operators, &sinks);
    let connections = root.get("connections").and_then(|value| value.table_of_names());
    let connections = connections.as_ref().map_or(Vec::new(), Table::values);
    let connection_ids: Vec<_> = connections.iter().map(Value::key).collect();
    connection_ids.iter().for_each(|id| _ = ids::check(root.problems(), id));
    let connections: Vec<_> = connections.iter().map(connection::read).collect();
    if let Some(Some(checkpoints)) = &checkpoints
        && let StorePlace::JetStream(place) = &checkpoints.path.value
        && !connection_ids.iter().any(|id| id.value == place.connection())
    {
        let known = connection_ids.iter().map(|id| id.value.as_str());
        let message = format!("`path` in [checkpoints]: {}", connection::unknown(place.connection(), known));
        root.problems().report(&checkpoints.path, message);
    }
    let context = Context { connections: &connection_ids, has_checkpoints };

    let sources: Vec<_> = sources.iter().map(|section| source::read(section, context)).collect();
    let operators: Vec<_> = operators.iter().map(|section| operator::read(section, &ids)).collect();
    let sinks: Vec<_> = sinks.iter().map(|section| sink::read(section, &ids, context)).collect();

    let order = graph::check(root.problems(), &ids, &operators, &sinks);
    let folders = paths::Folders {
        checkpoints: checkpoints.as_ref().and_then(Option::as_ref),
        state: state.as_ref().and_then(|s| s.path.as_ref()),
    };
    paths::check(root.problems(), folders, [&dead_letters, &late], &sources, &sinks);

    Some(Declaration {
        file: root.problems().file().clone(),
        name: name?,
        parallelism: parallelism?,
        dead_letters: dead_letters?,
        late: late?,
        checkpoints: checkpoints?,
        state: state?,
        restart: restart?,
        connections: connections.into_iter().collect::<Option<_>>()?,
        sources: sources.into_iter().collect::<Option<_>>()?,
        operators: operators.into_iter().map(|(_, operator)| operator).collect::<Option<_>>()?,
        sinks: sinks.into_iter().map(|(_, sink)| sink).collect::<Option<_>>()?,
        order: order?,
    })
}

/// What sources and sinks must know of the rest of the file.
#[derive(Clone, Copy)]
struct Context<'a> {
    connections: &'a [Spanned<String>],
    has_checkpoints: bool,
}

/// Where rows go that are nobody's result; named after the pipeline unless the file says otherwise.
fn read_own_path(
    root: &Table<'_>,
    key: &'static str,
    has_checkpoints: bool,
    pipeline: &Option<Spanned<String>>,
) -> Option<Spanned<PathBuf>> {
    let cure = if has_checkpoints { "" } else { delivery::WITHOUT_CHECKPOINTS };
    let path = root.optional(key, |v| delivery::read_path(v, has_checkpoints, cure))?;
    let star = if has_checkpoints { "-*" } else { "" };
    let default = |name: &Spanned<String>| {
        let (name, kind) = (&name.value, key.replace('_', "-"));
        PathBuf::from(format!("{name}.{kind}{star}.jsonl"))
    };
    path.or_else(|| pipeline.as_ref().map(|name| Spanned::new(default(name), name.span)))
}

/// The sources or the sinks; a pipeline has one of each at least.
fn needed<'a>(root: &'a Table<'_>, key: &'static str) -> Option<Value<'a>> {
    let section = root.get(key);
    if section.is_none_or(|section| section.is_empty_table()) {
        let span = section.map_or(root.span(), |section| section.span());
        root.problems().report(span, format!("the pipeline has no {key}; add a section [{key}.<id>]"));
    }
    section
}

impl Declaration {
    /// Where in the file a thing stands: `pipeline.toml:14:9`.
    pub fn place(&self, at: impl Into<Span>) -> Place {
        self.file.place(at)
    }

    /// An empty list to which later checks add what they find wrong with this file.
    ///
    /// ```text
    /// let problems = declaration.problems();
    /// for field in unknown_fields {
    ///     problems.report(field, format!("operator `clean` emits no field `{}`", field.value));
    /// }
    /// problems.settle(Some(plan))
    /// ```
    pub fn problems(&self) -> Problems {
        Problems::new(self.file.clone())
    }

    /// What the file calls a source, an operator or its late rows: `by-origin.late`.
    pub fn upstream_name(&self, upstream: Upstream) -> String {
        match upstream {
            Upstream::Source(at) => self.sources[at].id.value.clone(),
            Upstream::Operator(at) => self.operators[at].id.value.clone(),
            Upstream::Late(at) => format!("{}.late", self.operators[at].id.value),
        }
    }
}
