//! From what is asked to the revision that is to serve: building, copying, looking up.

use std::sync::Arc;

use atoll_base::{RevisionNumber, ServiceName, Timestamp};

use super::{Progress, Shared, Source};
use crate::Error;
use crate::artifact::{self, Failure, Selection};
use crate::history::Revision;
use crate::manifest::Manifest;

/// Revisions of each service whose files are kept for a rollback.
const REVISIONS_KEPT: u32 = 10;

/// One deployment on its way to a revision.
pub(super) struct Prepare {
    pub(super) shared: Arc<Shared>,
    pub(super) service: ServiceName,
    pub(super) deployment: i64,
}

impl Prepare {
    /// The current revision if nothing has changed in the folder since a revision was last made of
    /// it, and its files are whole; else a new one. The last one made need not be the current one:
    /// after a rollback, or a deployment that failed, the folder still holds what did not do.
    pub(super) async fn up(
        self,
        current: Option<Revision>,
        source: Source,
        build: bool,
    ) -> Result<Revision, Error> {
        let dir = source.dir.clone();
        let fingerprint = self.blocking(move || artifact::fingerprint(&dir)).await?;
        let folder = source.dir.display().to_string();
        let last = self
            .shared
            .history
            .last_fingerprint(&self.service, folder)
            .await?;
        let unchanged = !build && last.as_ref() == Some(&fingerprint);
        let Some(current) = current.filter(|_| unchanged) else {
            return self.make(source).await;
        };
        if self.is_whole(&current).await? {
            return Ok(current);
        }
        if current.fingerprint == fingerprint {
            tracing::warn!(service = %self.service, "the artifact was damaged; making it again");
            return self.make(source).await;
        }
        // The folder holds something else, which was rolled back: better nothing than that.
        Err(Error::Pruned {
            service: self.service.clone(),
            revision: current.number,
        })
    }

    /// A new revision of the folder.
    pub(super) async fn make(self, source: Source) -> Result<Revision, Error> {
        if !source.build.is_empty() {
            self.progress(Progress::Building);
            let built = self.shared.ground.build(&self.service, &source).await;
            built.map_err(|reason| Error::Build {
                service: self.service.clone(),
                reason,
            })?;
        }
        self.progress(Progress::Copying);
        let _unswept = self.shared.sweeping.read().await;
        // Taken before the copy: a change while copying is then noticed by the next start.
        let dir = source.dir.clone();
        let fingerprint = self.blocking(move || artifact::fingerprint(&dir)).await?;
        let (dir, artifacts) = (source.dir.clone(), self.shared.artifacts.clone());
        let patterns = source.artifact.clone();
        let digest = self
            .blocking(move || {
                let selection = Selection::new(&patterns).map_err(|error| Failure {
                    path: dir.clone(),
                    source: std::io::Error::other(error),
                })?;
                artifact::copy(&dir, &selection, &artifacts)
            })
            .await?;
        let revision = Revision {
            service: self.service.clone(),
            number: RevisionNumber(0),
            digest,
            manifest: Manifest::new(source.manifest),
            source: source.dir.display().to_string(),
            fingerprint,
            created: Timestamp::now(),
        };
        self.shared.history.add_revision(revision).await
    }

    /// An earlier revision.
    pub(super) async fn earlier(
        self,
        current: Option<RevisionNumber>,
        wanted: Option<RevisionNumber>,
    ) -> Result<Revision, Error> {
        let history = &self.shared.history;
        let number = match (wanted, current) {
            (Some(number), _) => Some(number),
            (None, Some(current)) => history.served_before(&self.service, current).await?,
            (None, None) => None,
        };
        let found = match number {
            Some(number) => history.revision(&self.service, number).await?,
            None => None,
        };
        let service = self.service.clone();
        let revision = found.ok_or(Error::NoRevision {
            service,
            revision: wanted,
        })?;
        if self.is_whole(&revision).await? {
            Ok(revision)
        } else {
            Err(Error::Pruned {
                service: self.service.clone(),
                revision: revision.number,
            })
        }
    }

    fn progress(&self, progress: Progress) {
        self.shared
            .ground
            .progress(&self.service, self.deployment, progress);
    }

    async fn is_whole(&self, revision: &Revision) -> Result<bool, Error> {
        let home = self.shared.artifacts.join(revision.digest.as_str());
        let digest = revision.digest.clone();
        self.blocking(move || {
            if home.is_dir() {
                artifact::verify(&home, &digest)
            } else {
                Ok(false)
            }
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Error::Stopping)?;
        done.map_err(|Failure { path, source }| Error::Artifact {
            service: self.service.clone(),
            path,
            source: Arc::new(source),
        })
    }
}

/// Removes artifacts that no kept revision needs, while none is being made. A failure costs disk
/// space and nothing else.
pub(super) async fn sweep(shared: &Shared) {
    let _alone = shared.sweeping.write().await;
    let swept = match shared.history.live_digests(REVISIONS_KEPT).await {
        Ok(live) => {
            let artifacts = shared.artifacts.clone();
            tokio::task::spawn_blocking(move || artifact::sweep(&artifacts, &live)).await
        }
        Err(error) => {
            tracing::warn!(%error, "old artifacts are kept");
            return;
        }
    };
    if let Ok(Err(error)) = swept {
        tracing::warn!(%error, "an old artifact cannot be removed");
    }
}
