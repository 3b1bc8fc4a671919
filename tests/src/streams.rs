//! Streams of a real NATS server, filled and read by a client of the tests' own, which tries again while the server is on
//! its way back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_nats_test::{Client, Message, Server};

/// A server that was killed is back in less, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_mins(1);

/// The streams of a server.
pub struct Streams {
    /// The server, which goes with this.
    pub server: Server,
}

impl Streams {
    /// Those of a server of their own; none if there is none and none can be installed: the reason is said, and the test
    /// is counted as skipped.
    pub fn start() -> Option<Self> {
        Some(Self { server: Server::start()? })
    }

    /// Makes a stream of this name that takes the subjects which begin with it; `more` is added to its configuration.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn make(&self, name: &str, more: &Value) {
        let mut config = json!({ "name": name, "subjects": [format!("{name}.>")] });
        if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
            config.extend(more.clone());
        }
        self.ask(&format!("STREAM.CREATE.{name}"), &config);
    }

    /// Publishes payloads in their order, each on its subject.
    ///
    /// # Panics
    /// When the server doesn't take them.
    pub fn publish<'m>(&self, messages: impl IntoIterator<Item = &'m (&'m str, String)>) {
        let mut client = Client::connect(&self.server.address()).expect("the server is there");
        let messages = messages.into_iter().map(|(subject, payload)| (*subject, payload.as_str()));
        client.publish_all(messages).expect("the server takes them");
    }

    /// Publishes messages with headers of lines like `Name: value`.
    ///
    /// # Panics
    /// When the server doesn't take them.
    pub fn publish_with<'m>(&self, messages: impl IntoIterator<Item = (&'m str, &'m str, &'m [u8])>) {
        let mut client = Client::connect(&self.server.address()).expect("the server is there");
        for (subject, headers, payload) in messages {
            client.publish_with(subject, headers, payload).expect("the server takes it");
        }
    }

    /// All messages of a stream, in its order.
    ///
    /// # Panics
    /// When the server doesn't give them.
    pub fn read(&self, stream: &str) -> Vec<Message> {
        self.insist(&format!("read {stream}"), |client| client.messages(stream))
    }

    /// The payloads of a stream's messages, sorted, without what the host writes for itself.
    ///
    /// # Panics
    /// When the server doesn't give them.
    pub fn payloads(&self, stream: &str) -> Vec<String> {
        let messages = self.read(stream).into_iter().filter(|m| !m.subject.starts_with("tidemill."));
        let mut payloads: Vec<String> = messages.map(|m| m.text()).collect();
        payloads.sort_unstable();
        payloads
    }

    /// Asks the server's JetStream something, as in `STREAM.PURGE.ORDERS`.
    ///
    /// # Panics
    /// When it refuses.
    pub fn ask(&self, what: &str, request: &Value) -> Value {
        let request = if request.is_null() { String::new() } else { request.to_string() };
        let answer = self.insist(what, |client| client.api(what, &request));
        serde_json::from_str(&answer).expect("the server answers in JSON")
    }

    /// Tries again while the server may be on its way back.
    fn insist<T>(&self, what: &str, attempt: impl Fn(&mut Client) -> Result<T, String>) -> T {
        let begun = Instant::now();
        loop {
            match Client::connect(&self.server.address()).and_then(|mut client| attempt(&mut client)) {
                Ok(done) => return done,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "cannot {what}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
