//! At least once, or by ids: messages that are sent one after another and confirmed later.
//!
//! A message that isn't confirmed in time is sent again, with all behind it that aren't. So nothing is lost; but what was
//! stored and whose confirmation was lost is stored twice, unless it has an id and comes again within the stream's
//! duplicate window. The order in which messages are sent is that in which they are stored until the first is lost: what
//! is sent again comes behind what was sent after it and wasn't lost.
//!
//! Confirmations come to one inbox of ours and share a deadline: the client's own futures would each wait its whole
//! time, one after another, when a connection is lost.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout};

use super::answer::{Answer, Refusal, connects};
use super::effort::{PATIENCE, stream_info};
use super::outgoing::{Encoder, Outgoing, unsendable};
use super::window::{Sent, Window, WindowLimits};
use crate::connection::Connection;
use crate::error::Error;
use crate::fitness::check_pipelined;

/// How long the server may take to confirm a message.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);
/// After a new connection, and after a refusal that goes by: what the client still had is on its way.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_millis(50);

/// A way for messages into a stream.
pub struct Pipelined {
    client: Client,
    stream: String,
    /// How a confirmation begins, of a message that is stored.
    confirmed: Vec<u8>,
    inbox: String,
    answers: Subscriber,
    window: Window,
    limits: WindowLimits,
    encoder: Encoder,
    /// How often the client was connected, when it was looked at last.
    connects: u64,
    /// When what isn't confirmed is sent again, if it is known to be lost.
    again: Option<Instant>,
    /// When a message was confirmed last, or the first of the window was sent.
    moved: Instant,
    /// Why a message was refused last.
    refusal: Option<String>,
    /// The largest number that is known to be a message's.
    last_sequence: u64,
}

impl Pipelined {
    /// Opens a way into a stream, which is there.
    ///
    /// # Errors
    /// When the stream isn't there or doesn't confirm, or no server answers in a minute.
    pub async fn open(connection: &Connection, stream: &str, limits: WindowLimits) -> Result<Self, Error> {
        let info = stream_info(connection, stream).await?;
        check_pipelined(&info.config)?;
        let client = connection.client().clone();
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await.map_err(|e| Error::Unavailable {
            action: format!("listen to what the stream `{stream}` confirms"),
            reason: e.to_string(),
        })?;
        Ok(Self {
            connects: connects(&client),
            client,
            stream: stream.to_owned(),
            confirmed: format!("{{\"stream\":\"{stream}\",").into_bytes(),
            inbox,
            answers,
            window: Window::default(),
            limits,
            encoder: Encoder::default(),
            again: None,
            moved: Instant::now(),
            refusal: None,
            last_sequence: info.state.last_sequence,
        })
    }

    /// Sends a message; waits while too much is on its way. Nothing is sent again between calls: call
    /// [`Self::flush`] in the end, and when no more comes for a while.
    ///
    /// # Errors
    /// When the message can't be sent as it is; when the server refuses this one or one before it for good; when nothing
    /// was confirmed for a minute.
    pub async fn send(&mut self, message: &Outgoing<'_>) -> Result<(), Error> {
        while self.window.is_full(self.limits) {
            self.advance().await?;
        }
        let subject = self.encoder.subject(message)?;
        let headers = Encoder::headers(message)?;
        let headers = Some(headers).filter(|headers| !headers.is_empty());
        let at = Instant::now();
        if self.window.is_empty() {
            self.moved = at;
        }
        let payload = message.payload.clone();
        let number = self.window.push(Sent { subject, headers, payload, bytes: message.bytes(), at });
        self.publish(number).await
    }

    /// Waits until all that was sent is confirmed.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        while !self.window.is_empty() {
            self.advance().await?;
        }
        Ok(())
    }

    /// How many messages aren't confirmed.
    pub fn unconfirmed(&self) -> usize {
        self.window.unconfirmed()
    }

    /// The largest number that is known to be a message's: what is sent from now on gets a higher one, unless the server
    /// knows its id.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    async fn publish(&mut self, number: u64) -> Result<(), Error> {
        let Some(sent) = self.window.get(number).cloned() else { return Ok(()) };
        let to = sent.subject.clone();
        let reply = format!("{}.{number}", self.inbox);
        let publishing = async {
            match sent.headers {
                Some(headers) => {
                    self.client
                        .publish_with_reply_and_headers(sent.subject, reply, headers, sent.payload)
                        .await
                }
                None => self.client.publish_with_reply(sent.subject, reply, sent.payload).await,
            }
        };
        match timeout(PATIENCE, publishing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.window.confirm(number);
                Err(unsendable(&self.client, &error, &to)
                    .unwrap_or_else(|| self.unavailable(&error.to_string())))
            }
            Err(_) => Err(self.unavailable("there is no connection")),
        }
    }

    /// Takes what has been confirmed, waits a moment if nothing has, and sends again what is due.
    async fn advance(&mut self) -> Result<(), Error> {
        match timeout(LOOK, self.answers.next()).await {
            Ok(Some(message)) => {
                self.take(&message)?;
                while let Some(Some(message)) = self.answers.next().now_or_never() {
                    self.take(&message)?;
                }
            }
            Ok(None) => return Err(self.unavailable("the connection is closed")),
            Err(_) => {}
        }
        let now = Instant::now();
        if !self.window.is_empty() && now - self.moved > PATIENCE {
            return Err(self.nothing_confirmed());
        }
        self.send_again_if_due(now).await
    }

    fn take(&mut self, message: &Message) -> Result<(), Error> {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
        let Some(number) = number else { return Ok(()) };
        if message.status.is_none() && message.payload.starts_with(&self.confirmed) {
            let rest = &message.payload[self.confirmed.len()..];
            self.last_sequence = self.last_sequence.max(sequence(rest).unwrap_or(0));
            self.confirm(number);
            return Ok(());
        }
        let Some(sent) = self.window.get(number) else { return Ok(()) };
        let subject = sent.subject.clone();
        match Answer::of(message) {
            Answer::Stored { stream, .. } if stream == self.stream => {
                self.confirm(number);
                Ok(())
            }
            Answer::Stored { stream, .. } => {
                self.confirm(number);
                Err(Error::Unfit {
                    stream: self.stream.clone(),
                    reason: format!("the stream `{stream}` takes the subject `{subject}`"),
                    advice: "give the sink subjects that this one takes".to_owned(),
                })
            }
            Answer::Nobody => {
                self.refused_for_now(format!(
                    "no stream takes the subject `{subject}`, or the one that does has no leader"
                ));
                Ok(())
            }
            Answer::Refused(refusal) if refusal.is_temporary() => {
                self.refused_for_now(refusal.reason);
                Ok(())
            }
            Answer::Refused(refusal) => {
                self.window.confirm(number);
                Err(refusal.into_error(format!("publish to `{subject}`"), &self.stream))
            }
            Answer::Taken => {
                self.window.confirm(number);
                let refusal = Refusal { code: 0, reason: "an empty answer, as to a batch".to_owned() };
                Err(refusal.into_error(format!("publish to `{subject}`"), &self.stream))
            }
        }
    }

    fn confirm(&mut self, number: u64) {
        if self.window.confirm(number) {
            self.moved = Instant::now();
            self.refusal = None;
        }
    }

    fn refused_for_now(&mut self, reason: String) {
        self.refusal = Some(reason);
        self.again.get_or_insert_with(|| Instant::now() + AGAIN_AFTER);
    }

    /// Without a connection nothing is: the client would keep it all and send it twice.
    async fn send_again_if_due(&mut self, now: Instant) -> Result<(), Error> {
        let connects = connects(&self.client);
        if connects != self.connects {
            self.connects = connects;
            self.again = Some(now + AGAIN_AFTER);
        }
        let is_due = self.again.is_some_and(|again| again <= now)
            || self.window.oldest().is_some_and(|oldest| now - oldest.at > CONFIRMED_WITHIN);
        if !is_due || self.client.connection_state() != State::Connected {
            return Ok(());
        }
        self.again = None;
        let numbers = self.window.numbers();
        tracing::debug!("{} messages to the stream `{}` are sent again", numbers.len(), self.stream);
        for number in numbers {
            if let Some(sent) = self.window.get_mut(number) {
                sent.at = now;
            }
            self.publish(number).await?;
        }
        Ok(())
    }

    fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable {
            action: format!("publish to the stream `{}`", self.stream),
            reason: reason.to_owned(),
        }
    }

    fn nothing_confirmed(&self) -> Error {
        let waited = PATIENCE.as_secs();
        self.unavailable(&match (&self.refusal, self.client.connection_state()) {
            (Some(refusal), _) => refusal.clone(),
            (None, State::Connected) => format!(
                "the server has confirmed nothing for {waited} s; see that the user may publish to the output's \
                 subjects and subscribe to its inbox: without the right to, there is no answer"
            ),
            (None, _) => format!("there was no connection for {waited} s"),
        })
    }
}

/// The number in the rest of a confirmation, as in `"seq":12}`.
fn sequence(rest: &[u8]) -> Option<u64> {
    let digits = rest.strip_prefix(br#""seq":"#)?;
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::sequence;

    #[test]
    fn a_confirmation_has_the_number() {
        assert_eq!(sequence(br#""seq":120,"duplicate":true}"#), Some(120));
        for rest in [&b""[..], br#""seq":}"#, br#""domain":"x","seq":1}"#, br#""seq":99999999999999999999}"#]
        {
            assert_eq!(sequence(rest), None);
        }
    }
}
