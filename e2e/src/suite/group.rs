//! Groups of scenarios that share a cluster.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use libtest_mimic::Failed;
use parking_lot::{Mutex, RwLock};

use super::env::TestEnv;
use super::{Body, Needs};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::{Cluster, ClusterSpec, FlagChange};
use crate::testbed::images;

/// A cluster that scenarios share.
pub struct Group {
    name: &'static str,
    flags: Vec<FlagChange>,
    prepare: Option<fn(&TestEnv) -> Result<()>>,
    state: Mutex<ClusterState>,
    in_use: RwLock<()>,
    /// The number of scenarios that have not run yet; the cluster is taken down after the last one.
    pub(super) remaining: AtomicUsize,
}

enum ClusterState {
    Fresh,
    Up(Arc<Cluster>),
    Broken(String),
}

impl Group {
    pub(super) fn new(
        name: &'static str,
        flags: Vec<FlagChange>,
        prepare: Option<fn(&TestEnv) -> Result<()>>,
    ) -> Self {
        let (state, in_use) = (Mutex::new(ClusterState::Fresh), RwLock::new(()));
        Self { name, flags, prepare, state, in_use, remaining: AtomicUsize::new(0) }
    }

    /// Returns the name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Runs a scenario on the group's cluster, which is brought up for the first one.
    pub(super) fn run(
        &self,
        name: &str,
        needs: Needs,
        body: Body,
        long: bool,
        progress: &Progress,
    ) -> Result<(), Failed> {
        // A scenario that needs the cluster alone waits for the others to end, and the others wait for it.
        let (mut _shared, mut _alone) = (None, None);
        if needs == Needs::Alone {
            _alone = Some(self.in_use.write());
        } else {
            _shared = Some(self.in_use.read());
        }
        let cluster = self.cluster(long, progress)?;
        let env = TestEnv::new(cluster.client(), Some(cluster), name, long, progress.clone());
        env.run(body)
    }

    fn cluster(&self, long: bool, progress: &Progress) -> Result<Arc<Cluster>, Failed> {
        let mut state = self.state.lock();
        match &*state {
            ClusterState::Up(cluster) => return Ok(Arc::clone(cluster)),
            ClusterState::Broken(why) => return Err(format!("the group's cluster is not up: {why}").into()),
            ClusterState::Fresh => {}
        }
        let name = self.cluster_name();
        let progress = progress.prefixed(self.name);
        let spec = ClusterSpec::new(&name).apiserver_flags(self.flags.clone()).owned_by_this_process();
        let up = progress.step("cluster up", |_| {
            let cluster = Arc::new(Cluster::up(&spec, &progress.clone().quiet())?);
            cluster.load(&images::busybox()?)?;
            if let Some(prepare) = self.prepare {
                let client = cluster.client();
                let shared = Some(Arc::clone(&cluster));
                TestEnv::new(client, shared, "prepare", long, progress.clone()).run(prepare).map_err(
                    |failed| {
                        Error::Invalid(
                            failed.message().unwrap_or("the group's preparation failed").to_owned(),
                        )
                    },
                )?;
            }
            Ok(cluster)
        });
        match up {
            Ok(cluster) => {
                *state = ClusterState::Up(Arc::clone(&cluster));
                Ok(cluster)
            }
            Err(error) => {
                *state = ClusterState::Broken(error.to_string());
                Err(error.to_string().into())
            }
        }
    }

    /// Returns the name of the cluster; parallel test runs must not share one.
    fn cluster_name(&self) -> String {
        format!("t{}-{}", std::process::id(), self.name)
    }

    /// Takes the cluster down if it is up.
    pub(super) fn down(&self, progress: &Progress) {
        let before = std::mem::replace(&mut *self.state.lock(), ClusterState::Fresh);
        if !matches!(before, ClusterState::Fresh)
            && let Err(error) = Cluster::down(&self.cluster_name(), &progress.clone().quiet())
        {
            progress.say(format!("{error}"));
        }
    }
}
