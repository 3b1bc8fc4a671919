//! JSON lines: one record straight into the columns, without a document in between.
//!
//! Records of one source look alike, so [`Shapes`] remembers which bytes followed which field: if
//! `,"bidder":` followed the value of `auction` before, comparing these bytes settles comma, quotes, key
//! and colon at once. If none of the remembered ones fits, the punctuation is read in full, and remembered.
//! Both ways lead to an [`Action`] on the value that comes next.

mod shapes;
mod skip;
mod strings;
mod value;

use super::Demand;
use super::columns::{Columns, Fault};
use super::decoder::Found;
use shapes::{Action, Context, Shapes};
use skip::{DEPTH_MAX, expected, skip_value};
use strings::read_string;

/// The node of a record itself.
const ROOT: usize = 0;

/// Reads records of one source.
pub(super) struct JsonReader {
    nodes: Vec<Node>,
    /// Values that are demanded more than once.
    shared: Vec<Shared>,
    shapes: Shapes,
    /// A key without its escapes.
    key: Vec<u8>,
}

/// An object on the way to demanded values.
struct Node {
    parent: usize,
    depth: usize,
    /// For messages.
    path: Vec<String>,
    entries: Vec<(Vec<u8>, Action)>,
    /// All columns in and below this object.
    columns: Vec<usize>,
}

struct Shared {
    columns: Vec<usize>,
    node: Option<usize>,
}

impl JsonReader {
    pub(super) fn new(demands: &[Demand]) -> Self {
        let mut reader =
            Self { nodes: Vec::new(), shared: Vec::new(), shapes: Shapes::new(ROOT), key: Vec::new() };
        let demands: Vec<_> = demands.iter().enumerate().map(|(at, d)| (at, d.path.as_slice())).collect();
        reader.add_node(ROOT, &[], &demands);
        reader
    }

    /// Adds the node at `path`, to which the demands, with column and rest of the path, belong.
    fn add_node(&mut self, parent: usize, path: &[String], demands: &[(usize, &[String])]) -> usize {
        let node = self.nodes.len();
        let columns = demands.iter().map(|(column, _)| *column).collect();
        let depth = path.len() + 1;
        self.nodes.push(Node { parent, depth, path: path.to_vec(), entries: Vec::new(), columns });
        for (at, (_, rest)) in demands.iter().enumerate() {
            let key = &rest[0];
            if demands[..at].iter().any(|(_, earlier)| earlier[0] == *key) {
                continue;
            }
            let same = || demands.iter().filter(|(_, rest)| rest[0] == *key);
            let columns: Vec<_> =
                same().filter(|(_, rest)| rest.len() == 1).map(|(column, _)| *column).collect();
            let below: Vec<_> = same()
                .filter(|(_, rest)| rest.len() > 1)
                .map(|(column, rest)| (*column, &rest[1..]))
                .collect();
            let inner = [path, std::slice::from_ref(key)].concat();
            let child = (!below.is_empty()).then(|| self.add_node(node, &inner, &below));
            let action = match (columns.as_slice(), child) {
                ([column], None) => Action::Column(*column as u32),
                ([], Some(child)) => Action::Enter(child as u32),
                _ => {
                    self.shared.push(Shared { columns, node: child });
                    Action::Shared(self.shared.len() as u32 - 1)
                }
            };
            self.nodes[node].entries.push((key.as_bytes().to_vec(), action));
        }
        node
    }

    /// Reads the line that begins `buf`, which has its line break.
    #[inline]
    pub(super) fn read(&mut self, buf: &[u8], columns: &mut Columns) -> Found {
        if buf[0] != b'{'
            && let Some(bytes) = blank_line(buf)
        {
            return Found::Blank(bytes);
        }
        match self.record(buf, columns) {
            Ok(bytes) => Found::Record { bytes, lines: 1, row: Ok(()) },
            Err(fault) => {
                let end = memchr::memchr(b'\n', buf).map_or(buf.len(), |end| end + 1);
                Found::Record { bytes: end, lines: 1, row: Err(fault) }
            }
        }
    }

    /// Reads a record to the end of its line; returns where the next one begins.
    fn record(&mut self, buf: &[u8], columns: &mut Columns) -> Result<usize, Fault> {
        let mut at = 0;
        let mut context = self.shapes.start();
        loop {
            let (action, value) = match self.shapes.follow(&mut context, buf, at) {
                Some(found) => found,
                None => self.punctuation(&mut context, buf, at)?,
            };
            at = match action {
                Action::Column(column) => columns.json(column as usize, buf, value)?,
                Action::Skip => skip_value(buf, value, self.nodes[context.node].depth)?,
                Action::End => return Ok(value),
                Action::Leave => {
                    context.node = self.nodes[context.node].parent;
                    value
                }
                Action::Enter(node) => self.enter(node as usize, &mut context, buf, value, columns)?,
                Action::Shared(shared) => {
                    let shared = &self.shared[shared as usize];
                    let mut end = value;
                    for column in &shared.columns {
                        end = columns.json(*column, buf, value)?;
                    }
                    match shared.node {
                        Some(node) => self.enter(node, &mut context, buf, value, columns)?,
                        None => end,
                    }
                }
            };
        }
    }

    /// Goes into the object at `at`, or over a null in its place; returns where to go on.
    fn enter(
        &self,
        node: usize,
        context: &mut Context,
        buf: &[u8],
        at: usize,
        columns: &mut Columns,
    ) -> Result<usize, Fault> {
        let at = spaces(buf, at);
        let entered = &self.nodes[node];
        // Of objects under the same key only the last one counts, with all that is in it.
        entered.columns.iter().for_each(|column| columns.forget(*column));
        if buf[at] == b'{' {
            if entered.depth > DEPTH_MAX {
                return Err(skip::too_deep(at));
            }
            context.enter(node);
            return Ok(at);
        }
        let end = skip_value(buf, at, entered.depth - 1)?;
        if &buf[at..end] != b"null" {
            let found = String::from_utf8_lossy(&buf[at..end]);
            let found: String = found.chars().take(40).collect();
            return Err(Fault::new(format!(
                "field {:?}: expected an object, found {found}",
                entered.path.join(".")
            )));
        }
        // What may follow here isn't what may follow the object.
        context.leave_shape();
        Ok(end)
    }

    /// Reads what is between two values: from `at`, where the context is, to the value that comes next.
    #[cold]
    fn punctuation(
        &mut self,
        context: &mut Context,
        buf: &[u8],
        at: usize,
    ) -> Result<(Action, usize), Fault> {
        let mut here = spaces(buf, at);
        let first = context.opened;
        if first {
            here = spaces(buf, expect(buf, here, b'{', "an object")?);
        }
        let (action, end) = match buf[here] {
            b'}' => self.close(context, buf, here + 1)?,
            b',' if !first => self.member(context, buf, spaces(buf, here + 1))?,
            b'"' if first => self.member(context, buf, here)?,
            _ if first => return Err(expected("a key or `}`", buf, here)),
            _ => return Err(expected("`,` or `}`", buf, here)),
        };
        self.shapes.learn(context, &buf[at..end], action);
        Ok((action, end))
    }

    fn close(&self, context: &Context, buf: &[u8], at: usize) -> Result<(Action, usize), Fault> {
        if context.node != ROOT {
            return Ok((Action::Leave, at));
        }
        let end = spaces(buf, at);
        if buf[end] == b'\n' {
            Ok((Action::End, end + 1))
        } else {
            Err(expected("the end of the line", buf, end))
        }
    }

    /// Reads the key at `at` and the colon after it.
    fn member(&mut self, context: &Context, buf: &[u8], at: usize) -> Result<(Action, usize), Fault> {
        let after = expect(buf, at, b'"', "a key")?;
        self.key.clear();
        let end = read_string(buf, after, &mut self.key)?;
        let entries = &self.nodes[context.node].entries;
        let action =
            entries.iter().find(|(key, _)| *key == self.key).map_or(Action::Skip, |(_, action)| *action);
        let value = expect(buf, spaces(buf, end), b':', "`:`")?;
        Ok((action, spaces(buf, value)))
    }
}

/// The place after `byte`, which has to be at `at`.
fn expect(buf: &[u8], at: usize, byte: u8, what: &str) -> Result<usize, Fault> {
    if buf[at] == byte { Ok(at + 1) } else { Err(expected(what, buf, at)) }
}

/// The first place at or after `at` without a space. A line break is none, as it ends the record.
#[inline(always)]
fn spaces(buf: &[u8], mut at: usize) -> usize {
    while matches!(buf.get(at), Some(b' ' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

fn blank_line(buf: &[u8]) -> Option<usize> {
    let end = spaces(buf, 0);
    (buf[end] == b'\n').then_some(end + 1)
}
