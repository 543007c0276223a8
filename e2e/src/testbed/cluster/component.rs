//! A process of a cluster: started once, identified later, and restarted if it ended or its inputs changed.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::digest::Sha256;
use crate::error::{Doing as _, Error, Result};
use crate::testbed::cluster::layout::Layout;
use crate::testbed::network::Namespace;
use crate::testbed::process::{self, MARK, Record};
use crate::testbed::requirements::EXTRA_PATH;

/// The program of a component, and its inputs.
#[derive(Clone, Debug)]
pub struct Component {
    /// Its name, which is also that of its log, its record and (except for containerd) its program.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments, each passed unchanged.
    pub arguments: Vec<String>,
    /// Files whose change requires a restart.
    pub inputs: Vec<PathBuf>,
}

/// Whether a component had to be started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ensured {
    /// It was running with the same inputs.
    Running,
    /// It was started.
    Started,
}

impl Component {
    /// Starts the component unless it is running with these inputs.
    pub fn ensure(&self, layout: &Layout, network: &Namespace) -> Result<Ensured> {
        let inputs = self.digest();
        if let Some(record) = Record::load(&record_path(layout, self.name))
            && record.inputs == inputs
            && record.is_alive()
        {
            return Ok(Ensured::Running);
        }
        stop(layout, self.name);
        self.start(layout, network, &inputs)?;
        Ok(Ensured::Started)
    }

    fn start(&self, layout: &Layout, network: &Namespace, inputs: &str) -> Result<()> {
        let path = layout.log(self.name);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.doing(|| format!("open {}", path.display()))?;
        let errors = log.try_clone().doing(|| format!("open {}", path.display()))?;
        // Neither setsid nor nsenter forks here, so the pid is that of the component.
        let mut child = Command::new("setsid")
            .arg("nsenter")
            .arg(network.flag())
            .arg("--")
            .arg(&self.program)
            .args(&self.arguments)
            .current_dir("/")
            .env_clear()
            .env("PATH", EXTRA_PATH)
            .env("HOME", "/root")
            .env(MARK, &layout.run)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .doing(|| format!("start {}", self.name))?;
        let record = i32::try_from(child.id()).ok().and_then(|pid| Record::of(pid, inputs));
        // Reaps the process if it ends while this process runs.
        thread::spawn(move || child.wait());
        match record {
            Some(record) => record.save(&record_path(layout, self.name)),
            None => Err(ended(layout, self.name)),
        }
    }

    fn digest(&self) -> String {
        let mut digest = Sha256::default().part(self.program.as_os_str().as_encoded_bytes());
        for argument in &self.arguments {
            digest = digest.part(argument.as_bytes());
        }
        for path in &self.inputs {
            digest = digest.part(&fs::read(path).unwrap_or_default());
        }
        digest.hex()
    }
}

/// Returns whether the component is running.
#[must_use]
pub(crate) fn is_running(layout: &Layout, name: &str) -> bool {
    Record::load(&record_path(layout, name)).is_some_and(|record| record.is_alive())
}

/// Returns the component's record.
#[must_use]
pub(crate) fn record(layout: &Layout, name: &str) -> Option<Record> {
    Record::load(&record_path(layout, name))
}

/// Kills a component, recorded or not, and waits until it has ended.
pub(crate) fn stop(layout: &Layout, name: &str) {
    let recorded = record(layout, name);
    let strays = || {
        let marked = process::marked(&layout.run.to_string_lossy());
        marked.into_iter().filter(|pid| process::program(*pid) == name).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let alive = recorded.as_ref().is_some_and(Record::is_alive);
        let strays = strays();
        if (!alive && strays.is_empty()) || Instant::now() > deadline {
            break;
        }
        if let Some(record) = &recorded {
            record.kill();
        }
        strays.into_iter().for_each(process::kill);
        thread::sleep(Duration::from_millis(10));
    }
    let _ = fs::remove_file(record_path(layout, name));
}

/// Returns the error of a component that is not running, with the end of its log.
#[must_use]
pub(crate) fn ended(layout: &Layout, name: &str) -> Error {
    let log = layout.log(name);
    Error::Ended { component: name.to_owned(), tail: tail(&log, 15), log }
}

/// Returns the last lines of a file.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn record_path(layout: &Layout, name: &str) -> PathBuf {
    layout.records().join(format!("{name}.json"))
}
