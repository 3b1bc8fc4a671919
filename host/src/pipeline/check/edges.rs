//! Fields along the edges: found, typed, and compared with what operators read.

use std::collections::BTreeSet;

use tidemill_flow::join::Kind;
use tidemill_flow::key::can_be_key;
use tidemill_flow::schema::{Field, FieldType, Schema};
use tidemill_flow::windowing::Assigner;

use super::parts::declared;
use super::{Checker, Component, WINDOW_END, WINDOW_FIRING, WINDOW_START, WINDOW_TIMING};
use crate::log::nexmark;
use crate::pipeline::declaration::{self, JoinOn, MetadataDecl, Operator, Source, Spanned, Upstream};
use crate::pipeline::fields::{Demands, Found, Offered, Unreadable};
use crate::pipeline::stages::{either, late_by_field, late_of_join};
use crate::plugin::{Output, World};

/// The fields at every point of the pipeline.
pub(super) struct Edges {
    pub(super) sources: Vec<Offered>,
    pub(super) operators: Vec<Offered>,
    /// The second inputs of joins.
    pub(super) rights: Vec<Option<Offered>>,
    /// The late rows of joins.
    late: Vec<Option<Offered>>,
}

impl Edges {
    pub(super) fn of(&self, upstream: Upstream, inputs: &[Offered]) -> Offered {
        match upstream {
            Upstream::Source(s) => self.sources[s].clone(),
            Upstream::Operator(o) => self.operators[o].clone(),
            Upstream::Late(o) => {
                if let Some(late) = &self.late[o] {
                    return late.clone();
                }
                let late = Schema::new(vec![late_by_field()]).expect("one field");
                Offered::Extended(Box::new(inputs[o].clone()), late)
            }
        }
    }
}
impl Checker<'_> {
    /// Asks the open sources for every field that is read under a type.
    pub(super) fn ask_sources(&self, demands: &mut Demands) {
        for (at, source) in self.declaration.sources.iter().enumerate() {
            let Some(decoding) = source.kind.decoding().filter(|d| d.fields.is_empty()) else { continue };
            for MetadataDecl { field, metadata } in &decoding.metadata {
                let asked = demands.ask(at, &field.value, metadata.field_type(), "the source's metadata");
                asked.expect("nobody has asked for another type before");
            }
            if let Some(time) = &decoding.event_time {
                for field in time.fields() {
                    let asked =
                        demands.ask(at, &field.value, FieldType::Timestamp, "the source's event_time");
                    asked.expect("nobody has asked for another type before");
                }
            }
        }
        let (edges, inputs) = self.edges(demands, false);
        for (at, (operator, component)) in self.declaration.operators.iter().zip(self.components).enumerate()
        {
            let left = component.reads(0).map(|f| (&inputs[at], f.name.as_str(), f.field_type));
            let right = edges.rights[at].iter().flat_map(|right| {
                let deletes = operator.delete_when().map(|f| (right, f.value.as_str(), FieldType::Boolean));
                component.reads(1).map(move |f| (right, f.name.as_str(), f.field_type)).chain(deletes)
            });
            for (input, name, field_type) in left.chain(right) {
                for source in input.open_sources(name) {
                    let who = format!("operator `{}`", operator.id.value);
                    if let Err((other, first)) = demands.ask(source, name, field_type, &who) {
                        self.problems.report(
                            &operator.component,
                            format!(
                                "`{}` reads the field `{}` of source `{}` as {}, but {first} reads it as {other}; make \
                                 them agree",
                                operator.id.value,
                                name,
                                self.declaration.sources[source].id.value,
                                field_type
                            ),
                        );
                    }
                }
            }
        }
    }

    /// The fields after each source and operator, and those before each operator. What an aggregate gives can be
    /// told when the types of its key can.
    pub(super) fn edges(&self, demands: &Demands, complete: bool) -> (Edges, Vec<Offered>) {
        let source = |(at, source): (usize, &Source)| match source.kind.decoding() {
            Some(decoding) if decoding.fields.is_empty() => Offered::Open(at),
            Some(decoding) => Offered::Fixed { schema: declared(decoding), from_source: true },
            None => Offered::Fixed { schema: nexmark::schema(), from_source: true },
        };
        let sources = self.declaration.sources.iter().enumerate().map(source);
        let nothing = || Offered::Fixed { schema: Schema::default(), from_source: false };
        let count = self.components.len();
        let mut edges = Edges {
            sources: sources.collect(),
            operators: (0..count).map(|_| nothing()).collect(),
            rights: vec![None; count],
            late: vec![None; count],
        };
        let mut inputs: Vec<Offered> = (0..count).map(|_| nothing()).collect();
        for &at in &self.declaration.order {
            let operator = &self.declaration.operators[at];
            let mut of_inputs: Vec<Offered> =
                operator.inputs.iter().map(|i| edges.of(i.value, &inputs)).collect();
            let component = &self.components[at];
            if component.world == World::Join && of_inputs.len() == 2 {
                edges.rights[at] = of_inputs.pop();
            }
            inputs[at] = if of_inputs.len() == 1 { of_inputs.remove(0) } else { Offered::United(of_inputs) };
            if let (Some(right), true) = (&edges.rights[at], complete) {
                edges.late[at] = Some(late_of(&inputs[at], right, demands));
                self.check_sides(operator, &inputs[at], right, demands);
            }
            edges.operators[at] = match (&component.description.output, component.world) {
                (Output::Replaced(_), World::Join) if !complete => nothing(),
                (output @ (Output::Extended(_) | Output::Replaced(_)), World::Join) if complete => {
                    let right = edges.rights[at].as_ref();
                    right.map_or_else(nothing, |right| {
                        self.joined(operator, &inputs[at], right, output, demands)
                    })
                }
                (Output::Same, _) => inputs[at].clone(),
                (Output::Extended(schema), _) => {
                    Offered::Extended(Box::new(inputs[at].clone()), schema.clone())
                }
                (Output::Replaced(_), World::Aggregate | World::Window | World::Process) if !complete => {
                    nothing()
                }
                (Output::Replaced(returned), World::Aggregate | World::Window) => {
                    let schema = self.finished(operator, &inputs[at], returned, demands);
                    Offered::Fixed { schema: schema.unwrap_or_default(), from_source: false }
                }
                (Output::Replaced(returned), World::Process) => {
                    let (mut schema, _) = self.key(operator, &inputs[at], demands);
                    returned.fields().iter().for_each(|field| schema.set(field.clone()));
                    Offered::Fixed { schema, from_source: false }
                }
                (Output::Replaced(returned), World::Transform | World::Join) => {
                    Offered::Fixed { schema: returned.clone(), from_source: false }
                }
            };
        }
        (edges, inputs)
    }

    /// The fields of an operator's key, and whether all of them can be that.
    fn key(&self, operator: &Operator, input: &Offered, demands: &Demands) -> (Schema, bool) {
        let mut schema = Schema::default();
        let mut complete = true;
        for key in &operator.key {
            match self.find(key, input, demands, &format!("the key of `{}`", operator.id.value)) {
                Some(found) if !can_be_key(found.field_type) => {
                    complete = false;
                    self.problems.report(key, no_key(&key.value, found.field_type));
                }
                Some(found) => schema.set(Field {
                    name: key.value.clone(),
                    field_type: found.field_type,
                    nullable: found.nullable,
                }),
                None => complete = false,
            }
        }
        (schema, complete)
    }

    /// The fields of what a join makes of pairs: its key as the left side calls it, the window's bounds, what the operator
    /// returns, and where it extends its input, the fields of the left side.
    fn joined(
        &self,
        operator: &Operator,
        left: &Offered,
        right: &Offered,
        output: &Output,
        demands: &Demands,
    ) -> Offered {
        let join = operator.join.as_ref().map(|join| &join.value);
        let is_full = join.is_some_and(|join| join.kind == Kind::Full);
        let (mut schema, _) = self.key(operator, left, demands);
        if is_full {
            for (key, other) in operator.key.iter().zip(&operator.right_key) {
                let nullable = right.find(&other.value, demands).is_ok_and(|found| found.nullable);
                if let Some(field) = schema.field(&key.value).cloned() {
                    schema.set(Field { nullable: field.nullable || nullable, ..field });
                }
            }
        }
        if join.is_some_and(|join| join.on == JoinOn::Window) {
            for bound in [WINDOW_START, WINDOW_END] {
                if schema.field(bound).is_none() {
                    schema.set(Field::new(bound, FieldType::Timestamp));
                }
            }
        }
        output.returned().fields().iter().for_each(|field| schema.set(field.clone()));
        match output {
            Output::Extended(_) if is_full => {
                Offered::Extended(Box::new(Offered::Optional(Box::new(left.clone()))), schema)
            }
            Output::Extended(_) => Offered::Extended(Box::new(left.clone()), schema),
            Output::Replaced(_) | Output::Same => Offered::Fixed { schema, from_source: false },
        }
    }

    /// Whether both sides of a join have its key, of the same types, and the right one what says that it deletes.
    fn check_sides(&self, operator: &Operator, left: &Offered, right: &Offered, demands: &Demands) {
        let id = &operator.id.value;
        for (key, other) in operator.key.iter().zip(&operator.right_key) {
            let what = format!("the key of `{id}` on the right");
            let Some(found) = self.find(other, right, demands, &what) else { continue };
            // That of the left side is looked for with the fields of the results.
            if let Ok(own) = left.find(&key.value, demands)
                && own.field_type != found.field_type
            {
                self.problems.report(
                    other,
                    format!(
                        "the key of `{id}`: `{}` on the left is {}, but `{}` on the right is {}; only values of one \
                         type can be equal",
                        key.value, own.field_type, other.value, found.field_type
                    ),
                );
            }
        }
        if let Some(field) = operator.delete_when()
            && let Some(found) = self.find(field, right, demands, &format!("`delete_when` of `{id}`"))
            && found.field_type != FieldType::Boolean
        {
            let is = found.field_type;
            self.problems.report(
                field,
                format!("`{}` is {is}; what says that a row deletes is a boolean", field.value),
            );
        }
    }

    /// The fields of an aggregate's results: the key, the window's bounds, and what the operator returns.
    fn finished(
        &self,
        operator: &Operator,
        input: &Offered,
        returned: &Schema,
        demands: &Demands,
    ) -> Option<Schema> {
        let id = &operator.id.value;
        let (mut schema, mut complete) = self.key(operator, input, demands);
        let has_bounds = match operator.windows().assigner {
            Assigner::Global => false,
            Assigner::Count { .. } => self.timeless(&operator.inputs).is_none(),
            _ => true,
        };
        let bounds = [WINDOW_START, WINDOW_END].map(|name| Field::new(name, FieldType::Timestamp));
        let firing =
            [Field::new(WINDOW_FIRING, FieldType::Integer), Field::new(WINDOW_TIMING, FieldType::Text)];
        let of_window = bounds.into_iter().filter(|_| has_bounds);
        let of_firing = firing.into_iter().filter(|_| operator.fires_repeatedly());
        for field in of_window.chain(of_firing) {
            // A key of that name stands for itself: so the results of one window are grouped by its bounds.
            if schema.field(&field.name).is_none() {
                schema.set(field);
            }
        }
        for field in returned.fields() {
            if schema.field(&field.name).is_some() {
                complete = false;
                self.problems.report(
                    &operator.component,
                    format!(
                        "`{id}` returns a field `{}`, which its results have already, as key or of its window; rename the \
                         operator's field",
                        field.name
                    ),
                );
            }
            schema.set(field.clone());
        }
        complete.then_some(schema)
    }

    /// Finds a field that the file names, or reports why not.
    pub(super) fn find(
        &self,
        name: &Spanned<String>,
        offered: &Offered,
        demands: &Demands,
        what: &str,
    ) -> Option<Found> {
        match offered.find(&name.value, demands) {
            Ok(found) => Some(found),
            Err(reason) => {
                self.problems.report(name, self.unreadable(&name.value, what, reason));
                None
            }
        }
    }

    pub(super) fn unreadable(&self, field: &str, what: &str, reason: Unreadable) -> String {
        match reason {
            Unreadable::Unknown(known) => {
                let hint = declaration::hint(field, known.iter().map(String::as_str), '`');
                format!("{what} needs a field `{field}`, which its input doesn't have; {hint}")
            }
            Unreadable::Untyped { source } => {
                let source = &self.declaration.sources[source].id.value;
                format!(
                    "{what} needs the field `{field}` of source `{source}`, but nothing says of which type it is; add \
                     `{field} = \"text\"` or its type, and the other fields, to [sources.{source}.fields]"
                )
            }
            Unreadable::Differs(one, other) => {
                format!(
                    "{what} needs the field `{field}`, which is {one} in one of its inputs and {other} in another"
                )
            }
        }
    }

    /// Checks every field that an operator reads; returns for each operator, and each of two inputs, those that may lack a
    /// value.
    pub(super) fn check_reads(
        &self,
        edges: &Edges,
        inputs: &[Offered],
        demands: &Demands,
    ) -> Vec<[BTreeSet<String>; 2]> {
        let check = |(at, (operator, component)): (usize, (&Operator, &Component<'_>))| {
            let left = self.check_read_of((operator, component), (0, &inputs[at]), demands);
            let right = edges.rights[at].as_ref();
            let right = right.map(|right| self.check_read_of((operator, component), (1, right), demands));
            [left, right.unwrap_or_default()]
        };
        self.declaration.operators.iter().zip(self.components).enumerate().map(check).collect()
    }

    fn check_read_of(
        &self,
        (operator, component): (&Operator, &Component<'_>),
        (number, input): (usize, &Offered),
        demands: &Demands,
    ) -> BTreeSet<String> {
        let id = &operator.id.value;
        let mut reject_nulls = BTreeSet::new();
        for field in component.reads(number) {
            let found = match input.find(&field.name, demands) {
                Ok(found) => found,
                Err(reason) => {
                    let message = self.unreadable(&field.name, &format!("`{id}`"), reason);
                    self.problems.report(&operator.component, message);
                    continue;
                }
            };
            let of_join = component.world == World::Join;
            let upstream: Vec<String> = operator
                .inputs
                .iter()
                .skip(if of_join { number } else { 0 })
                .take(if of_join { 1 } else { usize::MAX })
                .map(|i| format!("`{}`", self.declaration.upstream_name(i.value)))
                .collect();
            let edge = format!("{} → `{id}`", upstream.join(", "));
            if found.field_type != field.field_type {
                self.problems.report(
                        &operator.component,
                        format!(
                            "{edge}: the field `{}` is {}, but `{id}` reads it as {}; change the field's type in the \
                             operator, or what comes before it",
                            field.name, found.field_type, field.field_type
                        ),
                    );
            } else if found.nullable && !field.nullable {
                if !found.may_reject {
                    self.problems.report(
                            &operator.component,
                            format!(
                                "{edge}: the field `{}` may lack a value, but `{id}` reads it as always there; make it \
                                 nullable in the operator (in Rust an `Option`), or never absent before it",
                                field.name
                            ),
                        );
                }
                reject_nulls.insert(field.name.clone());
            }
        }
        reject_nulls
    }

    pub(super) fn sink_schemas(&self, edges: &Edges, inputs: &[Offered], demands: &Demands) -> Vec<Schema> {
        let schema = |sink: &declaration::Sink| {
            let offered = edges.of(sink.input.value, inputs);
            let Some(fields) = &sink.fields else {
                let all = offered.all(demands);
                if all.is_empty() {
                    self.problems.report(
                        &sink.input,
                        format!(
                            "nothing says which fields `{}` writes; list them in `fields` and their types in the source's",
                            sink.id.value
                        ),
                    );
                }
                return all;
            };
            let what = format!("`{}`", sink.id.value);
            let found = |name: &Spanned<String>| {
                let found = self.find(name, &offered, demands, &what)?;
                Some(Field {
                    name: name.value.clone(),
                    field_type: found.field_type,
                    nullable: found.nullable,
                })
            };
            let fields: Vec<Field> = fields.iter().filter_map(found).collect();
            Schema::new(fields).unwrap_or_default()
        };
        self.declaration.sinks.iter().map(schema).collect()
    }
}

/// The late rows of a join: those of either side.
fn late_of(left: &Offered, right: &Offered, demands: &Demands) -> Offered {
    let (mut schema, _) = either(&left.all(demands), &right.all(demands));
    late_of_join().into_iter().for_each(|field| schema.set(field));
    Offered::Fixed { schema, from_source: false }
}

/// What is wrong with a key of this type.
pub(super) fn no_key(field: &str, field_type: FieldType) -> String {
    format!(
        "the key field `{field}` is a {field_type}, which can't be compared for equality; use integer or text"
    )
}
