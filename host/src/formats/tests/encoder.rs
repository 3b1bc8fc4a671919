//! What is written can be read again.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};

use super::*;

fn columns() -> Vec<(&'static str, FieldType, ArrayRef)> {
    let texts = vec![
        Some("plain"),
        None,
        Some(""),
        Some("q\"u,o\\te\r\n\t\u{1}\u{8}"),
        Some("é😀 and more than sixteen bytes"),
    ];
    let bytes: Vec<Option<&[u8]>> = vec![Some(b"\x00\xff"), None, Some(b""), Some(b"abc"), Some(b"abcd")];
    let instants = vec![Some(0), None, Some(-1), Some(i64::MAX), Some(1_700_000_000_000)];
    vec![
        (
            "i",
            FieldType::Integer,
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(0), Some(-7), Some(i64::MAX)])),
        ),
        (
            "f",
            FieldType::Float,
            Arc::new(Float64Array::from(vec![Some(0.1), None, Some(-1e300), Some(5e-324), Some(3.0)])),
        ),
        (
            "b",
            FieldType::Boolean,
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true), Some(false)])),
        ),
        ("t,\"", FieldType::Text, Arc::new(StringArray::from(texts))),
        ("y", FieldType::Bytes, Arc::new(BinaryArray::from(bytes))),
        (
            "ms",
            FieldType::Timestamp,
            Arc::new(TimestampMillisecondArray::from(instants).with_timezone("UTC")),
        ),
    ]
}

#[test]
fn rows_come_back_from_each_format_and_unit() {
    let (names, arrays): (Vec<_>, Vec<_>) = columns().into_iter().map(|(n, t, a)| ((n, t), a)).unzip();
    let demands: Vec<_> = names.iter().map(|(n, t)| Demand::named(Field::nullable(*n, *t))).collect();
    let schema = schema(&demands);
    let batch = RecordBatch::try_new(schema.arrow(), arrays).unwrap();
    let csv = |delimiter, null: &[&str]| {
        let null = null.iter().map(|text| text.to_string()).collect();
        Format::Csv(CsvOptions { delimiter, header: true, null })
    };
    let formats = [
        Format::JsonLines,
        csv(b',', &[""]),
        csv(b'\t', &["NA", "plain"]),
        csv(b':', &["", "-"]),
        csv(b'1', &[""]),
    ];
    for format in formats {
        let text = encode(&format, &schema, &batch);
        let decoded = decode(&format, &demands, text.as_bytes());
        assert_eq!(decoded.malformed, [], "{format:?}: {text}");
        assert_eq!(super::batch(&demands, &decoded), batch, "{format:?}: {text}");
    }
}

#[test]
fn units_come_back() {
    use TimestampUnit::*;
    let instants = [0, -1, 999, 1_000, 1_700_000_000_123, -1_700_000_000_123];
    for unit in [Auto, Rfc3339, Seconds, Milliseconds, Microseconds, Nanoseconds] {
        let demands = [Demand { unit, ..demand("t", FieldType::Timestamp) }];
        let column: ArrayRef =
            Arc::new(TimestampMillisecondArray::from(instants.to_vec()).with_timezone("UTC"));
        let batch = RecordBatch::try_new(schema(&demands).arrow(), vec![column]).unwrap();
        for format in [Format::JsonLines, Format::Csv(CsvOptions::default())] {
            let mut encoder = Encoder::new(&format, &schema(&demands)).unwrap().with_timestamps(unit);
            let mut text = encoder.header();
            encoder.encode(&batch, &mut text);
            let decoded = decode(&format, &demands, &text);
            assert_eq!(
                super::batch(&demands, &decoded),
                batch,
                "{unit:?} {}",
                String::from_utf8_lossy(&text)
            );
        }
    }
}

#[test]
fn each_spelling_is_pinned() {
    let (names, arrays): (Vec<_>, Vec<_>) =
        columns().into_iter().map(|(n, t, a)| (Field::nullable(n, t), a)).unzip();
    let schema = Schema::new(names).unwrap();
    let batch = RecordBatch::try_new(schema.arrow(), arrays).unwrap();
    let json = r#"{"i":-9223372036854775808,"f":0.1,"b":true,"t,\"":"plain","y":"AP8=","ms":"1970-01-01T00:00:00Z"}
{"i":null,"f":null,"b":null,"t,\"":null,"y":null,"ms":null}
{"i":0,"f":-1e+300,"b":false,"t,\"":"","y":"","ms":"1969-12-31T23:59:59.999Z"}
{"i":-7,"f":5e-324,"b":true,"t,\"":"q\"u,o\\te\r\n\t\u0001\b","y":"YWJj","ms":9223372036854775807}
{"i":9223372036854775807,"f":3.0,"b":false,"t,\"":"é😀 and more than sixteen bytes","y":"YWJjZA==","ms":"2023-11-14T22:13:20Z"}
"#;
    assert_eq!(encode(&Format::JsonLines, &schema, &batch), json);
    let csv = "i,f,b,\"t,\"\"\",y,ms\n-9223372036854775808,0.1,true,plain,AP8=,1970-01-01T00:00:00Z\n,,,,,\n\
        0,-1e+300,false,\"\",\"\",1969-12-31T23:59:59.999Z\n\
        -7,5e-324,true,\"q\"\"u,o\\te\r\n\t\u{1}\u{8}\",YWJj,9223372036854775807\n\
        9223372036854775807,3.0,false,é😀 and more than sixteen bytes,YWJjZA==,2023-11-14T22:13:20Z\n";
    assert_eq!(encode(&Format::Csv(CsvOptions::default()), &schema, &batch), csv);
}

#[test]
fn what_a_format_cannot_hold_is_written_as_documented() {
    let one = |field_type, column: ArrayRef, format: &Format| {
        let schema = Schema::new(vec![Field::nullable("x", field_type)]).unwrap();
        let batch = RecordBatch::try_new(schema.arrow(), vec![column]).unwrap();
        encode(format, &schema, &batch)
    };
    let floats = || Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]));
    let csv = Format::Csv(CsvOptions::default());
    let nulls = "{\"x\":null}\n".repeat(3);
    assert_eq!(one(FieldType::Float, floats(), &Format::JsonLines), nulls);
    assert_eq!(one(FieldType::Float, floats(), &csv), "x\nNaN\ninf\n-inf\n");
    assert_eq!(
        one(FieldType::Integer, Arc::new(Int64Array::from(vec![Some(1), None])), &csv),
        "x\n1\n\"\"\n"
    );
    let texts = || Arc::new(StringArray::from(vec![Some("one"), None, Some("two")]));
    assert_eq!(one(FieldType::Text, texts(), &Format::Text), "one\n\ntwo\n");
}
