//! Which configuration a command works by: `-c FILE`, the lists on the command line, or the default file.

use std::path::{Path, PathBuf};

use super::{Failure, exit};
use crate::config::{Config, ConfigError, DEFAULT_FILE, Overrides};

/// A configuration, and the file that it was read from.
pub struct Settings {
    /// What we work by.
    pub config: Config,
    /// `None`: only what the command line says.
    pub file: Option<PathBuf>,
}

impl Settings {
    /// Reads what is to be read. Lists without `-c` stand for themselves; with neither, the default file is read.
    pub fn read(file: Option<&Path>, overrides: &Overrides) -> Result<Settings, Failure> {
        Ok(Settings::try_read(file, overrides)??)
    }

    /// The same; what is wrong with the configuration file stays apart.
    pub fn try_read(file: Option<&Path>, overrides: &Overrides) -> Result<Result<Settings, ConfigError>, Failure> {
        Settings::read_or_default(file, overrides, Path::new(DEFAULT_FILE))
    }

    fn read_or_default(
        file: Option<&Path>,
        overrides: &Overrides,
        default: &Path,
    ) -> Result<Result<Settings, ConfigError>, Failure> {
        let file = match file {
            Some(file) => file,
            None if !overrides.sources.is_empty() => {
                return Ok(Ok(Settings { config: Config::without_file(overrides), file: None }));
            }
            None if exists(default) => default,
            None => {
                return Err(Failure::new(
                    exit::CONFIG,
                    format!(
                        "which recipients? name the lists (rcptmapd COMMAND LIST...) or a configuration (-c FILE); \
                         there is no {}",
                        default.display()
                    ),
                ));
            }
        };
        Ok(Config::load(file, overrides).map(|config| Settings { config, file: Some(absolute(file)) }))
    }

    /// The configuration by which a daemon is found: of `-c FILE`, else the default file if there is one.
    pub fn of_daemon(file: Option<&Path>) -> Result<Option<Settings>, Failure> {
        match file {
            None if !exists(Path::new(DEFAULT_FILE)) => Ok(None),
            file => Settings::read(file, &Overrides::default()).map(Some),
        }
    }
}

/// A path that holds wherever we are: `-D` changes the folder.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Whether there is such a file, as far as we may see: one that we may not look at is there.
fn exists(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stand_for_themselves_and_nothing_at_all_is_told_what_to_name() {
        let missing = Path::new("/nonexistent/rcptmapd.toml");
        let lists = Overrides { sources: vec!["/etc/list".into()], ..Overrides::default() };
        let settings = Settings::read_or_default(None, &lists, missing).expect("a list").expect("no file is needed");
        assert_eq!((settings.config.sources.len(), settings.file), (1, None));
        let nothing = Settings::read_or_default(None, &Overrides::default(), missing).err().expect("nothing is named");
        assert_eq!(nothing.code, exit::CONFIG);
        assert!(nothing.text.ends_with("there is no /nonexistent/rcptmapd.toml"), "{nothing}");
        let wrong = Settings::read(Some(missing), &lists).err().expect("it is not there");
        assert!(wrong.text.starts_with("/nonexistent/rcptmapd.toml: can't read"), "{wrong}");
    }
}
