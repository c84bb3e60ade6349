//! Secrets: the configuration says where one is, never what it is.

use std::fmt;
use std::path::PathBuf;

use super::reader::Section;

/// Where a secret is: `{ env = "NAME" }` or `{ file = "/run/secrets/name" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFrom {
    /// In a variable of the environment.
    Env(String),
    /// In a file; one newline at its end is not part of it.
    File(PathBuf),
}

/// A secret, which is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

/// A secret is not where the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("the secret is not in {place}: {reason}")]
pub struct SecretError {
    place: String,
    reason: String,
}

impl SecretFrom {
    /// Fetches it.
    ///
    /// # Errors
    /// The variable is not set or the file cannot be read; what it holds is not shown.
    pub fn fetch(&self) -> Result<Secret, SecretError> {
        let error = |place: String, reason: String| SecretError { place, reason };
        match self {
            SecretFrom::Env(name) => std::env::var(name)
                .map(Secret)
                .map_err(|_| error(format!("${name}"), "it is not set, or no text".to_owned())),
            SecretFrom::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Secret(text.strip_suffix('\n').unwrap_or(&text).to_owned())),
                Err(reason) => Err(error(path.display().to_string(), reason.to_string())),
            },
        }
    }

    /// Reads the table `key` of `section`.
    pub(super) fn of(section: &Section<'_>, key: &'static str) -> Option<SecretFrom> {
        let place = section.section(key);
        let env = place.name("env", "the name of a variable").map(str::to_owned);
        let file = place.name("file", "a path").map(PathBuf::from);
        if place.is_present() && env.is_some() == file.is_some() {
            section.problem(key, "names no one place", "takes either env or file");
        }
        place.finish();
        env.map(SecretFrom::Env).or(file.map(SecretFrom::File))
    }
}

impl Secret {
    /// One that stands in plain sight, where that is allowed.
    pub(super) fn known(text: &str) -> Secret {
        Secret(text.to_owned())
    }

    /// What it is, for whoever has to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_fetched_from_its_place_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "canary-7\n").unwrap();
        let secret = SecretFrom::File(path).fetch().unwrap();
        assert_eq!(secret.reveal(), "canary-7");
        assert_eq!(format!("{secret:?} {secret:#?}"), "*** ***");
        let error = SecretFrom::Env("NINEFOLD_NO_SUCH_VARIABLE".into()).fetch().unwrap_err();
        assert!(error.to_string().contains("$NINEFOLD_NO_SUCH_VARIABLE"));
    }
}
