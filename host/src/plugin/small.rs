//! Components for tests that say of themselves what a test wants them to say, and can do nothing else: real ones, made in
//! a millisecond without a compiler for guests.

use std::fmt::Write;
use std::sync::LazyLock;

use tidemill_flow::schema::{Field, FieldType, Schema};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::description::{Description, Output, Sides};
use super::engine::Runtime;
use super::load::{CONTRACT, World};

/// A runtime for all tests of the process: each reserves address space for a thousand instances. The folder of its cache is
/// gone, so that it leaves nothing behind.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    Runtime::new(folder.path()).unwrap()
});

/// What an operator says of itself that reads, returns and keeps these fields.
pub(crate) fn description(version: &str, reads: Schema, output: Output, state: Schema) -> Description {
    Description {
        name: "small".to_owned(),
        version: version.to_owned(),
        inputs: vec![reads],
        output,
        state,
        collections: Vec::new(),
        absent: Sides::default(),
    }
}

/// Fields in words: `k: integer, v: text?`.
pub(crate) fn fields(words: &str) -> Schema {
    let field = |word: &str| {
        let (name, of) = word.split_once(": ").unwrap();
        let field_type = FieldType::from_name(of.trim_end_matches('?')).unwrap();
        Field { name: name.to_owned(), field_type, nullable: of.ends_with('?') }
    };
    Schema::new(words.split(", ").filter(|word| !word.is_empty()).map(field).collect()).unwrap()
}

/// A component of this world that describes itself so.
pub(crate) fn component(world: World, about: &Description) -> Vec<u8> {
    let mut data = Data(vec![0; RECORD_BYTES]);
    let mut record = Vec::new();
    record.extend(data.text(&about.name));
    record.extend(data.text(&about.version));
    let inputs: Vec<u8> = about.inputs.iter().flat_map(|schema| data.schema(schema)).collect();
    record.extend(data.list(&inputs, about.inputs.len()));
    let (case, fields) = match &about.output {
        Output::Same => (0, None),
        Output::Extended(fields) => (1, Some(fields)),
        Output::Replaced(fields) => (2, Some(fields)),
    };
    record.extend([case, 0, 0, 0]);
    record.extend(fields.map_or(vec![0; 8], |fields| data.schema(fields)));
    record.extend(data.schema(&about.state));
    data.0[..RECORD_BYTES].copy_from_slice(&record);
    let collections: Vec<u8> = about
        .collections
        .iter()
        .flat_map(|c| [data.text(&c.name), vec![tag(c.entry), tag(c.value), 0, 0]].concat())
        .collect();
    let collections = data.list(&collections, about.collections.len());
    let collections_at = data.put(&collections);
    let absent_at = data.put(&[about.absent.left.into(), about.absent.right.into()]);
    let mut module = String::from("(module (memory (export \"memory\") 2)\n");
    let bytes: String = data.0.iter().map(|b| format!("\\{b:02x}")).collect();
    let mut export = |interface: &str, function: &str, parameters: &str, body: &str| {
        let name = format!("tidemill:operator/{interface}@0.1.0#{function}");
        writeln!(module, "(func (export \"{name}\") (param {parameters}) (result i32) {body})").unwrap();
    };
    export("lifecycle", "describe", "", "i32.const 0");
    export("lifecycle", "open", "i32 i32", "unreachable");
    let [five, eight] = [5, 8].map(|count| "i32 ".repeat(count));
    match world {
        World::Transform => export("transform", "process", "i32 i32 i32", "unreachable"),
        World::Aggregate => {
            export("aggregate", "initial", "", "unreachable");
            export("aggregate", "accumulate", &eight, "unreachable");
            export("aggregate", "merge", &five, "unreachable");
            export("aggregate", "finish", "i32 i32 i32", "unreachable");
        }
        World::Window => export("window", "evaluate", &five, "unreachable"),
        World::Join => {
            export("join", "absent", "", &format!("i32.const {absent_at}"));
            export("join", "process", &"i32 ".repeat(12), "unreachable");
        }
        World::Process => {
            let keyed = format!("{eight} i64 i64");
            export("keyed-process", "collections", "", &format!("i32.const {collections_at}"));
            export("keyed-process", "process", &keyed, "unreachable");
            export("keyed-process", "on-timer", &keyed, "unreachable");
        }
    }
    module += "(func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) unreachable)\n";
    writeln!(module, "(data (i32.const 0) \"{bytes}\"))").unwrap();
    let mut module = wat::parse_str(module).unwrap();
    let (resolve, _) = &*CONTRACT;
    embed_component_metadata(&mut module, resolve, world.id(), StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// A description as records are laid out: two texts, a list, a variant with a list, and a list.
const RECORD_BYTES: usize = 8 + 8 + 8 + (4 + 8) + 8;

/// What stands in the guest's memory, from address 0 on.
struct Data(Vec<u8>);

impl Data {
    /// Puts bytes behind what is there, where anything may stand; says where.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let at = u32::try_from(self.0.len()).unwrap();
        self.0.extend_from_slice(bytes);
        at
    }

    fn list(&mut self, bytes: &[u8], count: usize) -> Vec<u8> {
        [self.put(bytes), u32::try_from(count).unwrap()].map(u32::to_le_bytes).concat()
    }

    fn text(&mut self, text: &str) -> Vec<u8> {
        self.list(text.as_bytes(), text.len())
    }

    fn schema(&mut self, schema: &Schema) -> Vec<u8> {
        let fields = schema.fields().iter();
        let fields: Vec<u8> = fields
            .flat_map(|f| [self.text(&f.name), vec![tag(f.field_type), f.nullable.into(), 0, 0]].concat())
            .collect();
        self.list(&fields, schema.len())
    }
}

fn tag(field_type: FieldType) -> u8 {
    u8::try_from(FieldType::ALL.iter().position(|t| *t == field_type).unwrap()).unwrap()
}
