//! A pipeline at rest: paused, stopped, finished, failed, or waiting to begin again.

use std::time::Duration;

use super::{CHANGED_MEANWHILE, Next, Request, Supervisor, What, accept, refuse_with};
use crate::service::model::{Desired, State};

impl Supervisor {
    /// Waits for requests while nothing runs.
    pub(super) async fn rest(&mut self, time: Option<Duration>) -> Next {
        let over = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let request = tokio::select! {
            request = self.requests.recv() => request,
            () = over => return Next::On,
        };
        let Some(Request { what, by, ticket, accepted }) = request else { return Next::Gone };
        let state = self.face().state;
        let again = Next::Rest(time);
        match what {
            What::ShutDown => {
                accept(accepted);
                ticket.done("stopped");
                Next::Gone
            }
            What::Resume => {
                accept(accepted);
                self.wants(Desired::Running, &by, "resumed");
                self.restarts = None;
                ticket.says("starting");
                self.starting = Some(ticket);
                Next::On
            }
            What::Pause if state == State::Restarting => {
                accept(accepted);
                self.rests_as_wished(Desired::Paused, State::Paused, &by, ticket, None)
            }
            What::Pause => {
                refuse_with(accepted, ticket, &format!("it doesn't run: it is {}", state.words()));
                again
            }
            What::Stop { drain: true, .. } => {
                refuse_with(accepted, ticket, "it doesn't run, so nothing can be drained; resume it first");
                again
            }
            What::Stop { savepoint, .. } => {
                accept(accepted);
                let state = if state == State::Finished { state } else { State::Stopped };
                self.rests_as_wished(Desired::Stopped, state, &by, ticket, savepoint)
            }
            What::Savepoint(name) => {
                accept(accepted);
                match self.keep_newest(&name) {
                    Ok(number) => ticket.done(format!("checkpoint {number} is kept as `{}`", name.as_str())),
                    Err(why) => ticket.failed(why),
                }
                again
            }
            What::Change(change) if !self.is_stale(&change.deployed) => {
                accept(accepted);
                self.begin_trial(*change, by, ticket)
            }
            What::TakeOver(take_over) if !self.is_stale(&take_over.deployed) => {
                accept(accepted);
                self.take_over(*take_over, by, ticket).await;
                if self.face().record.desired == Desired::Running { Next::On } else { again }
            }
            What::Change(_) | What::TakeOver(_) => {
                refuse_with(accepted, ticket, CHANGED_MEANWHILE);
                again
            }
            What::Delete => {
                accept(accepted);
                match std::fs::remove_dir_all(&self.folder) {
                    Ok(()) => {
                        self.shared.logs.close(&self.name);
                        ticket.done("deleted; its checkpoints and its output are where they were");
                        Next::Gone
                    }
                    Err(error) => {
                        ticket.failed(format!("cannot remove {}: {error}", self.folder.display()));
                        again
                    }
                }
            }
        }
    }
}
