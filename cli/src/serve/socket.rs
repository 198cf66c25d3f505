//! Where the holder of a data directory listens: `engine.sock` inside it, mode 0600.
//!
//! Only the process that holds the directory's lock binds, so a socket file that is there already
//! was left by one that died, and is replaced. The address of a Unix socket holds some 100 bytes;
//! a longer path is reached through `/proc/self/fd`, by the directory's descriptor.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The socket's name in the data directory.
pub(crate) const FILE: &str = "engine.sock";

/// Longest path that fits into a socket address everywhere (Linux has 108 bytes, macOS 104, each
/// with a closing zero).
const PATH_BYTES_MAX: usize = 103;

/// Binds the socket of `data`, replacing what a dead process left.
pub(crate) fn bind(data: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(data.join(FILE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = with_address(data, |path| UnixListener::bind(path))?;
    // The directory's mode 0700 keeps others away until this is done.
    fs::set_permissions(data.join(FILE), Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to whoever holds `data`; `None` if nobody listens there.
pub(crate) fn connect(data: &Path) -> io::Result<Option<UnixStream>> {
    match with_address(data, |path| UnixStream::connect(path)) {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Calls `reach` with a path to the socket that is short enough.
fn with_address<T>(data: &Path, reach: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = data.join(FILE);
    if path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
        return reach(&path);
    }
    // Held until `reach` has returned: the short path names this descriptor.
    let directory = File::open(data)?;
    let short: PathBuf = format!("/proc/self/fd/{}/{FILE}", directory.as_raw_fd()).into();
    if !Path::new("/proc/self/fd").exists() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("its path is longer than the {PATH_BYTES_MAX} bytes a socket may have"),
        ));
    }
    reach(&short)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::{FILE, bind, connect};

    #[test]
    fn a_path_of_any_length_is_reached() {
        let temporary = tempfile::tempdir().unwrap();
        for directory in ["short".to_owned(), "x".repeat(200)] {
            let data = temporary.path().join(directory);
            fs::create_dir(&data).unwrap();
            assert!(connect(&data).unwrap().is_none(), "nobody listens yet");
            let listener = bind(&data).unwrap();
            connect(&data).unwrap().expect("somebody listens").write_all(b"hello").unwrap();
            let mut got = String::new();
            listener.accept().unwrap().0.read_to_string(&mut got).unwrap();
            assert_eq!(got, "hello");
            let mode = fs::metadata(data.join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn what_a_dead_process_left_is_nobody_and_is_replaced() {
        let data = tempfile::tempdir().unwrap();
        drop(bind(data.path()).unwrap());
        assert!(data.path().join(FILE).exists(), "dropping a listener leaves its file");
        assert!(connect(data.path()).unwrap().is_none());
        let _listener = bind(data.path()).unwrap();
        assert!(connect(data.path()).unwrap().is_some());
    }

    #[test]
    fn a_data_directory_that_is_not_there_has_no_listener() {
        assert!(connect(std::path::Path::new("/nowhere/at/all")).unwrap().is_none());
    }
}
