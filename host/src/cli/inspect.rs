//! `tidemill inspect`: what a component is.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tidemill::plugin::{COMPONENT_BYTES_MAX, Collection, Output, Plugin, Runtime, Sides};
use tidemill_flow::schema::{Field, Schema};

use super::exit::Exit;

/// The arguments of `tidemill inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The component, a .wasm file
    component: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InspectArgs, cache: &Path) -> Result<(), Exit> {
    let path = args.component.display();
    let bytes = super::read(&args.component, COMPONENT_BYTES_MAX)
        .map_err(|e| Exit::usage(format!("cannot read {path}: {e}")))?;
    let runtime = Runtime::new(cache).map_err(Exit::failure)?;
    let executor = super::run::control_plane()?;
    let plugin = executor.block_on(runtime.load(&bytes));
    let plugin = plugin.map_err(|e| Exit::usage(format!("{path} can't be used as an operator: {e}")))?;
    super::print(&if args.json { format!("{:#}\n", as_json(&plugin)) } else { as_text(&plugin) })
}

fn as_text(plugin: &Plugin) -> String {
    let about = plugin.description();
    let (output, fields) = output(&about.output);
    let list = |schema: &Schema| match schema.is_empty() {
        true => "none".to_owned(),
        false => schema.fields().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let imports = if plugin.imports().is_empty() { "none".to_owned() } else { plugin.imports().join(", ") };
    let inputs: String = match about.inputs.as_slice() {
        [left, right] => {
            let absent = |absent| if absent { "; may be absent" } else { "" };
            let Sides { left: no_left, right: no_right } = about.absent;
            format!(
                "left     {}{}\nright    {}{}\n",
                list(left),
                absent(no_left),
                list(right),
                absent(no_right)
            )
        }
        inputs => inputs.iter().map(|i| format!("reads    {}\n", list(i))).collect(),
    };
    let collection = |c: &Collection| format!("entries  {}: {} to {}\n", c.name, c.entry, c.value);
    let collections: String = about.collections.iter().map(collection).collect();
    let migrations: String =
        plugin.migrations().iter().map(|schema| format!("migrates {}\n", list(schema))).collect();
    let gives = match fields {
        None => output.to_owned(),
        Some(fields) => format!("{output}: {}", list(fields)),
    };
    format!(
        "operator {} {}\nworld    {}\n{inputs}gives    {gives}\nstate    {}\n{migrations}{collections}imports  {imports}\n\
         size     {} bytes\ndigest   sha256:{}\n",
        about.name,
        about.version,
        plugin.world().name(),
        list(&about.state),
        plugin.size_bytes(),
        plugin.digest()
    )
}

fn as_json(plugin: &Plugin) -> Value {
    let about = plugin.description();
    let fields = |schema: &Schema| -> Vec<Described> { schema.fields().iter().map(Described::of).collect() };
    let (output, returned) = output(&about.output);
    let collection =
        |c: &Collection| json!({"name": c.name, "entry": c.entry.name(), "value": c.value.name()});
    json!({
        "name": about.name,
        "version": about.version,
        "world": plugin.world().name(),
        "inputs": about.inputs.iter().map(fields).collect::<Vec<_>>(),
        "output": { "rows": output, "fields": returned.map(fields) },
        "state": fields(&about.state),
        "migrations": plugin.migrations().iter().map(fields).collect::<Vec<_>>(),
        "collections": about.collections.iter().map(collection).collect::<Vec<_>>(),
        "absent": { "left": about.absent.left, "right": about.absent.right },
        "imports": plugin.imports(),
        "size_bytes": plugin.size_bytes(),
        "sha256": plugin.digest(),
    })
}

/// A field of a schema, for programs.
#[derive(Serialize)]
struct Described {
    name: String,
    r#type: &'static str,
    nullable: bool,
}

impl Described {
    fn of(field: &Field) -> Self {
        Self { name: field.name.clone(), r#type: field.field_type.name(), nullable: field.nullable }
    }
}

fn output(output: &Output) -> (&'static str, Option<&Schema>) {
    match output {
        Output::Same => ("some of the rows as they are", None),
        Output::Extended(schema) => ("the rows with these fields added or replaced", Some(schema)),
        Output::Replaced(schema) => ("rows of these fields", Some(schema)),
    }
}
