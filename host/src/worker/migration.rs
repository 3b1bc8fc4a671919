//! Before an operator sees its first row: state that earlier versions kept in forms which this one can't read is handed
//! to its migration, and written as this version keeps it.
//!
//! What is written here is of no checkpoint before the next one. A start that is broken off has changed nothing, since
//! each begins with the state as the checkpoint has it.

use std::time::{Duration, Instant};

use tidemill_flow::key::read_keys;
use tidemill_flow::migration::{Form, Found, Migration};
use tidemill_flow::schema::{Field, Schema};
use tidemill_flow::window::Windows;
use tidemill_flow::windowing::read_row_key;

use super::JobError;
use super::restored::Versions;
use super::state::Place;
use super::view::{object, time};
use crate::pipeline::plan::{OperatorKind, OperatorPlan};
use crate::plugin::{self, Failure};

/// How often it is said how far it has come.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// How many of the fields of stored rows are the operator's own; the host's stand behind them.
pub(super) fn own_fields(plan: &OperatorPlan, stored: &Schema) -> usize {
    match plan.kind {
        OperatorKind::Aggregate { .. } => stored.len(),
        // No operator's own field begins so, where the host has fields beside.
        _ => stored.fields().iter().position(|f| f.name.starts_with('@')).unwrap_or(stored.len()),
    }
}

/// Which of the states that an operator migrates stored rows are of.
pub(super) fn which(plan: &OperatorPlan, stored: &Schema) -> Option<usize> {
    let own = &stored.fields()[..own_fields(plan, stored)];
    plan.plugin.migrations().iter().position(|earlier| earlier.fields() == own)
}

/// Migrates the state of an operator in the key groups of a task, as far as its versions ask for it. To be called before
/// anything else reads it.
///
/// # Errors
/// When the storage fails, or the guest does: which row it can't migrate, and why.
pub(super) async fn migrate(plan: &OperatorPlan, place: &Place, versions: &Versions) -> Result<(), JobError> {
    if versions.migrated.is_empty() {
        return Ok(());
    }
    let Migrated { forms, which } = forms(plan, versions);
    let (version, schema) = &versions.current;
    let present =
        Form { version: *version, schema: schema.clone(), own: plan.plugin.description().state.len() };
    // A key without a value has no row.
    let drops_empty = matches!(plan.kind, OperatorKind::Process { .. });
    let mut migration = Migration::new(place.addresses, place.groups.clone(), &present, &forms, drops_empty);
    let mut guest = open(plan).await?;
    let (mut rows, mut told) = (0_u64, Instant::now());
    while let Some(found) = migration.next(&*place.storage)? {
        let migrated = guest.migrate(which[found.which], &found.columns, found.rows()).await;
        let migrated = match migrated {
            Ok(migrated) => migrated,
            Err(failure) => return Err(refused(plan, place, &found, which[found.which], failure).await),
        };
        rows += found.rows() as u64;
        place.storage.write(migration.writes(found, &migrated))?;
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            tracing::info!(operator = plan.id, rows, "migrating state");
        }
    }
    let groups = &place.groups;
    tracing::info!(operator = plan.id, rows, groups.start, groups.end, "migrated state");
    Ok(())
}

/// The forms of rows that are migrated, and for each of them which migration it is.
struct Migrated {
    forms: Vec<Form>,
    which: Vec<usize>,
}

fn forms(plan: &OperatorPlan, versions: &Versions) -> Migrated {
    let form = |(version, schema): &(u8, Schema)| Form {
        version: *version,
        schema: schema.clone(),
        own: own_fields(plan, schema),
    };
    let which =
        |(_, schema): &(u8, Schema)| which(plan, schema).expect("it is migrated because it was found");
    Migrated {
        forms: versions.migrated.iter().map(form).collect(),
        which: versions.migrated.iter().map(which).collect(),
    }
}

async fn open(plan: &OperatorPlan) -> Result<plugin::Migration, JobError> {
    let opened = plan.plugin.migration(&plan.id, &plan.settings, plan.limits).await;
    opened.map_err(|failure| JobError::Operator {
        id: plan.id.clone(),
        digest: plan.plugin.digest().to_owned(),
        failure,
        at: None,
    })
}

/// What to tell of rows that couldn't be migrated. A failure is one of the whole call; so each row is tried by itself
/// until the one is found.
async fn refused(
    plan: &OperatorPlan,
    place: &Place,
    found: &Found,
    which: usize,
    failure: Failure,
) -> JobError {
    let mut guest = None;
    for row in 0..found.rows() {
        let mut fresh = match guest.take() {
            Some(guest) => guest,
            None => match open(plan).await {
                Ok(guest) => guest,
                Err(error) => return error,
            },
        };
        let columns: Vec<_> = found.columns.iter().map(|column| column.slice(row, 1)).collect();
        if let Err(failure) = fresh.migrate(which, &columns, 1).await {
            return told(plan, &format!("the row of {}", row_told(plan, place, found, row)), &failure);
        }
        guest = Some(fresh);
    }
    let (first, count) = (row_told(plan, place, found, 0), found.rows());
    told(plan, &format!("{count} rows together, the first one of {first},"), &failure)
}

fn told(plan: &OperatorPlan, what: &str, failure: &Failure) -> JobError {
    let reason = match failure {
        Failure::Malformed(what) => format!("its migration returned a malformed row: {what}"),
        other => other.to_string(),
    };
    JobError::Recovery(format!(
        "the new component of `{}` can't migrate the state of the old one: {what} can't be migrated: {reason}; the \
         checkpoint is as it was: mend the migration, or go on with the old component",
        plan.id
    ))
}

/// The key of a row and, where there are windows, which one it is of.
fn row_told(plan: &OperatorPlan, place: &Place, found: &Found, row: usize) -> String {
    let Ok((slice, _, key)) = place.addresses.read_row(found.address(row)) else {
        return format!("the address {:02x?}", found.address(row));
    };
    let is_windowed = matches!(plan.kind, OperatorKind::Windowed { .. });
    let pane = is_windowed.then(|| read_row_key(key)).flatten();
    let has_slices =
        matches!(&plan.kind, OperatorKind::Aggregate { windows, .. } if *windows != Windows::Global);
    let key_columns = plan.kind.key().unwrap_or_default();
    let fields: Vec<Field> =
        key_columns.iter().map(|&k| Field { nullable: true, ..plan.input.fields()[k].clone() }).collect();
    let types: Vec<_> = fields.iter().map(|f| f.field_type).collect();
    let columns = read_keys(std::iter::once(pane.map_or(key, |(key, _)| key)), &types);
    let key = Schema::new(fields).and_then(|schema| object(&schema, columns));
    let mut told = format!("the key {}", key.map_or_else(|_| "?".to_owned(), |key| key.to_string()));
    let start = match pane {
        Some((_, start)) => Some(("window", start)).filter(|_| start != i64::MIN),
        None => has_slices.then_some(("slice", slice)),
    };
    if let Some((what, Ok(start))) = start.map(|(what, start)| (what, time(start))) {
        told += &format!(" in the {what} from {start}");
    }
    told
}
