//! The process of the attacks: this program with another argument. It prints what it did once a second.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{AttackCounts, AttackSpec, Configs, Counters, waves};
use crate::error::{Doing as _, Error, Result};

/// The nice value of the attacks: they must not slow down the clients that are measured.
const NICE: &str = "10";
/// The number of connections that are opened before the next ones wait.
const BURST: usize = 100;
/// The pause after a burst of new connections.
const BURST_PAUSE: Duration = Duration::from_millis(20);

/// A running attack; dropping it ends the attack.
pub struct Attackers {
    child: Child,
    counts: Option<JoinHandle<BTreeMap<String, AttackCounts>>>,
}

impl Attackers {
    /// Starts the attacks.
    pub fn start(spec: &AttackSpec) -> Result<Self> {
        let text = serde_json::to_string(spec).doing(|| "encode the attacks".into())?;
        let me = std::env::current_exe().doing(|| "find this program".into())?;
        let mut child = Command::new("nice")
            .args(["-n", NICE])
            .arg(me)
            .args(["attack", &text])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .doing(|| "start the attacks".into())?;
        let Some(output) = child.stdout.take() else {
            return Err(Error::Invalid("the attacks have no output".into()));
        };
        let counts = std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(io::Result::ok);
            lines.filter_map(|line| serde_json::from_str(&line).ok()).last().unwrap_or_default()
        });
        Ok(Self { child, counts: Some(counts) })
    }

    /// Ends the attacks and returns what each of them did.
    #[must_use]
    pub fn stop(mut self) -> BTreeMap<String, AttackCounts> {
        self.kill();
        self.counts.take().and_then(|counts| counts.join().ok()).unwrap_or_default()
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Attacks until the process is killed.
pub fn attack(spec: &AttackSpec) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing(|| "start the attacks".into())?.block_on(run(spec))
}

async fn run(spec: &AttackSpec) -> Result<()> {
    let configs = Configs::new(spec)?;
    let mut all = Vec::new();
    for attack in &spec.attacks {
        let counters = Arc::new(Counters::default());
        all.push((*attack, counters.clone()));
        for wave in waves(*attack) {
            let config = configs.of(wave.certificate, wave.is_http2());
            let (wave, counters, target) = (Arc::new(wave), counters.clone(), spec.target);
            tokio::spawn(async move {
                for number in 0..wave.connections {
                    let (wave, counters, config) = (wave.clone(), counters.clone(), config.clone());
                    tokio::spawn(async move { wave.run(&config, target, &counters).await });
                    if number % BURST == BURST - 1 {
                        tokio::time::sleep(BURST_PAUSE).await;
                    }
                }
            });
        }
    }
    let mut counts: BTreeMap<String, AttackCounts> = BTreeMap::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (attack, counters) in &all {
            let name = serde_json::to_value(attack).doing(|| "encode an attack".into())?;
            let of = counts.entry(name.as_str().unwrap_or_default().to_owned()).or_default();
            of.opened = counters.opened.load(Ordering::Relaxed);
            of.closed = counters.closed.load(Ordering::Relaxed);
            of.failed = counters.failed.load(Ordering::Relaxed);
            of.most_open = of.most_open.max(of.opened.saturating_sub(of.closed));
        }
        let text = serde_json::to_string(&counts).doing(|| "encode the counts".into())?;
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).doing(|| "print the counts".into())?;
    }
}
