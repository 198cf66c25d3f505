//! `forebay init`: a starter configuration, never over an existing one.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::configuration;
use crate::exit_code::{CliError, Outcome};
use crate::output;

/// Writes `forebay.toml` into `dir` and says what to do next.
pub(crate) fn run(dir: &Path) -> Result<Outcome, CliError> {
    let path = dir.join("forebay.toml");
    write(dir, &path, configuration::starter())?;
    let shown = path.display();
    let config = if dir == Path::new(".") { String::new() } else { format!(" --config {shown}") };
    output::text(&format!(
        "wrote {shown}\n\n\
         Next, in two terminals:\n  \
         forebay receiver\n  \
         forebay run{config} --input records.ndjson"
    ))?;
    Ok(Outcome::Ok)
}

fn write(dir: &Path, path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |error| CliError::Failed(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(dir).map_err(failed)?;
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(CliError::Usage(format!(
                "{} is there already and stays as it is; `forebay init DIR` writes elsewhere",
                path.display()
            )));
        }
        opened => opened.map_err(failed)?,
    };
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::run;
    use crate::exit_code::CliError;

    #[test]
    fn a_configuration_that_is_there_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("new");
        run(&dir).unwrap();
        let path = dir.join("forebay.toml");
        assert!(!fs::read_to_string(&path).unwrap().is_empty());
        fs::write(&path, "mine").unwrap();
        assert!(matches!(run(&dir), Err(CliError::Usage(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
