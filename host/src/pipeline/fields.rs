//! Which fields a row has at each point of a pipeline, and of which type.
//!
//! A source whose file declares no fields is *open*: it has those that somebody downstream reads, as the
//! type under which they are read. Everything else has a schema that is known.

use tidemill_flow::schema::{Field, FieldType, Schema};

/// The fields of the rows at one point of the pipeline.
#[derive(Clone, Debug)]
pub(super) enum Offered {
    /// A source that gives what is asked for.
    Open(usize),
    /// These fields; from a source a value may be missing all the same, and the row is then rejected.
    Fixed { schema: Schema, from_source: bool },
    /// The fields below, some of them replaced and others added.
    Extended(Box<Offered>, Schema),
    /// The fields below, all of which may be absent.
    Optional(Box<Offered>),
    /// The rows of several inputs: the fields that each of them has.
    United(Vec<Offered>),
}

/// How a field was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub field_type: FieldType,
    pub nullable: bool,
    /// Whether a missing value makes the row a rejected one, instead of the pipeline a refused one.
    pub may_reject: bool,
}

/// Why a field can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// There is no such field; these are there.
    Unknown(Vec<String>),
    /// Nothing says of which type it is.
    Untyped { source: usize },
    /// Several inputs have it as different types.
    Differs(FieldType, FieldType),
}

/// What has been asked of the open sources so far: fields, and who asked first.
#[derive(Debug, Default)]
pub(super) struct Demands {
    sources: Vec<Vec<(Field, String)>>,
}

impl Demands {
    pub(super) fn new(sources: usize) -> Self {
        Self { sources: vec![Vec::new(); sources] }
    }

    /// The fields asked of a source, in the order in which they were asked for.
    pub(super) fn of(&self, source: usize) -> Schema {
        let fields = self.sources[source].iter().map(|(field, _)| field.clone());
        Schema::new(fields.collect()).expect("a field is asked for once")
    }

    /// Asks a source for a field. `who` reads it, for the message to whoever asks for another type.
    ///
    /// # Errors
    /// The type for which it was asked already, and by whom.
    pub(super) fn ask(
        &mut self,
        source: usize,
        name: &str,
        field_type: FieldType,
        who: &str,
    ) -> Result<(), (FieldType, String)> {
        let asked = &mut self.sources[source];
        match asked.iter().find(|(field, _)| field.name == name) {
            Some((field, first)) if field.field_type != field_type => Err((field.field_type, first.clone())),
            Some(_) => Ok(()),
            None => {
                asked.push((Field::nullable(name, field_type), who.to_owned()));
                Ok(())
            }
        }
    }
}

impl Offered {
    /// The open sources that a field of this name would come from.
    pub(super) fn open_sources(&self, name: &str) -> Vec<usize> {
        match self {
            Self::Open(source) => vec![*source],
            Self::Fixed { .. } => Vec::new(),
            Self::Extended(_, schema) if schema.field(name).is_some() => Vec::new(),
            Self::Extended(below, _) | Self::Optional(below) => below.open_sources(name),
            Self::United(inputs) => inputs.iter().flat_map(|i| i.open_sources(name)).collect(),
        }
    }

    /// Looks a field up.
    pub(super) fn find(&self, name: &str, demands: &Demands) -> Result<Found, Unreadable> {
        match self {
            Self::Open(source) => match demands.of(*source).field(name) {
                Some(field) => Ok(Found { field_type: field.field_type, nullable: true, may_reject: true }),
                None => Err(Unreadable::Untyped { source: *source }),
            },
            Self::Fixed { schema, from_source } => match schema.field(name) {
                Some(field) => Ok(Found {
                    field_type: field.field_type,
                    nullable: field.nullable,
                    may_reject: *from_source,
                }),
                None => Err(Unreadable::Unknown(names(schema))),
            },
            Self::Extended(below, schema) => match schema.field(name) {
                Some(field) => {
                    Ok(Found { field_type: field.field_type, nullable: field.nullable, may_reject: false })
                }
                None => below.find(name, demands).map_err(|e| match e {
                    Unreadable::Unknown(known) => {
                        Unreadable::Unknown(known.into_iter().chain(names(schema)).collect())
                    }
                    other => other,
                }),
            },
            Self::Optional(below) => {
                Ok(Found { nullable: true, may_reject: false, ..below.find(name, demands)? })
            }
            Self::United(inputs) => {
                let mut all = inputs.iter().map(|i| i.find(name, demands));
                let first = all.next().expect("an operator has an input")?;
                all.try_fold(first, |found, next| {
                    let next = next?;
                    if next.field_type != found.field_type {
                        return Err(Unreadable::Differs(found.field_type, next.field_type));
                    }
                    Ok(Found {
                        nullable: found.nullable || next.nullable,
                        // A side that always has a value rejects nothing.
                        may_reject: (!found.nullable || found.may_reject)
                            && (!next.nullable || next.may_reject),
                        ..found
                    })
                })
            }
        }
    }

    /// All fields, as far as anything says what they are.
    pub(super) fn all(&self, demands: &Demands) -> Schema {
        match self {
            Self::Open(source) => demands.of(*source),
            Self::Fixed { schema, .. } => schema.clone(),
            Self::Extended(below, added) => {
                let mut schema = below.all(demands);
                added.fields().iter().for_each(|f| schema.set(f.clone()));
                schema
            }
            Self::Optional(below) => {
                let fields = below
                    .all(demands)
                    .fields()
                    .iter()
                    .map(|f| Field { nullable: true, ..f.clone() })
                    .collect();
                Schema::new(fields).expect("names of a schema are unique")
            }
            Self::United(inputs) => {
                let first = inputs.first().expect("an operator has an input").all(demands);
                let in_all = first.fields().iter().filter_map(|f| {
                    let found = self.find(&f.name, demands).ok()?;
                    Some(Field { nullable: found.nullable, ..f.clone() })
                });
                Schema::new(in_all.collect()).expect("names of a schema are unique")
            }
        }
    }
}

fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|f| f.name.clone()).collect()
}
