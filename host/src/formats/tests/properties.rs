//! Random records against serde_json, which knows the grammar but isn't asked in production.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const FIELDS: [(&str, FieldType); 6] = [
    ("i", FieldType::Integer),
    ("f", FieldType::Float),
    ("t", FieldType::Text),
    ("b", FieldType::Boolean),
    ("o.i", FieldType::Integer),
    ("o.o.t", FieldType::Text),
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,40}",
        any::<String>(),
        prop::collection::vec(
            prop::sample::select(vec!['"', '\\', '/', '\n', '\u{0}', '\u{1f}', 'é', '😀', 'u', '\u{7f}']),
            0..20
        )
        .prop_map(String::from_iter),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e6..1e6f64).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let object = prop::collection::vec((text(), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

/// The members of a record: demanded ones that fit their type, in any order and with others between them.
fn members() -> impl Strategy<Value = Vec<(String, Value)>> {
    let member = |key: &'static str, value: BoxedStrategy<Value>| (Just(key.to_owned()), value);
    let integer = || prop_oneof![any::<i64>(), 0..100i64].prop_map(Value::from).boxed();
    let inner = (prop::option::of(integer()), text(), prop::option::of(text()))
        .prop_map(|(i, t, z)| json!({"z": z, "o": {"t": t, "more": [1, {}]}, "i": i}));
    let one = prop_oneof![
        3 => member("i", integer()),
        2 => member("f", (-1e9..1e9f64).prop_map(Value::from).boxed()),
        2 => member("t", text().prop_map(Value::from).boxed()),
        1 => member("b", any::<bool>().prop_map(Value::from).boxed()),
        2 => member("o", inner.boxed()),
        1 => member("o", Just(Value::Null).boxed()),
        3 => (text().prop_filter("not demanded", |k| !["i", "f", "t", "b", "o"].contains(&k.as_str())), any_value()),
    ];
    prop::collection::vec(one, 0..9)
}

/// Writes members by hand, as serde_json's maps keep neither order nor doubles nor spaces.
fn line(members: &[(String, Value)], space: &str, escape: bool) -> String {
    let quoted = |text: &str| match escape {
        false => Value::from(text).to_string(),
        true => {
            format!("\"{}\"", text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>())
        }
    };
    let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), quoted);
    let members: Vec<_> =
        members.iter().map(|(k, v)| format!("{}{space}:{space}{}{space}", quoted(k), value(v))).collect();
    format!("{{{space}{}}}", members.join(&format!(",{space}")))
}

/// What serde_json finds at the demanded paths, as the encoder would write it.
fn by_serde(line: &str) -> Option<Value> {
    let record: Value = serde_json::from_str(line).ok().filter(Value::is_object)?;
    let found =
        |path: &str| record.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or_default();
    Some(Value::Object(FIELDS.iter().map(|(path, _)| ((*path).to_owned(), found(path))).collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn valid_records_say_what_serde_json_says(
        records in prop::collection::vec((members(), "[ \t]{0,2}", any::<bool>()), 1..6)
    ) {
        let lines: Vec<_> = records.iter().map(|(members, space, escape)| line(members, space, *escape)).collect();
        let demands = demands(&FIELDS);
        let decoded = decode(&Format::JsonLines, &demands, lines.join("\n").as_bytes());
        prop_assert_eq!(&decoded.malformed, &[]);
        for (line, row) in lines.iter().zip(rows(&demands, &decoded)) {
            let row: Value = serde_json::from_str(&row).unwrap();
            prop_assert_eq!(Some(row), by_serde(line), "{}", line);
        }
    }

    #[test]
    fn broken_records_are_those_that_serde_json_refuses(
        members in members(), space in " ?", before in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 1..4),
    ) {
        let valid = line(&members, &space, false);
        let mut bytes = valid.clone().into_bytes();
        for (at, kind, byte) in changes {
            let at = at.index(bytes.len());
            let structural = b"{}[]\",:\\ 0-.eEtu+"[usize::from(byte) % 17];
            match kind {
                0 => bytes[at] = structural,
                1 => bytes.insert(at, structural),
                2 if bytes.len() > 1 => { bytes.remove(at); }
                _ => bytes[at] = byte,
            }
        }
        prop_assume!(!bytes.contains(&b'\n') && !bytes.trim_ascii().is_empty());
        // Also where the punctuation has been learned from the valid record.
        let input = if before { [valid.as_bytes(), b"\n", &bytes].concat() } else { bytes.clone() };
        let decoded = decode(&Format::JsonLines, &[], &input);
        let accepted = match serde_json::from_slice::<Value>(&bytes) {
            Ok(value) => value.is_object(),
            // The size of a number that nobody demands isn't looked at.
            Err(error) if error.to_string().starts_with("number out of range") => return Ok(()),
            Err(_) => false,
        };
        prop_assert_eq!(decoded.rows == 1 + usize::from(before), accepted, "{}", String::from_utf8_lossy(&bytes));
        // With demands more may be refused, but nothing that is broken is accepted.
        let strict = decode(&Format::JsonLines, &demands(&FIELDS), &input);
        prop_assert!(strict.rows <= decoded.rows);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\ \n\r0ab-.".to_vec())], 0..200)) {
        let csv = Format::Csv(CsvOptions { header: false, ..CsvOptions::default() });
        decode(&Format::JsonLines, &demands(&FIELDS), &bytes);
        decode(&csv, &demands(&[("1", FieldType::Integer)]), &bytes);
        decode(&Format::Text, &demands(&[("line", FieldType::Text)]), &bytes);
    }

    #[test]
    fn floats_are_the_nearest(text in "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?") {
        let demands = demands(&[("f", FieldType::Float)]);
        let decoded = decode(&Format::JsonLines, &demands, format!("{{\"f\":{text}}}").as_bytes());
        let found: f64 = rows(&demands, &decoded)[0][5..].trim_end_matches('}').parse().unwrap();
        prop_assert_eq!(found.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
    }
}
