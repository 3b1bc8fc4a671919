//! Where checkpoints are, as commands are told.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use tidemill::pipeline::check;
use tidemill_checkpoint::Place;
use tidemill_jetstream::{Settings, check_server};

use super::exit::Exit;

/// The place that a command looks at.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    /// The folder with the checkpoints, s3://bucket/prefix, or nats://connection/bucket/prefix
    #[arg(value_name = "FOLDER")]
    place: Place,
    /// The pipeline file that has the connection of nats://connection/…; without it, that is a server's address
    #[arg(long, value_name = "PIPELINE")]
    connections: Option<PathBuf>,
}

impl fmt::Display for StoreArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl StoreArgs {
    /// The place, with what its connection is.
    pub(super) fn place(&self) -> Result<Place, Exit> {
        let Place::JetStream(place) = &self.place else { return Ok(self.place.clone()) };
        let id = place.connection();
        let settings = match &self.connections {
            None => {
                let address = format!("nats://{id}");
                check_server(&address).map_err(Exit::usage)?;
                Settings::new(vec![address])
            }
            Some(file) => {
                let declaration = super::run::read_declaration(file)?;
                let base = file.parent().unwrap_or(Path::new(""));
                let servers = check::servers(&declaration, base).map_err(Exit::usage)?;
                let servers = servers.iter().find(|servers| servers.id() == id);
                let none = || Exit::usage(format!("{} has no connection `{id}`", file.display()));
                servers.ok_or_else(none)?.settings().clone()
            }
        };
        Ok(Place::JetStream(place.clone().reached_by(settings)))
    }
}
