//! A store for tests of the table: the disk, and what a test does before and after its calls.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What a test does around the calls of a store. An error is what the caller gets: before a call
/// in its place, after it as a lost reply.
pub trait Hooks: fmt::Debug + Send + Sync + 'static {
    fn before_put(&self, _location: &Path, _options: &PutOptions) -> Result<()> {
        Ok(())
    }

    fn after_put(&self, _location: &Path, _options: &PutOptions) -> Result<()> {
        Ok(())
    }

    fn before_get(&self, _location: &Path, _options: &GetOptions) -> Result<()> {
        Ok(())
    }
}

/// A store with hooks. What is put in parts is put as a whole at the end, as the table's own
/// disk does it.
#[derive(Debug)]
pub struct Hooked<D, H> {
    pub disk: Arc<D>,
    pub hooks: Arc<H>,
}

impl<D, H> Hooked<D, H> {
    pub fn new(disk: D, hooks: H) -> Hooked<D, H> {
        Hooked { disk: Arc::new(disk), hooks: Arc::new(hooks) }
    }
}

impl<D, H> Clone for Hooked<D, H> {
    fn clone(&self) -> Hooked<D, H> {
        Hooked { disk: Arc::clone(&self.disk), hooks: Arc::clone(&self.hooks) }
    }
}

impl<D, H: fmt::Debug> fmt::Display for Hooked<D, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk with {:?}", self.hooks)
    }
}

#[async_trait]
impl<D: ObjectStore, H: Hooks> ObjectStore for Hooked<D, H> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.hooks.before_put(location, &opts)?;
        let done = self.disk.put_opts(location, payload, opts.clone()).await?;
        self.hooks.after_put(location, &opts)?;
        Ok(done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), parts: vec![] }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.hooks.before_get(location, &options)?;
        self.disk.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.disk.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.disk.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.disk.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.disk.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Upload<D, H> {
    store: Hooked<D, H>,
    location: Path,
    parts: Vec<PutPayload>,
}

#[async_trait]
impl<D: ObjectStore, H: Hooks> MultipartUpload for Upload<D, H> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = std::mem::take(&mut self.parts);
        let payload: PutPayload = parts.iter().flat_map(PutPayload::iter).cloned().collect();
        self.store.put_opts(&self.location, payload, PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}
