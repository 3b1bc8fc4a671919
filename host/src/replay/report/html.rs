//! A report as one page of HTML: no script, no address, nothing that is loaded; light or dark as the browser likes it. All
//! text that comes from elsewhere goes through [`escaped`].

use std::fmt::Write;

use super::{Report, Sample, SinkReport, Version, fields, grouped, plain, seconds, verdict};

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--page:#fff;--box:#f4f6f8;--line:#d8dde3;--good:#1a7f4b;
--bad:#b3261e;--mark:#ffe08a;--missing:#fde7e5;--added:#e2f4e8}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b4;--page:#14181e;--box:#1d232b;--line:#343c47;
--good:#5fd096;--bad:#ff8a80;--mark:#6b5300;--missing:#4a2522;--added:#1c3d2a}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.5rem;max-width:76rem;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{margin:0;font-size:1.5rem;overflow-wrap:anywhere}
h2{margin:2.2rem 0 .5rem;font-size:1.15rem;overflow-wrap:anywhere}
p{margin:.3rem 0;overflow-wrap:anywhere}
.verdict{margin:.6rem 0;font-size:1.15rem;font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}.soft{color:var(--soft)}
.numbers{display:flex;flex-wrap:wrap;gap:.6rem;margin:.8rem 0}
.numbers div{min-width:6.5rem;padding:.5rem .8rem;border:1px solid var(--line);border-radius:.4rem;background:var(--box)}
.numbers b{display:block;font-size:1.2rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.9rem}
caption{padding:.3rem 0;text-align:left;font-weight:600}
th,td{padding:.3rem .7rem;border:1px solid var(--line);text-align:left;vertical-align:top;white-space:nowrap}
td{font-family:ui-monospace,monospace;max-width:26rem;overflow:hidden;text-overflow:ellipsis}
th{background:var(--box);font-weight:600}
.side{border-left:3px solid var(--line)}
mark{padding:0 .2rem;border-radius:.2rem;background:var(--mark);color:inherit}
.missing td{background:var(--missing)}.added td{background:var(--added)}
ul{margin:.3rem 0;padding-left:1.3rem}li{overflow-wrap:anywhere}
";

pub(super) fn of(report: &Report) -> String {
    let mut body = String::new();
    let class = if report.equal { "good" } else { "bad" };
    let made =
        jiff::Timestamp::from_millisecond(report.created_ms).map(|t| t.to_string()).unwrap_or_default();
    let facts = format!(
        "From {} to {}: {} rows read in {}. Made {made}.",
        report.from,
        report.to,
        grouped(report.rows_read),
        seconds(report.duration_ms)
    );
    let _ = write!(
        body,
        "<h1>Replay of {}</h1><p class=\"verdict {class}\">{}</p><p class=\"soft\">{}</p>",
        escaped(&report.pipeline),
        escaped(&capitalized(&verdict(report))),
        escaped(&facts)
    );
    list(&mut body, "Found", &report.findings);
    list(&mut body, "To know", &report.notes);
    report.sinks.iter().for_each(|sink| of_sink(&mut body, sink));
    operators(&mut body, report);
    counts(&mut body, report);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">\
         <title>Replay of {}</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n",
        escaped(&report.pipeline)
    )
}

fn of_sink(out: &mut String, sink: &SinkReport) {
    let _ = write!(out, "\n<h2>Sink {}</h2>", escaped(&sink.id));
    if let Some(why) = &sink.not_compared {
        let _ = write!(out, "<p class=\"soft\">Not compared: {}</p>", escaped(why));
        return;
    }
    let known = match sink.identity.as_slice() {
        [] => "Rows are compared as a whole.".to_owned(),
        fields => format!("Rows are known by {}.", fields.join(", ")),
    };
    let _ = write!(out, "<p class=\"soft\">{}</p><div class=\"numbers\">", escaped(&known));
    let numbers = [
        ("live", sink.live, false),
        ("replay", sink.shadow, false),
        ("equal", sink.equal, false),
        ("different", sink.different, true),
        ("missing", sink.missing, true),
        ("added", sink.added, true),
    ];
    for (name, number, is_bad) in numbers {
        let class = if is_bad && number > 0 { " class=\"bad\"" } else { "" };
        let _ = write!(out, "<div>{name}<b{class}>{}</b></div>", grouped(number));
    }
    out.push_str("</div>");
    if sink.later > 0 {
        let later = grouped(sink.later);
        let _ = write!(
            out,
            "<p>{later} rows the live pipeline showed only behind the stretch: they were under way at its end.</p>"
        );
    }
    if sink.left_out > 0 {
        let left_out = grouped(sink.left_out);
        let _ = write!(
            out,
            "<p>{left_out} rows weren’t compared: they are made of rows from before the replay begins.</p>"
        );
    }
    let of = |live: bool, shadow: bool| -> Vec<&Sample> {
        let is_it = |s: &&Sample| (s.live.is_some(), s.shadow.is_some()) == (live, shadow);
        sink.samples.iter().filter(is_it).collect()
    };
    side_by_side(out, &of(true, true), sink.different);
    one_sided(out, ("Missing", "missing"), &of(true, false), sink.missing);
    one_sided(out, ("Added", "added"), &of(false, true), sink.added);
}

/// Pairs of rows: first what both are known by or agree in, then live and replay beside each other.
fn side_by_side(out: &mut String, samples: &[&Sample], all: u64) {
    if samples.is_empty() {
        return;
    }
    let owned: Vec<Sample> = samples.iter().map(|s| (*s).clone()).collect();
    let fields = fields(&owned);
    let differs = |field: &&&str| owned.iter().any(|s| s.differing.iter().any(|f| f == **field));
    let differing: Vec<&str> = fields.iter().filter(differs).copied().collect();
    let agreeing: Vec<&str> = fields.iter().filter(|f| !differs(f)).copied().collect();
    let _ = write!(
        out,
        "<div class=\"scroll\"><table><caption>Different{}</caption><tr>",
        of_all(samples.len(), all)
    );
    agreeing.iter().for_each(|field| _ = write!(out, "<th rowspan=\"2\">{}</th>", escaped(field)));
    let _ = write!(
        out,
        "<th class=\"side\" colspan=\"{0}\">live</th><th class=\"side\" colspan=\"{0}\">replay</th></tr><tr>",
        differing.len()
    );
    for _ in 0..2 {
        head(out, &differing);
    }
    out.push_str("</tr>");
    for sample in samples {
        out.push_str("<tr>");
        agreeing.iter().for_each(|field| cell(out, sample.values(field)[0], "", false));
        for side in 0..2 {
            for (at, field) in differing.iter().enumerate() {
                let class = if at == 0 { " class=\"side\"" } else { "" };
                cell(out, sample.values(field)[side], class, sample.differing.iter().any(|f| f == field));
            }
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

fn head(out: &mut String, fields: &[&str]) {
    for (at, field) in fields.iter().enumerate() {
        let class = if at == 0 { " class=\"side\"" } else { "" };
        let _ = write!(out, "<th{class}>{}</th>", escaped(field));
    }
}

fn one_sided(out: &mut String, (title, class): (&str, &str), samples: &[&Sample], all: u64) {
    if samples.is_empty() {
        return;
    }
    let owned: Vec<Sample> = samples.iter().map(|s| (*s).clone()).collect();
    let fields = fields(&owned);
    let _ = write!(
        out,
        "<div class=\"scroll\"><table class=\"{class}\"><caption>{title}{}</caption><tr>",
        of_all(samples.len(), all)
    );
    fields.iter().for_each(|field| _ = write!(out, "<th>{}</th>", escaped(field)));
    out.push_str("</tr>");
    for sample in samples {
        out.push_str("<tr>");
        for field in &fields {
            let [live, shadow] = sample.values(field);
            cell(out, live.or(shadow), "", false);
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

fn cell(out: &mut String, value: Option<&str>, class: &str, is_marked: bool) {
    let value = escaped(&value.map(plain).unwrap_or_default());
    let _ = match is_marked {
        true => write!(out, "<td{class}><mark>{value}</mark></td>"),
        false => write!(out, "<td{class}>{value}</td>"),
    };
}

fn of_all(shown: usize, all: u64) -> String {
    if all > shown as u64 { format!(" (the first {shown} of {})", grouped(all)) } else { String::new() }
}

fn operators(out: &mut String, report: &Report) {
    if report.operators.is_empty() {
        return;
    }
    out.push_str(
        "\n<h2>Components</h2><div class=\"scroll\"><table><tr><th>operator</th><th>live</th><th>replay</th></tr>",
    );
    for operator in &report.operators {
        let told = |version: &Option<Version>| match version {
            None => "none".to_owned(),
            Some(v) => format!("{} {} ({})", v.name, v.version, v.digest.get(..12).unwrap_or(&v.digest)),
        };
        let differs = operator.live != operator.shadow;
        let _ = write!(out, "<tr><td>{}</td>", escaped(&operator.id));
        let _ = write!(out, "<td>{}</td>", escaped(&told(&operator.live)));
        let shadow = escaped(&told(&operator.shadow));
        let _ = match differs {
            true => write!(out, "<td><mark>{shadow}</mark></td></tr>"),
            false => write!(out, "<td>{shadow}</td></tr>"),
        };
    }
    out.push_str("</table></div>");
}

fn counts(out: &mut String, report: &Report) {
    if report.counts.is_empty() {
        return;
    }
    out.push_str(
        "\n<h2>Counted</h2><div class=\"scroll\"><table><tr><th></th><th>live</th><th>replay</th></tr>",
    );
    for count in &report.counts {
        let shadow = grouped(count.shadow);
        let shadow = if count.live == count.shadow { shadow } else { format!("<mark>{shadow}</mark>") };
        let (what, live) = (escaped(&count.what), grouped(count.live));
        let _ = write!(out, "<tr><td>{what}</td><td>{live}</td><td>{shadow}</td></tr>");
    }
    out.push_str("</table></div>");
}

fn list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = write!(out, "\n<h2>{title}</h2><ul>");
    lines.iter().for_each(|text| _ = write!(out, "<li>{}</li>", escaped(text)));
    out.push_str("</ul>");
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Text that stays text wherever in a page it stands, also within quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::hostile;
    use super::*;

    #[test]
    fn no_text_becomes_a_part_of_the_page() {
        let page = of(&hostile());
        assert!(!page.contains("<script") && !page.contains("alert('x')"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"), "{page}");
        assert!(!page.chars().any(|c| c.is_control() && c != '\n'), "a control character");
        // Nothing but the elements that are written here.
        let mut elements: Vec<&str> = page
            .split('<')
            .skip(1)
            .map(|rest| rest.split(|c: char| c.is_whitespace() || c == '>').next().unwrap_or_default())
            .map(|name| name.trim_start_matches('/'))
            .collect();
        elements.sort_unstable();
        elements.dedup();
        assert_eq!(
            elements,
            [
                "!doctype", "b", "body", "caption", "div", "h1", "h2", "head", "html", "li", "mark", "meta",
                "p", "style", "table", "td", "th", "title", "tr", "ul"
            ]
        );
        for outside in ["http:", "https:", "url(", "src=", "href=", "onload"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn differing_cells_are_marked_side_by_side() {
        let page = of(&hostile());
        assert!(
            page.contains("<td class=\"side\"><mark>1</mark></td><td class=\"side\"><mark>2</mark></td>"),
            "{page}"
        );
        assert!(page.contains("prefers-color-scheme:dark"));
        assert!(page.contains("Different: 20 different, 20 missing, 20 added; 1,000,003 rows are the same"));
    }

    #[test]
    fn every_element_that_is_opened_is_closed() {
        let page = of(&hostile());
        for element in ["table", "tr", "td", "th", "div", "ul", "li", "p", "mark", "h2", "b", "caption"] {
            let opened =
                page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
    }
}
