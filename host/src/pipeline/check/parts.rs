//! The parts of a plan: sources, operators and sinks with the columns that somebody reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tidemill_flow::schema::{Field, Schema};

use super::edges::Edges;
use super::{Checker, WINDOW_START, read_fields};
use crate::formats::{CsvOptions, Demand, Encoder, Format, TimestampUnit};
use crate::log::nexmark;
use crate::pipeline::declaration::{
    self, Decoding, FormatDecl, Pace, SinkKind, SourceKind, Spanned, TimestampDecl, Upstream,
};
use crate::pipeline::fields::{Demands, Offered};
use crate::pipeline::plan::{
    EventTimePlan, OperatorKind, OperatorPlan, Origin, Read, SinkPlan, SourceInput, SourcePlan,
};
use crate::pipeline::stages::{expand, late_by_field};
use crate::plugin::{Limits, Output, TIME_FIELD, World};

impl Checker<'_> {
    /// Which fields are read, at each source and operator: backwards from the sinks.
    pub(super) fn wanted(&self, edges: &Edges, sinks: &[Schema]) -> Wanted {
        let count = self.plugins.len();
        let none = |n: usize| (0..n).map(|_| BTreeSet::new()).collect::<Vec<_>>();
        let mut wanted = Wanted {
            sources: none(edges.sources.len()),
            operators: none(count),
            late: none(count),
            inputs: none(count),
        };
        for (sink, schema) in self.declaration.sinks.iter().zip(sinks) {
            wanted.at(sink.input.value).extend(schema.fields().iter().map(|f| f.name.clone()));
        }
        for &at in self.declaration.order.iter().rev() {
            let (operator, plugin) = (&self.declaration.operators[at], &self.plugins[at]);
            let mut names: BTreeSet<String> = read_fields(plugin).map(|f| f.name.clone()).collect();
            names.extend(operator.key.iter().map(|k| k.value.clone()));
            if !matches!(plugin.description().output, Output::Replaced(_)) {
                let returned = plugin.description().output.returned();
                names.extend(wanted.operators[at].iter().filter(|n| returned.field(n).is_none()).cloned());
            }
            let late = late_by_field().name;
            names.extend(wanted.late[at].iter().filter(|n| **n != late).cloned());
            for input in &operator.inputs {
                wanted.at(input.value).extend(names.iter().cloned());
            }
            wanted.inputs[at] = names;
        }
        wanted
    }

    pub(super) fn operator(
        &self,
        at: usize,
        input: &Offered,
        output: &Offered,
        demands: &Demands,
        wanted: &Wanted,
        nulls: &BTreeSet<String>,
    ) -> OperatorPlan {
        let (operator, plugin) = (&self.declaration.operators[at], &self.plugins[at]);
        let schema = restrict(input, demands, &wanted.inputs[at]);
        let column = |name: &str| schema.index_of(name).expect("wanted of the input");
        let read = |f: &Field| if f.name == TIME_FIELD { Read::Time } else { Read::Column(column(&f.name)) };
        let reads = plugin.description().inputs[0].fields().iter().map(read).collect();
        let returned = plugin.description().output.returned();
        let kind = match plugin.world() {
            World::Aggregate => OperatorKind::Aggregate {
                key: operator.key.iter().map(|k| column(&k.value)).collect(),
                windows: operator.windows(),
            },
            _ => OperatorKind::Transform,
        };
        let origin = |name: &str| match (&kind, returned.index_of(name)) {
            (_, Some(at)) => Origin::Returned(at),
            (OperatorKind::Transform, None) => Origin::Input(column(name)),
            (OperatorKind::Aggregate { .. }, None) => {
                match (operator.key.iter().position(|k| k.value == name), name) {
                    (Some(at), _) => Origin::Key(at),
                    (None, WINDOW_START) => Origin::WindowStart,
                    (None, _) => Origin::WindowEnd,
                }
            }
        };
        let emitted = restrict(output, demands, &wanted.operators[at]);
        let emits = emitted.fields().iter().map(|f| (f.clone(), origin(&f.name))).collect();
        OperatorPlan {
            id: operator.id.value.clone(),
            plugin: plugin.clone(),
            settings: operator.settings.iter().map(|(k, v)| (k.value.clone(), v.value.clone())).collect(),
            limits: Limits {
                memory_bytes: usize::try_from(operator.memory_bytes).unwrap_or(usize::MAX),
                call_ms: operator.call_timeout_ms.unsigned_abs(),
            },
            reject_nulls: nulls.iter().map(|n| column(n)).collect(),
            reads,
            kind: kind.clone(),
            emits,
            input: schema,
        }
    }

    pub(super) fn sources(
        &self,
        base: &Path,
        edges: &Edges,
        demands: &Demands,
        wanted: &[BTreeSet<String>],
    ) -> Option<Vec<SourcePlan>> {
        let mut plans = Vec::new();
        for (at, source) in self.declaration.sources.iter().enumerate() {
            let mut names = wanted[at].clone();
            let decoding = match &source.kind {
                SourceKind::Files { decoding, .. } | SourceKind::Stdin { decoding } => Some(decoding),
                SourceKind::Nexmark(_) => None,
            };
            let time = decoding.and_then(|d| d.event_time.as_ref());
            if let Some(time) = time {
                let known = edges.sources[at].find(&time.field.value, demands);
                if let Err(reason) = known {
                    let message = self.unreadable(&time.field.value, "event_time", reason);
                    self.problems.report(&time.field, message);
                    return None;
                }
                names.insert(time.field.value.clone());
            }
            let schema = restrict(&edges.sources[at], demands, &names);
            let demanded = |d: &Decoding| schema.fields().iter().map(|f| demand(f, d)).collect::<Vec<_>>();
            let input = match &source.kind {
                SourceKind::Files { paths, decoding } => SourceInput::Files {
                    paths: self.files(base, paths)?,
                    format: format(&decoding.format),
                    demands: demanded(decoding),
                },
                SourceKind::Stdin { decoding } => {
                    SourceInput::Stdin { format: format(&decoding.format), demands: demanded(decoding) }
                }
                SourceKind::Nexmark(n) => SourceInput::Nexmark {
                    options: nexmark::Options {
                        seed: n.seed,
                        events: n.events_count,
                        events_per_second: n.events_per_second,
                        out_of_orderness_ms: n.out_of_orderness_ms.unsigned_abs(),
                        partitions: u32::try_from(n.partitions_count.get()).expect("at most 720"),
                    },
                    paced: n.pace == Pace::EventTime,
                },
            };
            let event_time = time.map(|t| EventTimePlan {
                column: schema.index_of(&t.field.value).expect("inserted above"),
                out_of_orderness_ms: t.out_of_orderness_ms,
            });
            plans.push(SourcePlan { id: source.id.value.clone(), input, schema, event_time });
        }
        Some(plans)
    }

    /// Whether each sink's format can hold its rows, and its file isn't one that is read.
    pub(super) fn check_sinks(&self, sinks: &[SinkPlan], sources: &[SourcePlan]) {
        for (declared, sink) in self.declaration.sinks.iter().zip(sinks) {
            if let Err(error) = Encoder::new(&sink.format, &sink.schema) {
                self.problems.report(&declared.id, error.to_string());
            }
            let Some(path) = &sink.path else { continue };
            for source in sources {
                let SourceInput::Files { paths, .. } = &source.input else { continue };
                if paths.iter().any(|p| is_same_file(p, path)) {
                    let message = format!("writes {}, which source `{}` reads", path.display(), source.id);
                    self.problems.report(&declared.id, message);
                }
            }
        }
    }

    /// The files that patterns mean, without those that the pipeline itself writes its rejected and late rows to.
    fn files(&self, base: &Path, patterns: &[Spanned<String>]) -> Option<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for pattern in patterns {
            match expand(base, &pattern.value) {
                Ok(more) => paths.extend(more),
                Err(message) => {
                    self.problems.report(pattern, message);
                    return None;
                }
            }
        }
        paths.sort();
        paths.dedup();
        let own = [&self.declaration.dead_letters, &self.declaration.late].map(|path| base.join(&path.value));
        paths.retain(|path| !own.iter().any(|own| is_same_file(own, path)));
        let problem = match paths.len() {
            0 => "matches only files that the pipeline itself writes".to_owned(),
            1..PARTITIONS_MAX => return Some(paths),
            count => format!("{count} files, but a source may have {PARTITIONS_MAX}; join some of them"),
        };
        self.problems.report(patterns.first()?, problem);
        None
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other)
}

/// Files of one source. The positions of rows have room for a million partitions in all.
const PARTITIONS_MAX: usize = 100_000;

/// The names of the fields that somebody reads.
pub(super) struct Wanted {
    pub(super) sources: Vec<BTreeSet<String>>,
    operators: Vec<BTreeSet<String>>,
    late: Vec<BTreeSet<String>>,
    inputs: Vec<BTreeSet<String>>,
}

impl Wanted {
    fn at(&mut self, upstream: Upstream) -> &mut BTreeSet<String> {
        match upstream {
            Upstream::Source(s) => &mut self.sources[s],
            Upstream::Operator(o) => &mut self.operators[o],
            Upstream::Late(o) => &mut self.late[o],
        }
    }
}
fn restrict(offered: &Offered, demands: &Demands, names: &BTreeSet<String>) -> Schema {
    let fields = offered.all(demands).fields().iter().filter(|f| names.contains(&f.name)).cloned().collect();
    Schema::new(fields).expect("names of a schema are unique")
}

/// The fields that a source's section declares.
pub(super) fn declared(decoding: &Decoding) -> Schema {
    let fields = decoding.fields.iter().map(|f| Field {
        name: f.name.value.clone(),
        field_type: f.field_type,
        // A row without event time is rejected at the source.
        nullable: f.nullable && decoding.event_time.as_ref().is_none_or(|t| t.field.value != f.name.value),
    });
    Schema::new(fields.collect()).expect("the file's keys are unique")
}

fn demand(field: &Field, decoding: &Decoding) -> Demand {
    let is_time = decoding.event_time.as_ref().is_some_and(|t| t.field.value == field.name);
    let field = Field { nullable: field.nullable && !is_time, ..field.clone() };
    match decoding.fields.iter().find(|f| f.name.value == field.name) {
        Some(declared) => Demand {
            field,
            path: declared.path.clone(),
            unit: declared.unit.map_or(TimestampUnit::Auto, unit),
        },
        None => Demand::named(field),
    }
}

pub(super) fn sink(sink: &declaration::Sink, schema: Schema, base: &Path) -> SinkPlan {
    let path = match &sink.kind {
        SinkKind::Files { path } => Some(base.join(&path.value)),
        SinkKind::Stdout => None,
    };
    SinkPlan {
        id: sink.id.value.clone(),
        path,
        format: format(&sink.format),
        timestamps: unit(sink.timestamps),
        schema,
    }
}

fn format(declared: &FormatDecl) -> Format {
    match declared {
        FormatDecl::JsonLines => Format::JsonLines,
        FormatDecl::Csv(csv) => {
            Format::Csv(CsvOptions { delimiter: csv.delimiter, header: csv.header, null: csv.null.clone() })
        }
        FormatDecl::Text => Format::Text,
    }
}

fn unit(declared: TimestampDecl) -> TimestampUnit {
    match declared {
        TimestampDecl::Rfc3339 => TimestampUnit::Rfc3339,
        TimestampDecl::Seconds => TimestampUnit::Seconds,
        TimestampDecl::Milliseconds => TimestampUnit::Milliseconds,
        TimestampDecl::Microseconds => TimestampUnit::Microseconds,
        TimestampDecl::Nanoseconds => TimestampUnit::Nanoseconds,
    }
}
