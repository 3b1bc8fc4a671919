//! Clearing away contents that no metadata names: those of writers that have died. A content is younger than it may be to go
//! as long as its writer may be at work: then it was written to a moment ago.
//!
//! Only contents of the same pipeline are looked at, whose names say so. So whoever is thought dead by mistake is an older
//! run of it, which may not write any more. What remains: one that stopped just between its last chunk and its metadata,
//! went on an hour later, and writes the same object that the newer run has written too. The next start would find that
//! damaged and say so.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use object_store::Result;

use super::service::{Service, plain};

/// When it was last done.
#[derive(Debug, Default)]
pub(super) struct Done {
    at: Mutex<Option<Instant>>,
}

impl Done {
    pub(super) fn is_due(&self, after: Duration) -> bool {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_none_or(|at| at.elapsed() >= after)
    }

    fn now(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Service {
    /// Removes contents that are nobody's and to which nothing was written for so long, counted from what was written
    /// last to the bucket; returns how many.
    pub(super) async fn remove_orphans(&self, grace: Duration, done: &Done) -> Result<usize> {
        // Contents first: what is an object when the names are read, its writer may have made one since.
        let page = self.page(&self.subjects.all_chunks()).await?;
        let newest = time(&page.written)?;
        let mut orphans: HashSet<String> =
            page.subjects.keys().filter_map(|s| self.subjects.own(s)).collect();
        if !orphans.is_empty() {
            for found in self.list(self.place.prefix()).await? {
                orphans.remove(&found.info.nuid);
            }
        }
        let mut removed = 0;
        for nuid in orphans {
            let subject = self.subjects.chunks(&nuid);
            let Some(last) = self.last(&subject).await? else { continue };
            let age = newest.duration_since(last.time.into()).unwrap_or_default();
            if age >= grace {
                self.purge(&subject, None).await?;
                removed += 1;
            }
        }
        done.now();
        Ok(removed)
    }
}

fn time(text: &str) -> Result<SystemTime> {
    let time = async_nats::datetime::parse_rfc3339(text);
    time.map(SystemTime::from)
        .map_err(|e| plain(format!("the server tells a time that is none, `{text}`: {e}")))
}
