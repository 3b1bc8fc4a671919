//! `tidemill history`, `savepoints` and `replays`: lists that are short.

use tidemill::service::model::{HistoryEntry, ReplayOrder, ReplaySummary, SavepointInfo};

use super::client::typed;
use super::status::StatusArgs;
use super::{ago, cell, client, print_json, print_text, short, time};
use crate::cli::data::DataFolder;
use crate::cli::exit::Exit;
use crate::cli::text::{lay_out, size};

pub(super) async fn history(args: &StatusArgs, data: &DataFolder) -> Result<(), Exit> {
    show(args, data, "history", |entries: Vec<HistoryEntry>| history_as_text(&entries)).await
}

pub(super) async fn savepoints(args: &StatusArgs, data: &DataFolder) -> Result<(), Exit> {
    show(args, data, "savepoints", |savepoints: Vec<SavepointInfo>| savepoints_as_text(&savepoints)).await
}

pub(super) async fn replays(args: &StatusArgs, data: &DataFolder) -> Result<(), Exit> {
    show(args, data, "replays", |replays: Vec<ReplaySummary>| replays_as_text(&replays)).await
}

/// Asks for a list of a pipeline, and shows it.
async fn show<T: serde::de::DeserializeOwned>(
    args: &StatusArgs,
    data: &DataFolder,
    what: &str,
    as_text: impl Fn(T) -> String,
) -> Result<(), Exit> {
    let answer = client(&args.host, data)?.get(&["pipelines", &args.name, what], &[]).await?;
    if args.host.json {
        return print_json(&answer);
    }
    print_text(&as_text(typed(&answer)?))
}

fn history_as_text(entries: &[HistoryEntry]) -> String {
    let titles = ["when", "generation", "what", "by", ""].map(str::to_owned);
    let row = |entry: &HistoryEntry| {
        let by = if entry.by.is_empty() { "the host" } else { &entry.by };
        [time(entry.at_ms), entry.generation.to_string(), cell(&entry.event), cell(by), cell(&entry.message)]
    };
    table(titles, entries.iter().map(row), &[1], "nothing has happened yet\n")
}

fn savepoints_as_text(savepoints: &[SavepointInfo]) -> String {
    let titles = ["name", "checkpoint", "made", "age", "state"].map(str::to_owned);
    let row = |savepoint: &SavepointInfo| {
        [
            cell(&savepoint.name),
            savepoint.checkpoint.to_string(),
            time(savepoint.created_ms),
            ago(savepoint.created_ms),
            size(savepoint.state_bytes),
        ]
    };
    table(titles, savepoints.iter().map(row), &[1, 4], "there are no checkpoints yet\n")
}

fn replays_as_text(replays: &[ReplaySummary]) -> String {
    let titles = ["replay", "state", "begun", "of", ""].map(str::to_owned);
    let row = |replay: &ReplaySummary| {
        [
            cell(&replay.id),
            cell(&replay.state),
            format!("{} ago", ago(replay.at_ms)),
            cell(&stretch(&replay.order)),
            cell(replay.message.as_deref().unwrap_or_default()),
        ]
    };
    table(titles, replays.iter().map(row), &[], "there are no replays yet\n")
}

/// What a replay is of, in words.
fn stretch(order: &ReplayOrder) -> String {
    let to = order.to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
    let with = order.components.iter().map(|(operator, digest)| format!(", {operator}={}", short(digest)));
    let verify = if order.verify { ", each call twice" } else { "" };
    format!("{}{to}{}{verify}", order.from, with.collect::<String>())
}

fn table<const N: usize>(
    titles: [String; N],
    rows: impl Iterator<Item = [String; N]>,
    right: &[usize],
    none: &str,
) -> String {
    let rows: Vec<[String; N]> = std::iter::once(titles).chain(rows).collect();
    if rows.len() == 1 { none.to_owned() } else { lay_out(&rows, right) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_history_says_who_wanted_what() {
        let entry = |by: &str, event: &str, message: &str| HistoryEntry {
            at_ms: 1_700_000_000_000,
            by: by.to_owned(),
            event: event.to_owned(),
            generation: 2,
            message: message.to_owned(),
        };
        let entries = [
            entry("ada@mill", "swapped", "count 0.1.0 by 0.2.0"),
            entry("", "rolled-back", "it trapped\nthere"),
        ];
        assert_eq!(
            history_as_text(&entries),
            "when                  generation  what         by\n\
             2023-11-14T22:13:20Z           2  swapped      ada@mill  count 0.1.0 by 0.2.0\n\
             2023-11-14T22:13:20Z           2  rolled-back  the host  it trapped there\n"
        );
        assert_eq!(history_as_text(&[]), "nothing has happened yet\n");
    }

    #[test]
    fn a_replay_says_what_it_is_of() {
        let order = ReplayOrder {
            from: "checkpoint:3".to_owned(),
            to: Some("savepoint:noon".to_owned()),
            components: BTreeMap::from([("count".to_owned(), "0123456789abcdef".repeat(4))]),
            rows_per_second_max: None,
            verify: false,
            by: String::new(),
        };
        assert_eq!(stretch(&order), "checkpoint:3 to savepoint:noon, count=0123456789ab");
        let verify = ReplayOrder { to: None, components: BTreeMap::new(), verify: true, ..order };
        assert_eq!(stretch(&verify), "checkpoint:3, each call twice");
    }
}
