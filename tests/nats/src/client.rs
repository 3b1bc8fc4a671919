//! A client for tests that have no other: the protocol's few words over a TCP connection, one request at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A server that is there answers in milliseconds; in an election nobody does for some seconds.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Messages on their way at a time: their answers fit into what systems keep for a connection.
const WINDOW: usize = 500;

/// A connection without credentials and without TLS. It isn't made again when it is lost.
pub struct Client {
    connection: BufReader<TcpStream>,
    /// The number of the next subscription, each of which has an inbox of its own.
    next: u64,
    /// What came while something else was waited for.
    early: Vec<Message>,
}

/// A message, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Its place in the stream that it was read from; 0: it is from none.
    pub sequence: u64,
    /// Its headers, in their order.
    pub headers: Vec<(String, String)>,
    /// What it carries.
    pub payload: Vec<u8>,
    /// The number of the subscription.
    subscription: u64,
    /// What a server says in the place of an answer; 503: nobody answers.
    status: Option<u16>,
}

impl Message {
    /// What it carries, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The value of a header, if it has it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    /// Connects to an address as in `127.0.0.1:4222`.
    ///
    /// # Errors
    /// When nobody is there, or it doesn't let the client in.
    pub fn connect(address: &str) -> Result<Self, String> {
        let open = || -> std::io::Result<TcpStream> {
            let connection = TcpStream::connect(address)?;
            connection.set_read_timeout(Some(ANSWER_MAX))?;
            connection.set_nodelay(true)?;
            Ok(connection)
        };
        let connection = open().map_err(|e| format!("cannot connect to {address}: {e}"))?;
        let mut client = Self { connection: BufReader::new(connection), next: 1, early: Vec::new() };
        let hello = client.line()?;
        if !hello.starts_with("INFO ") {
            return Err(format!("{address} is no NATS server: it says {hello:?}"));
        }
        client.send(b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n")?;
        client.ping()?;
        Ok(client)
    }

    /// Waits until the server has read all that was sent.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn ping(&mut self) -> Result<(), String> {
        self.send(b"PING\r\n")?;
        while let Some(message) = self.next_event()? {
            self.early.push(message);
        }
        Ok(())
    }

    /// The answer to a message.
    ///
    /// # Errors
    /// When nobody answers, or the connection is lost.
    pub fn request(&mut self, subject: &str, payload: &[u8]) -> Result<Message, String> {
        let (number, inbox) = self.subscribe()?;
        let mut words = format!("UNSUB {number} 1\r\n").into_bytes();
        publication(&mut words, subject, &inbox, payload);
        self.send(&words)?;
        self.answer(number, subject)
    }

    /// What JetStream's API answers, as JSON text; `what` as in `STREAM.INFO.ORDERS`.
    ///
    /// # Errors
    /// When it refuses, or nobody answers.
    pub fn api(&mut self, what: &str, body: &str) -> Result<String, String> {
        let answer = self.request(&format!("$JS.API.{what}"), body.as_bytes())?.text();
        if answer.contains("\"error\":{") { Err(format!("{what} is refused: {answer}")) } else { Ok(answer) }
    }

    /// Makes a stream; `more` are members of its configuration in JSON, as in `"allow_atomic":true`.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub fn make_stream(&mut self, name: &str, subjects: &[&str], more: &str) -> Result<(), String> {
        let subjects: Vec<String> = subjects.iter().map(|subject| format!("{subject:?}")).collect();
        let comma = if more.is_empty() { "" } else { "," };
        let body = format!(r#"{{"name":{name:?},"subjects":[{}]{comma}{more}}}"#, subjects.join(","));
        self.api(&format!("STREAM.CREATE.{name}"), &body).map(drop)
    }

    /// Stores a message in the stream that takes its subject in; its sequence.
    ///
    /// # Errors
    /// When it isn't stored, as far as is known.
    pub fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<u64, String> {
        stored(subject, &self.request(subject, payload)?)
    }

    /// Stores messages in their order, many on their way at a time; the sequence of the last.
    ///
    /// # Errors
    /// When one isn't stored, as far as is known; those after it may be.
    pub fn publish_all<S: AsRef<str>, P: AsRef<[u8]>>(
        &mut self,
        messages: impl IntoIterator<Item = (S, P)>,
    ) -> Result<u64, String> {
        let (number, inbox) = self.subscribe()?;
        let mut messages = messages.into_iter().peekable();
        let mut last = 0;
        while messages.peek().is_some() {
            let mut words = Vec::new();
            let mut count = 0;
            for (subject, payload) in messages.by_ref().take(WINDOW) {
                publication(&mut words, subject.as_ref(), &inbox, payload.as_ref());
                count += 1;
            }
            self.send(&words)?;
            for _ in 0..count {
                // Which of them it is for can't be told: that nobody answers is said before what is stored.
                last = stored("a message", &self.answer(number, "a message")?)?.max(last);
            }
        }
        self.send(format!("UNSUB {number}\r\n").as_bytes())?;
        Ok(last)
    }

    /// Stores a message with headers, a line like `Name: value` for each.
    ///
    /// # Errors
    /// When it isn't stored, as far as is known.
    pub fn publish_with(&mut self, subject: &str, headers: &str, payload: &[u8]) -> Result<u64, String> {
        let (number_of, inbox) = self.subscribe()?;
        let head = format!("NATS/1.0\r\n{}\r\n\r\n", headers.replace('\n', "\r\n"));
        let total = head.len() + payload.len();
        self.send(
            format!("UNSUB {number_of} 1\r\nHPUB {subject} {inbox} {} {total}\r\n{head}", head.len())
                .as_bytes(),
        )?;
        self.send(payload)?;
        self.send(b"\r\n")?;
        let answer = self.message(number_of)?.text();
        number(&answer, "seq").ok_or_else(|| format!("{subject} isn't stored: {answer}"))
    }

    /// All messages of a stream, as many as there are now, from its leader: replicas may lack the last.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn messages(&mut self, stream: &str) -> Result<Vec<Message>, String> {
        let info = self.api(&format!("STREAM.INFO.{stream}"), "")?;
        let (_, state) =
            info.split_once("\"state\":").ok_or_else(|| format!("{stream} has no state: {info}"))?;
        let (Some(first), Some(last)) = (number(state, "first_seq"), number(state, "last_seq")) else {
            return Err(format!("{stream} has no sequences: {info}"));
        };
        let (inbox_number, inbox) = self.subscribe()?;
        let get = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let mut sequences = first.max(1)..=last;
        let mut messages = Vec::new();
        while !sequences.is_empty() {
            let mut words = Vec::new();
            let mut count = 0;
            for sequence in sequences.by_ref().take(WINDOW) {
                publication(&mut words, &get, &inbox, format!(r#"{{"seq":{sequence}}}"#).as_bytes());
                count += 1;
            }
            self.send(&words)?;
            for _ in 0..count {
                messages.extend(stored_message(&self.answer(inbox_number, &get)?.text())?);
            }
        }
        self.send(format!("UNSUB {inbox_number}\r\n").as_bytes())?;
        messages.sort_unstable_by_key(|message| message.sequence);
        Ok(messages)
    }

    fn answer(&mut self, subscription: u64, subject: &str) -> Result<Message, String> {
        let answer = self.message(subscription)?;
        match answer.status {
            Some(status) => Err(format!("nobody answers to {subject}: status {status}")),
            None => Ok(answer),
        }
    }

    /// The number of a subscription to an inbox of its own, and the inbox.
    fn subscribe(&mut self) -> Result<(u64, String), String> {
        let number = self.next;
        self.next += 1;
        let port = self.connection.get_ref().local_addr().map_err(|e| e.to_string())?.port();
        // Of all connections to a server of one's own, none has the same port at the same time.
        let inbox = format!("_INBOX.kit.{}.{port}.{number}", std::process::id());
        self.send(format!("SUB {inbox} {number}\r\n").as_bytes())?;
        Ok((number, inbox))
    }

    /// The next message of a subscription.
    fn message(&mut self, subscription: u64) -> Result<Message, String> {
        if let Some(i) = self.early.iter().position(|message| message.subscription == subscription) {
            return Ok(self.early.remove(i));
        }
        loop {
            match self.next_event()? {
                Some(message) if message.subscription == subscription => return Ok(message),
                other => self.early.extend(other),
            }
        }
    }

    /// The next message; none: an answer to a ping.
    fn next_event(&mut self) -> Result<Option<Message>, String> {
        loop {
            let line = self.line()?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["PING"] => self.send(b"PONG\r\n")?,
                ["PONG"] => return Ok(None),
                ["INFO", ..] | ["+OK"] => {}
                // Before the sizes there may be a subject for answers.
                ["MSG", subject, number, .., total] => {
                    return self.read_message(subject, number, "0", total).map(Some);
                }
                ["HMSG", subject, number, .., head, total] => {
                    return self.read_message(subject, number, head, total).map(Some);
                }
                _ => return Err(format!("the server says {line:?}")),
            }
        }
    }

    fn read_message(
        &mut self,
        subject: &str,
        subscription: &str,
        head: &str,
        total: &str,
    ) -> Result<Message, String> {
        let count = |text: &str| text.parse::<usize>().map_err(|e| format!("{text:?} is no number: {e}"));
        let (head, total) = (count(head)?, count(total)?);
        let mut payload = vec![0; total + 2];
        self.connection.read_exact(&mut payload).map_err(|e| format!("the connection is lost: {e}"))?;
        payload.truncate(total);
        let rest = payload.split_off(head.min(total));
        let (status, headers) = parse_headers(&String::from_utf8_lossy(&payload));
        Ok(Message {
            subject: subject.to_owned(),
            sequence: 0,
            headers,
            payload: rest,
            subscription: subscription.parse().unwrap_or(0),
            status,
        })
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.connection.read_line(&mut line) {
            Ok(0) => Err("the server has closed the connection".to_owned()),
            Ok(_) => Ok(line),
            Err(e) => Err(format!("the server says nothing: {e}")),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.connection.get_mut().write_all(bytes).map_err(|e| format!("the connection is lost: {e}"))
    }
}

fn publication(words: &mut Vec<u8>, subject: &str, reply: &str, payload: &[u8]) {
    words.extend_from_slice(format!("PUB {subject} {reply} {}\r\n", payload.len()).as_bytes());
    words.extend_from_slice(payload);
    words.extend_from_slice(b"\r\n");
}

/// The sequence that an acknowledgement names.
fn stored(subject: &str, answer: &Message) -> Result<u64, String> {
    let answer = answer.text();
    number(&answer, "seq").ok_or_else(|| format!("{subject} isn't stored: {answer}"))
}

/// A message as the API tells it; none where it was deleted.
fn stored_message(answer: &str) -> Result<Option<Message>, String> {
    // No message found.
    if answer.contains("\"err_code\":10037") {
        return Ok(None);
    }
    let unreadable = || format!("no message: {answer}");
    let text = |name| text(answer, name).ok_or_else(unreadable);
    let decode = |name| decode_base64(text(name).unwrap_or_default()).ok_or_else(unreadable);
    let (_, headers) = parse_headers(&String::from_utf8_lossy(&decode("hdrs")?));
    Ok(Some(Message {
        subject: text("subject")?.to_owned(),
        sequence: number(answer, "seq").ok_or_else(unreadable)?,
        headers,
        payload: decode("data")?,
        subscription: 0,
        status: None,
    }))
}

/// The text behind a name in JSON text, where it has nothing that must be escaped.
fn text<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}

/// What a text in base64 stands for; none if it isn't one.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | u32::try_from(digits.iter().position(|d| *d == digit)?).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

/// Status and headers of a text like `NATS/1.0 503\r\nName: value\r\n\r\n`.
fn parse_headers(text: &str) -> (Option<u16>, Vec<(String, String)>) {
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split_whitespace().nth(1)).and_then(|s| s.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    (status, headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

/// The number behind a name in JSON text.
fn number(json: &str, name: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_a_status_or_none() {
        assert_eq!(parse_headers("NATS/1.0 503\r\n\r\n"), (Some(503), Vec::new()));
        let one = vec![("Nats-Msg-Id".to_owned(), "a:b".to_owned())];
        assert_eq!(parse_headers("NATS/1.0\r\nNats-Msg-Id: a:b\r\n\r\n"), (None, one));
        assert_eq!(parse_headers(""), (None, Vec::new()));
    }

    #[test]
    fn base64_is_decoded() {
        let cases: [(&str, &[u8]); 5] =
            [("", b""), ("YQ==", b"a"), ("YWI=", b"ab"), ("YWJj", b"abc"), ("/+8=", b"\xff\xef")];
        for (text, expected) in cases {
            assert_eq!(decode_base64(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(decode_base64("a b"), None);
    }

    #[test]
    fn a_number_is_found_behind_its_name() {
        assert_eq!(number(r#"{"stream":"S","seq":12}"#, "seq"), Some(12));
        assert_eq!(number(r#"{"error":{"code":400}}"#, "seq"), None);
    }
}
