//! The pipeline as a graph: nothing goes in a circle, everything is read, and late rows are read only
//! where there can be some.

use super::errors::Problems;
use super::file::Spanned;
use super::ids::{Ids, NAMES_SHOWN_MAX, Upstream};
use super::operator::{Operator, Read};
use super::sink::Sink;

/// Reports what is wrong with the graph; gives the operators' order if nothing goes in a circle.
pub(super) fn check(
    problems: &Problems,
    ids: &Ids,
    operators: &[Read<Operator>],
    sinks: &[Read<Sink>],
) -> Option<Vec<usize>> {
    let understood =
        operators.iter().all(|(inputs, _)| inputs.is_some()) && sinks.iter().all(|(i, _)| i.is_some());
    let operator_inputs: Vec<_> =
        operators.iter().map(|(inputs, _)| inputs.as_deref().unwrap_or_default()).collect();
    let sink_inputs: Vec<_> =
        sinks.iter().flat_map(|(inputs, _)| inputs.as_deref().unwrap_or_default()).collect();

    check_late(problems, ids, operators, &sink_inputs);
    // Who is unread can be said only once every input is understood, and where there are no sinks the cure
    // is another.
    if understood && ids.unique && !sinks.is_empty() {
        check_read(problems, ids, operator_inputs.iter().copied().flatten().chain(sink_inputs));
    }
    order(&operator_inputs, |circle| report_circle(problems, ids, circle))
}

/// A sink of late rows reads from an operator whose windows end.
fn check_late(problems: &Problems, ids: &Ids, operators: &[Read<Operator>], inputs: &[&Spanned<Upstream>]) {
    for input in inputs {
        let Upstream::Late(at) = input.value else { continue };
        let has_late = |operator: &Operator| operator.join.is_some() || operator.windows().has_late_rows();
        if operators[at].1.as_ref().is_some_and(|operator| !has_late(operator)) {
            let id = &ids.operators[at].value;
            problems.report(
                *input,
                format!("`{id}.late` is always empty: `{id}` has no `window` that ends by event time"),
            );
        }
    }
}

fn check_read<'a>(problems: &Problems, ids: &Ids, inputs: impl Iterator<Item = &'a Spanned<Upstream>>) {
    let mut sources_read = vec![false; ids.sources.len()];
    let mut operators_read = vec![false; ids.operators.len()];
    for input in inputs {
        match input.value {
            Upstream::Source(at) => sources_read[at] = true,
            Upstream::Operator(at) => operators_read[at] = true,
            // Late rows are what is left over; whoever reads these alone has forgotten the results.
            Upstream::Late(_) => {}
        }
    }
    for (kind, ids, read) in
        [("source", &ids.sources, sources_read), ("operator", &ids.operators, operators_read)]
    {
        for (id, _) in ids.iter().zip(read).filter(|(_, read)| !read) {
            let name = &id.value;
            let message =
                format!("nothing reads the {kind} `{name}`; give an operator or a sink `input = \"{name}\"`");
            problems.report(id, message);
        }
    }
}

/// Each operator after those that it reads, in the order of the file if that will do; none if there are
/// circles, each of which is told.
///
/// Depth first, with the way to the operator at hand on a stack of our own: the file decides how long it is.
fn order<'a>(
    inputs: &[&'a [Spanned<Upstream>]],
    mut on_circle: impl FnMut(&[(usize, &'a Spanned<Upstream>)]),
) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Never,
        /// It stands on the stack, here.
        OnTheWay(usize),
        Done,
    }
    let mut visits = vec![Visit::Never; inputs.len()];
    let mut order = Vec::with_capacity(inputs.len());
    let mut circles = false;
    for start in 0..inputs.len() {
        if visits[start] != Visit::Never {
            continue;
        }
        // Operators, each with its inputs still to follow, and the inputs that were followed so far.
        let mut stack = vec![(start, inputs[start].iter())];
        let mut way: Vec<(usize, &Spanned<Upstream>)> = Vec::new();
        visits[start] = Visit::OnTheWay(0);
        while let Some((at, rest)) = stack.last_mut() {
            let at = *at;
            let Some(input) = rest.next() else {
                visits[at] = Visit::Done;
                order.push(at);
                stack.pop();
                way.pop();
                continue;
            };
            let Upstream::Operator(read) = input.value else { continue };
            match visits[read] {
                Visit::Done => {}
                Visit::Never => {
                    visits[read] = Visit::OnTheWay(stack.len());
                    way.push((at, input));
                    stack.push((read, inputs[read].iter()));
                }
                Visit::OnTheWay(height) => {
                    circles = true;
                    way.push((at, input));
                    on_circle(&way[height..]);
                    way.pop();
                }
            }
        }
    }
    (!circles).then_some(order)
}

/// Reports a circle at the input that closes it: operators, each with the input by which it reads the next.
fn report_circle(problems: &Problems, ids: &Ids, circle: &[(usize, &Spanned<Upstream>)]) {
    let [(first, _), .., (_, closing)] = circle else {
        let (own, input) = circle[0];
        let id = &ids.operators[own].value;
        return problems.report(input, format!("the operator `{id}` reads itself"));
    };
    let mut names: Vec<_> = circle.iter().map(|(at, _)| format!("`{}`", ids.operators[*at].value)).collect();
    if names.len() > NAMES_SHOWN_MAX {
        names.truncate(NAMES_SHOWN_MAX);
        names.push("...".to_owned());
    }
    let (way, first) = (names.join(" reads "), &ids.operators[*first].value);
    problems.report(*closing, format!("operators read each other in a circle: {way} reads `{first}`"));
}
