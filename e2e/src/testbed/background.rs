//! A program in the background, and the lines that it has printed so far.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use crate::command;
use crate::error::{Doing as _, Result};

/// A program in the background; dropping this kills it.
pub struct Background {
    child: Mutex<Child>,
    out: Arc<Mutex<Vec<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Background {
    /// Starts the program.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing(|| format!("start `{}`", command::line(command)))?;
        let (out, errors) = (follow(child.stdout.take()), follow(child.stderr.take()));
        Ok(Self { child: Mutex::new(child), out, errors })
    }

    /// Returns the lines of the standard output so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.out.lock().clone()
    }

    /// Returns the standard error so far.
    #[must_use]
    pub fn errors(&self) -> String {
        self.errors.lock().join("\n")
    }

    /// Returns whether the program has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !matches!(self.child.lock().try_wait(), Ok(None))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn follow(pipe: Option<impl Read + Send + 'static>) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    if let Some(pipe) = pipe {
        let lines = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(std::result::Result::ok) {
                lines.lock().push(line);
            }
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wait;

    #[test]
    fn returns_lines_before_the_program_ends() {
        let lines =
            Background::start(Command::new("sh").args(["-c", "echo a; echo b >&2; echo c; sleep 60"]))
                .unwrap();
        wait::until(Duration::from_secs(10), "three lines", || {
            let (out, errors) = (lines.lines(), lines.errors());
            if out == ["a", "c"] && errors == "b" { Ok(()) } else { Err(format!("{out:?} {errors}").into()) }
        })
        .unwrap();
        assert!(!lines.has_ended());
        let ended = Background::start(&mut Command::new("true")).unwrap();
        wait::until(Duration::from_secs(10), "its end", || {
            if ended.has_ended() { Ok(()) } else { Err("running".into()) }
        })
        .unwrap();
    }
}
