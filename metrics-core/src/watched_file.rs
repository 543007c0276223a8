//! Files that are replaced at run time: read again when their content changes.
//!
//! Files are polled: for a mounted Secret or ConfigMap the kubelet replaces a symbolic link two levels up, which file
//! watches miss (k8s.io/apiserver polls as well). A change is detected by content.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

/// The maximum size of a file in bytes. A bundle of all public CAs has 250 kB.
const MAX_BYTES: u64 = 4 << 20;

/// Where a certificate or a credential comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file, read again when it changes.
    File(PathBuf),
    /// Inline data of a kubeconfig.
    Inline {
        /// The name of the field.
        field: &'static str,
        /// The content.
        content: Arc<Zeroizing<Vec<u8>>>,
    },
}

impl Source {
    /// Returns inline data.
    pub(crate) fn inline(field: &'static str, content: Vec<u8>) -> Self {
        Self::Inline { field, content: Arc::new(Zeroizing::new(content)) }
    }

    /// Returns the content. Blocks.
    pub(crate) fn read(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::File(path) => read_one(path),
            Self::Inline { content, .. } => Ok(content.to_vec()),
        }
    }

    /// Returns the path of the file, or the name of the field.
    pub(crate) fn name(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Inline { field, .. } => format!("{field} of the kubeconfig").into(),
        }
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// Shows no content, which may be a secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_string_lossy())
    }
}

/// An error of reading a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file can't be opened or read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is larger than any certificate bundle.
    #[error("{}: larger than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads files and detects whether they changed since the last read.
struct ChangeDetector<const N: usize> {
    paths: [PathBuf; N],
    /// The digests of the contents, or the error, of the last read.
    last: Option<Vec<u8>>,
}

impl<const N: usize> ChangeDetector<N> {
    fn new(paths: [PathBuf; N]) -> Self {
        Self { paths, last: None }
    }

    /// Reads the files. Returns the contents, or the error, if they differ from the last read. Blocks.
    fn read(&mut self) -> Option<Result<[Vec<u8>; N], Error>> {
        let mut contents = std::array::from_fn(|_| Vec::new());
        let mut digests = Vec::new();
        let mut result = Ok(());
        for (path, content) in self.paths.iter().zip(&mut contents) {
            match read_one(path) {
                Ok(read) => {
                    digests.extend_from_slice(digest::digest(&digest::SHA256, &read).as_ref());
                    *content = read;
                }
                Err(error) => {
                    digests = error.to_string().into_bytes();
                    result = Err(error);
                    break;
                }
            }
        }
        let changed = self.last.as_ref() != Some(&digests);
        self.last = Some(digests);
        changed.then(|| result.map(|()| contents))
    }
}

/// Reads `paths` now and every `interval`. Calls `changed` the first time, when a content differs from the last one,
/// and when reading fails with a new error. Never returns.
pub(crate) async fn follow<const N: usize>(
    paths: [PathBuf; N],
    interval: Duration,
    mut changed: impl FnMut(&[PathBuf; N], Result<[Vec<u8>; N], Error>),
) -> Infallible {
    let mut detector = ChangeDetector::new(paths.clone());
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let result = detector.read();
            (detector, result)
        });
        let Ok((returned, result)) = read.await else {
            // Only when the runtime shuts down.
            return std::future::pending().await;
        };
        detector = returned;
        if let Some(contents) = result {
            changed(&paths, contents);
        }
        tokio::time::sleep(interval).await;
    }
}

/// Reads one file of at most [`MAX_BYTES`].
pub(crate) fn read_one(path: &std::path::Path) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::follow;

    #[tokio::test]
    async fn reports_a_replaced_link_and_a_missing_file() {
        let directory = std::env::temp_dir().join(format!("watched-file-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (one, two, link) = (directory.join("1"), directory.join("2"), directory.join("link"));
        std::fs::write(&one, "one").unwrap();
        std::fs::write(&two, "two").unwrap();
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let watch = tokio::spawn(follow([link.clone()], Duration::from_millis(5), move |_, contents| {
            sender.send(contents.map(|[content]| content).map_err(|error| error.to_string())).unwrap();
        }));
        assert_eq!(seen.recv().await.unwrap().unwrap(), b"one");
        let swap = directory.join("swap");
        std::os::unix::fs::symlink(&two, &swap).unwrap();
        std::fs::rename(&swap, &link).unwrap();
        assert_eq!(seen.recv().await.unwrap().unwrap(), b"two");
        std::fs::remove_file(&link).unwrap();
        assert!(seen.recv().await.unwrap().unwrap_err().contains("link"));
        watch.abort();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
