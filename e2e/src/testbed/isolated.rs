//! Components as children of this process, in a network of their own: a control plane without nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::cluster::component::{Component, tail};
use super::cluster::{Layout, control_plane};
use super::network::Namespace;
use super::process::{self, MARK};
use crate::command;
use crate::error::{Doing as _, Error, Result};

/// A process that is killed when this is dropped.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to `logs/NAME.log`.
    pub fn start(layout: &Layout, name: &str, program: &Path, arguments: &[String]) -> Result<Self> {
        let path = layout.log(name);
        let log = fs::File::create(&path).doing(|| format!("create {}", path.display()))?;
        let errors = log.try_clone().doing(|| format!("open {}", path.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir("/")
            .env(MARK, &layout.run)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .doing(|| format!("start {}", program.display()))?;
        Ok(Self { child, name: name.to_owned(), log: path })
    }

    /// Starts a component of the control plane.
    pub(crate) fn component(layout: &Layout, component: &Component) -> Result<Self> {
        Self::start(layout, component.name, &component.program, &component.arguments)
    }

    /// Returns the pid.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).doing(|| format!("send a signal to {}", self.name))
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits for the end of the process.
    pub fn end(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.child.wait().doing(|| format!("wait for the end of {}", self.name)).map(drop)
    }

    /// Returns an error if the process has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(Error::Ended {
                component: self.name.clone(),
                log: self.log.clone(),
                tail: tail(&self.log, 15),
            }),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Creates an empty network and directory; kills and removes what an earlier run left.
pub fn prepare(name: &str) -> Result<(Layout, Namespace)> {
    let layout = Layout::new(name)?;
    remove(&layout);
    layout.create()?;
    let network = Namespace::new(layout.network());
    network.create(&format!("{}/24", control_plane::ADDRESS))?;
    Ok((layout, network))
}

/// Kills all processes and removes everything except the logs.
pub fn remove(layout: &Layout) {
    let left = process::marked(&layout.run.to_string_lossy());
    left.into_iter().for_each(process::kill);
    let _ = command::output(Command::new("umount").arg("-l").arg(layout.network()));
    let _ = fs::remove_dir_all(&layout.run);
    let _ = fs::remove_dir_all(layout.data.join("etcd"));
}
