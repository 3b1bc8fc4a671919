//! Files come in blocks: where one is cut, and how often a batch is taken, changes nothing.

use super::*;

const JSON: &[u8] = b"\xef\xbb\xbf{\"a\":1,\"b\":\"x\"}\r\n\n  \r\n{\"a\":\"bad\",\"b\":\"\xc3\xa9\"}\n{\"a\":2,\"b\":\"\xc3\xa9\xf0\x9f\x98\x80\"}\n\
    {\"a\":3,\"b\":\"\xff\"}\n{\"b\":\"a rather long text, as long as a few words\",\"a\":4}\n{\"a\":5";
const CSV: &[u8] = b"\xef\xbb\xbfa,b\r\n1,\"x\r\ny\"\n\n2,\"\"\"\"\r\nbad,x\n3,\"z\"z\n4,\"\xc3\xa9\n\n\"\n5,\xff\n6,y\n7,\"open\n8,z";
const TEXT: &[u8] = b"\xef\xbb\xbfone\r\n\ntwo \xc3\xa9\n\xff\nthree";

fn formats() -> [(Format, Vec<Demand>, &'static [u8]); 3] {
    let two = demands(&[("a", FieldType::Integer), ("b", FieldType::Text)]);
    let csv = Format::Csv(CsvOptions::default());
    let line = demands(&[("line", FieldType::Text)]);
    [(Format::JsonLines, two.clone(), JSON), (csv, two, CSV), (Format::Text, line, TEXT)]
}

/// Offers what isn't taken again, with the next block behind it, as a source does.
fn in_blocks(
    decoder: &mut Decoder,
    demands: &[Demand],
    input: &[u8],
    cuts: &[usize],
    rows_max: usize,
) -> Vec<String> {
    let (mut at, mut found) = (0, Vec::new());
    for cut in cuts.iter().copied().chain([input.len()]) {
        loop {
            let taken = decoder.decode(&input[at..cut], cut == input.len(), rows_max).unwrap();
            let decoded = decoder.take();
            assert!(decoded.rows + decoded.malformed.len() <= rows_max);
            found.extend(summary(demands, &decoded));
            at += taken;
            if taken == 0 || at == cut {
                break;
            }
        }
    }
    assert_eq!(at, input.len());
    found
}

#[test]
fn cuts_at_every_byte_change_nothing() {
    for (format, demands, input) in formats() {
        let whole = outcome(&format, &demands, input);
        for cut in 0..=input.len() {
            for rows_max in [1, 2, 100] {
                let mut decoder = Decoder::new(&format, demands.clone()).unwrap();
                let found = in_blocks(&mut decoder, &demands, input, &[cut], rows_max);
                assert_eq!(found, whole, "{format:?} cut at {cut}");
            }
        }
        let every: Vec<_> = (0..input.len()).collect();
        let mut decoder = Decoder::new(&format, demands.clone()).unwrap();
        assert_eq!(in_blocks(&mut decoder, &demands, input, &every, 100), whole, "{format:?} byte by byte");
    }
}

#[test]
fn blocks_are_read_as_expected() {
    let expected: [&[&str]; 3] = [
        &[
            "1: {\"a\":1,\"b\":\"x\"}",
            "4: field \"a\": expected integer, found \"bad\"",
            "5: {\"a\":2,\"b\":\"é😀\"}",
            "6: not UTF-8 at byte 13",
            "7: {\"a\":4,\"b\":\"a rather long text, as long as a few words\"}",
            "8: expected `,` or `}` at column 7, found the end of the line",
        ],
        &[
            "2: {\"a\":1,\"b\":\"x\\r\\ny\"}",
            "5: {\"a\":2,\"b\":\"\\\"\"}",
            "6: field \"a\": expected integer, found \"bad\"",
            "7: expected `,` after the closing quote",
            "8: {\"a\":4,\"b\":\"é\\n\\n\"}",
            "11: not UTF-8 at byte 3",
            "12: {\"a\":6,\"b\":\"y\"}",
            "13: a quote is not closed",
            "14: {\"a\":8,\"b\":\"z\"}",
        ],
        &[
            "1: {\"line\":\"one\"}",
            "3: {\"line\":\"two é\"}",
            "4: not UTF-8 at byte 1",
            "5: {\"line\":\"three\"}",
        ],
    ];
    for ((format, demands, input), expected) in formats().into_iter().zip(expected) {
        assert_eq!(outcome(&format, &demands, input), expected, "{format:?}");
    }
}

#[test]
fn overlong_records_are_cut_short_wherever_the_block_ends() {
    let json = b"{\"a\":1}\n{\"a\":2,\"b\":\"this one is longer than forty bytes\"}\n{\"a\":3}\n";
    let csv = b"a,b\n1,x\n2,\"this one\nis longer than forty bytes\"\n3,y\n";
    let too_long = "2: the record is longer than 36 bytes";
    let expected: [&[&str]; 2] = [
        &["1: {\"a\":1}", too_long, "3: {\"a\":3}"],
        // Its first line is set aside; the second has a field too few.
        &[
            "2: {\"a\":1}",
            "3: the record is longer than 36 bytes",
            "4: expected 2 fields, found 1",
            "5: {\"a\":3}",
        ],
    ];
    let formats = [(Format::JsonLines, &json[..]), (Format::Csv(CsvOptions::default()), &csv[..])];
    let demands = demands(&[("a", FieldType::Integer)]);
    for ((format, input), expected) in formats.into_iter().zip(expected) {
        for cut in 0..=input.len() {
            let mut decoder = Decoder::new(&format, demands.clone()).unwrap();
            decoder.limit_records(36);
            assert_eq!(
                in_blocks(&mut decoder, &demands, input, &[cut], 9),
                expected,
                "{format:?} cut at {cut}"
            );
        }
    }
}
