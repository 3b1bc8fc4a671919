//! `window = { type = "tumbling", size = "1h" }`.

use tidemill_flow::window::Windows;

use super::file::Spanned;
use super::keys;
use super::table::Table;
use super::value::Value;

#[derive(Clone, Copy)]
enum Kind {
    Tumbling,
    Hopping,
    Global,
}

const KINDS: [(&str, Kind); 3] =
    [("tumbling", Kind::Tumbling), ("hopping", Kind::Hopping), ("global", Kind::Global)];

/// The windows that a table declares.
pub(super) fn read(value: Value<'_>) -> Option<Spanned<Windows>> {
    let table = value.table(&keys::WINDOW)?;
    let kind = table.required("type", |v| v.choice(&KINDS));
    table.check_keys(kind.map(|(name, _)| name));
    let windows = match kind?.1 {
        Kind::Global => Windows::Global,
        Kind::Tumbling => tumbling(&table)?,
        Kind::Hopping => hopping(&table)?,
    };
    Some(Spanned::new(windows, table.span()))
}

fn tumbling(table: &Table<'_>) -> Option<Windows> {
    let size_ms = table.required("size", |v| v.positive_duration_ms());
    let offset_ms = offset_ms(table, "size", size_ms);
    Some(Windows::Tumbling { size_ms: size_ms?, offset_ms: offset_ms? })
}

fn hopping(table: &Table<'_>) -> Option<Windows> {
    let size_ms = table.required("size", |v| v.positive_duration_ms());
    let slide_ms = table.required("slide", |v| match (v.positive_duration_ms()?, size_ms) {
        (slide_ms, Some(size_ms)) if slide_ms > size_ms => {
            v.refuse("must not be longer than `size`, or rows would be in no window")
        }
        (slide_ms, _) => Some(slide_ms),
    });
    let offset_ms = offset_ms(table, "slide", slide_ms);
    Some(Windows::Hopping { size_ms: size_ms?, slide_ms: slide_ms?, offset_ms: offset_ms? })
}

/// Windows start every `period`, so that a longer offset would only be another way to write a shorter one.
fn offset_ms(table: &Table<'_>, period: &str, period_ms: Option<i64>) -> Option<i64> {
    table.or("offset", 0, |v| match (v.duration_ms()?, period_ms) {
        (offset_ms, Some(period_ms)) if offset_ms >= period_ms => {
            v.refuse(format!("must be shorter than `{period}`"))
        }
        (offset_ms, _) => Some(offset_ms),
    })
}
