//! Components made by hand, which answer every call with the same bytes, whatever they are: no SDK would write them.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Where the answers lie in the guest's memory; what it is given lies behind them.
const ANSWERS_AT: u32 = 1024;

/// The contract's number of the type, behind which a byte says that the field is always there.
const INTEGER: u32 = 1;

/// The memory of a guest, as answers are put there. Offsets are those of the canonical ABI.
pub(crate) struct Memory(Vec<u8>);

impl Memory {
    fn put(&mut self, bytes: &[u8]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = ANSWERS_AT + self.0.len() as u32;
        self.0.extend_from_slice(bytes);
        at
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        self.put(&bytes(words))
    }

    /// A list: where it lies, and its length.
    fn list(&mut self, items: &[Vec<u8>]) -> [u32; 2] {
        [self.put(&items.concat()), items.len() as u32]
    }

    fn text(&mut self, text: &str) -> [u32; 2] {
        [self.put(text.as_bytes()), text.len() as u32]
    }

    /// Fields that are integers and always there.
    fn schema(&mut self, names: &[&str]) -> [u32; 2] {
        let fields: Vec<_> = names
            .iter()
            .map(|name| {
                let [at, length] = self.text(name);
                bytes(&[at, length, INTEGER])
            })
            .collect();
        self.list(&fields)
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// What a component says of itself; all fields are integers.
pub(crate) struct About {
    pub(crate) inputs: Vec<Vec<&'static str>>,
    /// `None`: the input's rows themselves.
    pub(crate) output: Option<Vec<&'static str>>,
    pub(crate) state: Vec<&'static str>,
}

/// An emission of one column of integers.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) origins: Option<Vec<u32>>,
    pub(crate) integers: Vec<i64>,
    pub(crate) rejected: Vec<u32>,
}

/// The component of a window operator that makes this of whatever it is given.
pub(crate) fn window_operator(about: &About, answer: &Answer) -> Vec<u8> {
    component("window-operator", about, answer, |emission, _| {
        format!(
            r#"(func (export "cm32p2|tidemill:operator/window@0.1|evaluate")
                   (param i32 i32 i32 i32 i32) (result i32) i32.const {emission})
               (func (export "cm32p2|tidemill:operator/window@0.1|evaluate_post") (param i32))"#
        )
    })
}

/// The component of a join that makes this of whatever it is given, and can do without both sides.
pub(crate) fn join_operator(about: &About, answer: &Answer) -> Vec<u8> {
    component("join-operator", about, answer, |emission, memory| {
        let absent = memory.put(&[1, 1]);
        format!(
            r#"(func (export "cm32p2|tidemill:operator/join@0.1|absent") (result i32) i32.const {absent})
               (func (export "cm32p2|tidemill:operator/join@0.1|absent_post") (param i32))
               (func (export "cm32p2|tidemill:operator/join@0.1|process")
                   (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) i32.const {emission})
               (func (export "cm32p2|tidemill:operator/join@0.1|process_post") (param i32))"#
        )
    })
}

fn component(
    world: &str,
    about: &About,
    answer: &Answer,
    functions: impl FnOnce(u32, &mut Memory) -> String,
) -> Vec<u8> {
    let mut memory = Memory(Vec::new());
    let opened = memory.words(&[0, 0, 0]);
    let described = describe(&mut memory, about);
    let emission = emit(&mut memory, answer);
    let functions = functions(emission, &mut memory);
    let data: String = memory.0.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let text = format!(
        r#"(module
            (memory (export "cm32p2_memory") 4)
            (data (i32.const {ANSWERS_AT}) "{data}")
            (global $free (mut i32) (i32.const 65536))
            (func (export "cm32p2_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export "cm32p2_initialize"))
            (func (export "cm32p2|tidemill:operator/lifecycle@0.1|describe") (result i32) i32.const {described})
            (func (export "cm32p2|tidemill:operator/lifecycle@0.1|describe_post") (param i32))
            (func (export "cm32p2|tidemill:operator/lifecycle@0.1|open") (param i32 i32) (result i32)
                i32.const {opened})
            (func (export "cm32p2|tidemill:operator/lifecycle@0.1|open_post") (param i32))
            {functions})"#
    );
    let mut module = wat::parse_str(text).expect("the text of a module");
    let mut resolve = Resolve::default();
    let contract = include_str!("../../../wit/operator.wit");
    let package = resolve.push_str("operator.wit", contract).expect("the contract");
    let world = resolve.select_world(&[package], Some(world)).expect("a world of the contract");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("it can be described");
    let encoder = ComponentEncoder::default().module(&module).expect("a module of the world");
    encoder.validate(true).encode().expect("a component")
}

fn describe(memory: &mut Memory, about: &About) -> u32 {
    let (name, version) = (memory.text("handmade"), memory.text("1.0.0"));
    let inputs: Vec<_> = about.inputs.iter().map(|fields| bytes(&memory.schema(fields))).collect();
    let inputs = memory.list(&inputs);
    let output = match &about.output {
        None => [0, 0, 0],
        Some(fields) => {
            let [at, length] = memory.schema(fields);
            [2, at, length]
        }
    };
    let state = memory.schema(&about.state);
    memory.words(&[&name[..], &version, &inputs, &output, &state].concat())
}

fn emit(memory: &mut Memory, answer: &Answer) -> u32 {
    let origins = match &answer.origins {
        None => [0, 0, 0],
        Some(origins) => [1, memory.words(origins), 4 * origins.len() as u32],
    };
    let data: Vec<u8> = answer.integers.iter().flat_map(|value| value.to_le_bytes()).collect();
    let column = bytes(&[0, 0, 0, 0, 0, 0, memory.put(&data), data.len() as u32]);
    let columns = memory.list(&[column]);
    let reason = memory.text("no good");
    let rejected: Vec<_> = answer.rejected.iter().map(|&row| bytes(&[row, reason[0], reason[1]])).collect();
    let rejected = memory.list(&rejected);
    let rows = answer.integers.len() as u32;
    memory.words(&[&[0, rows][..], &origins, &columns, &rejected].concat())
}
