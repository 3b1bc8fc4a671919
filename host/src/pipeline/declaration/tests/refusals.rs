//! Every refusal, word for word: the cases are in `refusals.txt`.

use std::fmt::Write;

use crate::pipeline::declaration::parse;

/// A case is a frame and a promise, then what is written into the frame, then all of the errors.
struct Case {
    frame: &'static str,
    promise: &'static str,
    written: &'static str,
    expected: &'static str,
}

fn cases() -> Vec<Case> {
    let text = include_str!("refusals.txt");
    let (_, cases) = text.split_once("\n=== ").unwrap();
    cases
        .split("\n=== ")
        .map(|case| {
            let (head, rest) = case.split_once('\n').unwrap();
            let (frame, promise) = head.split_once(": ").unwrap();
            let (written, expected) = rest.split_once("---").unwrap();
            Case { frame, promise, written, expected: expected.trim() }
        })
        .collect()
}

/// The file around what a case writes, such that nothing else is wrong with it.
fn framed(frame: &str, written: &str) -> String {
    let source = "[sources.s]\ntype = \"nexmark\"\n";
    let sink = |input: &str| format!("[sinks.k]\ntype = \"stdout\"\ninput = \"{input}\"\n");
    let operator = "component = \"o.wasm\"\ninput = \"s\"\n";
    match frame {
        "file" => written.to_owned(),
        "top" => format!("{written}{source}{}", sink("s")),
        "source" => format!("name = \"p\"\n[sources.s]\n{written}{}", sink("s")),
        "operator" => format!("name = \"p\"\n[operators.o]\n{written}{source}{}", sink("o")),
        "operator-with" => format!("name = \"p\"\n[operators.o]\n{operator}{written}{source}{}", sink("o")),
        "sink" => format!("name = \"p\"\n[sinks.k]\n{written}{source}"),
        _ => panic!("unknown frame {frame}"),
    }
}

#[test]
fn every_refusal_says_where_what_and_what_to_do() {
    let mut wrong = String::new();
    for case in cases() {
        let text = framed(case.frame, case.written);
        let found =
            parse("p.toml", &text).map_or_else(|errors| errors.to_string(), |_| "accepted".to_owned());
        if found != case.expected {
            let Case { frame, promise, written, .. } = case;
            write!(wrong, "\n=== {frame}: {promise}\n{written}---\n{found}\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "these came out otherwise than refusals.txt has them:\n{wrong}");
}

#[test]
fn errors_are_given_apart_too() {
    let errors = parse("p.toml", "nam = 1\n[sources]").unwrap_err();
    let apart: Vec<_> = errors.iter().map(|(place, message)| format!("{place}: {message}")).collect();
    assert_eq!(
        apart,
        [
            "p.toml:1:1: missing key `name` at the top level",
            "p.toml:1:1: the pipeline has no sinks; add a section [sinks.<id>]",
            "p.toml:1:1: unknown key `nam` at the top level; did you mean `name`?",
            "p.toml:2:2: the pipeline has no sources; add a section [sources.<id>]",
        ]
    );
}

#[test]
fn a_message_is_bounded_however_many_errors_and_however_long_the_line() {
    let text =
        format!("name = \"p\"\nx = {{ {} }}", (0..5000).map(|n| format!("k{n} = 1, ")).collect::<String>());
    let text = text.replacen("x = {", "sources = {", 1);
    let shown = parse("p.toml", &text).unwrap_err().to_string();
    assert!(shown.ends_with("... and 4901 more"), "{shown}");
    assert!(shown.len() < 100 * 500, "{} bytes", shown.len());
}

#[test]
fn a_file_beyond_all_measure_is_not_read() {
    let text = format!("name = \"p\" #{}", "x".repeat(2 << 20));
    let shown = parse("p.toml", &text).unwrap_err().to_string();
    assert!(shown.starts_with("p.toml:1:1: the file has 2 MiB; a pipeline fits into one\n"), "{shown}");
}
