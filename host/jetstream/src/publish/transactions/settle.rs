//! Taking over, and finding out what became of what was sent: both write the marker anew.

use tokio::time::Instant;

use super::super::effort::Effort;
use super::super::marker::Marker;
use super::super::register::{Failure, Found};
use super::Transactions;
use crate::error::Error;

impl Transactions {
    /// Finds out where the marker is, and makes void what may still be on its way.
    pub(super) async fn settle(&mut self, deadline: Instant) -> Result<(), Error> {
        self.unsettled = true;
        let mut effort = Effort::until(deadline);
        let mut fell_back_to = None;
        loop {
            let failure = match self.register.write(self.sequence, &self.marker).await {
                Ok(sequence) => {
                    self.settled(sequence, self.marker.clone());
                    return Ok(());
                }
                Err(Failure::Conflict) => match self.register.read().await {
                    Ok(Some(found)) if found.sequence > self.sequence => return self.adopt(found),
                    Ok(Some(found)) => {
                        // A leader that was deposed may still say so; the next one doesn't.
                        fell_back_to = Some(found.sequence).filter(|found| *found < self.sequence);
                        Failure::Conflict
                    }
                    Ok(None) => return Err(self.marker_lost("none".to_owned())),
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            let why = self.learn_of(failure, "write the marker")?;
            let paused = effort.pause(&self.action("write the marker"), &why).await;
            paused.map_err(|error| match fell_back_to {
                Some(sequence) => self.marker_lost(format!("an older one at {sequence}")),
                None => error,
            })?;
        }
    }

    /// Goes on from a marker that was found where another was expected. What this run has sent and isn't answered
    /// expects it elsewhere too, so nothing of that is to come.
    fn adopt(&mut self, found: Found) -> Result<(), Error> {
        if found.marker.owner != self.marker.owner {
            return Err(self.fenced(&found));
        }
        self.settled(found.sequence, found.marker);
        Ok(())
    }

    pub(super) async fn take_over(&mut self) -> Result<(), Error> {
        let mut effort = Effort::new();
        loop {
            let failure = match self.register.read().await {
                Ok(found) => {
                    let (run, owner) = (self.marker.run, self.marker.owner.clone());
                    let (sequence, marker) = match found {
                        Some(found) if found.marker.run > run => return Err(self.fenced(&found)),
                        Some(found) => (found.sequence, found.marker.owned(run, owner)),
                        None => (0, Marker::new(run, owner)),
                    };
                    match self.register.write(sequence, &marker).await {
                        Ok(sequence) => {
                            self.settled(sequence, marker);
                            return Ok(());
                        }
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            let why = self.learn_of(failure, "take the output over")?;
            effort.pause(&self.action("take the output over"), &why).await?;
        }
    }

    fn learn_of(&self, failure: Failure, what: &str) -> Result<String, Error> {
        match failure {
            Failure::Conflict => Ok("somebody else changes the marker".to_owned()),
            Failure::Unclear(why) => Ok(why),
            Failure::Refused(refusal) if refusal.is_temporary() => Ok(refusal.reason),
            Failure::Refused(refusal) => Err(refusal.into_error(self.action(what), &self.register.name)),
            Failure::Fatal(error) => Err(error),
        }
    }

    fn fenced(&self, found: &Found) -> Error {
        let Found { marker: Marker { run, .. }, time, .. } = found;
        let mut by = format!("run {run}, which wrote its marker at {time}");
        if *run > self.marker.run {
            let (stream, subject) = (&self.register.name, &self.register.subject);
            by += &format!(
                ", and this is run {}; if there is no such run any more, as its checkpoints were removed, remove its                  marker too, with `nats stream purge {stream} --subject {subject}`",
                self.marker.run
            );
        }
        Error::Fenced { stream: self.register.name.clone(), producer: self.producer.clone(), by }
    }

    fn marker_lost(&self, found: String) -> Error {
        Error::Changed {
            stream: self.register.name.clone(),
            expected: format!("the marker of `{}` at sequence {}", self.producer, self.sequence),
            found,
            advice: "the stream was purged, restored or made anew, or one of its limits (max_age, max_bytes) has evicted the                      marker; give the sink a stream that keeps it"
                .to_owned(),
        }
    }
}
