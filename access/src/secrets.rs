//! Secrets that a plan names: values from the environment or files, which no log, report or store gets to see.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::AccessError;

/// Longest value, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// Shorter values are not looked for in texts: they would be found everywhere.
const SHORTEST_REDACTED: usize = 4;

/// Where the value of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A variable of the environment.
    Variable(String),
    /// A file; spaces and line ends at its end don't count.
    File(PathBuf),
}

impl SecretSource {
    /// Reads `NAME=env:VARIABLE` or `NAME=file:PATH`. A value itself can't be written there: whoever sees the command line
    /// would see it.
    ///
    /// # Errors
    /// Says what to write.
    pub fn parse(text: &str) -> Result<(String, Self), String> {
        let hint = "write it as NAME=env:VARIABLE or NAME=file:PATH".to_owned();
        let Some((name, source)) = text.split_once('=') else { return Err(hint) };
        if !is_name(name) {
            return Err(format!("{name:?} is no name of a secret: letters, digits and _, not beginning with a digit"));
        }
        match source.split_once(':') {
            Some(("env", variable)) if !variable.is_empty() => {
                Ok((name.to_owned(), SecretSource::Variable(variable.to_owned())))
            }
            Some(("file", path)) if !path.is_empty() => Ok((name.to_owned(), SecretSource::File(path.into()))),
            _ => Err(hint),
        }
    }

    fn read(&self, name: &str) -> Result<SecretString, AccessError> {
        let value = match self {
            SecretSource::Variable(variable) => std::env::var(variable)
                .map_err(|_| AccessError::NotThere(format!("secret {name}: there is no variable {variable}")))?,
            SecretSource::File(path) => std::fs::read_to_string(path)
                .map_err(|error| AccessError::file(path, format!("secret {name}: {error}")))?,
        };
        let value = value.trim_end();
        if value.is_empty() || value.len() > MAX_BYTES {
            return Err(AccessError::NotThere(format!(
                "secret {name} has {} bytes; 1 to {MAX_BYTES} are allowed",
                value.len()
            )));
        }
        Ok(SecretString::from(value))
    }
}

/// Letters, digits and `_`, as a template can name it.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
}

/// Secrets by their names.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, SecretString>,
}

/// The names alone.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.values.keys()).finish()
    }
}

impl Secrets {
    /// Reads them.
    ///
    /// # Errors
    /// When one is not there.
    pub fn read(sources: &[(String, SecretSource)]) -> Result<Self, AccessError> {
        let read = |(name, source): &(String, SecretSource)| Ok((name.clone(), source.read(name)?));
        Ok(Secrets { values: sources.iter().map(read).collect::<Result<_, AccessError>>()? })
    }

    /// Those of the wire.
    pub fn received(values: impl IntoIterator<Item = (String, String)>) -> Self {
        Secrets { values: values.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect() }
    }

    /// Those of these names that are there.
    #[must_use]
    pub fn of(&self, names: &[String]) -> Self {
        let known = names.iter().filter_map(|name| Some((name.clone(), self.values.get(name)?.clone())));
        Secrets { values: known.collect() }
    }

    /// Both; where both have one, the other's counts.
    #[must_use]
    pub fn under(mut self, other: Secrets) -> Self {
        self.values.extend(other.values);
        self
    }

    /// The names that are not there.
    pub fn lacks<'a>(&self, names: &'a [String]) -> Vec<&'a str> {
        names.iter().filter(|name| !self.values.contains_key(*name)).map(String::as_str).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values: for the request that they belong to, or the agent that sends it.
    pub fn expose(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.expose_secret()))
    }

    /// A text for people, in which no value stands: a target may have sent one back.
    pub fn redact(&self, text: &str) -> String {
        let long_enough = self.expose().filter(|(_, value)| value.len() >= SHORTEST_REDACTED);
        long_enough.fold(text.to_owned(), |text, (name, value)| text.replace(value, &format!("[secret {name}]")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn sources() {
        let variable = SecretSource::Variable("KEY".to_owned());
        assert_eq!(SecretSource::parse("key=env:KEY").unwrap(), ("key".to_owned(), variable));
        assert_eq!(SecretSource::parse("k=file:/run/x:y").unwrap().1, SecretSource::File("/run/x:y".into()));
        for wrong in ["key", "key=hunter2", "key=env:", "1key=env:KEY", "a-b=env:KEY", "=env:KEY"] {
            assert!(SecretSource::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_read_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "correct horse\n").unwrap();
        let secrets = Secrets::read(&[("key".to_owned(), SecretSource::File(path))]).unwrap();
        assert_eq!(secrets.expose().collect::<Vec<_>>(), [("key", "correct horse")]);
        assert_eq!(format!("{secrets:?}"), "{\"key\"}");
        assert_eq!(secrets.redact("said: correct horse!"), "said: [secret key]!");
        assert_eq!(secrets.lacks(&["key".to_owned(), "other".to_owned()]), ["other"]);
        let nothing = SecretSource::Variable("GROUNDSWELL_TEST_THERE_IS_NONE".to_owned());
        assert!(Secrets::read(&[("key".to_owned(), nothing)]).is_err());
    }

    #[test]
    fn an_agents_own_count_more() {
        let of = |value: &str| Secrets::received([("key".to_owned(), value.to_owned())]);
        let both = of("the coordinator's").under(of("the agent's"));
        assert_eq!(both.expose().collect::<Vec<_>>(), [("key", "the agent's")]);
    }
}
