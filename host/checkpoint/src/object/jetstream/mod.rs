//! A bucket of JetStream's object store, as an object store like others: what the store of checkpoints asks of one is here,
//! and what it doesn't ask is refused.

mod format;
mod open;
mod orphans;
mod read;
mod service;
#[cfg(test)]
pub(super) mod tests;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use self::format::Info;
use self::orphans::Done;
use self::read::Layouts;
use self::service::{Service, plain};
use self::write::{Upload, exists};
use crate::place::JetStreamPlace;

/// What to look at when the service doesn't answer.
pub(super) const REACHED_BY: &str = "the servers of the connection, the network";
/// So many objects are looked up, or removed, at once.
const OBJECTS_AT_ONCE: usize = 32;

/// A bucket, as one pipeline uses it. Clones share its connection, which is made when it is first needed.
#[derive(Clone)]
pub(crate) struct Bucket {
    service: Arc<Service>,
    layouts: Arc<Layouts>,
    cleared: Arc<Done>,
}

impl Bucket {
    /// The bucket of a place; made if it isn't there, where that is said.
    ///
    /// # Errors
    /// When nobody has said what the place's connection is.
    pub(super) fn new(place: &JetStreamPlace, makes: bool) -> Result<Self, String> {
        if place.settings().is_none() {
            return Err(format!(
                "{place} names the connection `{}`, and it isn't said here how that is reached; use it where a pipeline \
                 file declares the connection",
                place.connection()
            ));
        }
        let service = Arc::new(Service::new(place, makes));
        Ok(Self { service, layouts: Arc::default(), cleared: Arc::default() })
    }

    /// Removes what writers have left that died; returns of how many objects. See `orphans`.
    pub(super) async fn remove_orphans(&self, grace: Duration) -> Result<usize> {
        self.service.remove_orphans(grace, &self.cleared).await
    }

    /// Whether that wasn't done for so long.
    pub(super) fn is_due(&self, after: Duration) -> bool {
        self.cleared.is_due(after)
    }
}

/// An object's metadata, as a message.
struct Found {
    info: Info,
    sequence: u64,
    /// When it was written, by the servers' clock.
    written: SystemTime,
}

impl Found {
    fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            location: Path::from(self.info.name.as_str()),
            last_modified: self.written.into(),
            size: self.info.size,
            e_tag: Some(self.info.nuid.clone()),
            version: None,
        }
    }
}

impl Service {
    /// An object's metadata, or that it was deleted, or none.
    async fn look(&self, name: &str) -> Result<Option<Found>> {
        let Some(message) = self.last(&self.subjects.meta(name)).await? else { return Ok(None) };
        let info = Info::decode(&message.payload).map_err(|why| {
            plain(format!(
                "what the stream `{}` has of it is no object's metadata: {why}; bring it back from a copy, or remove it \
                 (`nats object rm`)",
                self.subjects.stream()
            ))
        })?;
        Ok(Some(Found { info, sequence: message.sequence, written: message.time.into() }))
    }

    /// An object that is there.
    async fn find(&self, name: &str) -> Result<Found> {
        let found = self.look(name).await?.filter(|found| !found.info.deleted);
        found.ok_or_else(|| missing(name))
    }

    /// The objects below a folder; all for an empty name.
    async fn list(&self, folder: &str) -> Result<Vec<Found>> {
        let page = self.page(&self.subjects.all_meta()).await?;
        let within = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let names = page.subjects.keys().filter_map(|subject| self.subjects.name(subject));
        let mut names: Vec<String> = names.filter(|name| name.starts_with(&within)).collect();
        let mut listed = Vec::with_capacity(names.len());
        loop {
            let looked = stream::iter(std::mem::take(&mut names)).map(|name| async move {
                let found = self.look(&name).await?;
                Ok::<_, Error>((name, found))
            });
            let looked: Vec<_> = looked.buffer_unordered(OBJECTS_AT_ONCE).try_collect().await?;
            for (name, found) in looked {
                match found {
                    Some(found) => listed.push(found),
                    None => names.push(name),
                }
            }
            if names.is_empty() {
                listed.retain(|found| !found.info.deleted);
                return Ok(listed);
            }
            // They were removed meanwhile, or a server that is behind was asked.
            let page = self.page(&self.subjects.all_meta()).await?;
            names.retain(|name| page.subjects.contains_key(&self.subjects.meta(name)));
        }
    }

    /// Removes an object if there is one: no message is left of it, as markers of what was deleted would become more with
    /// each checkpoint.
    async fn remove(&self, name: &str) -> Result<()> {
        let Some(found) = self.look(name).await?.filter(|found| !found.info.deleted) else { return Ok(()) };
        // One that has replaced it meanwhile stays.
        self.purge(&self.subjects.meta(name), Some(found.sequence + 1)).await?;
        if found.info.chunks > 0 {
            self.purge(&self.subjects.chunks(&found.info.nuid), None).await?;
        }
        Ok(())
    }
}

fn missing(name: &str) -> Error {
    Error::NotFound { path: name.to_owned(), source: "there is no such object".into() }
}

fn unsupported<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented { operation: operation.to_owned(), implementer: "JetStream".to_owned() })
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let may_replace = match options.mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            PutMode::Update(_) => return unsupported("put_opts with PutMode::Update"),
        };
        if !options.attributes.is_empty() {
            return unsupported("put_opts with attributes");
        }
        let name = location.as_ref();
        if !may_replace && let Some(found) = self.service.look(name).await?.filter(|f| !f.info.deleted) {
            return Err(exists(name, &found.info));
        }
        let mut draft = self.service.draft().await?;
        let nuid = draft.nuid().to_owned();
        let added = self.service.add(&mut draft, payload).await;
        let put = match added {
            Ok(()) => self.service.publish(name, draft, may_replace).await,
            Err(error) => {
                self.service.discard(&nuid).await;
                return Err(error);
            }
        };
        // After another error it may have been published nevertheless.
        if matches!(put, Err(Error::AlreadyExists { .. })) {
            self.service.discard(&nuid).await;
        }
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            return unsupported("put_multipart_opts with attributes");
        }
        Ok(Box::new(Upload::begin(self.service.clone(), location.to_string()).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.version.is_some() {
            return unsupported("get_opts with a version");
        }
        let found = self.service.find(location.as_ref()).await?;
        let meta = found.meta();
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            None => 0..meta.size,
            Some(range) => range.as_range(meta.size).map_err(|e| plain(e.to_string()))?,
        };
        let content = if options.head || range.is_empty() {
            stream::empty().boxed()
        } else {
            read::content(self.service.clone(), self.layouts.clone(), found.info, range.clone())
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(content),
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let service = self.service.clone();
        let removed = locations.map(move |location| {
            let service = service.clone();
            async move {
                let location = location?;
                service.remove(location.as_ref()).await.map(|()| location)
            }
        });
        removed.buffered(OBJECTS_AT_ONCE).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (service, folder) = (self.service.clone(), prefix.map(Path::to_string).unwrap_or_default());
        let listed = async move {
            let found = service.list(&folder).await?;
            Ok::<_, Error>(stream::iter(found.into_iter().map(|found| Ok(found.meta()))))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unsupported("list_with_delimiter")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unsupported("copy_opts")
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.place.fmt(f)
    }
}

impl fmt::Debug for Bucket {
    /// Without the settings: they know the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({self})")
    }
}
