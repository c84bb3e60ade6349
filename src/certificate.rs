//! The certificate that is served, kept the one in its files.
//!
//! The files are looked at every few seconds and at SIGHUP, by their content: however they are
//! exchanged, by renaming, by a link or in place, and one after the other, the pair is taken
//! once both are there and belong together. Until then the one before is served, and the reason
//! is told.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ninefold_api::Tls;
use ninefold_engine::config::TlsFiles;
use tokio::signal::unix::{SignalKind, signal};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate that is served, with where it is from.
pub struct Certificate {
    files: TlsFiles,
    /// What is served.
    pub tls: Tls,
    /// What the files held when it was taken.
    served: Pem,
    /// Why what the files hold now is not.
    refused: Option<String>,
}

/// What the files hold.
#[derive(PartialEq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be read, or used.
    pub async fn open(files: &TlsFiles) -> anyhow::Result<Certificate> {
        let served = read(files).await?;
        let tls = Tls::from_pem(served.certificate.clone(), served.key.clone()).await;
        let tls = tls.with_context(|| unusable(files))?;
        Ok(Certificate { files: files.clone(), tls, served, refused: None })
    }

    /// Keeps it the one in the files, for ever; `note` is told why it is not, and `None` once it
    /// is again.
    pub async fn keep(mut self, note: impl Fn(Option<String>)) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = asked => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let refused = self.look().await.err();
            let refused =
                refused.map(|error| format!("the certificate stays as it was: {error:#}"));
            if refused != self.refused {
                refused.iter().for_each(|refused| eprintln!("ninefold: {refused}"));
                note(refused.clone());
                self.refused = refused;
            }
        }
    }

    /// Takes what the files hold, where that is something else than what is served.
    async fn look(&mut self) -> anyhow::Result<()> {
        let found = read(&self.files).await?;
        if found != self.served {
            let replaced = self.tls.replace(found.certificate.clone(), found.key.clone()).await;
            replaced.with_context(|| unusable(&self.files))?;
            self.served = found;
            eprintln!("ninefold: the new {} is served", self.files.certificate.display());
        }
        Ok(())
    }
}

fn unusable(files: &TlsFiles) -> String {
    let TlsFiles { certificate, key } = files;
    format!(
        "cannot use [api] tls_certificate {} with tls_key {}",
        certificate.display(),
        key.display()
    )
}

async fn read(files: &TlsFiles) -> anyhow::Result<Pem> {
    let files = files.clone();
    let one = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let both = move || Ok(Pem { certificate: one(&files.certificate)?, key: one(&files.key)? });
    tokio::task::spawn_blocking(both).await?
}
