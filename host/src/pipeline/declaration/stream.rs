//! Streams of a server as a source: where it starts, and what is known of a message beside its payload.

use tidemill_flow::schema::FieldType;

use super::file::Spanned;
use super::format::{self, CsvDecl, FormatDecl};
use super::source::{Decoding, EventTime, FieldDecl, SourceKind, read_event_time_and_fields};
use super::table::Table;
use super::value::Value;
use super::{connection, keys};

/// Where in a stream a pipeline without a checkpoint starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStart {
    /// At the oldest message that is kept.
    Beginning,
    /// Behind the newest message.
    End,
    /// At the message of this number.
    Sequence(u64),
    /// At the first message that the server got at this time or later, in milliseconds since the Unix epoch.
    Time(i64),
}

/// What is known of a message beside its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// Its subject, as text.
    Subject,
    /// When the server got it, as a timestamp.
    Time,
    /// Its number in the stream, as an integer.
    Sequence,
    /// The first value of the header of this name, as text; absent if the message has none.
    Header(String),
}

impl Metadata {
    /// The type of its values.
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Subject | Self::Header(_) => FieldType::Text,
            Self::Time => FieldType::Timestamp,
            Self::Sequence => FieldType::Integer,
        }
    }
}

/// A field that has what is known of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataDecl {
    /// Its name.
    pub field: Spanned<String>,
    /// What it has.
    pub metadata: Metadata,
}

/// The streams that a source's section declares.
pub(super) fn read(table: &Table<'_>, connections: &[Spanned<String>]) -> Option<SourceKind> {
    let connection = table.required("connection", |v| connection::of_name(&v, connections));
    let streams = table.required("stream", |v| v.distinct(v.one_or_more(read_name)?));
    let format = format::of_source(table, Some(format::JSON_LINES));
    if let Some(FormatDecl::Csv(CsvDecl { header: true, .. })) = format {
        return table.report(format!(
            "messages have no header with the names of columns {}; write `csv = {{ header = false }}`, with which they are \
             called 1, 2 and so on",
            table.place()
        ));
    }
    let flat = matches!(format, Some(FormatDecl::Csv(_)));
    let metadata = table.or("metadata", Vec::new(), read_metadata);
    let (event_time, fields) = read_event_time_and_fields(table, flat);
    let from = table.or("from", StreamStart::Beginning, read_from);
    let until_end = table.or("until_end", false, |v| v.boolean());
    let allow_gaps = table.or("allow_gaps", false, |v| v.boolean());
    let (metadata, fields, event_time) = (metadata?, fields?, event_time?);
    check_metadata(table, &metadata, &fields, event_time.as_ref())?;
    let decoding = Decoding { format: format?, event_time, fields, metadata };
    Some(SourceKind::JetStream {
        connection: connection?,
        streams: streams?,
        decoding,
        from: from?,
        until_end: until_end?,
        allow_gaps: allow_gaps?,
    })
}

/// The name of a stream.
pub(super) fn read_name(value: Value<'_>) -> Option<Spanned<String>> {
    let stream = value.name()?;
    match tidemill_jetstream::check_stream(&stream) {
        Ok(()) => Some(stream),
        Err(why) => value.refuse(why),
    }
}

/// `"beginning"`, `"end"`, or a table that says more.
fn read_from(value: Value<'_>) -> Option<StreamStart> {
    if value.is_text() {
        let starts = [("beginning", StreamStart::Beginning), ("end", StreamStart::End)];
        return value.choice(&starts).map(|(_, start)| start);
    }
    if !value.is_table() {
        return value.mismatch("\"beginning\", \"end\" or a table with `sequence` or `time`");
    }
    let table = value.table(&keys::FROM)?;
    table.check_keys(None);
    let sequence = table.optional("sequence", |v| v.integer(1, i64::MAX).map(i64::unsigned_abs))?;
    let time = table.optional("time", |v| v.timestamp_ms())?;
    match (sequence, time) {
        (Some(sequence), None) => Some(StreamStart::Sequence(sequence)),
        (None, Some(time_ms)) => Some(StreamStart::Time(time_ms)),
        _ => table.report(
            "expected either `sequence`, a message's number, or `time`, as in \"2026-11-21T08:00:00Z\"",
        ),
    }
}

/// Fields by what they have: `{ subject = "topic", headers = { "Trace-Id" = "trace" } }`.
fn read_metadata(value: Value<'_>) -> Option<Vec<MetadataDecl>> {
    let table = value.table(&keys::METADATA)?;
    table.check_keys(None);
    let mut all = Vec::new();
    for (key, metadata) in
        [("subject", Metadata::Subject), ("time", Metadata::Time), ("sequence", Metadata::Sequence)]
    {
        let field = table.optional(key, read_metadata_field)?;
        all.extend(field.map(|field| MetadataDecl { field, metadata }));
    }
    let headers = table.or("headers", Vec::new(), |value| {
        let table = value.table_of_names()?;
        let header = |value: Value<'_>| {
            let name = value.key().value;
            read_metadata_field(value).map(|field| MetadataDecl { field, metadata: Metadata::Header(name) })
        };
        table.values().into_iter().map(header).collect()
    });
    all.extend(headers?);
    Some(all)
}

fn read_metadata_field(value: Value<'_>) -> Option<Spanned<String>> {
    let field = value.name()?;
    if field.starts_with('$') {
        return value.refuse("a field's name must not begin with `$`, which the host's own fields do");
    }
    Some(field)
}

/// Every field has its value from one place.
fn check_metadata(
    table: &Table<'_>,
    metadata: &[MetadataDecl],
    fields: &[FieldDecl],
    event_time: Option<&EventTime>,
) -> Option<()> {
    for (at, MetadataDecl { field, .. }) in metadata.iter().enumerate() {
        let declared = fields.iter().any(|f| f.name == *field);
        if declared || metadata[..at].iter().any(|m| m.field == *field) {
            let what = if declared { "is declared among `fields` too" } else { "stands there twice" };
            let message = format!("`metadata` {}: the field `{}` {what}", table.place(), field.value);
            table.problems().report(field, message);
            return None;
        }
    }
    for name in event_time.iter().flat_map(|time| time.fields()) {
        if let Some(m) = metadata.iter().find(|m| m.field == *name)
            && m.metadata != Metadata::Time
        {
            let message =
                format!("the field `{}` is {}, expected timestamp", name.value, m.metadata.field_type());
            table.problems().report(name, message);
            return None;
        }
    }
    Some(())
}
