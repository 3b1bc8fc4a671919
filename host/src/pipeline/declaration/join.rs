//! `join = { type = "interval", kind = "left", lower = "-5m", upper = "1h" }`.

use tidemill_flow::join::Kind;

use super::file::Spanned;
use super::keys;
use super::table::Table;
use super::value::Value;

/// How an operator's two inputs are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// What becomes of rows that meet none.
    pub kind: Kind,
    /// Which rows of a key meet.
    pub on: JoinOn,
}

/// Which rows of a key meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinOn {
    /// Those in one of the operator's windows.
    Window,
    /// Those whose time on the right is later than that on the left by so many milliseconds, both bounds included.
    Interval {
        /// At least.
        lower_ms: i64,
        /// At most.
        upper_ms: i64,
    },
    /// A row on the left and the version on the right that was valid at its time.
    Table {
        /// How long rows wait for versions that are late, in milliseconds.
        grace_ms: i64,
        /// How long versions are kept beyond their end, in milliseconds.
        versions_ms: i64,
        /// The field that says that a version removes its key.
        delete_when: Option<Spanned<String>>,
    },
}

#[derive(Clone, Copy)]
enum Type {
    Window,
    Interval,
    Table,
}

const TYPES: [(&str, Type); 3] =
    [("window", Type::Window), ("interval", Type::Interval), ("table", Type::Table)];
const KINDS: [(&str, Kind); 3] = [("inner", Kind::Inner), ("left", Kind::Left), ("full", Kind::Full)];
/// Which bounds of an interval are outside of it: the lower, the upper.
const EXCLUSIVE: [(&str, (i64, i64)); 3] = [("lower", (1, 0)), ("upper", (0, 1)), ("both", (1, 1))];

/// The join that a table declares.
pub(super) fn read(value: Value<'_>) -> Option<Spanned<Join>> {
    let table = value.table(&keys::JOIN)?;
    let of_type = table.required("type", |v| v.choice(&TYPES));
    table.check_keys(of_type.map(|(name, _)| name));
    let kind = table.or("kind", Kind::Inner, |v| v.choice(&KINDS).map(|(_, kind)| kind));
    let on = match of_type?.1 {
        Type::Window => JoinOn::Window,
        Type::Interval => interval(&table)?,
        Type::Table => {
            if kind == Some(Kind::Full) {
                table
                    .get("kind")?
                    .refuse::<()>("a version never stands alone; write \"inner\" or \"left\"")?;
            }
            of_table(&table)?
        }
    };
    Some(Spanned::new(Join { kind: kind?, on }, table.span()))
}

fn interval(table: &Table<'_>) -> Option<JoinOn> {
    let lower_ms = table.required("lower", |v| v.signed_duration_ms());
    let upper_ms = table.required("upper", |v| v.signed_duration_ms());
    let (above, below) = table.or("exclusive", (0, 0), |v| v.choice(&EXCLUSIVE).map(|(_, bounds)| bounds))?;
    let (lower_ms, upper_ms) = (lower_ms? + above, upper_ms? - below);
    if lower_ms > upper_ms {
        return table.get("upper")?.refuse("no time is between `lower` and `upper`");
    }
    Some(JoinOn::Interval { lower_ms, upper_ms })
}

fn of_table(table: &Table<'_>) -> Option<JoinOn> {
    let grace_ms = table.or("grace", 0, |v| v.duration_ms());
    let versions_ms = table.or("versions", grace_ms.unwrap_or(0), |v| match (v.duration_ms()?, grace_ms) {
        (versions_ms, Some(grace_ms)) if versions_ms < grace_ms => {
            v.refuse("must not be shorter than `grace`: rows that wait need the versions of their time")
        }
        (versions_ms, _) => Some(versions_ms),
    });
    let delete_when = table.optional("delete_when", |v| v.name());
    Some(JoinOn::Table { grace_ms: grace_ms?, versions_ms: versions_ms?, delete_when: delete_when? })
}
