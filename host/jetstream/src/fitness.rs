//! Whether a stream is fit for what is to be written to it; if not, what to type.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy};

use crate::error::Error;
use crate::publish::marker_subjects;

/// Whether a filter takes all that a subject, which may have wildcards itself, stands for.
pub fn covers(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

pub(crate) fn takes(config: &Config, subject: &str) -> bool {
    // A stream without subjects takes its own name.
    let own = config.subjects.is_empty() && covers(&config.name, subject);
    own || config.subjects.iter().any(|filter| covers(filter, subject))
}

/// Whether a stream takes a subject, which may have wildcards, as [`Template::pattern`](crate::Template::pattern) has.
///
/// # Errors
/// When it doesn't; the message says what to type.
pub fn check_takes(config: &Config, subject: &str) -> Result<(), Error> {
    if takes(config, subject) {
        return Ok(());
    }
    let all = config.subjects.iter().map(String::as_str).chain([subject]);
    let flags: String = all.map(|subject| format!(" --subjects='{subject}'")).collect();
    Err(Error::Unfit {
        stream: config.name.clone(),
        reason: format!("it doesn't take the subject `{subject}`"),
        advice: format!("have it take that too, with `nats stream edit {}{flags}`", config.name),
    })
}

/// Whether copies that come in so long are recognized by their ids.
///
/// # Errors
/// When they aren't.
pub fn check_duplicate_window(info: &Info, needed: Duration) -> Result<(), Error> {
    let found = info.config.duplicate_window;
    if found >= needed {
        return Ok(());
    }
    let name = &info.config.name;
    Err(Error::Unfit {
        stream: name.clone(),
        reason: format!(
            "it recognizes copies for {} s, and they may come {} s later",
            found.as_secs_f64(),
            needed.as_secs_f64()
        ),
        advice: format!(
            "have it remember longer, with `nats stream edit {name} --dupe-window={}s`",
            whole_s(needed)
        ),
    })
}

fn whole_s(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Whether a stream can keep a producer's marker, and takes it together with output.
///
/// Limits that evict the oldest messages are no obstacle, as output streams have them: a marker is evicted only after all
/// output before it, and its absence is noticed ([`Transactions::check_has`](crate::Transactions::check_has)). But it is
/// told.
pub(crate) fn check_transactions(config: &Config, producer: &str) -> Result<(), Error> {
    let name = &config.name;
    let unfit = |reason: &str, advice: String| {
        Err(Error::Unfit { stream: name.clone(), reason: reason.to_owned(), advice })
    };
    let edit = |flag: &str| format!("change it with `nats stream edit {name} {flag}`");
    if config.mirror.is_some() {
        return unfit("it mirrors another stream", "publish to that one".to_owned());
    }
    check_pipelined(config)?;
    if !config.allow_atomic_publish {
        return unfit("it takes no atomic batches, which transactions are made of", edit("--allow-batch"));
    }
    check_takes(config, &marker_subjects(name))?;
    if config.retention != RetentionPolicy::Limits {
        let advice = "make another with `--retention=limits`".to_owned();
        return unfit("it drops messages when they are read, and so the marker", advice);
    }
    if config.discard_new_per_subject && config.max_messages_per_subject > 0 {
        return unfit(
            "it refuses new messages of a subject that has enough, and so the marker",
            edit("--no-discard-per-subject"),
        );
    }
    let transforms = config.subject_transform.as_ref();
    let all_markers = marker_subjects(name);
    if transforms.is_some_and(|t| t.source.is_empty() || covers(&t.source, &all_markers)) {
        return unfit("it transforms the subjects of markers", edit("--no-transform"));
    }
    if config.allow_message_counter {
        return unfit("it keeps counters", "give the sink another stream".to_owned());
    }
    let limits = [
        (!config.max_age.is_zero(), "max_age"),
        (config.discard == DiscardPolicy::Old && config.max_bytes > 0, "max_bytes"),
        (config.discard == DiscardPolicy::Old && config.max_messages > 0, "max_msgs"),
    ];
    let limits: Vec<&str> = limits.iter().filter(|(has, _)| *has).map(|(_, limit)| *limit).collect();
    if !limits.is_empty() {
        tracing::warn!(
            "the stream `{name}` drops old messages ({}): if the marker of `{producer}` is among them when it is \
             started again, it won't go on",
            limits.join(", ")
        );
    }
    Ok(())
}

/// Whether a stream confirms what it stores.
pub(crate) fn check_pipelined(config: &Config) -> Result<(), Error> {
    let name = &config.name;
    if config.no_ack {
        return Err(Error::Unfit {
            stream: name.clone(),
            reason: "it doesn't confirm what it stores".to_owned(),
            advice: format!("change it with `nats stream edit {name} --ack`"),
        });
    }
    if config.sealed {
        return Err(Error::Unfit {
            stream: name.clone(),
            reason: "it is sealed".to_owned(),
            advice: "give the sink another".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::SubjectTransform;

    use super::*;
    use crate::provision::StreamWanted;

    #[test]
    fn filters_cover_what_they_say() {
        for (filter, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.>", "a.b.c", true),
            (">", "a", true),
            ("a.>", "a.*.>", true),
            ("a.*", "a.*", true),
            ("a.>", "a", false),
            ("a.*", "a.>", false),
            ("a.*", "a.b.c", false),
            ("a.b", "a.*", false),
            ("*.b", "a.b", true),
            ("a", "b", false),
        ] {
            assert_eq!(covers(filter, subject), expected, "{filter} and {subject}");
        }
    }

    #[test]
    fn streams_that_would_lose_or_refuse_a_marker_are_refused() {
        type Change = fn(&mut Config);
        let changes: [(Change, &str); 8] = [
            (|c| c.allow_atomic_publish = false, "--allow-batch"),
            (|c| c.subjects.truncate(1), "--subjects='tidemill.out.>'"),
            (|c| c.retention = RetentionPolicy::WorkQueue, "--retention=limits"),
            (
                |c| (c.discard_new_per_subject, c.max_messages_per_subject) = (true, 1),
                "--no-discard-per-subject",
            ),
            (|c| c.no_ack = true, "--ack"),
            (|c| c.sealed = true, "sealed"),
            (|c| c.allow_message_counter = true, "counters"),
            (
                |c| {
                    let (source, destination) = (">".to_owned(), "x.>".to_owned());
                    c.subject_transform = Some(SubjectTransform { source, destination });
                },
                "--no-transform",
            ),
        ];
        for (change, advice) in changes {
            let mut config = StreamWanted::new("out", vec!["orders.>".to_owned()]).config();
            change(&mut config);
            let refused = check_transactions(&config, "p/s").unwrap_err().to_string();
            assert!(refused.contains(advice), "{refused}");
        }
    }
}
