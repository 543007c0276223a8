//! Files that others replace: read again when their content changes.
//!
//! Polled, as the kubelet swaps links two levels up and file watches miss that (it is also what k8s.io/apiserver
//! falls back to). Changes are told by content.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest;

/// The most that is read of one file, bytes. A CA bundle of all public CAs has 250 kB.
const MOST: u64 = 4 << 20;

/// A file that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than any certificate bundle.
    #[error("{}: larger than {MOST} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads `paths` now and every `interval`, and calls `changed` at first and when a content differs from the last
/// time, or when reading fails in a new way. Never returns.
pub async fn follow<const N: usize>(
    paths: [PathBuf; N],
    interval: Duration,
    mut changed: impl FnMut(&[PathBuf; N], Result<[Vec<u8>; N], Error>),
) -> Infallible {
    let mut last = None;
    loop {
        let (seen, contents) = match read(&paths).await {
            Ok(contents) => (fingerprint(&contents), Ok(contents)),
            Err(error) => (error.to_string().into_bytes(), Err(error)),
        };
        if last.as_ref() != Some(&seen) {
            last = Some(seen);
            changed(&paths, contents);
        }
        tokio::time::sleep(interval).await;
    }
}

async fn read<const N: usize>(paths: &[PathBuf; N]) -> Result<[Vec<u8>; N], Error> {
    let paths = paths.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut contents = std::array::from_fn(|_| Vec::new());
        for (path, content) in paths.iter().zip(contents.iter_mut()) {
            *content = read_one(path)?;
        }
        Ok(contents)
    });
    match read.await {
        Ok(result) => result,
        Err(error) => Err(Error::Read { path: PathBuf::new(), source: std::io::Error::other(error) }),
    }
}

/// Reads one file, bounded.
pub fn read_one(path: &std::path::Path) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(MOST + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MOST {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

fn fingerprint<const N: usize>(contents: &[Vec<u8>; N]) -> Vec<u8> {
    contents.iter().flat_map(|content| digest::digest(&digest::SHA256, content).as_ref().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::follow;

    #[tokio::test]
    async fn a_swapped_link_is_seen_and_the_same_content_is_not() {
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
